"""Samples in the plane, beside what is made of the distances between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from ..core.colours import shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_neighbours(x: Tensor, y: Tensor, *, sample: int, k: int) -> Figure:
    """One sample, the square that just reaches its k-th neighbour, and the strips of the square.

    Args:
        x, y: (n, 1) each.
        sample: the index of the one that is looked at.
        k: which neighbour.
    """
    dx, dy = ((z - z[sample]).abs()[:, 0] for z in (x, y))
    # Its own distance, zero, comes first: place k is the k-th neighbour.
    radius = float(torch.maximum(dx, dy).sort().values[k])
    blue, orange, green = shades(3)
    figure, axis = plt.subplots(figsize=(4.4, 3.6), layout="constrained")
    centre_x, centre_y = float(x[sample]), float(y[sample])
    axis.axvspan(centre_x - radius, centre_x + radius, color=blue, alpha=0.15, linewidth=0)
    axis.axhspan(centre_y - radius, centre_y + radius, color=orange, alpha=0.15, linewidth=0)
    corner = (centre_x - radius, centre_y - radius)
    axis.add_patch(Rectangle(corner, 2 * radius, 2 * radius, fill=False, color="black", linewidth=1.2))
    axis.scatter(x[:, 0], y[:, 0], s=12, color="grey")
    strips = ((dx < radius) & (dy >= radius), blue), ((dy < radius) & (dx >= radius), orange)
    for inside, colour in strips:
        axis.scatter(x[inside, 0], y[inside, 0], s=16, color=colour)
    inside = torch.maximum(dx, dy) <= radius
    axis.scatter(x[inside, 0], y[inside, 0], s=16, color=green)
    axis.scatter([centre_x], [centre_y], marker="*", s=90, color="black", zorder=3)
    # In x its strip holds those whose x is near, whatever their y; the sample itself is not counted.
    upright, flat = (int((d < radius).sum()) - 1 for d in (dx, dy))
    axis.set(xlabel="x", ylabel="y", title=f"others in the strips: {upright} upright, {flat} across")
    axis.set_aspect("equal")
    return figure


def plot_clusters(
    points: Tensor,
    groups: Tensor,
    matrices: Sequence[tuple[str, Tensor]],
    *,
    radii: Sequence[float] = (),
    unit: str,
) -> Figure:
    """Points in the plane, coloured by group, beside matrices of them as heat maps on one colour scale.

    Args:
        points: (n, 2), in the order of the matrices.
        groups: (n,) whole numbers from 0.
        matrices: (title, (n, n) values) each.
        radii: of circles around the first point, in the unit of the points.
        unit: of the values of the matrices.
    """
    width = 1.8 * (len(matrices) + 1) + 1
    figure, axes = plt.subplots(1, len(matrices) + 1, figsize=(width, 2.4), layout="constrained")
    _draw_points(axes[0], points, groups, radii)
    top = max(float(matrix.max()) for _, matrix in matrices)
    # One colour bar for all matrices: they are on one scale.
    for i, (axis, (title, matrix)) in enumerate(zip(axes[1:], matrices, strict=True)):
        last = i == len(matrices) - 1
        sns.heatmap(
            matrix,
            vmin=0,
            vmax=top,
            cmap="mako",
            square=True,
            cbar=last,
            cbar_kws={"label": unit, "shrink": 0.7} if last else None,
            xticklabels=False,
            yticklabels=False,
            ax=axis,
        )
        _draw_strip(axis, groups)
        axis.set(title=title, xlabel="sample j")
        if i == 0:
            axis.set_ylabel("sample i", labelpad=16)  # beyond the strip
    return figure


def _draw_points(axis: Axes, points: Tensor, groups: Tensor, radii: Sequence[float]) -> None:
    colours = shades(int(groups.max()) + 1)
    for group, colour in enumerate(colours):
        of_group = points[groups == group]
        axis.scatter(of_group[:, 0], of_group[:, 1], s=10, color=colour, label=f"group {group + 1}")
    centre = (float(points[0, 0]), float(points[0, 1]))
    for radius in radii:
        axis.add_patch(Circle(centre, radius, fill=False, color="grey", linestyle="--", linewidth=0.8))
        axis.annotate(f"{radius:g}", (centre[0], centre[1] + radius), fontsize=7, ha="center", va="bottom")
    axis.set(title="samples", xlabel="first coordinate", ylabel="second coordinate")
    axis.set_aspect("equal")


def _draw_strip(axis: Axes, groups: Tensor) -> None:
    """The colour of each row's group at the left edge of its row."""
    colours = shades(int(groups.max()) + 1)
    for row, group in enumerate(groups.tolist()):
        axis.add_patch(
            Rectangle((-0.06 * len(groups), row), 0.04 * len(groups), 1, color=colours[group], clip_on=False)
        )
