"""The leaderboard: ranks that the intervals allow, reports that are refused, and measurements that are what they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from infoclip_lite import DenseCLIP, evaluate
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import Score, interval
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies.leaderboard import (
    METRICS,
    REFERENCE,
    STUDIES,
    at_inference,
    backend,
    parameters,
    ranked,
    read_study,
    speed,
    untrained_scores,
)
from infoclip_lite.studies.rows import SPLITS, Method, read_leaderboard
from infoclip_lite.training.recipe import FineTuneRecipe, load_recipe


def scored(*values: float) -> Method:
    found = interval(values)
    scores = {split: {m: Score(found.mean, found.ci95, values=values) for m in METRICS} for split in SPLITS}
    return Method("family", "tuned", "backend", {}, 0, scores)


def test_rows_come_best_first_with_the_ranks_that_intervals_allow() -> None:
    rows = {"low": scored(0.1, 0.11, 0.12), "high": scored(0.4, 0.41, 0.42), "tied": scored(0.43, 0.38, 0.42)}
    found = ranked(rows)
    assert list(found) == ["high", "tied", "low"] and list(rows) == ["low", "high", "tied"]
    ranks = [method.ranks["test"] for method in found.values()]
    assert [place.rank for place in ranks] == [1, 2, 3]
    assert [(place.best, place.worst) for place in ranks] == [(1, 2), (1, 2), (3, 3)]


@pytest.mark.parametrize("name", list(STUDIES))
def test_the_reports_that_ship_are_accepted(name: str) -> None:
    assert set(read_study(name, read_report(name), STUDIES[name], 5)) == set(STUDIES[name])


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (lambda r: r["table"].pop("head"), "lacks head"),
        (lambda r: r["missing"].append("head"), "lacks head"),
        (lambda r: r.update(seeds=4), "has 4 seeds; expected 5"),
        (lambda r: r["variants"]["head"].update(size=96), r"'head' with size=96; expected size=64"),
        (lambda r: r["variants"]["head"].update(seen=["cow"]), r"seen=\['cow'\]"),
        (lambda r: r["table"]["head"]["test/hIoU"]["values"].pop(), "no 5 values of test/hIoU for 'head'"),
        (lambda r: r["table"]["head"].pop("test-new/mIoU_seen"), "no 5 values of test-new/mIoU_seen"),
    ],
)
def test_a_report_of_something_else_is_refused(spoil: Any, hint: str) -> None:
    report = copy.deepcopy(read_report("chimera"))
    spoil(report)
    with pytest.raises(ValueError, match=f"{hint}.*benchmark chimera"):
        read_study("chimera", report, STUDIES["chimera"], 5)


def test_untrained_scores_are_what_evaluate_says_and_draws_spread_around_it(tiny: DenseCLIP) -> None:
    model, data = ZeroShotSegmentor(tiny), Collage("test", 32, length=12)
    found, wanted = untrained_scores(model, data, draws=30), evaluate(model, data).metrics
    for metric in METRICS:
        assert found[metric].mean == wanted[metric] and len(found[metric].draws) == 30
    draws = torch.tensor(found["mIoU_seen"].draws)
    assert found["mIoU_seen"].ci95 > 0 and (draws - wanted["mIoU_seen"]).abs().mean() < 4 * draws.std()
    assert untrained_scores(model, data, draws=30) == found


def test_parameters_are_counted_by_what_is_trained() -> None:
    def of(name: str, **changes: Any) -> dict[str, int]:
        recipe = load_recipe(name, **changes)
        assert isinstance(recipe, FineTuneRecipe)
        return parameters(recipe)

    full, narrow = of("mini/plain-few"), of("mini/plain-few-qv")
    assert full["total"] == narrow["total"] > full["inference"] and narrow["trained"] < 0.1 * full["trained"] < full["total"]
    assert full["trained"] == full["total"] - 1, "all but the temperature"


def test_the_text_tower_is_not_met_by_a_picture(tiny: DenseCLIP) -> None:
    assert at_inference(ZeroShotSegmentor(tiny)) == sum(p.numel() for p in tiny.visual.parameters())


def test_trainings_that_differ_in_weights_alone_share_a_backend() -> None:
    backends = {label: backend(variant.load(0)) for label, variant in {**STUDIES["infoclip"], **STUDIES["chimera"]}.items()}
    assert backends["plain"] == backends["full: infoclip"] == "CAT-Seg"
    assert backends["head"] == backends["head, SGD"] != backends["linear"] != backends["head of 2 blocks, SGD"]


def test_speed_is_a_ratio_to_clip_in_the_same_round(tiny: DenseCLIP) -> None:
    found = speed(
        {"once": ZeroShotSegmentor(tiny), "twice": ZeroShotSegmentor(tiny, ("value", "sclip"))},
        rounds=4,
        batch=2,
        size=32,
    )
    backends = found["backends"]
    assert list(backends) == [REFERENCE, "once", "twice"] and backends[REFERENCE]["ratio"] == 1
    assert all(0 < e["low"] <= e["ratio"] <= e["high"] and e["ms"] > 0 for e in backends.values())


def test_the_report_that_ships_holds_every_method_and_its_own_ranks() -> None:
    board, rows = read_leaderboard(), read_report("leaderboard")["rows"]
    trained = [method for method in board.methods.values() if method.family != "zero-shot"]
    assert len(trained) == 2 + sum(map(len, STUDIES.values()))
    assert all(method.backend in board.speed for method in board.methods.values())
    assert ranked(board.methods) == board.methods
    assert {label: method.to_json() for label, method in board.methods.items()} == rows, "read and written alike"
