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


def plot_frame(view: FrameView, *, height: float = 1.6) -> Figure:
    """For each scene the picture, the truth and the segmentation with one key of words; below, the measures
    with the step marked.

    Args:
        view: of `compute_frame`.
        height: of a scene in inches.
    """
    count = len(view.images)
    # Half an inch for the key, whatever the height of a scene is.
    size = (3 * count * height * 0.7, 2.4 * height + 1.1)
    figure = plt.figure(figsize=size, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.3))  # type: ignore[misc]
    colours, handles = word_key([*view.truth, *view.labels], view.names)
    titles = ("scene", "truth", f"step {view.step}")
    axes = top.subplots(1, 3 * count)
    for i in range(count):
        pictures = (view.images[i], colours[view.truth[i]], colours[view.labels[i]])
        for axis, picture, title in zip(axes[3 * i :], pictures, titles, strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(title, fontsize=min(9, 10 * height))
            axis.axis("off")
    # A word of the key takes about an inch.
    top.legend(handles=handles, loc="outside lower center", ncols=int(size[0]), fontsize=8, frameon=False)
    axis = bottom.subplots()
    looks = zip(shades(len(view.curves)), "osv^", strict=True)
    for (key, values), (colour, mark) in zip(view.curves.items(), looks, strict=True):
        axis.plot(view.steps, values, color=colour, marker=mark, markersize=4, label=TITLES[key])
    axis.axvline(view.step, color="black", linewidth=1)
    axis.set(xlabel="training step", ylabel="share", ylim=(0, 1))
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return figure
