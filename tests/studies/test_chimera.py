"""The Chimera-Seg study: variants differ in what they name and in nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.clip import load_clip
from infoclip_lite.studies import chimera as chimera_study
from infoclip_lite.studies import cost, runs
from infoclip_lite.studies.chimera import BASELINE, CHIMERA, GAMMAS, GRID, LADDER, VARIANTS, ladder
from infoclip_lite.studies.cost import chimera_cost
from infoclip_lite.studies.study import table
from infoclip_lite.studies.variants import Variant
from infoclip_lite.training import recipe as recipes
from infoclip_lite.training.recipe import list_recipes, load_finetuning


@pytest.mark.parametrize("variants", [VARIANTS, GRID], ids=["variants", "grid"])
def test_variants_share_everything_but_what_they_compare(variants: dict[str, Variant]) -> None:
    recipes = {label: variant.load(3) for label, variant in variants.items()}
    base = load_finetuning("mini/chimera", seed=3)
    for label, recipe in recipes.items():
        free = {"objective": base.objective, "segmentor": base.segmentor}
        assert replace(recipe, **free) == base and recipe.segmentor["read_out"] == "vanilla", label
    contents = [repr(r) for r in recipes.values()]
    assert len(set(contents)) == len(contents), "no variant is there twice"


def test_the_recipe_that_ships_is_the_last_rung() -> None:
    assert list(LADDER.values())[-1].load(0) == load_finetuning("mini/chimera")


def test_what_the_recipe_says_is_said_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another body or weight in the YAML is another one in every variant that does not name its own."""
    read = recipes._read

    def edited(name: str) -> dict[str, Any]:
        values = read(name)
        if name == "mini/chimera":
            values["segmentor"] |= {"width": 64, "pool": 4}
            values["objective"] |= {"dense": 7.0}
        return values

    monkeypatch.setattr(recipes, "_read", edited)
    assert all(
        v.load(0).segmentor["width"] == 64 and v.load(0).segmentor["pool"] == 4 for v in VARIANTS.values()
    )
    assert VARIANTS["head, SGD"].load(0).objective["dense"] == 7.0
    assert GRID["SGD 10, to 16"].load(0).objective["dense"] == 10.0
    model = cost._models(load_clip(), cost._INFERENCE["collage-mini, 64 px"])["Chimera-Seg"]
    assert model.body.channels == 64, "and what is timed is the recipe's, too"


def test_settings_are_chosen_on_a_seed_that_is_not_reported() -> None:
    assert BASELINE in VARIANTS and min(CHIMERA.grid_seeds) >= 100
    assert list(VARIANTS)[: len(LADDER)] == list(LADDER)


def test_the_planned_comparisons_are_the_ladders() -> None:
    rungs = list(LADDER)
    assert list(CHIMERA.contrasts) == list(zip(rungs[1:], rungs[:-1], strict=True))


def test_each_rung_changes_one_thing() -> None:
    rungs = [variant.load(0) for variant in LADDER.values()]
    for below, rung in zip(rungs, rungs[1:], strict=False):
        changed = [key for key in vars(rung) if getattr(rung, key) != getattr(below, key)]
        assert len(changed) == 1, changed


def _runs(*values: float) -> list[dict[str, Any]]:
    return [{"label": "x", "seed": i, "test-known": {"hIoU": v}} for i, v in enumerate(values)]


def test_the_ladder_pairs_each_rung_with_the_one_below() -> None:
    """Differences of the third rung to the second: 1, 2, 3; half-width t(0.975, 2) / sqrt(3)."""
    first, second, third = list(LADDER)[:3]
    rows = table({first: _runs(0, 0, 0), second: _runs(10, 30, 50), third: _runs(11, 32, 53)}, first)
    steps = ladder(rows)
    assert list(steps) == [second, third] and steps[second]["test-known/hIoU"].mean == pytest.approx(30)
    assert steps[third]["test-known/hIoU"].mean == pytest.approx(2)
    assert steps[third]["test-known/hIoU"].ci95 == pytest.approx(2.484, abs=1e-3)


def test_a_rung_that_is_missing_is_left_out() -> None:
    first, _, third = list(LADDER)[:3]
    steps = ladder(table({first: _runs(1, 2), third: _runs(2, 3)}, first))
    assert list(steps) == [third] and steps[third]["test-known/hIoU"].mean == pytest.approx(1)


def test_a_report_has_the_ladder_and_the_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chimera_study, "zero_shot", dict)
    monkeypatch.setattr(runs, "SCENES", 4)
    small = {label: variant.changed(steps=1, batch=2) for label, variant in list(VARIANTS.items())[:2]}
    trial = replace(CHIMERA, variants=small, grid={})
    report = trial.run(seeds=2, folder=tmp_path, out=tmp_path / "a.json")
    assert list(report["table"]) == ["linear", "head"] and list(report["ladder"]) == ["head"]
    assert set(report["calibration"]["head"]) == {str(gamma) for gamma in GAMMAS}
    assert report["ladder"]["head"] == {k: v["difference"] for k, v in report["table"]["head"].items()}
    assert [c["first"] for c in report["contrasts"]["test-known"]] == ["head"]


def test_cost_counts_what_inference_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = cost._INFERENCE["collage-mini, 64 px"]
    monkeypatch.setattr(cost, "_INFERENCE", {"here": small})
    rows = {row["model"]: row for row in chimera_cost(repeats=1, out=tmp_path / "cost.json")["rows"]}
    ours, clip = rows["Chimera-Seg"], rows["zero-shot CLIP"]
    assert len(rows) == 4 and all(row["ms_a_picture"] > 0 for row in rows.values())
    assert ours["parameters"] == sum(ours["parts"].values())
    assert ours["parts"].keys() == {"body", "adapter", "frozen"}
    linear = rows["Chimera-Seg, linear map"]["parts"]
    assert linear["frozen"] == 0 < ours["parts"]["frozen"] and linear["body"] == ours["parts"]["body"]
    tower = sum(p.numel() for p in load_clip().visual.parameters())
    assert clip["parameters"] == tower < rows["CAT-Seg"]["parameters"], "the image tower, no words"


@pytest.mark.parametrize("name", [n for n in list_recipes() if n.startswith("paper/chimera")])
def test_recipes_of_the_papers_size_differ_from_the_small_one_in_size_only(name: str) -> None:
    recipe, small = load_finetuning(name), load_finetuning("mini/chimera")
    assert (
        recipe.segmentor.keys() == small.segmentor.keys()
        and recipe.objective.keys() == small.objective.keys()
    )
    assert recipe.tune == small.tune == "none" and recipe.data["size"] % 32 == 0
