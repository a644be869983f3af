"""What a method costs: a training step with an objective and without, a picture at inference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..clip import load_clip
from ..core.reports import write_report
from ..core.timing import kept_for_gradient
from ..segmentors import ChimeraSeg, CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from ..training.acceleration import autocast
from ..training.build import build_task
from ..training.finetuning import FineTuning
from ..training.recipe import FineTuneRecipe, load_recipe
from .chimera import _SMALL


def infoclip_cost(*, repeats: int = 5, out: Path | None = None) -> dict[str, Any]:
    """What the objective adds to a training step; writes data/reports/infoclip_cost.json. See `cost_rows`."""
    return write_report("infoclip_cost", {"rows": cost_rows(repeats=repeats)}, out)


_SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "mini": ("mini/infoclip", {}),
    "ViT-B/16, 384 px, batch 4": (
        "paper/infoclip-vitb16",
        {"data": "collage", "pretrained": None, "dtype": "auto"},
    ),
}


def cost_rows(*, repeats: int = 5, sizes: Sequence[str] = tuple(_SIZES)) -> list[dict[str, Any]]:
    """Training steps with the objective on and off, in turns in one run.

    Two sizes: the small recipe, and the paper's (ViT-B/16, 384 px, batch 4; random weights, rendered scenes, 32 words). Memory is what
    autograd keeps for the backward pass, in MB.

    Args:
        repeats: timed steps of each; the median counts.
        sizes: "mini", or "ViT-B/16, 384 px, batch 4".
    """
    rows = []
    for what, (name, changes) in ((size, _SIZES[size]) for size in sizes):
        recipe = load_recipe(name, **changes)
        if not isinstance(recipe, FineTuneRecipe):
            raise ValueError(f"{name} is a recipe for pretraining; expected one with task: finetune")
        tasks = {on: build_task(recipe if on else replace(recipe, objective=None, anchors=None))[0] for on in (True, False)}
        batch = next(iter(tasks[True].batches(0, 1)))
        seconds: dict[bool, list[float]] = {True: [], False: []}
        memory = {}
        for _ in range(repeats + 1):  # the first round warms up
            for on, task in tasks.items():
                started = time.perf_counter()
                memory[on] = _step(task, batch)
                seconds[on].append(time.perf_counter() - started)
        on_s, off_s = (statistics.median(seconds[on][1:]) for on in (True, False))
        teacher_s = _teacher_seconds(tasks[True], batch, repeats)
        rows.append(
            {
                "what": what,
                "step_off_s": round(off_s, 4),
                "step_on_s": round(on_s, 4),
                "teacher_forward_s": round(teacher_s, 4),
                "share_of_step": round(1 - off_s / on_s, 4),
                "share_without_teacher": round(1 - off_s / (on_s - teacher_s), 4),
                "kept_off_mb": round(memory[False] / 1e6, 1),
                "kept_on_mb": round(memory[True] / 1e6, 1),
            }
        )
    return rows


def _step(task: FineTuning, batch: Any) -> int:
    """One forward and backward pass; bytes that were kept for the latter."""
    kept = kept_for_gradient(lambda: task.loss(0, batch)["total"], task.module)
    task.module.zero_grad()
    return kept


def _teacher_seconds(task: FineTuning, batch: Any, repeats: int) -> float:
    if task.teacher is None:
        raise ValueError("got a task without a teacher; expected one with an objective")
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        with torch.no_grad(), autocast(task.teacher.device, task.dtype):
            task.teacher.encode_dense(batch[0], task.segmentor.attention[0])
        times.append(time.perf_counter() - started)
    return statistics.median(times)


_WORDS = 32  # that compete where inference is timed


def chimera_cost(*, repeats: int = 5, out: Path | None = None) -> dict[str, Any]:
    """Time and parameters of one forward pass at inference, all in turns in one run; writes data/reports/chimera_cost.json.

    Two sizes: the small one, and the paper's (ViT-B/16 at 384 px; random weights, which cost the same). Words are encoded beforehand, here
    by random vectors.

    Args:
        repeats: timed passes of each; the median counts.
        out: where the report is written; data/reports by default.
    """
    mini, base = load_clip(), load_clip("ViT-B-16-quickgelu")
    bodies: dict[str, dict[str, Any]] = {"mini": _SMALL, "paper": {**_SMALL, "weights": None, "pool": 4}}
    sizes: dict[str, tuple[int, int, dict[str, Segmentor]]] = {
        "collage-mini, 64 px": (
            64,
            16,
            {
                "zero-shot CLIP": ZeroShotSegmentor(mini, "cls_value"),
                "CAT-Seg": CostAggregationSegmentor(mini),
                "Chimera-Seg": ChimeraSeg(mini, **bodies["mini"]),
            },
        ),
        "ViT-B/16, 384 px": (
            384,
            1,
            {
                "zero-shot CLIP": ZeroShotSegmentor(base, "cls_value"),
                "CAT-Seg": CostAggregationSegmentor(base, config="vit_b"),
                "Chimera-Seg": ChimeraSeg(base, **bodies["paper"]),
            },
        ),
    }
    rows = []
    for what, (size, batch, models) in sizes.items():
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(batch, 3, size, size, generator=generator)
        passes = {}
        for label, model in models.items():
            words = F.normalize(torch.randn(_WORDS, model.clip.embed_dim, generator=generator), dim=-1)
            passes[label] = _forward(model.eval(), images, words)
        seconds: dict[str, list[float]] = {label: [] for label in models}
        for _ in range(repeats + 1):  # the first round warms up
            for label, forward in passes.items():
                started = time.perf_counter()
                forward()
                seconds[label].append(time.perf_counter() - started)
        for label, model in models.items():
            parts = model.at_inference() if isinstance(model, ChimeraSeg) else {"all": _image_side(model)}
            took = statistics.median(seconds[label][1:])
            row = {
                "what": what,
                "model": label,
                "ms_a_picture": round(1000 * took / batch, 3),
                "parameters": sum(parts.values()),
            }
            rows.append({**row, "parts": parts})
    return write_report("chimera_cost", {"rows": rows, "words": _WORDS}, out)


def _forward(model: Segmentor, images: torch.Tensor, text: torch.Tensor) -> Callable[[], torch.Tensor]:
    return torch.inference_mode()(lambda: model(images, text))


def _image_side(model: Segmentor) -> int:
    """Parameters of a segmentor without CLIP's text tower, which encodes the words once."""
    text = {id(p) for name, p in model.clip.model.named_parameters() if not name.startswith("visual.")}
    return sum(p.numel() for p in model.parameters() if id(p) not in text)
