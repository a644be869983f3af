"""The InfoCLIP study: variants that differ in what they name and in nothing else, and the evidence made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infoclip_lite.cli import benchmark_command
from infoclip_lite.studies.cost import _step
from infoclip_lite.studies.infoclip import BASELINE, GRID, GRID_SEEDS, VARIANTS
from infoclip_lite.training.build import build_task
from infoclip_lite.training.recipe import load_recipe

SHARED = (
    "start",
    "segmentor",
    "attention",
    "steps",
    "batch",
    "size",
    "seen",
    "warmup",
    "loss",
    "split",
    "dtype",
    "head_lr",
    "prompt",
)


@pytest.mark.parametrize("table", [VARIANTS, GRID], ids=["variants", "grid"])
def test_variants_share_everything_but_what_they_compare(table: dict) -> None:
    recipes = {label: variant.load(3) for label, variant in table.items()}
    base = load_recipe("mini/catseg", seed=3)
    for label, recipe in recipes.items():
        assert [getattr(recipe, key) for key in SHARED] == [getattr(base, key) for key in SHARED], label
        assert recipe.seed == 3
    contents = [repr(replace(r, name="")) for r in recipes.values()]
    assert len(set(contents)) == len(contents), "no variant is there twice"


def test_settings_are_chosen_on_seeds_that_are_not_reported() -> None:
    assert BASELINE in VARIANTS and min(GRID_SEEDS) >= 100


def test_what_is_called_the_papers_has_its_weights_order_and_axis_or_says_what_was_changed() -> None:
    objective = VARIANTS["infoclip-paper"].load(0).objective
    assert objective == {"name": "infoclip", "axis": "batch"}
    paper = {label for label, v in VARIANTS.items() if v.paper}
    assert paper and all("paper" in label for label in paper)


def test_memory_that_is_kept_counts_a_storage_once_and_no_weights() -> None:
    recipe = load_recipe("mini/infoclip", batch=2)
    tasks = [build_task(r)[0] for r in (recipe, replace(recipe, objective=None, anchors=None))]
    on, off = (_step(task, next(iter(tasks[0].batches(0, 1)))) for task in tasks)
    assert 0 < off < on < 1.5 * off


@pytest.mark.parametrize("part", ["0/2", "3/2", "half", "1"])
def test_a_part_that_cannot_be_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match=r"expected K/N with 1 <= K <= N"):
        benchmark_command("infoclip", part=part)
