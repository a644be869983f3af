"""The leaderboard: ranks the intervals allow, reports that are refused, measures that are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infoclip_lite import DenseCLIP, evaluate
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import Score, interval
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies import leaderboard as board_study
from infoclip_lite.studies.leaderboard import (
    REFERENCE,
    Source,
    backends,
    finished_rows,
    measure_speed,
    method_name,
    ranked,
    speed_again,
    untrained_scores,
)
from infoclip_lite.studies.rows import METRICS, SPLITS, Method, read_leaderboard
from infoclip_lite.studies.runs import _as_json, run_path, same_scenes
from infoclip_lite.studies.variants import Variant
from infoclip_lite.training.build import build_task
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning


def scored(*values: float) -> Method:
    found = interval(values)
    scores = {split: {m: Score(found.mean, found.ci95, values=values) for m in METRICS} for split in SPLITS}
    return Method("family", "tuned", "backend", {}, 0, scores)


def test_rows_come_best_first_with_the_ranks_that_intervals_allow() -> None:
    rows = {"low": scored(0.1, 0.11, 0.12), "high": scored(0.4, 0.41, 0.42), "tied": scored(0.43, 0.38, 0.42)}
    found = ranked(rows)
    assert list(found) == ["high", "tied", "low"] and list(rows) == ["low", "high", "tied"]
    ranks = [method.ranks["test-known"] for method in found.values()]
    assert [place.rank for place in ranks] == [1, 2, 3]
    assert [(place.best, place.worst) for place in ranks] == [(1, 2), (1, 2), (3, 3)]


def run_of(recipe: FineTuneRecipe, seed: int, *, shift: float = 0.0) -> dict[str, Any]:
    """A record as a study keeps it."""
    metrics = dict.fromkeys(METRICS, 0.2 + shift + 0.01 * seed)
    return {"recipe": json.loads(json.dumps(_as_json(recipe))), **dict.fromkeys(SPLITS, metrics)}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A study of three trainings: one is finished, one lacks a seed, and one is of other scenes."""
    base = Variant("mini/map-head", {"steps": 4, "optimizer": {"head_lr": 1e-3}})
    variants = {
        "head": base,
        "half": base.changed(steps=2),
        "elsewhere": base.changed(data={"seen": ["cow"]}),
    }
    for label, variant in variants.items():
        for seed in range(1 if label == "half" else 2):
            path = run_path(tmp_path, label, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(run_of(variant.load(seed), seed)))
    return Source("a study", lambda: variants, tmp_path)


def test_rows_are_what_studies_have_finished_on_the_boards_scenes(source: Source) -> None:
    found = finished_rows(source, 2)
    assert set(found.records) == {"head"}
    assert found.missing == ["half"] and found.left_out == ["elsewhere"]
    assert set(finished_rows(source, 1).records) == {"head", "half"}


def test_studies_of_the_board_are_of_its_scenes_and_learn_from_masks() -> None:
    for source in board_study.SOURCES:
        for label, variant in source.variants().items():
            recipe = variant.load(0)
            assert same_scenes(recipe.data, board_study.DATA), f"{source.command}: {label}"
            assert recipe.supervision is None, f"{source.command}: {label}"


def test_a_run_of_other_settings_is_missing(source: Source) -> None:
    path = run_path(source.folder, "head", 1)
    run = json.loads(path.read_text())
    run["recipe"]["steps"] = 96
    path.write_text(json.dumps(run))
    found = finished_rows(source, 2)
    assert found.missing == ["head", "half"] and not found.records


def test_the_board_is_made_of_partial_studies_and_says_what_is_not_there(
    source: Source, tiny: DenseCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_study, "_scenes", lambda split, length=12: Collage(split, 32, length=12))
    monkeypatch.setattr(board_study, "load_clip", lambda: tiny)
    monkeypatch.setattr(board_study, "untrained", lambda: [("value",), ("vanilla",)])
    monkeypatch.setattr(board_study, "measure_speed", lambda models, rounds: {"backends": sorted(models)})
    report = board_study.leaderboard(seeds=2, sources=[source], out=tmp_path / "board.json")
    assert report["missing"] == {"a study": ["half"]} and report["left_out"] == {"a study": ["elsewhere"]}
    head = report["rows"]["CAT-Seg: head"]
    assert (head["group"], head["labels"]) == (board_study.MASKS, "masks") and head["labelled_scenes"] == 32
    assert head["test"]["hIoU"]["values"] == pytest.approx([0.2, 0.21])
    assert {row["group"] for row in report["rows"].values()} == {board_study.FREE, board_study.MASKS}
    assert {"CAT-Seg", "value", board_study.SHARED} <= set(report["speed"]["backends"])


def test_neighbours_are_told_apart_by_as_many_seeds_as_their_spread_asks_for() -> None:
    rows = {
        "high": scored(0.40, 0.41, 0.42),
        "far": scored(0.30, 0.311, 0.321),
        "tied": scored(0.31, 0.30, 0.3209),
    }
    found = board_study.separation(rows, "test")
    assert [(row["first"], row["second"]) for row in found] == [("high", "far"), ("far", "tied")]
    assert found[0]["seeds"] <= 3 and (found[1]["seeds"] is None or found[1]["seeds"] > 50)


def test_untrained_scores_are_what_evaluate_says_and_draws_spread_around_it(tiny: DenseCLIP) -> None:
    model, data = ZeroShotSegmentor(tiny), Collage("test", 32, length=12)
    found, wanted = untrained_scores(model, data, draws=30), evaluate(model, data).metrics
    for metric in METRICS:
        assert found[metric].mean == pytest.approx(wanted[metric]) and len(found[metric].draws) == 30
    draws = torch.tensor(found["mIoU_seen"].draws)
    assert found["mIoU_seen"].ci95 > 0 and (draws - wanted["mIoU_seen"]).abs().mean() < 4 * draws.std()
    assert untrained_scores(model, data, draws=30) == found


def test_parameters_are_counted_by_what_is_trained() -> None:
    def of(name: str) -> dict[str, int]:
        task, _ = build_task(load_finetuning(name))
        return board_study._sizes(task.segmentor, trained=board_study._count_trained(task))

    full, narrow = of("mini/plain-few"), of("mini/plain-few-qv")
    assert full["total"] == narrow["total"] > full["inference"]
    assert narrow["trained"] < 0.1 * full["trained"] < full["total"]
    assert full["trained"] == full["total"] - 1, "all but the temperature"


@pytest.mark.parametrize(
    ("family", "tune", "label", "name"),
    [
        ("CAT-Seg", "qv", "wise", "CAT-Seg, q and v: wise"),
        ("CAT-Seg", "full", "full: paper, words", "CAT-Seg, all weights: paper, words"),
        ("CAT-Seg", "none", "frozen", "CAT-Seg: frozen"),
        ("cosine head", "full", "plain, all weights", "cosine head: plain, all weights"),
        ("cosine head", "qv", "qv: plain", "cosine head, q and v: plain"),
    ],
)
def test_a_methods_name_says_once_what_is_tuned(family: str, tune: str, label: str, name: str) -> None:
    assert method_name(family, tune, label) == name


def test_trainings_that_differ_in_weights_alone_share_a_backend(mini: DenseCLIP) -> None:
    """Every way of inference on the board is timed, and no other."""
    recipes = [Variant(f"mini/{name}").load(0) for name in ("plain-few", "plain-few-qv", "zsseg", "cascade")]
    found = backends(mini, recipes)
    assert all(model.backend == name for name, model in found.items() if name != board_study.SHARED)
    read_outs = {"+".join(names) for names in board_study.untrained()}
    assert set(found) == {*read_outs, board_study.SHARED, "ZSSeg", "CascadeSegmentor"}


def test_speed_is_a_ratio_to_clip_in_the_same_round(tiny: DenseCLIP) -> None:
    models = {"once": ZeroShotSegmentor(tiny), "twice": ZeroShotSegmentor(tiny, ("value", "sclip"))}
    found = measure_speed(models, rounds=4, batch=2, size=32)["backends"]
    assert list(found) == [REFERENCE, "once", "twice"] and found[REFERENCE]["ratio"] == 1
    assert all(0 < e["low"] <= e["ratio"] <= e["high"] and e["ms"] > 0 for e in found.values())


def test_speed_alone_is_measured_again_and_every_row_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_study, "measure_speed", lambda models, rounds: {"backends": sorted(models)})
    speed_again(out=tmp_path / "board.json")
    shipped, again = read_report("leaderboard"), json.loads((tmp_path / "board.json").read_text())
    speed = again.pop("speed")
    assert again == {key: value for key, value in shipped.items() if key != "speed"}
    assert "Chimera-Seg, linear" in speed["backends"]
    assert speed["environment"].keys() == shipped["environment"].keys()


def test_a_blend_of_two_read_outs_costs_little_more_than_one() -> None:
    """One pass through the tower serves both; CLIP's own pass is the unit."""
    speed = read_leaderboard().speed
    for blend in (name for name in speed if "+" in name):
        dearest = max(speed[name].ratio for name in blend.split("+"))
        assert speed[blend].ratio <= 1.25 * dearest, blend


def test_the_report_that_ships_holds_every_method_and_its_own_ranks() -> None:
    board, rows = read_leaderboard(), read_report("leaderboard")["rows"]
    assert all(method.backend in board.speed for method in board.methods.values())
    assert ranked(board.methods) == board.methods
    assert {label: method.to_json() for label, method in board.methods.items()} == rows, (
        "read and written alike"
    )
