"""The InfoCLIP study: variants differ in what they name and in nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infoclip_lite.studies.infoclip import BASELINE, FULL_BASELINE, GRID, INFOCLIP, VARIANTS
from infoclip_lite.training import recipe as recipes
from infoclip_lite.training.recipe import load_finetuning

# What a variant may name: everything else is the plain recipe's.
FREE = ("name", "objective", "anchors", "interpolate", "tune", "optimizer")


@pytest.mark.parametrize("table", [VARIANTS, GRID], ids=["variants", "grid"])
def test_variants_share_everything_but_what_they_compare(table: dict) -> None:
    loaded = {label: variant.load(3) for label, variant in table.items()}
    base = load_finetuning("mini/catseg", seed=3)
    for label, recipe in loaded.items():
        assert replace(recipe, **{key: getattr(base, key) for key in FREE}) == base, label
        assert replace(recipe.optimizer, lr=base.optimizer.lr) == base.optimizer, label
    contents = [repr(replace(r, name="")) for r in loaded.values()]
    assert len(set(contents)) == len(contents), "no variant is there twice"


def test_full_variants_tune_every_weight_at_one_rate() -> None:
    full = {label: variant.load(0) for label, variant in VARIANTS.items() if label.startswith("full: ")}
    assert FULL_BASELINE in full and {(r.tune, r.optimizer.lr) for r in full.values()} == {("full", 3e-4)}


def test_what_the_recipe_says_is_said_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another strength in the YAML is another strength in every variant that does not name one."""
    read = recipes._read

    def edited(name: str) -> dict[str, Any]:
        values = read(name)
        if name == "mini/infoclip":
            values["objective"] |= {"transfer": 5.0, "kind": "information"}
        return values

    monkeypatch.setattr(recipes, "_read", edited)
    ours = [label for label in VARIANTS if "infoclip" in label and "paper" not in label]
    changed = {label: VARIANTS[label].load(0).objective for label in ours}
    assert changed.pop("full: infoclip, information")["transfer"] == 1.0, "which names its own"
    assert len(changed) == 7 and {o["transfer"] for o in changed.values()} == {5.0}
    assert {o["kind"] for o in changed.values()} == {"information"}
    assert VARIANTS["infoclip-paper"].load(0).objective == {"name": "infoclip", "axis": "batch"}


def test_settings_are_chosen_on_seeds_that_are_not_reported() -> None:
    assert BASELINE in VARIANTS and min(INFOCLIP.grid_seeds) >= 100


def test_planned_comparisons_are_few_and_of_the_study() -> None:
    assert 0 < len(INFOCLIP.contrasts) <= 5
    assert {label for pair in INFOCLIP.contrasts for label in pair} <= set(VARIANTS)


def test_what_is_called_the_papers_has_its_settings_or_says_what_was_changed() -> None:
    assert VARIANTS["infoclip-paper"].load(0).objective == {"name": "infoclip", "axis": "batch"}
    paper = {label for label, variant in VARIANTS.items() if variant.paper}
    assert paper and all("paper" in label for label in paper)
