"""A training as a slider: `compute_frame` takes one step out of a report, `plot_frame` draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ..core.colours import shades
from ..core.reports import read_report
from ..core.statistics import Row
from ..studies.degradation_frames import KEYS, unpack
from .pictures import word_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = ("mIoU, seen", "mIoU, unseen", "nouns recognised", "recall, image to text")
TITLES = dict(zip(KEYS, _NAMES, strict=True))


@dataclass(frozen=True)
class FrameView:
    """One step of a training.

    Attributes:
        images: (N, H, W, 3) uint8 scenes.
        truth, labels: (N, H, W) indices of `names`: what is there, and what the segmentor says at this step.
        names: the words.
        steps: that have a frame.
        curves: measure -> its value at each of `steps`, fractions.
        step: the one that is shown.
    """

    images: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    names: list[str]
    steps: list[int]
    curves: dict[str, list[float]]
    step: int


def compute_frame(step: int = 200, report: Row | None = None) -> FrameView:
    """The frame of one step.

    Args:
        step: one of the report's.
        report: of `infoclip-lite benchmark degradation_frames`; None takes the one that ships.

    Raises:
        ValueError: a step without a frame.
        FileNotFoundError: no report ships.
    """
    report = read_report("degradation_frames") if report is None else report
    steps = [frame["step"] for frame in report["frames"]]
    if step not in steps:
        raise ValueError(f"got step {step}; expected one of {steps}")
    labels = unpack(report["frames"][steps.index(step)]["labels"])
    curves = {key: [frame[key] for frame in report["frames"]] for key in KEYS}
    images, truth = (unpack(report[key]) for key in ("images", "truth"))
    return FrameView(images, truth, labels, report["names"], steps, curves, step)


def describe_frame(view: FrameView) -> str:
    """One sentence on the figure, for those who do not see it."""
    at = view.steps.index(view.step)
    parts = [f"{TITLES[key]} {values[at]:.2f} (from {values[0]:.2f})" for key, values in view.curves.items()]
    return f"After {view.step} steps of plain fine-tuning: {', '.join(parts)}."


def plot_frame(view: FrameView, *, height: float = 1.1) -> Figure:
    """A row for each scene: the picture, the truth and the segmentation; beside them one key of words, and
    the measures with the step marked.

    Args:
        view: of `compute_frame`.
        height: of a scene in inches.
    """
    count = len(view.images)
    thumbnails = 3 * height
    # Four inches for the curves and their names, whatever the height of a scene is.
    figure = plt.figure(figsize=(thumbnails + 4, count * height + 0.3), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(thumbnails, 4))  # type: ignore[misc]
    colours, handles = word_key([*view.truth, *view.labels], view.names)
    axes = left.subplots(count, 3, squeeze=False)
    for row, image, truth, labels in zip(axes, view.images, view.truth, view.labels, strict=True):
        for axis, picture in zip(row, (image, colours[truth], colours[labels]), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.axis("off")
    for axis, title in zip(axes[0], ("scene", "truth", f"step {view.step}"), strict=True):
        axis.set_title(title, fontsize=9)
    right.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    axis = right.subplots()
    looks = zip(shades(len(view.curves)), "osv^", strict=True)
    for (key, values), (colour, mark) in zip(view.curves.items(), looks, strict=True):
        axis.plot(view.steps, values, color=colour, marker=mark, markersize=4, label=TITLES[key])
    axis.axvline(view.step, color="black", linewidth=1)
    axis.set(xlabel="training step", ylabel="share", ylim=(0, 1))
    right.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    return figure
