"""Head or linear map over steps: one training each, whose looks no schedule tells apart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from infoclip_lite.core.reports import JsonObject
from infoclip_lite.studies import chimera_heads as study
from infoclip_lite.studies.runs import _as_json
from infoclip_lite.training.loop import _schedule
from infoclip_lite.training.recipe import FineTuneRecipe


def test_the_two_trainings_differ_in_the_head_and_its_rate() -> None:
    linear, head = (variant.load(0) for variant in study.variants().values())
    assert {key for key in vars(head) if getattr(head, key) != getattr(linear, key)} <= {
        "segmentor",
        "optimizer",
    }
    assert head.segmentor == {**linear.segmentor, "head": "semantic"}
    assert head.steps == head.evaluation.at[-1] == 4000


def test_nothing_on_the_way_knows_how_long_the_training_is_to_be() -> None:
    """Neither K nor the rate: a look at step 1,600 is that of a training of any length."""
    for variant in study.variants().values():
        recipe = variant.load(0)
        assert recipe.objective["schedule"] == "constant" and recipe.objective["alignment"] == 0
        warmup, cooldown = recipe.optimizer.warmup, recipe.optimizer.cooldown
        rates = [_schedule(step, recipe.steps, warmup, cooldown) for step in range(recipe.steps)]
        assert set(rates[warmup : study.LOOKS[-2] + 1]) == {1.0}
        assert rates[-1] == pytest.approx(1 / cooldown) and rates[-2] > rates[-1]


def looks(value: float) -> list[JsonObject]:
    """Of a training whose hIoU grows by a hundredth from look to look."""
    return [
        {"step": step, "hIoU": value + i / 100, "test/hIoU": value + i / 50}
        for i, step in enumerate(study.LOOKS)
    ]


def run(seed: int, value: float) -> JsonObject:
    """A record of one training, its last look scored on every split."""
    metrics = {"mIoU_seen": value, "mIoU_unseen": value, "hIoU": value}
    return {
        "seed": seed,
        **dict.fromkeys(("val", "test-known", "test"), metrics),
        "calibration": dict.fromkeys(("val", "test-known", "test"), {}),
        "evaluations": looks(value),
        "recipe": {"steps": 4000},
        "seconds": {"train": 1600.0},
    }


def records(**values: tuple[float, ...]) -> dict[str, list[JsonObject]]:
    return {head: [run(seed, value) for seed, value in enumerate(of)] for head, of in values.items()}


def test_curves_have_a_point_for_each_look_and_differences_are_paired_by_seed() -> None:
    found = study.curves(records(linear=(0.1, 0.2), head=(0.1, 0.3)))
    assert [point.step for point in found["head"]["test/hIoU"]] == list(study.LOOKS)
    assert found["head"]["test/hIoU"][-1].mean == pytest.approx(0.2 + 5 / 50)
    gaps = study.differences(records(linear=(0.1, 0.2), head=(0.1, 0.3)))["hIoU"]
    assert [point.mean for point in gaps] == pytest.approx([0.05] * len(study.LOOKS))
    assert all(point.ci95 > 0 for point in gaps)


def test_one_seed_has_no_interval_and_no_point() -> None:
    assert study.curves(records(linear=(0.1,), head=(0.2,))) == {}
    assert study.differences(records(linear=(0.1, 0.2), head=(0.2,))) == {}


def test_a_report_is_written_of_whatever_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.what_is_finished(3, tmp_path)["missing"] == {"linear": 3, "head": 3}

    def quick(recipe: FineTuneRecipe, *given: object) -> JsonObject:
        assert given[2] is not None and given[4] == tmp_path / "states" / f"{here.label}-{recipe.seed}"
        value = 0.2 + 0.01 * recipe.seed
        Path(str(given[4])).mkdir(parents=True)
        return {**run(recipe.seed, value), "recipe": _as_json(recipe)}

    here = SimpleNamespace(label="linear")
    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    for part, here.label in (((1, 2), "linear"), ((2, 2), "head")):
        report = study.chimera_heads(
            seeds=2, part=part, folder=tmp_path, states=tmp_path / "states", out=tmp_path / "a.json"
        )
    assert report["missing"] == {} and report["seconds_a_step"] == {"linear": 0.4, "head": 0.4}
    assert [row["step"] for row in report["differences"]["test/hIoU"]] == list(study.LOOKS)
    assert list((tmp_path / "states").iterdir()) == [], "no state stays behind a finished run"
