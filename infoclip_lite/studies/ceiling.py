"""How much a linear map of the stem's cells can say when it is told every pixel's label: a yardstick.

It learns from the pixels of all nouns of the train side, seen and unseen, which no method here may. What
captions alone teach can be held against it: both read the same frozen features.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import load_clip
from ..clip.stem import MEAN, STD, Stem, lite0_weights
from ..core.reports import JsonObject, write_report
from ..datasets.collage import Collage
from ..evaluation import evaluate
from ..evaluation.metrics import SegmentationMetrics
from ..segmentors import ZeroShotSegmentor
from ..training.pool import stem_examples

_BATCH, _DROPPED, _WARMUP = 64, 0.25, 0.1
_ROWS = 50


def ceiling(*, scenes: int = 4000, steps: int = 600, asked: int = 400, out: Path | None = None) -> JsonObject:
    """Train the map and measure it on validation scenes; written as ceiling.json.

    Args:
        scenes: of the train side.
        steps: of AdamW, 64 scenes each.
        asked: validation scenes.
        out: another file than data/reports/ceiling.json.

    Returns:
        {"linear": metrics, "collage-mini": those of its read-out "value" on the same scenes, "scenes",
        "steps", "asked"}; fractions.
    """
    stem = Stem(1)
    stem.fill(lite0_weights())
    stem.standardise(stem_examples(96, 0))
    stem.bfloat16()
    learnt, labels = _seen_by(stem, Collage("train", length=scenes), scenes)
    data = Collage("val", length=asked)
    fresh, masks = _seen_by(stem, data, asked)
    linear = _trained(learnt, labels, len(data.names), steps)
    counts = SegmentationMetrics(len(data.names), data.unseen, groups=data.class_groups)
    with torch.inference_mode():
        for part, truth in zip(fresh.split(_ROWS), masks.split(_ROWS), strict=True):
            large = F.interpolate(linear(part.float()), truth.shape[1:], mode="bilinear", align_corners=False)
            counts.update(large.argmax(1), truth)
    content = {
        "linear": counts.compute(),
        "collage-mini": evaluate(ZeroShotSegmentor(load_clip(), ("value",)), data).metrics,
        "scenes": scenes,
        "steps": steps,
        "asked": asked,
    }
    return write_report("ceiling", content, out)


@torch.inference_mode()
def _seen_by(stem: Stem, data: Collage, count: int) -> tuple[Tensor, Tensor]:
    """Features (count, C, h, w) in float16, and masks (count, size, size)."""
    features, masks = [], []
    for first in range(0, count, _ROWS):
        part = [data[index] for index in range(first, min(first + _ROWS, count))]
        images = (torch.stack([scene.image for scene in part]) - MEAN) / STD
        features.append(stem.join(stem.features(images)).half())
        masks.append(torch.stack([scene.mask for scene in part]))
    return torch.cat(features), torch.cat(masks)


def _trained(features: Tensor, labels: Tensor, classes: int, steps: int, lr: float = 1e-3) -> nn.Module:
    """A 1 x 1 convolution that gives each cell the classes of its pixels, as much of each as there is."""
    torch.manual_seed(0)
    cell = labels.shape[-1] // features.shape[-1]
    linear = nn.Conv2d(features.shape[1], classes, 1)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=lr, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=_WARMUP)
    for _ in range(steps):
        rows = torch.randint(len(features), (_BATCH,))
        shares = F.avg_pool2d(F.one_hot(labels[rows], classes).movedim(-1, 1).float(), cell)
        # Channels of whole scenes are dropped, as in pretraining: else single ones are relied upon.
        values = F.dropout2d(features[rows].float(), _DROPPED)
        loss = F.cross_entropy(linear(values), shares)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return linear.requires_grad_(False)
