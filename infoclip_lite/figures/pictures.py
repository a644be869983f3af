"""Static figures. A figure computes nothing but colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns

from ..core.overlay import UNLABELLED, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def heat_maps(image: np.ndarray, maps: Mapping[str, np.ndarray], *, height: float = 2.4, unit: str = "cosine") -> Figure:
    """A picture, and beside it one map for each title, all on one colour scale in the given unit."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(maps) + 1, figsize=(height * (len(maps) + 1), height + 0.4), layout="constrained")
    axes[0].imshow(image)
    axes[0].set_title("picture", fontsize=10)
    low, high = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
    for axis, (title, values) in zip(axes[1:], maps.items(), strict=True):
        drawn = axis.imshow(values, cmap="viridis", vmin=low, vmax=high)
        axis.set_title(title, fontsize=10)
    for axis in axes:
        axis.axis("off")
    figure.colorbar(drawn, ax=axes[1:], label=unit, shrink=0.85)
    return figure


def band(axis: Axes, steps: Sequence[float], mean: Sequence[float], half: Sequence[float], label: str, colour: int) -> None:
    """A curve with its 95% interval as a shaded band."""
    shade = sns.color_palette("colorblind")[colour]
    axis.plot(steps, mean, color=shade, label=label, marker="o", markersize=3)
    axis.fill_between(steps, np.subtract(mean, half), np.add(mean, half), color=shade, alpha=0.2, linewidth=0)


def label_maps(maps: Mapping[str, np.ndarray], names: Sequence[str], *, image: np.ndarray | None = None, height: float = 2.4) -> Figure:
    """Label maps side by side under one legend; colours go to the labels that occur, those that cover most first.

    Args:
        maps: title -> (H, W) indices of `names`; others are drawn grey.
        names: the words.
        image: (H, W, 3) uint8 or floats in [0, 1], drawn first.
        height: of a map, in inches.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    every = np.unique(np.concatenate([labels.ravel() for labels in maps.values()]))
    shares = np.array([np.mean([(labels == i).mean() for labels in maps.values()]) for i in range(len(names))])
    shown = [int(i) for i in np.argsort(-shares, kind="stable")[:10] if shares[i] >= 0.01]
    colours = palette(len(shown))
    table = np.full((max(256, len(names) + 1), 3), UNLABELLED, dtype=np.uint8)
    table[shown] = colours
    pictures = {} if image is None else {"picture": image}
    figure, axes = plt.subplots(
        1, len(maps) + len(pictures), figsize=(height * (len(maps) + len(pictures)), height + 0.6), squeeze=False, layout="constrained"
    )
    pictures |= {title: table[np.clip(labels, 0, len(table) - 1)] for title, labels in maps.items()}
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    handles = [Patch(color=_hex(c), label=names[i]) for i, c in zip(shown, colours, strict=True)]
    if np.any(~np.isin(every, shown)):
        handles.append(Patch(color=_hex(UNLABELLED), label="other"))
    columns = max(2, int(1.1 * height * len(pictures)))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns), fontsize=9, frameon=False)
    return figure


def _hex(colour: Sequence[int] | np.ndarray) -> str:
    return "#" + bytes(int(c) for c in colour).hex()


def patch_grid(image: np.ndarray, patch: int, *, mark: Mapping[str, tuple[int, int]] | None = None, height: float = 3.2) -> Figure:
    """A picture under the grid of its patches, some of them framed and named.

    Args:
        image: (H, W, 3) uint8 or floats in [0, 1].
        patch: side of a patch in pixels.
        mark: name -> (row, column) of a patch.
        height: of the figure, in inches.
    """
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(height, height), layout="constrained")
    axis.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest")
    axis.set_xticks(range(0, image.shape[1] + 1, patch))
    axis.set_yticks(range(0, image.shape[0] + 1, patch))
    axis.grid(color="white", linewidth=0.7)
    axis.tick_params(labelsize=7, length=2)
    axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    for (name, (row, column)), colour in zip((mark or {}).items(), palette(max(1, len(mark or {}))) / 255, strict=False):
        axis.add_patch(plt.Rectangle((column * patch, row * patch), patch, patch, fill=False, linewidth=2.5, edgecolor=colour))
        corner = (column * patch, row * patch)
        axis.annotate(
            name,
            corner,
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=9,
            color=colour,
            weight="bold",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1.5, "alpha": 0.85},
        )
    return figure


def curves_with_bands(
    summaries: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]], metrics: Mapping[str, str], *, ylabel: str, height: float = 2.9
) -> Figure:
    """One panel for each metric, one curve with a 95% band for each training.

    Args:
        summaries: {training: {metric: [{"step", "mean", "half"}, ...]}}, as in the report "degradation".
        metrics: {metric: title of its panel}.
        ylabel: what the metrics measure, with the unit.
        height: of a panel in inches.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(metrics), figsize=(1.25 * height * len(metrics), height + 0.5), squeeze=False, layout="constrained")
    for axis, (metric, title) in zip(axes[0], metrics.items(), strict=True):
        for colour, (name, summary) in enumerate(summaries.items()):
            records = summary[metric]
            band(axis, [r["step"] for r in records], [r["mean"] for r in records], [r["half"] for r in records], name, colour)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("training step")
    axes[0][0].set_ylabel(ylabel)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    sns.despine(figure)
    return figure


def difference_plot(axis: Axes, rows: Mapping[str, Mapping[str, float]], *, labels: bool = True) -> None:
    """Paired differences to a baseline with their 95% intervals in points, a line each from the top; grey where the interval holds zero.

    Args:
        axis: to draw on.
        rows: label -> {"mean", "half"} as fractions.
        labels: write them to the left.
    """
    good, bad, unsure = (sns.color_palette("colorblind")[i] for i in (0, 3, 7))
    for line, row in enumerate(rows.values()):
        mean, half = 100 * row["mean"], 100 * row["half"]
        colour = unsure if abs(mean) <= half else good if mean > 0 else bad
        axis.errorbar(mean, line, xerr=half, fmt="o", color=colour, capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(xlabel="difference (points)", ylim=(len(rows) - 0.4, -0.6))
    axis.set_yticks(range(len(rows)), list(rows) if labels else [])
