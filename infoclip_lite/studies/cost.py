"""What a method costs: a training step with an objective and without, a picture at inference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..core.processes import default_device
from ..core.reports import JsonObject, write_report
from ..core.timing import alive_at_most, medians, ratios, seconds_of, take_turns
from ..objectives import Batch
from ..segmentors import Segmentor, ZeroShotSegmentor, build_segmentor
from ..training.acceleration import autocast
from ..training.build import build_task
from ..training.finetuning import FineTuning
from ..training.recipe import FineTuneRecipe, load_finetuning, merged
from .rows import InferenceCost, Speed
from .variants import Variant


def rendered(name: str, **changes: object) -> FineTuneRecipe:
    """A paper's recipe at its size with neither its data nor its weights: rendered scenes, random CLIP.

    Args:
        name: of the recipe.
        changes: further keys to replace, section by section.
    """
    size = {key: value for key, value in load_finetuning(name).data.items() if key == "size"}
    here = {"data": {"name": "collage", **size}, "clip": {"pretrained": None}, "machine": {"dtype": "auto"}}
    return load_finetuning(name, **merged(here, changes))


def objective_share(
    *, recipe: FineTuneRecipe | None = None, repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, object]:
    """What the objective adds to a step beside its teacher, measured by itself.

    The difference of two whole steps drowns in their noise: the objective is timed alone, forward and back
    to what the student made, and divided by a step that is put together from its parts.

    Args:
        recipe: with an objective; the paper's at its size, without its data and weights, by default.
        repeats: timed passes of the objective and of the teacher; the median counts. Of the step without
            them one is timed.
        clock: see `take_turns`.

    Returns:
        {"what", "step_off_s", "teacher_forward_s", "objective_s", "share_beside_teacher"}: the share of the
        whole step, teacher and all.
    """
    plan = rendered("paper/infoclip-vitb16") if recipe is None else recipe
    task = build_task(plan)[0]
    batch, objective = _batch(task), task.objective
    if objective is None:
        raise ValueError("got a recipe without an objective; expected one, such as paper/infoclip-vitb16")
    device = task.segmentor.clip.device
    met: list[Batch] = []
    handle = objective.register_forward_pre_hook(lambda module, inputs: met.append(inputs[0]))
    with torch.no_grad():
        task.loss(0, batch)
    handle.remove()
    given = met[0]
    student = given.student
    leaves = [part.detach().requires_grad_() for part in (student.dense, student.text)]
    alone = Batch.of(
        teacher=given.teacher,
        student=student._replace(dense=leaves[0], text=leaves[1]),
        images=given.images,
        target=given.target,
        grid=given.grid,
        progress=given.progress,
    )

    def beside() -> None:
        with autocast(device, task.dtype):
            total = objective(alone)["total"]
        total.backward()

    passes = {"objective": beside, "teacher": _teacher_pass(task, batch)}
    took = medians(take_turns(passes, repeats, device=device, clock=clock))
    off = build_task(replace(plan, objective=None, anchors=None))[0]
    step = seconds_of(partial(_step, off, batch), device, clock)
    share = took["objective"] / (step + took["teacher"] + took["objective"])
    return {
        "what": f"{plan.name}, {plan.batch} pictures",
        "step_off_s": round(step, 3),
        "teacher_forward_s": round(took["teacher"], 3),
        "objective_s": round(took["objective"], 4),
        "share_beside_teacher": round(share, 4),
    }


def _batch(task: FineTuning) -> tuple[Tensor, ...]:
    """The pictures and masks of the first step."""
    batch = next(iter(task.batches(0, 1)))
    if isinstance(batch, list):
        raise ValueError(
            f"got a batch in {len(batch)} parts; expected one: accumulate must be 1 where a step is timed"
        )
    return batch


def _step(task: FineTuning, batch: tuple[Tensor, ...]) -> None:
    """One forward and backward pass."""
    task.loss(0, batch)["total"].backward()
    task.module.zero_grad()


def _teacher_pass(task: FineTuning, batch: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    """The teacher's forward pass in a step; its pictures are on its device before any clock is read.

    Raises:
        ValueError: a task without a teacher.
    """
    teacher, read_out = task.teacher, task.segmentor.read_outs[0]
    if teacher is None:
        raise ValueError("got a task without a teacher; expected one with an objective")
    images = batch[0].to(teacher.device)

    @torch.no_grad()
    def look() -> Tensor:
        with autocast(teacher.device, task.dtype):
            return teacher.encode_dense(images, read_out)

    return look


_WORDS = 32  # that compete where inference is timed


@dataclass(frozen=True)
class _Inference:
    """One size at which inference is compared.

    Attributes:
        clip: what `load_clip` takes.
        side, batch: of the pictures.
        changes: model -> what this size changes in the segmentor of its small recipe.
    """

    clip: str
    side: int
    batch: int
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


# Weights are random at the paper's size: they cost what trained ones cost.
_RANDOM_BODY = {"weights": None, "pool": 4}
_MOBILENET = {"encoder": "mobilenet_v2", "width": 128}
_LINEAR = "Chimera-Seg, linear map"
_INFERENCE: dict[str, _Inference] = {
    "collage-mini, 64 px": _Inference("collage-mini", 64, 16),
    # The size and the body of the studies of Chimera-Seg.
    "collage-mini, 96 px": _Inference(
        "collage-mini", 96, 16, {"Chimera-Seg": _MOBILENET, _LINEAR: _MOBILENET}
    ),
    "ViT-B/16, 384 px": _Inference(
        "ViT-B-16-quickgelu",
        384,
        1,
        {"CAT-Seg": {"size": "vit_b"}, "Chimera-Seg": _RANDOM_BODY, _LINEAR: _RANDOM_BODY},
    ),
}
# The small recipes say what the models are; the sizes change what they must.
_MODELS: dict[str, Variant] = {
    "CAT-Seg": Variant("mini/head"),
    "Chimera-Seg": Variant("mini/chimera"),
    _LINEAR: Variant("mini/chimera", {"segmentor": {"head": "linear"}}),
}


def chimera_cost(*, repeats: int = 5, out: Path | None = None) -> JsonObject:
    """Time and weights of a forward pass at inference, in turns; writes data/reports/chimera_cost.json.

    Three sizes: two small ones, and the paper's (ViT-B/16 at 384 px). Words are encoded beforehand, here by
    random vectors.

    Args:
        repeats: timed passes of each; the median counts.
        out: where the report is written; data/reports by default.
    """
    rows = [row for what, size in _INFERENCE.items() for row in _inference_rows(what, size, repeats)]
    return write_report("chimera_cost", {"rows": [vars(row) for row in rows], "words": _WORDS}, out)


def _inference_rows(what: str, size: _Inference, repeats: int) -> list[InferenceCost]:
    clip = load_clip(size.clip, device=default_device())
    models = _models(clip, size)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size.batch, 3, size.side, size.side, generator=generator).to(clip.device)
    words = F.normalize(torch.randn(_WORDS, clip.embed_dim, generator=generator), dim=-1).to(clip.device)
    passes = {label: forward_pass(model, images, words) for label, model in models.items()}
    took = medians(take_turns(passes, repeats, device=clip.device))
    weights = {label: model.weights_at_inference() for label, model in models.items()}
    return [
        InferenceCost(what, label, round(1000 * took[label] / size.batch, 3), sum(parts.values()), parts)
        for label, parts in weights.items()
    ]


def _models(clip: DenseCLIP, size: _Inference) -> dict[str, Segmentor]:
    models: dict[str, Segmentor] = {"zero-shot CLIP": ZeroShotSegmentor(clip, "cls_value")}
    for label, variant in _MODELS.items():
        recipe = variant.changed(segmentor=size.changes.get(label, {})).load(0)
        models[label] = build_segmentor(recipe.segmentor, clip, recipe.prompt).to(clip.device)
    return models


def speed_rows(
    passes: Mapping[str, Callable[[], object]],
    seconds: Mapping[str, Sequence[float]],
    reference: str,
    batch: int,
) -> dict[str, dict[str, float]]:
    """Ways of inference as a report holds them: see `Speed`.

    Args:
        passes: what was timed, by name; each is called once more, for its memory.
        seconds: of `take_turns`.
        reference: the name to whose time in the same round ratios are.
        batch: pictures of a pass.
    """
    found = {}
    for name, own in ratios(seconds, reference).items():
        low, middle, high = (round(cut, 3) for cut in quantiles(own, n=4, method="inclusive"))
        ms = round(1000 * median(seconds[name]) / batch, 3)
        mb = round(alive_at_most(passes[name]) / batch / 1e6, 3)
        found[name] = Speed(ms, ratio=middle, low=low, high=high, mb=mb).to_json()
    return found


def forward_pass(model: Segmentor, images: Tensor, text: Tensor) -> Callable[[], Tensor]:
    """A picture's way through a model as it is at inference, to be timed.

    Args:
        model: put into evaluation mode.
        images: (B, 3, H, W) floats in [0, 1], on the model's device.
        text: (C, D) unit vectors, likewise.
    """
    model.eval()

    @torch.inference_mode()
    def forward() -> Tensor:
        return model(images, text)

    return forward
