"""InfoCLIP's settings as a map: `compute_objective` reads the sweep that ships, `plot_objective` draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from ..core.reports import read_report
from ..studies.objective_sweep import ALPHAS, AXES, COMPRESSION, SEED, TRANSFER, label_of, points
from ..studies.rows import METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {"hIoU": "hIoU (%)", "mIoU_unseen": "mIoU of unseen words (%)"}


@dataclass(frozen=True)
class ObjectiveView:
    """One point of the sweep and the plane it lies in.

    Attributes:
        axis, alpha, lambda_1, lambda_2: the point.
        here: its {"mIoU_seen", "mIoU_unseen", "hIoU"}, shares.
        plain: the same of plain fine-tuning.
        plane: for each measure (lambda_1, lambda_2) shares at this axis and alpha; NaN where a point was
            not run.
        command: Python that trains the point again.
        caption: what the sweep is, and is not.
    """

    axis: str
    alpha: float
    lambda_1: float
    lambda_2: float
    here: dict[str, float]
    plain: dict[str, float]
    plane: dict[str, np.ndarray]
    command: str
    caption: str


def compute_objective(
    axis: str = "pixel",
    alpha: float = 2.0,
    lambda_1: float = 1.0,
    lambda_2: float = 1.0,
    report: Mapping[str, Any] | None = None,
) -> ObjectiveView:
    """A point of the sweep, and all with the same axis and alpha.

    Args:
        axis: "batch", "pixel" or "class": what the samples of the Gram matrices are.
        alpha: order of the information.
        lambda_1: weight of the compression loss (2511.15967).
        lambda_2: weight of the transfer loss.
        report: of `infoclip-lite benchmark objective_sweep`; None takes the one that ships.

    Raises:
        ValueError: a setting that is not in the grid, or was not run.
        FileNotFoundError: no report ships.
    """
    report = read_report("objective_sweep") if report is None else report
    for name, value, grid in (
        ("axis", axis, AXES),
        ("alpha", alpha, ALPHAS),
        ("lambda_1", lambda_1, COMPRESSION),
        ("lambda_2", lambda_2, TRANSFER),
    ):
        if value not in grid:
            raise ValueError(f"{name} is {value!r}; expected one of the sweep's: {', '.join(map(str, grid))}")
    found, label = report["points"], label_of(axis, alpha, lambda_1, lambda_2)
    if label not in found:
        raise ValueError(
            f"the sweep lacks {label!r}; run `infoclip-lite benchmark objective_sweep` to its end"
        )
    nothing = dict.fromkeys(METRICS, np.nan)
    plane = {
        key: np.array(
            [
                [found.get(label_of(axis, alpha, one, two), nothing)[key] for two in TRANSFER]
                for one in COMPRESSION
            ]
        )
        for key in MEASURES
    }
    point = points()[label]
    options = "".join(f", {key}={value!r}" for key, value in point.changes.items())
    command = f'train("{point.recipe}", seed={SEED}{options})'
    caption = f"one seed, {report['steps']} steps, {report['scenes']} validation scenes: a map, not a result"
    return ObjectiveView(
        axis, alpha, lambda_1, lambda_2, found[label], found["plain"], plane, command, caption
    )


def describe_objective(view: ObjectiveView) -> str:
    """The point in a sentence, and how to train it again."""
    gain = 100 * (view.here["hIoU"] - view.plain["hIoU"])
    point = (
        f"axis {view.axis}, alpha {view.alpha:g}, lambda_1 = {view.lambda_1:g}, lambda_2 = {view.lambda_2:g}"
    )
    score = f"hIoU {100 * view.here['hIoU']:.1f}%, {gain:+.1f} points from plain fine-tuning"
    return f"{point}: {score} ({view.caption}). Again: {view.command}"


def plot_objective(view: ObjectiveView) -> Figure:
    """hIoU and unseen mIoU over the weights of both losses, coloured by the difference to plain fine-tuning.

    Args:
        view: of `compute_objective`; its point is framed.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
    for axis, (key, title) in zip(axes, MEASURES.items(), strict=True):
        values, plain = 100 * view.plane[key], 100 * view.plain[key]
        sns.heatmap(
            values - plain,
            annot=values,
            fmt=".1f",
            center=0,
            vmin=-12,
            vmax=12,
            cmap="vlag_r",
            ax=axis,
            xticklabels=[f"{two:g}" for two in TRANSFER],
            yticklabels=[f"{one:g}" for one in COMPRESSION],
            cbar_kws={"label": f"points from plain ({plain:.1f})"},
        )
        place = TRANSFER.index(view.lambda_2), COMPRESSION.index(view.lambda_1)
        axis.add_patch(plt.Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=3))
        axis.set(xlabel="lambda_2 (transfer)", ylabel="lambda_1 (compression)")
        axis.set_title(title, fontsize=10)
    figure.suptitle(f"axis {view.axis}, alpha {view.alpha:g}; {view.caption}", fontsize=10)
    return figure
