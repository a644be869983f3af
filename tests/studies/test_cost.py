"""What an objective costs: the teacher's pictures are where it is, and a share is put together from parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from infoclip_lite.clip import load_clip
from infoclip_lite.studies import cost
from infoclip_lite.studies.cost import chimera_cost, objective_share, rendered
from infoclip_lite.training import recipe as recipes
from infoclip_lite.training.build import build_segmentor, build_task
from infoclip_lite.training.recipe import list_recipes, load_finetuning


class Elsewhere:
    """A teacher on another device than the data set's pictures, which refuses pictures that are not there."""

    device = torch.device("meta")

    def encode_dense(self, images: Tensor, read_out: str) -> Tensor:
        if images.device != self.device:
            raise RuntimeError(f"pictures on {images.device}, teacher on {self.device}")
        return images


def test_the_teacher_gets_its_pictures_where_it_is() -> None:
    segmentor = SimpleNamespace(read_outs=("value",))
    task = SimpleNamespace(teacher=Elsewhere(), segmentor=segmentor, dtype=torch.float32)
    # Autocast knows no such device, and float32 needs none.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "autocast", lambda device, dtype: torch.autocast("cpu", enabled=False))
        found = cost._teacher_pass(task, (torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8)))()
    assert found.device.type == "meta"


def test_a_task_without_a_teacher_has_no_such_time() -> None:
    with pytest.raises(ValueError, match="got a task without a teacher; expected one with an objective"):
        cost._teacher_pass(SimpleNamespace(teacher=None, segmentor=SimpleNamespace(read_outs=("value",))), ())


def test_a_papers_recipe_is_rendered_at_its_size_without_weights() -> None:
    recipe, paper = rendered("paper/infoclip-vitb16", batch=2), load_finetuning("paper/infoclip-vitb16")
    assert recipe.data == {"name": "collage", "size": paper.data["size"]} and recipe.batch == 2
    assert (recipe.clip.name, recipe.clip.pretrained) == (paper.clip.name, None)
    assert recipe.objective == paper.objective and recipe.optimizer == paper.optimizer


def test_the_objectives_share_is_put_together_from_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter(range(10**6))
    recipe = load_finetuning("mini/infoclip", batch=2)
    found = objective_share(recipe=recipe, repeats=1, clock=lambda: float(next(counted)))
    # Every time is one tick of this clock.
    assert found["step_off_s"] == found["teacher_forward_s"] == found["objective_s"] == 1
    assert found["share_beside_teacher"] == pytest.approx(1 / 3, abs=1e-4)
    with pytest.raises(ValueError, match="a recipe without an objective"):
        objective_share(recipe=load_finetuning("mini/plain", batch=2))


def test_the_objective_is_timed_to_what_the_student_made_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its gradient is that of a whole step where the two meet."""
    recipe = load_finetuning("mini/infoclip", batch=2)
    task = build_task(recipe)[0]
    monkeypatch.setattr(cost, "build_task", lambda plan: (task, None))
    objective_share(recipe=recipe, repeats=1)
    weights = [p for p in task.segmentor.parameters() if p.grad is not None]
    assert weights == [] or all(float(p.grad.abs().sum()) == 0 for p in weights)


def test_what_is_timed_is_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another body in the YAML is another one in the clock's hands."""
    read = recipes._read

    def edited(name: str) -> dict[str, Any]:
        values = read(name)
        if name == "mini/chimera":
            values["segmentor"] |= {"width": 64}
        return values

    monkeypatch.setattr(recipes, "_read", edited)
    model = cost._models(load_clip(), cost._INFERENCE["collage-mini, 64 px"])["Chimera-Seg"]
    assert model.body.channels == 64


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


def test_the_body_that_is_priced_is_the_one_that_is_trained() -> None:
    priced = cost._models(load_clip(), cost._INFERENCE["collage-mini, 96 px"])["Chimera-Seg"]
    trained = build_segmentor(load_finetuning("mini/chimera-mobilenet"))
    assert priced.weights_at_inference() == trained.weights_at_inference()
