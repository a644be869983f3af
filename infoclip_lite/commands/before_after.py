"""Segment with words, fine-tune naively, see what it costs: table and picture of `infoclip-lite demo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..clip import load_clip
from ..core.files import whole_file
from ..core.labels import IGNORE
from ..core.overlay import enlarged, overlay, picture_grid
from ..datasets import Captioned, Segmented, build_data, captioned_items, held_out_data
from ..evaluation.evaluate import evaluate
from ..evaluation.metrics import SegmentationMetrics
from ..evaluation.probes import retrieval
from ..evaluation.segment import segment
from ..segmentors import Segmentor, ZeroShotSegmentor
from ..studies.rows import shown_metrics
from ..training.recipe import FineTuneRecipe, load_finetuning
from ..training.run import train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The line of the table that is not a metric of the report.
CAPTION = "right caption among {}"
_COLUMNS = ("scene", "truth", "zero-shot", "fine-tuned")
# Simple scenes for the picture, one or two large objects: in a crowd a reader cannot see what was lost.
_FEW, _LARGE = (1, 2), (0.4, 0.65)
_SEARCHED, _SHOWN = 60, 3
# An unseen noun must be large enough for its loss to be seen.
_LEAST_UNSEEN = 0.15


@dataclass(frozen=True)
class BeforeAfter:
    """A CLIP before and after a fine-tuning, measured on the same scenes.

    Attributes:
        steps: of the fine-tuning.
        before, after: line of the table -> fraction.
        figure: scene, truth, zero-shot and fine-tuned labels of three scenes.
    """

    steps: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    figure: Figure

    def table(self) -> str:
        """Metrics and retrieval, before and after."""
        lines = [f"\n{'test scenes':<34}{'zero-shot':>12}{f'after {self.steps} steps':>18}"]
        lines += [f"{row:<34}{self.before[row]:>12.1%}{self.after[row]:>18.1%}" for row in self.before]
        return "\n".join(lines)

    def save(self, path: Path) -> Path:
        """Write the picture as PNG, whole or not at all.

        Raises:
            OSError: a folder that cannot be written, or a full disk.
        """
        with whole_file(path) as scratch:
            self.figure.savefig(scratch, format="png", dpi=150)
        return path


def before_after(recipe: str = "mini/demo", *, scenes: int = 60) -> BeforeAfter:
    """Train what a recipe says, and measure its CLIP before and after.

    Args:
        recipe: of a fine-tuning.
        scenes: test scenes.

    Raises:
        ValueError: a recipe of a pretraining.
    """
    what = load_finetuning(recipe)
    data = held_out_data(what.data, "test", length=scenes)
    test = captioned_items(data, scenes)
    if not test:
        raise ValueError(
            f"{recipe} learns from {what.data['name']!r}; expected scenes with captions (collage)"
        )
    after = train(what).model
    before = ZeroShotSegmentor(load_clip(what.clip.name, what.clip.pretrained), after.read_outs)
    return BeforeAfter(
        steps=what.steps,
        before=_measure(before, data, test),
        after=_measure(after, data, test),
        figure=_figure(before, after, what),
    )


@torch.inference_mode()
def _measure(model: Segmentor, data: Segmented, items: Sequence[Captioned]) -> dict[str, float]:
    metrics = evaluate(model, data).metrics
    recall = retrieval(model.clip, items)["image_to_text"]
    return {**{row: metrics[row] for row in shown_metrics(metrics)}, CAPTION.format(len(items)): recall}


def _figure(before: Segmentor, after: Segmentor, what: FineTuneRecipe) -> Figure:
    """The simple test scenes that zero-shot labels best, so that there is something to lose.

    Only the words of a scene compete.
    """
    # Another seed than the table's: what is shown was not picked from what is measured.
    test = build_data({**what.data, "seed": 1, "length": _SEARCHED, "objects": _FEW, "scale": _LARGE}, "test")
    scenes = captioned_items(test, len(test))
    unseen = [scene for scene in scenes if np.isin(scene.mask.numpy(), test.unseen).mean() > _LEAST_UNSEEN]
    best = sorted(unseen, key=lambda scene: -_agreement(test.names, scene, before))[:_SHOWN]
    return picture_grid([_row(test.names, scene, before, after) for scene in best], _COLUMNS)


def _row(names: Sequence[str], scene: Captioned, before: Segmentor, after: Segmentor) -> list[Image.Image]:
    image = (scene.image.permute(1, 2, 0) * 255).round().byte().numpy()
    found = [segment(scene.image, scene.nouns, model).labels for model in (before, after)]
    labels = [_own_words(names, scene), *found]
    drawn = [overlay(image, one, scene.nouns, opacity=0.6) for one in labels]
    return [enlarged(Image.fromarray(image)), *drawn]


def _own_words(names: Sequence[str], scene: Captioned) -> np.ndarray:
    """The mask (H, W) in indices of the words that the scene names."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, word in enumerate(scene.nouns):
        table[names.index(word)] = index
    return table[scene.mask.numpy()]


def _agreement(names: Sequence[str], scene: Captioned, model: Segmentor) -> float:
    """mIoU of one scene over the words that it names."""
    metrics = SegmentationMetrics(len(scene.nouns))
    labels = segment(scene.image, scene.nouns, model).labels
    metrics.update(torch.from_numpy(labels), torch.from_numpy(_own_words(names, scene)))
    return metrics.compute()["mIoU"]
