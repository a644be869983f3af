"""The papers' recipes of trainings without masks: their settings, and one of everything on random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.clip_es import BACKGROUND, ClipES
from infoclip_lite.training import build
from infoclip_lite.training.dry_run import dry_run
from infoclip_lite.training.recipe import (
    FineTuneRecipe,
    OptimizerSection,
    list_recipes,
    load_finetuning,
    load_recipe,
)
from infoclip_lite.training.supervision import (
    SUPERVISIONS,
    Captions,
    PseudoMaskSupervision,
    build_supervision,
)

MakeTiny = Callable[..., DenseCLIP]
BODY: dict[str, Any] = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32}
QUICK: dict[str, Any] = {"settings": {"iterations": 1, "dilations": [1]}}


def test_clip_es_has_the_published_constants() -> None:
    recipe = load_finetuning("paper/clip-es-deeplab")
    found = build_supervision(recipe.supervision)
    assert isinstance(found, PseudoMaskSupervision)
    assert found.options == ClipES(near="attention", box=0.4, sure=0.95, iterations=10, weight=3.0 + 4.0)
    assert found.prompt == "a clean origami {}." and len(found.around) == len(set(BACKGROUND)) == 25
    assert found.called["person"] == "person with clothes,people,human" and len(found.called) == 4
    assert (recipe.batch, recipe.steps, recipe.data["name"]) == (10, 20_000, "pas20b")
    assert recipe.tune == "none" and recipe.clip.name == "ViT-B-16-quickgelu"


def test_pacl_has_the_published_rates_and_says_that_it_is_reduced() -> None:
    recipe = load_finetuning("paper/pacl-vitb16")
    assert recipe.optimizer == OptimizerSection(5e-4, 5e-4, 0.2, 1.0, 0)
    assert recipe.batch * recipe.steps == pytest.approx(10 * 118_287, rel=1e-3), "ten epochs"
    found = build_supervision(recipe.supervision)
    assert isinstance(found, Captions) and len(found.prompts) == 7 and found.sharpness == 1
    folder = Path(build.__file__).parents[1] / "recipes"
    assert "reduced" in (folder / "paper" / "pacl-vitb16.yaml").read_text().splitlines()[0]


def test_every_supervision_has_a_mini_and_a_paper_recipe() -> None:
    every = {name: load_recipe(name) for name in list_recipes()}
    tuned = {name: recipe for name, recipe in every.items() if isinstance(recipe, FineTuneRecipe)}
    for kind in SUPERVISIONS:
        own = [name for name, recipe in tuned.items() if (recipe.supervision or {}).get("name") == kind]
        assert [name.split("/")[0] for name in own] == ["mini", "paper"]


@pytest.mark.parametrize(
    ("name", "segmentor", "supervision", "protocol"),
    [
        ("clip-es-deeplab", BODY, {**QUICK, "called": {}}, "zero-shot"),
        ("pacl-vitb16", {}, {}, "whole"),
    ],
)
def test_a_dry_run_does_one_of_everything_and_keeps_nothing(
    name: str,
    segmentor: dict[str, Any],
    supervision: dict[str, Any],
    protocol: str,
    make_tiny: MakeTiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build, "load_clip", lambda *_: make_tiny(layers=12))
    monkeypatch.chdir(tmp_path)
    small: dict[str, Any] = {
        "batch": 2,
        "segmentor": segmentor,
        "supervision": supervision,
        "data": {"size": 64},
        "machine": {"dtype": "float32"},
        "evaluation": {"at": [0], "scenes": 1, "protocol": protocol},
    }
    found = dry_run(f"paper/{name}", noise=True, **small)
    assert found.steps == load_finetuning(f"paper/{name}").steps and found.picture is not None
    assert 0 < found.trained < found.parameters
    assert list(tmp_path.iterdir()) == []
