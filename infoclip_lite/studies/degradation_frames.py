"""A training as frames: label maps of a few validation scenes, metrics and probes, step by step."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..core.reports import JsonObject, write_report
from ..segmentors import Segmentor
from ..training.build import held_out
from ..training.recipe import load_finetuning
from ..training.run import train

SHOWN = 3  # scenes, the first of the validation split: as many as fit beside each other
KEYS = ("mIoU_seen", "mIoU_unseen", "noun_recognition", "image_to_text")


def degradation_frames(
    recipe: str = "mini/plain-few", *, out: Path | None = None, **changes: object
) -> JsonObject:
    """Train the recipe once and write data/reports/degradation_frames.json: three scenes along the way.

    Args:
        recipe: a fine-tuning recipe with steps in `evaluation.at`.
        out: where the report is written; data/reports by default.
        changes: keys of the recipe to replace.

    Returns:
        {"recipe", "seed", "names", "unseen", "images", "truth", "frames": [{"step", "labels", and KEYS}]};
        pictures as of `pack`.

    Raises:
        ValueError: the recipe trains something else, or has no step to look at.
    """
    what = load_finetuning(recipe, **changes)
    if not what.evaluation.at:
        raise ValueError(f"got recipe {recipe!r}; expected one with steps in evaluation.at")
    scenes = held_out(what)
    shown = [scenes[i] for i in range(SHOWN)]
    images, truth = (
        torch.stack([scene.image for scene in shown]),
        torch.stack([scene.mask for scene in shown]),
    )
    labels: dict[int, str] = {}

    @torch.no_grad()
    def watch(step: int, segmentor: Segmentor) -> dict[str, float]:
        logits = segmentor(images, segmentor.encode_text(scenes.names))
        labels[step] = pack(logits.argmax(1).cpu().numpy().astype(np.uint8))
        return {}

    run = train(what, watch=watch, progress=False)
    content = {
        "recipe": recipe,
        "seed": what.seed,
        "names": list(scenes.names),
        "unseen": list(scenes.unseen),
        "images": pack((images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)),
        "truth": pack(truth.numpy().astype(np.uint8)),
        "frames": [_frame(record, labels[int(record["step"])]) for record in run.evaluations()],
    }
    return write_report("degradation_frames", content, out)


def _frame(record: dict[str, float], labels: str) -> dict[str, object]:
    # Four digits: the slider shows two, and the file is a page's to load.
    return {"step": int(record["step"]), "labels": labels, **{key: round(record[key], 4) for key in KEYS}}


def pack(stack: np.ndarray) -> str:
    """Pictures as one PNG strip in base64, so that a JSON report can hold them.

    Args:
        stack: (N, H, W) or (N, H, W, 3) uint8.

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
