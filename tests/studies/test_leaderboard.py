"""The leaderboard: ranks that the intervals allow, reports that are refused, and measurements that are what they say."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from infoclip_lite import DenseCLIP, evaluate
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import difference, holm, pareto_front, rank_ranges, surely_better
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies.leaderboard import (
    METRICS,
    REFERENCE,
    SPLITS,
    STUDIES,
    at_inference,
    engine,
    parameters,
    ranked,
    read_study,
    speed,
    untrained_scores,
)
from infoclip_lite.training.recipe import FineTuneRecipe, load_recipe

SEEDED = {"mean": 2.0, "values": [1.0, 2.0, 3.0]}


def test_the_same_luck_in_both_cancels() -> None:
    """Paired: two methods that go up and down together differ surely, however much they vary."""
    worse, better = {"mean": 5.0, "values": [0.0, 5.0, 10.0]}, {"mean": 6.0, "values": [1.0, 6.1, 10.9]}
    found = difference(better, worse)
    assert found["mean"] == pytest.approx(1.0) and 0 < found["half"] < 0.3 and found["p"] < 0.01
    assert surely_better({"a": worse, "b": better}) == {("b", "a")}


def test_untrained_methods_are_paired_by_draw() -> None:
    a, b = {"mean": 1.0, "draws": [0.9, 1.1, 1.0]}, {"mean": 0.5, "draws": [0.4, 0.6, 0.5]}
    assert difference(a, b)["p"] == 0.0, "every draw says the same"
    assert difference(a, {**b, "draws": [0.6, 0.4, 0.5]})["half"] == pytest.approx(1.96 * 0.2, rel=1e-3)


@pytest.mark.parametrize("other", [{"mean": 1.0}, {"mean": 1.0, "values": [1.0]}, {"mean": 1.0, "values": [1.0, 2.0]}])
def test_scores_that_cannot_be_paired_are_refused(other: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        difference({"mean": 1.0, "draws": [1.0, 2.0]} if "values" not in other else SEEDED, other)


def test_holm_stops_at_the_first_that_fails() -> None:
    assert holm([0.001, 0.03, 0.02, 0.9]) == [True, False, False, False]
    assert holm([0.001, 0.01, 0.02, 0.04]) == [True, True, True, True]


def test_ties_share_their_ranks() -> None:
    better = {("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")}
    assert rank_ranges(["a", "b", "c", "d"], better) == {"a": (1, 2), "b": (1, 2), "c": (3, 4), "d": (3, 4)}


def test_pareto_keeps_whoever_is_not_beaten_in_less_time() -> None:
    score = {"fast": 1.0, "slow": 2.0, "slower": 2.0, "worse": 0.5}
    times = {"slower": 9.0, "slow": 8.0, "fast": 1.0, "worse": 2.0}
    assert pareto_front(times, lambda a, b: score[a] > score[b]) == ["fast", "slow", "slower"]


def scored(*values: float) -> dict[str, Any]:
    return {split: {m: {"mean": sum(values) / len(values), "half": 0.1, "values": list(values)} for m in METRICS} for split in SPLITS}


def test_rows_come_best_first_with_the_ranks_that_intervals_allow() -> None:
    rows = {"low": scored(0.1, 0.11, 0.12), "high": scored(0.4, 0.41, 0.42), "tied": scored(0.43, 0.38, 0.42)}
    found = ranked(rows)
    assert list(found) == ["high", "tied", "low"] and list(rows) == ["low", "high", "tied"]
    assert [found[k]["ranks"]["test"]["rank"] for k in found] == [1, 2, 3]
    assert [(found[k]["ranks"]["test"]["from"], found[k]["ranks"]["test"]["to"]) for k in found] == [(1, 2), (1, 2), (3, 3)]


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
        assert found[metric]["mean"] == wanted[metric] and len(found[metric]["draws"]) == 30
    draws = torch.tensor(found["mIoU_seen"]["draws"])
    assert found["mIoU_seen"]["half"] > 0 and (draws - wanted["mIoU_seen"]).abs().mean() < 4 * draws.std()
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


def test_trainings_that_differ_in_weights_alone_share_an_engine() -> None:
    engines = {label: engine(variant.load(0)) for label, variant in {**STUDIES["infoclip"], **STUDIES["chimera"]}.items()}
    assert engines["plain"] == engines["full: infoclip"] == "CAT-Seg"
    assert engines["head"] == engines["head, SGD"] != engines["linear"] != engines["head of 2 blocks, SGD"]


def test_speed_is_a_ratio_to_clip_in_the_same_round(tiny: DenseCLIP) -> None:
    found = speed({"once": ZeroShotSegmentor(tiny), "twice": ZeroShotSegmentor(tiny, ("value", "sclip"))}, rounds=4, batch=2, size=32)
    engines = found["engines"]
    assert list(engines) == [REFERENCE, "once", "twice"] and engines[REFERENCE]["ratio"] == 1
    assert all(0 < e["low"] <= e["ratio"] <= e["high"] and e["ms"] > 0 for e in engines.values())


def test_the_report_that_ships_holds_every_method_and_its_own_ranks() -> None:
    report = read_report("leaderboard")
    trained = [row for row in report["rows"].values() if row["family"] != "zero-shot"]
    assert len(trained) == 2 + sum(map(len, STUDIES.values()))
    assert all(row["engine"] in report["speed"]["engines"] for row in report["rows"].values())
    assert ranked(report["rows"]) == report["rows"]
