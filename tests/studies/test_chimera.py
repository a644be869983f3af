"""The Chimera-Seg study: variants that differ in what they name and in nothing else, and the ladder made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies import chimera as chimera_study
from infoclip_lite.studies import cost
from infoclip_lite.studies.chimera import BASELINE, GRID, GRID_SEEDS, LADDER, VARIANTS, chimera, ladder
from infoclip_lite.studies.cost import chimera_cost
from infoclip_lite.studies.study import Variant, run_path, table
from infoclip_lite.training.recipe import list_recipes, load_recipe

FREE = ("seed", "objective", "chimera", "attention")


@pytest.mark.parametrize("variants", [VARIANTS, GRID], ids=["variants", "grid"])
def test_variants_share_everything_but_what_they_compare(variants: dict[str, Variant]) -> None:
    recipes = {label: variant.load(3) for label, variant in variants.items()}
    base = load_recipe("mini/chimera", seed=3)
    shared = [key for key in vars(base) if key not in FREE]
    for label, recipe in recipes.items():
        assert [getattr(recipe, key) for key in shared] == [getattr(base, key) for key in shared], label
        assert recipe.seed == 3 and recipe.tune == "none"
    contents = [repr(r) for r in recipes.values()]
    assert len(set(contents)) == len(contents), "no variant is there twice"


def test_the_recipe_that_ships_is_the_last_rung() -> None:
    """The whole method under its own name; options that are the default may be left out."""
    shipped, rung = load_recipe("mini/chimera"), list(LADDER.values())[-1].load(0)
    assert {**rung.objective, **shipped.objective} == shipped.objective
    assert {**rung.chimera, **shipped.chimera} == shipped.chimera and rung.attention == shipped.attention


def test_settings_are_chosen_on_a_seed_that_is_not_reported() -> None:
    assert BASELINE in VARIANTS and min(GRID_SEEDS) >= 100 and list(VARIANTS)[: len(LADDER)] == list(LADDER)


def test_each_rung_changes_one_thing() -> None:
    rungs = [variant.load(0) for variant in LADDER.values()]
    for below, rung in zip(rungs, rungs[1:], strict=False):
        changed = [key for key in vars(rung) if getattr(rung, key) != getattr(below, key)]
        assert len(changed) == 1, changed


def _runs(*values: float) -> list[dict[str, Any]]:
    return [{"label": "x", "seed": i, "test": {"hIoU": v}} for i, v in enumerate(values)]


def test_the_ladder_pairs_each_rung_with_the_one_below() -> None:
    """Differences of the third rung to the second: 1, 2, 3; half-width t(0.975, 2) / sqrt(3)."""
    first, second, third = list(LADDER)[:3]
    rows = table({first: _runs(0, 0, 0), second: _runs(10, 30, 50), third: _runs(11, 32, 53)}, first)
    steps = ladder(rows)
    assert list(steps) == [second, third] and steps[second]["test/hIoU"].mean == pytest.approx(30)
    assert steps[third]["test/hIoU"].mean == pytest.approx(2)
    assert steps[third]["test/hIoU"].ci95 == pytest.approx(2.484, abs=1e-3)


def test_a_rung_that_is_missing_is_left_out() -> None:
    first, _, third = list(LADDER)[:3]
    steps = ladder(table({first: _runs(1, 2), third: _runs(2, 3)}, first))
    assert list(steps) == [third] and steps[third]["test/hIoU"].mean == pytest.approx(1)


def test_a_report_holds_what_is_finished_and_names_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {label: replace(v, changes={**v.changes, "steps": 1, "batch": 2}) for label, v in list(VARIANTS.items())[:2]}
    unfinished = {"later": replace(small["head"], changes={**small["head"].changes, "steps": 2})}
    monkeypatch.setattr(chimera_study, "GRID", {})
    monkeypatch.setattr(chimera_study, "_zero_shot", dict)
    monkeypatch.setattr(chimera_study, "VARIANTS", small)
    with pytest.raises(FileNotFoundError, match="expected 'linear'"):
        chimera(seeds=2, part=(4, 4), folder=tmp_path / "empty", out=tmp_path / "none.json")
    chimera(seeds=2, folder=tmp_path, out=tmp_path / "a.json")
    monkeypatch.setattr(chimera_study, "VARIANTS", {**small, **unfinished})
    monkeypatch.setattr(chimera_study, "run_variants", lambda *args, **options: None)
    report = chimera(seeds=2, folder=tmp_path, out=tmp_path / "b.json")
    assert report["missing"] == ["later"] and list(report["table"]) == ["linear", "head"] and list(report["ladder"]) == ["head"]
    assert set(report["calibration"]["head"]) == {str(g) for g in chimera_study.GAMMAS}
    assert "difference" in report["table"]["head"]["test/hIoU"] and run_path(tmp_path, "head", 1).exists()


def test_cost_counts_what_inference_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = cost.load_clip
    # The small model in the place of ViT-B/16: what is counted does not depend on the size.
    monkeypatch.setattr(cost, "load_clip", lambda *names: load())
    monkeypatch.setattr(cost, "CostAggregationSegmentor", lambda clip, **options: ZeroShotSegmentor(clip, "value"))
    rows = {(r["what"], r["model"]): r for r in chimera_cost(repeats=1, out=tmp_path / "cost.json")["rows"]}
    ours, clip = (rows["collage-mini, 64 px", model] for model in ("Chimera-Seg", "zero-shot CLIP"))
    assert len(rows) == 6 and all(r["ms_a_picture"] > 0 for r in rows.values())
    assert ours["parameters"] == sum(ours["parts"].values()) and ours["parts"].keys() == {
        "body",
        "adapter",
        "frozen",
    }
    tower = load().visual
    assert clip["parameters"] == sum(p.numel() for p in tower.parameters()), "the image tower, no words"


@pytest.mark.parametrize("name", [n for n in list_recipes() if n.startswith("paper/chimera")])
def test_recipes_of_the_papers_size_differ_from_the_small_one_in_size_only(name: str) -> None:
    recipe, small = load_recipe(name), load_recipe("mini/chimera")
    assert recipe.chimera.keys() == small.chimera.keys() and recipe.objective.keys() == small.objective.keys()
    assert recipe.tune == small.tune == "none" and recipe.size % 32 == 0
