"""Labels as colours on a picture, and pictures in a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colours import UNLABELLED, word_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Small pictures are enlarged for the eye, to a shorter side of 384 pixels, so that a legend can be read below
# them; a long strip must not become a poster, so no side grows beyond 4096.
_SMALLEST, _LARGEST = 384, 4096
# A label on fewer pixels than this would only make the legend long.
_SHOWN = 0.005


def colourise(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(H, W) labels to (H, W, 3) uint8; what is no index of `names` is grey."""
    table = np.array([*word_colours(names), UNLABELLED], dtype=np.uint8)  # the last row is everybody else's
    known = (labels >= 0) & (labels < len(names))
    return table[np.where(known, labels, len(names))]


def enlarged(picture: Image.Image) -> Image.Image:
    """A small picture by a whole factor, to a shorter side of about 384 pixels; a large one as it is."""
    if min(picture.size) >= _SMALLEST:
        return picture
    wanted = -(-_SMALLEST // min(picture.size))  # rounded up
    factor = max(1, min(wanted, _LARGEST // max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    opacity: float = 0.55,
    legend: bool = True,
) -> Image.Image:
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
    picture = enlarged(Image.fromarray(blend.astype(np.uint8)))
    if not legend:
        return picture
    known = np.where((labels >= 0) & (labels < len(names)), labels, -1)
    values, counts = np.unique(known, return_counts=True)
    fractions = sorted(zip(counts / labels.size, values, strict=True), reverse=True)
    entries = [
        (f"{names[value] if value >= 0 else 'none of these'} {fraction:.0%}", value)
        for fraction, value in fractions
        if fraction >= _SHOWN
    ]
    return _with_legend(picture, entries, word_colours(names))


def _with_legend(
    picture: Image.Image, entries: Sequence[tuple[str, int]], colours: np.ndarray
) -> Image.Image:
    # Letters grow with the picture, since viewers shrink large ones; below 18 pixels nobody can read them.
    size = max(18, min(picture.width // 22, picture.height // 12))
    font = ImageFont.load_default(size)
    rows = _legend_rows(entries, font, size, picture.width)
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


def _legend_rows(
    entries: Sequence[tuple[str, int]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
    width: int,
) -> list[list[tuple[str, int, int]]]:
    """(text, label, x) of every entry, a new row where the next one would not fit."""
    rows: list[list[tuple[str, int, int]]] = [[]]
    x = size // 2
    for text, value in entries:
        needed = int(font.getlength(text)) + 2 * size
        if rows[-1] and x + needed > width:
            rows.append([])
            x = size // 2
        rows[-1].append((text, value, x))
        x += needed
    return rows


def picture_row(pictures: Mapping[str, np.ndarray | Image.Image], *, height: float = 2.6) -> Figure:
    """Pictures side by side, each under its title.

    Args:
        pictures: title -> (H, W, 3) uint8 or floats in [0, 1], or a picture of Pillow.
        height: of a picture, in inches.
    """
    return picture_grid([list(pictures.values())], list(pictures), height=height)


def picture_grid(
    rows: Sequence[Sequence[np.ndarray | Image.Image]],
    titles: Sequence[str],
    *,
    height: float = 2.6,
) -> Figure:
    """Rows of pictures under one line of titles; pictures of a row may differ in height and begin at its top.

    Args:
        rows: pictures as `picture_row` takes them, as many in each row as there are titles.
        titles: of the columns.
        height: of a row, in inches.

    Raises:
        ValueError: a row with more or fewer pictures than titles.
    """
    import matplotlib.pyplot as plt

    wrong = [len(row) for row in rows if len(row) != len(titles)]
    if wrong:
        raise ValueError(
            f"got a row of {wrong[0]} pictures for {len(titles)} titles; expected one title a column"
        )
    figure, axes = plt.subplots(
        len(rows),
        len(titles),
        figsize=(height * len(titles), height * len(rows) + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for line, row in zip(axes, rows, strict=True):
        for axis, picture in zip(line, row, strict=True):
            # Nearest: a reader should see the pixels that the model sees.
            axis.imshow(np.asarray(picture), interpolation="nearest")
            axis.axis("off")
            if len(rows) > 1:
                axis.set_anchor("N")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    return figure
