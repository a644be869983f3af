"""Static figures. A figure computes nothing but colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns

from ..core.colours import UNLABELLED, shades, verdict_shades, word_colours
from ..core.statistics import Interval
from ..studies.rows import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_IN_A_ROW = 4  # panels, on a page
_SHOWN = 10  # words that get a colour: more cannot be told apart


def heat_maps(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    height: float = 2.4,
    unit: str = "cosine",
) -> Figure:
    """A picture, and beside it one map for each title, all on one colour scale in the given unit.

    More than four panels stand in two rows, or a page would make their titles too small to be read.

    Args:
        image: (H, W, 3) uint8 or floats in [0, 1].
        maps: title -> (h, w) values.
        height: of a panel in inches.
        unit: of the values.
    """
    import matplotlib.pyplot as plt

    panels = len(maps) + 1
    down = 1 if panels <= _IN_A_ROW else 2
    across = -(-panels // down)
    size = (height * across + 0.6, (height + 0.2) * down + 0.2)
    figure, grid = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    axes[0].imshow(image)
    axes[0].set_title("picture", fontsize=11)
    low, high = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
    for axis, (title, values) in zip(axes[1:], maps.items(), strict=False):
        drawn = axis.imshow(values, cmap="viridis", vmin=low, vmax=high)
        axis.set_title(title, fontsize=11)
    for axis in axes:
        axis.axis("off")
    figure.colorbar(drawn, ax=axes, label=unit, shrink=0.85)
    return figure


def band(axis: Axes, points: Sequence[Point], label: str, colour: int) -> None:
    """A curve over training steps with its 95% interval as a shaded band.

    Args:
        axis: to draw on.
        points: of the curve, in the order of their steps.
        label: for the legend.
        colour: place of the curve among those of the figure, from 0.
    """
    steps, shade = [p.step for p in points], shades(colour + 1)[colour]
    axis.plot(steps, [p.mean for p in points], color=shade, label=label, marker="o", markersize=3)
    low, high = [p.low for p in points], [p.high for p in points]
    axis.fill_between(steps, low, high, color=shade, alpha=0.2, linewidth=0)


def sharp() -> None:
    """Draw a notebook's figures with twice the pixels that they take on the page: 150 an inch."""
    import matplotlib.pyplot as plt
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("retina")
    plt.rcParams["figure.dpi"] = 75


def label_maps(
    maps: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    image: np.ndarray | None = None,
    height: float = 2.4,
    columns: int | None = None,
) -> Figure:
    """Label maps side by side under one legend; a word has the colour that it has everywhere.

    Args:
        maps: title -> (H, W) indices of `names`; others are drawn grey.
        names: the words.
        image: (H, W, 3) uint8 or floats in [0, 1], drawn first.
        height: of a map, in inches.
        columns: maps in a row; None puts all in one.
    """
    import matplotlib.pyplot as plt

    table, handles = word_key(list(maps.values()), names)
    pictures = {} if image is None else {"picture": image}
    pictures |= {title: table[np.clip(labels, 0, len(table) - 1)] for title, labels in maps.items()}
    across = columns or len(pictures)
    down = -(-len(pictures) // across)
    size = (height * across, (height + 0.2) * down + 0.4)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
    ncols = min(len(handles), max(2, int(1.1 * height * across)))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=9, frameon=False)
    return figure


def word_key(maps: Sequence[np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, list[Patch]]:
    """Colours of label maps, and what a legend says of them: the largest words, and "other" for the rest.

    Args:
        maps: each (H, W) indices of `names`; what is no index counts as another word.
        names: the words.

    Returns:
        (at least 256, 3) uint8, a colour for each label, and the patches of the legend.
    """
    from matplotlib.patches import Patch

    every = np.unique(np.concatenate([labels.ravel() for labels in maps]))
    fractions = np.mean([[(labels == i).mean() for i in range(len(names))] for labels in maps], axis=0)
    largest = np.argsort(-fractions, kind="stable")[:_SHOWN]
    # A word on less than a hundredth of all maps is a speck: it would only lengthen the legend.
    shown = [int(i) for i in largest if fractions[i] >= 0.01]
    colours = word_colours(names)[shown]
    table = np.full((max(256, len(names) + 1), 3), UNLABELLED, dtype=np.uint8)
    table[shown] = colours
    handles = [Patch(color=_hex(c), label=names[i]) for i, c in zip(shown, colours, strict=True)]
    if np.any(~np.isin(every, shown)):
        handles.append(Patch(color=_hex(UNLABELLED), label="other"))
    return table, handles


def patch_grid(
    image: np.ndarray,
    patch: int,
    *,
    mark: Mapping[str, tuple[int, int]] | None = None,
    height: float = 3.2,
) -> Figure:
    """A picture under the grid of its patches, some of them framed and named.

    Args:
        image: (H, W, 3) uint8 or floats in [0, 1].
        patch: side of a patch in pixels.
        mark: name -> (row, column) of a patch.
        height: of the figure, in inches.
    """
    import matplotlib.pyplot as plt

    marked = mark or {}
    figure, axis = plt.subplots(figsize=(height, height), layout="constrained")
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest")
    axis.set_xticks(range(0, image.shape[1] + 1, patch))
    axis.set_yticks(range(0, image.shape[0] + 1, patch))
    axis.grid(color="white", linewidth=0.7)
    axis.tick_params(labelsize=7, length=2)
    axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    # A white box behind the name: the picture may have any colour there.
    box: dict[str, object] = {"facecolor": "white", "linewidth": 0, "pad": 1.5, "alpha": 0.85}
    for (name, (row, column)), colour in zip(marked.items(), shades(len(marked)), strict=True):
        corner = (column * patch, row * patch)
        axis.add_patch(plt.Rectangle(corner, patch, patch, fill=False, linewidth=2.5, edgecolor=colour))
        text = axis.annotate(name, corner, xytext=(0, 4), textcoords="offset points", color=colour, bbox=box)
        text.set(fontsize=9, weight="bold")
    return figure


def curves_with_bands(
    summaries: Mapping[str, Mapping[str, Sequence[Point]]],
    metrics: Mapping[str, str],
    *,
    ylabel: str,
    height: float = 2.9,
) -> Figure:
    """One panel for each metric, one curve with a 95% band for each training.

    Args:
        summaries: {training: {metric: points}}, as from `map_curves`.
        metrics: {metric: title of its panel}.
        ylabel: what the metrics measure, with the unit.
        height: of a panel in inches.
    """
    import matplotlib.pyplot as plt

    size = (1.25 * height * len(metrics), height + 0.5)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, squeeze=False, layout="constrained")
    for axis, (metric, title) in zip(axes[0], metrics.items(), strict=True):
        for colour, (name, summary) in enumerate(summaries.items()):
            band(axis, summary[metric], name, colour)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("training step")
    axes[0][0].set_ylabel(ylabel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    sns.despine(figure)
    return figure


def difference_plot(axis: Axes, rows: Mapping[str, Interval], *, labels: bool = True) -> None:
    """Paired differences to a baseline with their 95% intervals in points, a line each from the top.

    Better is blue, worse is red, and grey is what the interval leaves open.

    Args:
        axis: to draw on.
        rows: label -> the difference, as a fraction.
        labels: write them to the left.
    """
    good, bad, unsure = verdict_shades()
    for line, row in enumerate(rows.values()):
        sure = good if row.mean > 0 else bad
        colour = sure if row.excludes_zero else unsure
        axis.errorbar(100 * row.mean, line, xerr=100 * row.ci95, fmt="o", color=colour, capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(xlabel="difference (points)", ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticks(range(len(rows)), list(rows) if labels else [])


def _hex(colour: Sequence[int] | np.ndarray) -> str:
    return "#" + bytes(int(c) for c in colour).hex()
