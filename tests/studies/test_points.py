"""The ablation on points: what it runs, what it keeps, what it says; and the report that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clouds import write_pack

from infoclip_lite import DenseCLIP
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import Score
from infoclip_lite.datasets.points import Points
from infoclip_lite.evaluation.points import count_points
from infoclip_lite.studies import points as study
from infoclip_lite.studies.points import BASELINE, CONTRASTS, FROZEN, GRID, START, VARIANTS
from infoclip_lite.training.points import Lessons, prepare
from infoclip_lite.training.recipe import PointsRecipe, load_recipe


@pytest.fixture
def small(tmp_path: Path, tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study on a small pack and a random CLIP, with recipes of two steps."""
    pack = tmp_path / "pack"
    pack.mkdir()
    write_pack(pack)

    def recipe(changes: dict, seed: int) -> PointsRecipe:
        short = {"steps": 2, "batch": 2, "encoder": {"width": 8, "neighbours": 4}}
        loaded = load_recipe("mini/points", **changes, **short, seed=seed)
        assert isinstance(loaded, PointsRecipe)
        return loaded

    monkeypatch.setattr(study, "_recipe", recipe)
    monkeypatch.setattr(study, "load_clip", lambda: tiny)
    monkeypatch.setattr(study, "Points", lambda split: Points(split, folder=pack))
    return tmp_path


def test_rows_are_run_once_kept_and_summed_up(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, out, looked = small / "rows", small / "points.json", []

    def looking(data: Points, clip: DenseCLIP) -> Lessons:
        looked.append(data.split)
        return prepare(data, clip)

    monkeypatch.setattr(study, "prepare", looking)
    report = study.points(seeds=2, folder=rows, out=out)
    assert looked == ["train"], "once for the grid, the rows and the report"
    assert report["missing"] == [] and set(report["table"]) == {*VARIANTS, FROZEN}
    assert set(report["grid"]) == set(GRID) and len(list(rows.glob("*.json"))) == 2 * len(VARIANTS)
    own = Score.from_json(report["table"]["+ pseudo labels"]["test/mIoU_unseen"])
    assert len(own.values) == 2 and own.difference is not None
    assert [(c["first"], c["second"]) for c in report["contrasts"]["test"]] == list(CONTRASTS)
    row = json.loads((rows / "plus-local-1.json").read_text())
    assert (
        row["label"] == "+ local"
        and row["recipe"]["local_alignment"] > 0
        and set(row["nouns"])
        <= {
            "chair",
            "bed",
            "stool",
            "desk",
            "wood",
        }
    )
    for noun, told in report["pseudo_labels"].items():
        assert noun in {"stool", "desk"} and 0 <= told["right"] <= 1, "of words that nobody labelled"
        assert told["right"] * told["points"] == pytest.approx(told["uses_right"] * told["uses"], abs=0.01)
    monkeypatch.setattr(study, "train_points", None)
    again = study.points(seeds=2, folder=rows, out=out)
    assert again["table"] == report["table"], "nothing is run twice"
    assert again["pseudo_labels"] == report["pseudo_labels"] and looked == ["train"] * 2


def test_two_processes_share_the_runs(small: Path) -> None:
    rows, out = small / "rows", small / "points.json"
    with pytest.raises(FileNotFoundError, match=f"expected {BASELINE!r}: run .*benchmark points"):
        study.points(seeds=2, part=(1, 2), folder=rows, out=out)
    report = study.points(seeds=2, part=(2, 2), folder=rows, out=out)
    assert report["missing"] == []
    with pytest.raises(ValueError, match=r"part is \(3, 2\)"):
        study.points(part=(3, 2), folder=rows, out=out)


def test_every_variant_is_a_term_more_than_the_one_before() -> None:
    def on(label: str) -> set[str]:
        recipe = study._recipe(VARIANTS[label], 0)
        terms = ("labels", "local_alignment", "global_alignment", "pseudo_labels")
        return {term for term in terms if getattr(recipe, term) > 0}

    ladder = ["seen labels", "+ local", "+ global", "+ pseudo labels"]
    sizes = [len(on(label)) for label in ladder]
    assert sizes == [1, 2, 3, 4] and all(on(a) < on(b) for a, b in zip(ladder, ladder[1:], strict=False))
    assert on("pseudo labels without alignment") == {"labels", "pseudo_labels"}


def test_counting_names_the_scene_that_is_none(tmp_path: Path) -> None:
    data = Points("val", folder=write_pack(tmp_path))
    perfect = count_points(lambda scene: scene.labels, data).compute()
    assert perfect["mIoU_seen"] == perfect["mIoU_unseen"] == 1.0
    with pytest.raises(ValueError, match=r"got 0 scenes \(limit=0\)"):
        count_points(lambda scene: scene.labels, data, limit=0)

    def refuses(scene: object) -> None:
        raise ValueError("no camera sees any point")

    with pytest.raises(ValueError, match="scene 0 of 'val': no camera sees any point"):
        count_points(refuses, data)


# What ships


def test_the_report_is_of_the_recipe_and_the_scenes_that_ship() -> None:
    report = read_report("points")
    assert report["missing"] == [] and report["seeds"] >= 3
    for label, changes in VARIANTS.items():
        assert report["variants"][label] == json.loads(json.dumps(study.asdict(study._recipe(changes, 0))))
        for split in ("test", "test-known"):
            values = report["table"][label][f"{split}/hIoU"]["values"]
            assert len(values) == report["seeds"]
    assert report["scenes"] == {split: len(Points(split)) for split in report["scenes"]}


def test_the_weights_of_the_recipe_are_the_best_of_the_grid() -> None:
    grid, recipe = read_report("points")["grid"], study._recipe({}, 0)
    assert set(grid) == set(GRID)
    best = max(grid, key=lambda label: grid[label]["hIoU"])
    assert {key: getattr(recipe, key) for key in START} == GRID[best]
