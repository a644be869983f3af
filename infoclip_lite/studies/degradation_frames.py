"""A training as frames: label maps of a few validation scenes, metrics and probes, at steps of plain fine-tuning."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.reports import write_report
from ..datasets.collage import Collage
from ..evaluation import evaluate, probe
from ..training.build import build_task
from ..training.loop import fit
from ..training.recipe import FineTuneRecipe, load_recipe

SCENES = (0, 1, 2)
KEYS = ("mIoU_seen", "mIoU_unseen", "noun_recognition", "image_to_text")


def degradation_frames(recipe: str = "mini/plain-few", *, out: Path | None = None, **changes: Any) -> dict[str, Any]:
    """Train the recipe once and write data/reports/degradation_frames.json: what the segmentor says of three scenes along the way.

    Args:
        recipe: a fine-tuning recipe with `evaluate_at`.
        out: where the report is written; data/reports by default.
        changes: keys of the recipe to replace.

    Raises:
        ValueError: the recipe trains something else, or has no step to look at.
    """
    what = load_recipe(recipe, **changes)
    if not isinstance(what, FineTuneRecipe) or not what.evaluate_at:
        raise ValueError(f"got recipe {recipe!r}; expected one with task: finetune and steps in evaluate_at")
    task, reference = build_task(what)
    segmentor = task.segmentor
    held_out = Collage(what.split, what.size, length=what.scenes, seen=what.seen)
    probed = [held_out[i] for i in range(what.scenes)]
    shown = [probed[i] for i in SCENES]
    frames: list[dict[str, Any]] = []

    @torch.no_grad()
    def look(step: int) -> dict[str, float]:
        mode = segmentor.training
        segmentor.eval()
        numbers = {
            **evaluate(segmentor, held_out).metrics,
            **probe(segmentor.clip, reference, probed, held_out.names, held_out.unseen, what.attention[0]),
        }
        logits = segmentor(torch.stack([scene.image for scene in shown]), segmentor.clip.encode_text(held_out.names))
        labels = logits.argmax(1).cpu().numpy().astype(np.uint8)
        frames.append({"step": step, "labels": pack(labels), **{key: round(float(numbers[key]), 4) for key in KEYS}})
        segmentor.train(mode)
        return numbers

    fit(
        task,
        steps=what.steps,
        warmup=what.warmup,
        clip_norm=what.clip_norm,
        evaluate=look,
        evaluate_at=what.evaluate_at,
    )
    content = {
        "recipe": recipe,
        "seed": what.seed,
        "names": list(held_out.names),
        "unseen": list(held_out.unseen),
        "images": pack((torch.stack([s.image for s in shown]).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)),
        "truth": pack(torch.stack([s.mask for s in shown]).numpy().astype(np.uint8)),
        "frames": frames,
    }
    return write_report("degradation_frames", content, out)


def pack(stack: np.ndarray) -> str:
    """(N, H, W) or (N, H, W, 3) uint8 pictures as one PNG strip in base64.

    Raises:
        ValueError: another type than uint8.

    >>> bool((unpack(pack(np.eye(4, dtype=np.uint8)[None])) == np.eye(4)).all())
    True
    """
    if stack.dtype != np.uint8:
        raise ValueError(f"got {stack.dtype}; expected uint8")
    buffer = io.BytesIO()
    Image.fromarray(stack.reshape(-1, *stack.shape[2:])).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def unpack(text: str) -> np.ndarray:
    """The pictures of `pack`, all square: (N, H, W) or (N, H, W, 3) uint8."""
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    return strip.reshape(-1, strip.shape[1], *strip.shape[1:])
