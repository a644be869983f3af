"""The main job in under three minutes: segment with words, fine-tune naively, see what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..clip import load_clip
from ..core.files import whole_file
from ..core.labels import IGNORE
from ..core.overlay import overlay
from ..datasets.collage import Collage, Scene
from ..evaluation import SegmentationMetrics, evaluate, retrieval, segment
from ..segmentors import Segmentor, ZeroShotSegmentor
from ..training.recipe import FineTuneRecipe, load_recipe
from ..training.run import train

ROWS = ("mIoU_seen", "mIoU_unseen", "hIoU")


def demo(out: Path = Path("runs/demo.png"), recipe: str = "mini/demo", scenes: int = 60) -> str:
    """Zero-shot segmentation of a scene, a short plain fine-tuning, a table before and after, and a picture.

    Args:
        out: where the picture is written.
        recipe: of the fine-tuning.
        scenes: test scenes that the table is measured on.

    Returns:
        The table as text; it is printed too, and the picture's path.
    """
    what = load_recipe(recipe)
    if not isinstance(what, FineTuneRecipe):
        raise ValueError(f"{recipe} is a recipe for pretraining; expected one with task: finetune")
    test = Collage("test", what.size, length=scenes, seen=what.seen)
    print(f"collage-mini read captions only; it never saw which pixels a word names. All {len(test.names)} words compete:")
    run = train(what)
    before = ZeroShotSegmentor(load_clip(what.clip), what.attention)
    table = _table(before, run.model, test, what.steps)
    print(table)
    picture = _picture(before, run.model, what)
    with whole_file(Path(out)) as scratch:
        picture.save(scratch, format="PNG")
    print(f"\npicture: {Path(out).resolve()}")
    return table


def _table(before: ZeroShotSegmentor, after: Segmentor, test: Collage, steps: int) -> str:
    lines = [f"\n{'test scenes':<34}{'zero-shot':>12}{f'after {steps} steps':>18}"]
    metrics = [evaluate(model, test).metrics for model in (before, after)]
    for row in ROWS:
        lines.append(f"{row:<34}" + f"{metrics[0][row]:>12.1%}{metrics[1][row]:>18.1%}")
    scenes = [test[i] for i in range(len(test))]
    with torch.inference_mode():
        recalls = [retrieval(model.clip, scenes)["image_to_text"] for model in (before, after)]
    label = f"right caption among {len(scenes)}"
    lines.append(f"{label:<34}{recalls[0]:>12.1%}{recalls[1]:>18.1%}")
    return "\n".join(lines)


def _picture(before: ZeroShotSegmentor, after: Segmentor, what: FineTuneRecipe) -> Image.Image:
    """Scene, truth, zero-shot, fine-tuned, for the simple test scenes that zero-shot labels best; the scene's own words compete."""
    test = Collage("test", what.size, seed=1, length=60, objects=(1, 2), scale=(0.4, 0.65), seen=what.seen)
    unseen = [i for i in range(len(test)) if np.isin(test[i].mask.numpy(), test.unseen).mean() > 0.15]
    chosen = sorted(unseen, key=lambda i: -_agreement(test, i, before))[:3]
    rows = []
    for index in chosen:
        scene = test[index]
        image = (scene.image.permute(1, 2, 0) * 255).round().byte().numpy()
        labels = [_own_words(test, scene), *(segment(scene.image, scene.nouns, model).labels for model in (before, after))]
        rows.append([_panel(image, None, scene.nouns), *(_panel(image, a, scene.nouns) for a in labels)])
    return _sheet(rows, ("scene", "truth", "zero-shot", "fine-tuned"))


def _own_words(test: Collage, scene: Scene) -> np.ndarray:
    """The mask (H, W) in indices of the words that the scene names."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, word in enumerate(scene.nouns):
        table[test.names.index(word)] = index
    return table[scene.mask.numpy()]


def _agreement(test: Collage, index: int, model: Segmentor) -> float:
    """mIoU of one scene over the words that it names."""
    scene = test[index]
    metrics = SegmentationMetrics(len(scene.nouns))
    labels = segment(scene.image, scene.nouns, model).labels
    metrics.update(torch.from_numpy(labels), torch.from_numpy(_own_words(test, scene)))
    return metrics.compute()["mIoU"]


def _panel(image: np.ndarray, labels: np.ndarray | None, names: list[str]) -> Image.Image:
    if labels is None:
        return Image.fromarray(image).resize((384, 384), Image.Resampling.BICUBIC)
    return overlay(image, labels, names, opacity=0.6)


def _sheet(rows: list[list[Image.Image]], titles: tuple[str, ...]) -> Image.Image:
    """Panels in a grid under one line of titles; panels of a row may differ in height."""
    gap, header = 12, 40
    width = max(panel.width for row in rows for panel in row)
    heights = [max(panel.height for panel in row) for row in rows]
    sheet = Image.new("RGB", (len(titles) * (width + gap) + gap, header + sum(heights) + gap * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for column, title in enumerate(titles):
        draw.text((gap + column * (width + gap) + width // 2, header // 2), title, fill="black", font=font, anchor="mm")
    top = header
    for row, height in zip(rows, heights, strict=True):
        for column, panel in enumerate(row):
            sheet.paste(panel, (gap + column * (width + gap), top))
        top += height + gap
    return sheet
