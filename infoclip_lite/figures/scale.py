"""From mini to paper: what a step and a training cost, and how many seeds a difference needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from ..core.colours import shades, verdict_shades
from ..core.statistics import ci95_of_mean
from ..studies.rows import TrainingWay

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def step_cost(forward: Mapping[str, float], *, batch: int = 4, teacher: bool = True) -> float:
    """10^12 multiplications and additions of a training step.

    Args:
        forward: "image tower", "aggregation" (both of one picture) and "text tower", in 10^12, as the report
            "speed" has them.
        batch: pictures.
        teacher: whether a frozen CLIP looks at them too, as InfoCLIP's does.
    """
    student = batch * (forward["image tower"] + forward["aggregation"]) + forward["text tower"]
    # A backward pass multiplies twice where the forward pass does once: by the weights, and by the
    # activations.
    return 3 * student + teacher * batch * forward["image tower"]


def hours(steps: int, cost: float, peak: float, fraction: float) -> float:
    """How long a training takes, in hours.

    Args:
        steps: how many.
        cost: of one, in 10^12 multiplications and additions.
        peak: what the device does at most, in 10^12 a second.
        fraction: of that peak which training reaches.
    """
    return steps * cost / (peak * fraction) / 3600


def plot_ways(rows: Sequence[TrainingWay]) -> Figure:
    """Speed beside memory of the ways to take a training step.

    Args:
        rows: of the report "speed", as from `training_ways`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True, layout="constrained")
    names, colours = [row.what for row in rows], shades(len(rows))
    left.barh(names, [row.ratio for row in rows], color=colours)
    left.axvline(1, color="black", linewidth=1)
    left.set(xlabel="speed (float32 = 1)")
    left.invert_yaxis()
    right.barh(names, [(row.kept_mb or math.nan) / 1000 for row in rows], color=colours)
    for place, row in enumerate(rows):
        if row.kept_mb is None:
            right.text(0, place, " not measured", va="center", fontsize=9)
    right.set(xlabel="kept for the gradient (GB)")
    sns.despine(figure)
    return figure


def plot_hours(cost: float, steps: int, fractions: Mapping[str, float]) -> Figure:
    """Hours of a training over the peak of a device, one line for each fraction of the peak that is reached.

    Args:
        cost: of a step, in 10^12 multiplications and additions.
        steps: how many.
        fractions: name -> fraction of the peak.
    """
    figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
    # From a slow laptop's tenth of a teraflop to what one of today's GPUs promises in 16 bits.
    peak = np.geomspace(0.1, 1000, 50)
    looks = zip(shades(len(fractions)), itertools.cycle(("-", "--", ":", "-.")), strict=False)
    for (colour, dash), (name, fraction) in zip(looks, fractions.items(), strict=True):
        label = f"{name}: {fraction:.0%} of the peak"
        taken = [hours(steps, cost, at, fraction) for at in peak]
        axis.plot(peak, taken, color=colour, linestyle=dash, label=label)
    for text, level in (("an hour", 1), ("a day", 24), ("a month", 30 * 24)):
        axis.axhline(level, color="grey", linewidth=0.7)
        # Below the line: above that of a month the curve would run through it.
        axis.text(0.1, level * 0.9, text, fontsize=9, color="dimgrey", va="top")
    axis.set(xscale="log", yscale="log", ylabel="hours")
    axis.set_xlabel("peak of the device (10^12 multiplications and additions a second)")
    axis.legend(frameon=False, fontsize=9)
    sns.despine(figure)
    return figure


def plot_seeds(deviation: float, gain: float, *, most: int = 50) -> Figure:
    """Half-width of a paired difference's interval over the number of seeds, and the gain that is to be seen.

    Args:
        deviation: of the difference over seeds, in points.
        gain: in points.
        most: seeds.
    """
    figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
    seeds = range(2, most + 1)
    width = [ci95_of_mean(deviation, count) for count in seeds]
    blue, red, _ = verdict_shades()
    axis.plot(seeds, width, marker="o", markersize=3, color=blue, label="half width of the 95% interval")
    axis.axhline(gain, color=red, linestyle="--", label=f"a gain of {gain:g} points")
    enough = next((count for count, half in zip(seeds, width, strict=True) if half <= gain), None)
    if enough is not None:
        axis.axvline(enough, color="grey", linewidth=0.8)
        axis.text(enough, 4 * gain, f" {enough} seeds", fontsize=9)
    # With two seeds t is 12.7: without a ceiling the first point would press all others onto the axis.
    axis.set(xlabel="seeds", ylabel="points of hIoU", ylim=(0, min(max(width), 8 * gain)))
    axis.legend(frameon=False, fontsize=9)
    sns.despine(figure)
    return figure
