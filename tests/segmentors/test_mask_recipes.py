"""The papers' recipes of systems that ask for masks: their settings, one of everything on random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infoclip_lite import DenseCLIP
from infoclip_lite.training import build
from infoclip_lite.training.dry_run import dry_run
from infoclip_lite.training.recipe import FineTuneRecipe, OptimizerSection, list_recipes, load_recipe

MakeTiny = Callable[..., DenseCLIP]
# What each recipe says, and what it learns from: (batch, steps, size, data) and the rates.
PUBLISHED: dict[str, tuple[tuple[int, int, int, str], OptimizerSection]] = {
    "cascade-vitb16": ((16, 80_000, 512, "coco_stuff_zss"), OptimizerSection(2e-4, 2e-4, 1e-2, 1.0, 1500)),
    "cascade-vitb16-voc": ((16, 20_000, 512, "voc_zss"), OptimizerSection(2e-4, 2e-4, 1e-2, 1.0, 1500)),
    "zsseg-r101": ((32, 60_000, 640, "coco_stuff_zss"), OptimizerSection(1e-5, 1e-4, 1e-4, 0.01, 0)),
    "zsseg-r50-voc": ((16, 20_000, 512, "voc_zss"), OptimizerSection(1e-5, 1e-4, 1e-4, 0.01, 0)),
    "clsclip-pascal5i": ((8, 264_000, 480, "voc_zss"), OptimizerSection(5e-5, 5e-5, 1e-4, 1.0, 0)),
}
# Sizes that a test can afford, under what the recipe says: a small body, windows for 8 x 8 patches.
SMALL: dict[str, dict[str, Any]] = {
    "cascade-vitb16": {},
    "zsseg-r101": {"encoder": "tu-mobilenetv3_small_050", "weights": None, "queries": 8, "width": 64},
    "split-matching-vitb16": {"scales": [2, 4], "width": 32},
    "clsclip-pascal5i": {"width": 32},
    "clip-teacher-segformer": {
        "encoder": "tu-mobilenetv3_small_050",
        "weights": None,
        "width": 32,
        "scales": [2, 4],
    },
}
MASKS = ("cascade", "zsseg", "split_matching", "clsclip", "clip_teacher")


def recipe_of(name: str, **changes: Any) -> FineTuneRecipe:
    loaded = load_recipe(f"paper/{name}", **changes)
    assert isinstance(loaded, FineTuneRecipe)
    return loaded


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_published_settings(name: str) -> None:
    recipe, (setting, rates) = recipe_of(name), PUBLISHED[name]
    assert (recipe.batch, recipe.steps, recipe.data["size"], recipe.data["name"]) == setting
    assert recipe.optimizer == rates and recipe.tune == "none" and recipe.loss is None
    assert recipe.clip.name == "ViT-B-16-quickgelu" and recipe.name == name


def test_what_differs_between_coco_and_voc_is_what_the_authors_say() -> None:
    options = {name: recipe_of(name).segmentor for name in PUBLISHED}
    assert [options[f"cascade-vitb16{end}"]["prompts"] for end in ("", "-voc")] == [50, 10]
    assert [options[name]["ensemble"] for name in ("zsseg-r101", "zsseg-r50-voc")] == [0.8, 0.7]
    assert options["zsseg-r101"]["queries"] == 100 and options["zsseg-r101"]["prompts"] == 16
    assert options["clsclip-pascal5i"]["blocks"] == [2, 3, 4]
    assert recipe_of("clsclip-pascal5i").data["fold"] == 0


def test_every_system_has_a_mini_and_a_paper_recipe_with_the_same_options() -> None:
    every = {name: load_recipe(name) for name in list_recipes()}
    for system in MASKS:
        tuned = {name: r for name, r in every.items() if isinstance(r, FineTuneRecipe)}
        own = {name: r for name, r in tuned.items() if r.segmentor["name"] == system}
        assert {name.split("/")[0] for name in own} == {"mini", "paper"}, system
        assert all(r.tune == "none" and r.data.get("unseen") is None for r in own.values())


@pytest.mark.parametrize("name", SMALL)
def test_a_dry_run_does_one_of_everything(
    name: str, make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps, a state, a segmented picture, on a random CLIP of twelve blocks."""
    monkeypatch.setattr(build, "load_clip", lambda *_: make_tiny(layers=12))
    recipe = recipe_of(name)
    small: dict[str, Any] = {
        "batch": 2,
        "segmentor": SMALL[name],
        "data": {"name": "collage", "size": 64, "seen": ["fish", "bird"]},
        "machine": {"dtype": "float32"},
        "evaluation": {"at": [0], "scenes": 1, "protocol": "whole"},
    }
    found = dry_run(f"paper/{name}", **small)
    assert found.steps == recipe.steps and found.picture is not None
    assert 0 < found.trained < found.parameters
