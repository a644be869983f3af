"""Labels as colours on a picture, and pictures in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNLABELLED = (160, 160, 160)
_LARGEST = 4096  # pixels: small pictures are enlarged for the eye up to this


def palette(count: int) -> np.ndarray:
    """(count, 3) uint8 colours, the first eight safe for colour-blind readers."""
    import seaborn as sns  # here, so that who draws nothing does not load it

    base = sns.color_palette("colorblind", 10)
    order = [0, 1, 2, 4, 8, 9, 3, 6, 5, 7]
    colours = [base[order[i % 10]] for i in range(min(count, 10))] + list(sns.husl_palette(max(0, count - 10), s=0.8, l=0.6))
    return (np.array(colours).reshape(-1, 3) * 255).astype(np.uint8)


def colourise(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W) labels to (H, W, 3) uint8; what is no index of `names` is grey."""
    table = np.full((256, 3), UNLABELLED, dtype=np.uint8)
    table[: len(names)] = palette(len(names))[:255]
    return table[np.where((labels >= 0) & (labels < min(len(names), 255)), labels, 255)]


def overlay(image: np.ndarray, labels: np.ndarray, names: Sequence[str], *, opacity: float = 0.55, legend: bool = True) -> Image.Image:
    """Picture and labels blended, with a legend of the labels that occur, largest first.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) indices of `names`; others are drawn grey and called "none of these".
        names: the words.
        opacity: of the labels, 0 to 1.
        legend: draw one below the picture.
    """
    labels = labels.astype(np.int64)
    blend = (1 - opacity) * image + opacity * colourise(labels, names)
    picture = Image.fromarray(blend.astype(np.uint8))
    smallest = 384
    if min(picture.size) < smallest:
        factor = max(1, min(-(-smallest // min(picture.size)), _LARGEST // max(picture.size)))
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    if not legend:
        return picture
    values, counts = np.unique(np.where((labels >= 0) & (labels < len(names)), labels, -1), return_counts=True)
    shares = sorted(zip(counts / labels.size, values, strict=True), reverse=True)
    entries = [(f"{names[v] if v >= 0 else 'none of these'} {share:.0%}", v) for share, v in shares if share >= 0.005]
    return _with_legend(picture, entries, palette(len(names)))


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, int]], colours: np.ndarray) -> Image.Image:
    size = max(18, min(picture.width // 22, picture.height // 12))
    font = ImageFont.load_default(size)
    rows: list[list[tuple[str, int, int]]] = [[]]
    x = size // 2
    for text, value in entries:
        width = int(font.getlength(text)) + 2 * size
        if rows[-1] and x + width > picture.width:
            rows.append([])
            x = size // 2
        rows[-1].append((text, value, x))
        x += width
    height = int(1.6 * size)
    sheet = Image.new("RGB", (picture.width, picture.height + height * len(rows) + size // 3), "white")
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for row, items in enumerate(rows):
        top = picture.height + row * height + size // 3
        for text, value, x in items:
            colour = tuple(int(c) for c in colours[value]) if value >= 0 else UNLABELLED
            draw.rectangle((x, top + 2, x + size - 2, top + size), fill=colour)
            draw.text((x + int(1.3 * size), top - size // 8), text, fill="black", font=font)
    return sheet


def picture_row(pictures: Mapping[str, np.ndarray | Image.Image], *, height: float = 2.6) -> Figure:
    """Pictures side by side, each under its title."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(pictures), figsize=(height * len(pictures), height + 0.3), squeeze=False, layout="constrained")
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(np.asarray(picture), interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    return figure
