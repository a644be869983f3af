"""Recipes in sections: what they inherit, and what a slip is met with."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import seen_nouns
from infoclip_lite.training.recipe import (
    FineTuneRecipe,
    PretrainRecipe,
    list_recipes,
    load_recipe,
    merged,
)


def test_recipes_that_learn_from_few_nouns_learn_from_the_same_eight() -> None:
    every = [load_recipe(name) for name in list_recipes()]
    recipes = [recipe for recipe in every if isinstance(recipe, FineTuneRecipe)]
    (eight,) = {tuple(recipe.data["seen"]) for recipe in recipes if recipe.data.get("seen")}
    assert len(eight) == 8 and set(eight) <= set(seen_nouns())
    # On validation scenes every one of them has an instance that was held back.
    assert len(Collage("val", seen=eight).class_groups["seen"]) == 8


def test_the_recipe_that_learns_from_all_seen_nouns_says_how_many_they_are() -> None:
    said = (files("infoclip_lite") / "recipes" / "mini" / "plain.yaml").read_text()
    assert f"the pack's {len(seen_nouns())} seen nouns" in said


def test_the_recipe_of_pretraining_is_the_one_of_the_model_that_ships() -> None:
    recipe = load_recipe("mini/pretrain")
    assert isinstance(recipe, PretrainRecipe)
    with safe_open(data_dir() / "checkpoints" / "collage-mini.safetensors", framework="pt") as file:
        config, card = (json.loads(file.metadata()[key]) for key in ("config", "card"))
    said = {"model": recipe.model, "stem": recipe.stem, "mean": recipe.mean, "std": recipe.std}
    assert config == {**said, "name": recipe.name, "read_out": recipe.read_outs}
    came_later = {"instances": None}  # keys that the model's recipe did not have, at what it did
    assert came_later | card["recipe"] == asdict(recipe), "and it is how that model was trained"


RECIPE = {"task": "finetune", "name": "small", "steps": 3}


def write(folder: Path, **files: str) -> list[str]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return [str(folder / f"{name}.yaml") for name in files]


def test_a_base_lies_under_what_a_recipe_says_itself(tmp_path: Path) -> None:
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text(
        "task: finetune\nname: below\nsteps: 9\noptimizer: {lr: 0.5, warmup: 3}\nobjective: {name: kl, "
        "weight: 2.0}\n"
    )
    above.write_text(
        f"base: {below}\nname: above\noptimizer: {{lr: 0.25}}\nobjective: {{temperature: 4.0}}\n"
    )
    recipe = load_recipe(above)
    assert isinstance(recipe, FineTuneRecipe) and (recipe.name, recipe.steps) == ("above", 9)
    assert (recipe.optimizer.lr, recipe.optimizer.warmup) == (0.25, 3)
    assert recipe.objective == {"name": "kl", "weight": 2.0, "temperature": 4.0}


def test_a_section_that_names_another_thing_replaces_the_one_below() -> None:
    below = {**RECIPE, "objective": {"name": "kl", "weight": 2.0}, "data": {"name": "collage", "size": 64}}
    changed = merged(below, {"objective": {"name": "feature"}, "data": {"size": 32}})
    assert changed["objective"] == {"name": "feature"} and changed["data"] == {"name": "collage", "size": 32}
    assert merged(below, {"objective": None})["objective"] is None


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recipe 'mini/catsegg'; did you mean 'mini/catseg'"):
        load_recipe({**RECIPE, "base": "mini/catsegg"})
    with pytest.raises(ValueError, match="base is 3; expected the name of a recipe"):
        load_recipe({**RECIPE, "base": 3})


def test_a_base_that_goes_in_circles_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"base: {two}\nname: one\n")
    two.write_text(f"base: {one}\nname: two\n")
    with pytest.raises(ValueError, match="base goes in circles: .*two.yaml -> .*one.yaml -> .*two.yaml"):
        load_recipe(one)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"optimiser": {"lr": 0.1}}, "unknown key 'optimiser' in the recipe; did you mean 'optimizer'"),
        ({"optimizer": {"lrr": 0.1}}, "unknown key 'lrr' in optimizer of the recipe; did you mean 'lr'"),
        ({"optimizer": {"lr": "1e-4"}}, "lr is '1e-4', a str; expected float .*write 1.0e-4"),
        ({"optimizer": 3}, "optimizer is 3, a int; expected a section"),
        ({"evaluation": {"at": 3}}, "at is 3"),
        ({"machine": {"dtype": "float64"}}, "dtype is 'float64'"),
        ({"segmentor": "catseg"}, "segmentor is 'catseg', a str"),
        ({"segmentor": {"name": 3}}, "expected name: one word"),
        ({"data": {"name": None}}, "expected name: one word"),
        ({"steps": True}, "steps is True, a bool"),
        ({"interpolate": 1.5}, "interpolate is 1.5; expected 0"),
        ({"steps": 20, "optimizer": {"cooldown": 11}}, "cooldown is 11, of 20 steps with a warm-up of 10"),
        ({"steps": 20, "optimizer": {"cooldown": 0}}, "cooldown is 0, of 20 steps"),
    ],
)
def test_a_slip_in_a_recipe_is_met_with_what_was_meant(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe({**RECIPE, **bad})


def test_a_recipe_lacks_what_only_it_can_say() -> None:
    with pytest.raises(ValueError, match="the recipe lacks name, steps"):
        load_recipe({"task": "finetune"})


def test_the_mini_recipes_say_only_what_differs() -> None:
    folder = Path(load_recipe.__code__.co_filename).parents[1] / "recipes" / "mini"
    for name in (
        "frozen",
        "wise",
        "feature",
        "kl",
        "l2sp",
        "pooled",
        "infoclip",
        "infoclip-paper",
        "cka",
        "rkd",
        "plain-few-qv",
    ):
        said = [
            line
            for line in (folder / f"{name}.yaml").read_text().splitlines()
            if line and not line.startswith("#")
        ]
        assert said[0].startswith("base: ") and len(said) <= 4, name
