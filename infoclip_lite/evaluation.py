"""Evaluate a segmentor on a data set: whole images or sliding windows, one confusion matrix, a report."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from .metrics import SegmentationMetrics
from .paths import whole_file
from .vocabulary import synonyms_of


@dataclass(frozen=True)
class Report:
    """What was measured and on what.

    Attributes:
        metrics: pAcc, mIoU, mIoU_seen, mIoU_unseen, hIoU as fractions, without calibration (gamma = 0).
        per_class: IoU of each class name; None where the class is neither in the targets nor predicted.
        calibration: the same metrics for each gamma subtracted from the logits of seen classes.
        details: data set, settings, versions, hardware, git revision and wall time in seconds.
    """

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self, path: Path | None = None) -> str:
        """The report as JSON; written whole to `path` if one is given."""
        text = json.dumps(_without_nan(asdict(self)), indent=1)
        if path is not None:
            with whole_file(Path(path)) as scratch:
                scratch.write_text(text + "\n")
        return text


def _without_nan(value: Any) -> Any:
    """NaN is not JSON: None in its place."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value


def environment() -> dict[str, Any]:
    """Versions, hardware and git revision, for reports."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    packages = {name: version(name) for name in ("torch", "open_clip_torch", "infoclip-lite")}
    return {"hardware": device, "threads": torch.get_num_threads(), "python": platform.python_version(), **packages, "git": _revision()}


@torch.inference_mode()
def evaluate(
    model_or_run: Any,
    dataset: Dataset,
    *,
    limit: int | None = None,
    batch_size: int = 16,
    templates: Sequence[str] | None = None,
    synonyms: Literal["mean", "max"] = "mean",
    window: int | None = None,
    stride: int | None = None,
    gammas: Sequence[float] = (),
    progress: bool = False,
) -> Report:
    """Measure a segmentor on scenes with pixel labels, all classes competing.

    Args:
        model_or_run: a segmentor with `.clip`, or a Run of `train`.
        dataset: gives (image (3, H, W), mask (H, W), ...) and has `.names` and `.unseen` class ids.
        limit: number of scenes, the first ones; None takes all.
        batch_size: pictures at a time; pictures of different sizes need 1.
        templates: prompts for the class names; None takes the model's own.
        synonyms: average the embeddings of a class's synonyms, or take the best of their logits.
        window, stride: side and step of sliding windows in pixels; None looks at the whole picture at once.
        gammas: calibration sweep: constants subtracted from the logits of seen classes (gamma = 0 is always reported).
        progress: show a progress bar.

    Returns:
        A Report.

    Raises:
        ValueError: an empty data set, a limit below 1, or a stride larger than the window.
    """
    started = time.perf_counter()
    segmentor: Any = getattr(model_or_run, "model", model_or_run)
    names: Sequence[str] = dataset.names  # type: ignore[attr-defined]
    unseen: Sequence[int] = getattr(dataset, "unseen", ())
    total = len(dataset) if limit is None else min(limit, len(dataset))  # type: ignore[arg-type]
    if total < 1:
        raise ValueError(f"got {total} scenes (limit={limit}); expected at least 1")
    flat, owners = (list(names), list(range(len(names)))) if synonyms == "mean" else flatten_synonyms(names)
    text = getattr(segmentor, "encode_text", segmentor.clip.encode_text)(flat, templates)
    sweep = {gamma: SegmentationMetrics(len(names), unseen) for gamma in (0.0, *gammas)}
    seen = torch.ones(len(names), dtype=torch.bool)
    seen[list(unseen)] = False
    for first in tqdm(range(0, total, batch_size), desc="evaluate", disable=not progress):
        scenes = [dataset[i] for i in range(first, min(first + batch_size, total))]
        images = torch.stack([scene[0] for scene in scenes]).to(text.device)
        target = torch.stack([scene[1] for scene in scenes])
        logits = best_synonym(infer(segmentor, images, text, window=window, stride=stride), owners, len(names))
        for gamma, metrics in sweep.items():
            shifted = logits - gamma * seen.to(logits)[:, None, None] if gamma else logits
            metrics.update(shifted.argmax(1).cpu(), target)
    plain = sweep[0.0]
    iou = [None if value != value else value for value in plain.per_class().tolist()]
    details = {
        "dataset": type(dataset).__name__,
        "split": getattr(dataset, "split", None),
        "seed": getattr(dataset, "seed", None),
        "scenes": total,
        "model": segmentor.clip.name,
        "attention": getattr(segmentor, "attention", None),
        "window": window,
        "stride": stride,
        "synonyms": synonyms,
        "wall_time_s": round(time.perf_counter() - started, 2),
        **environment(),
    }
    calibration = {str(gamma): sweep[gamma].compute() for gamma in gammas}
    return Report(plain.compute(), dict(zip(names, iou, strict=True)), calibration, details)


def infer(segmentor: nn.Module, images: Tensor, text: Tensor, *, window: int | None = None, stride: int | None = None) -> Tensor:
    """Logits (B, C, H, W) of whole pictures, or averaged over sliding windows that cover every pixel.

    Args:
        segmentor: forward(images, text) -> logits at the images' size.
        images: (B, 3, H, W) floats in [0, 1].
        text: (C, D) unit vectors.
        window: side of the square windows in pixels; None, or not smaller than the picture: the whole picture.
        stride: step between windows; half a window by default.

    Raises:
        ValueError: a window or stride below 1, or a stride larger than the window, which would leave gaps.
    """
    height, width = images.shape[-2:]
    if window is None:
        return segmentor(images, text)
    stride = window // 2 if stride is None else stride
    if window < 1 or not 1 <= stride <= window:
        raise ValueError(f"got window={window}, stride={stride}; expected 1 <= stride <= window")
    total = images.new_zeros(len(images), len(text), height, width)
    count = images.new_zeros(height, width)
    for top in _starts(height, window, stride):
        for left in _starts(width, window, stride):
            rows, columns = slice(top, top + window), slice(left, left + window)
            total[..., rows, columns] += segmentor(images[..., rows, columns], text)
            count[rows, columns] += 1
    return total / count


def flatten_synonyms(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Every synonym of every class, and the class each belongs to.

    >>> flatten_synonyms(["ox|cow", "grass"])
    (['ox', 'cow', 'grass'], [0, 0, 1])
    """
    pairs = [(word, i) for i, name in enumerate(names) for word in synonyms_of(name)]
    return [word for word, _ in pairs], [i for _, i in pairs]


def best_synonym(logits: Tensor, owners: Sequence[int], classes: int) -> Tensor:
    """The largest logit of each class's words: (B, words, H, W) -> (B, classes, H, W)."""
    if len(owners) == classes:
        return logits
    index = torch.as_tensor(owners, device=logits.device).view(1, -1, 1, 1).expand_as(logits)
    best = logits.new_full((logits.shape[0], classes, *logits.shape[2:]), -torch.inf)
    return best.scatter_reduce(1, index, logits, "amax")


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that the last one ends at the border."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _revision() -> str | None:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
