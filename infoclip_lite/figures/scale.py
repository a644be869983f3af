"""From mini to paper: what a step costs, what a training costs on another device, how many seeds a difference needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from ..core.statistics import seed_interval
from .information import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def step_cost(forward: Mapping[str, float], *, batch: int = 4, teacher: bool = True) -> float:
    """10^12 multiplications and additions of a training step: forward and backward are about three forward passes, the teacher is one.

    Args:
        forward: "image tower", "aggregation" (of one picture) and "text tower" of the report "speed", in 10^12.
        batch: pictures.
        teacher: whether a frozen CLIP looks at them too, as InfoCLIP's does.
    """
    student = batch * (forward["image tower"] + forward["aggregation"]) + forward["text tower"]
    return 3 * student + teacher * batch * forward["image tower"]


def hours(steps: int, cost: float, peak: float | np.ndarray, share: float) -> Any:
    """How long a training takes.

    Args:
        steps: how many.
        cost: of one, in 10^12 multiplications and additions.
        peak: what the device does at most, in 10^12 a second.
        share: of that peak which training reaches.
    """
    return steps * cost / (peak * share) / 3600


def plot_ways(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Speed beside memory of the ways to take a training step, from the report "speed"."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.4), dpi=80, sharey=True, layout="constrained")
    names = [row["what"] for row in rows]
    left.barh(names, [row["ratio"] for row in rows], color=COLOURS)
    left.axvline(1, color="black", linewidth=1)
    left.set(xlabel="speed (float32 = 1)")
    left.invert_yaxis()
    right.barh(names, [(row["kept_mb"] or math.nan) / 1000 for row in rows], color=COLOURS)
    for place, row in enumerate(rows):
        if row["kept_mb"] is None:
            right.text(0, place, " not measured", va="center", fontsize=8)
    right.set(xlabel="kept for the gradient (GB)")
    sns.despine(figure)
    return figure


def plot_hours(cost: float, steps: int, shares: Mapping[str, float]) -> Figure:
    """Hours of a training over the peak of a device, one line for each share of the peak that is reached."""
    figure, axis = plt.subplots(figsize=(6, 3), dpi=80, layout="constrained")
    peak = np.geomspace(0.1, 1000, 50)
    for colour, dash, (name, share) in zip(COLOURS, ("-", "--", ":", "-."), shares.items(), strict=False):
        axis.plot(peak, hours(steps, cost, peak, share), color=colour, linestyle=dash, label=f"{name}: {share:.0%} of the peak")
    for text, level in (("an hour", 1), ("a day", 24), ("a month", 30 * 24)):
        axis.axhline(level, color="grey", linewidth=0.7)
        axis.text(0.1, level * 1.1, text, fontsize=8, color="grey")
    axis.set(xscale="log", yscale="log", xlabel="peak of the device (10^12 multiplications and additions a second)", ylabel="hours")
    axis.legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure


def plot_seeds(deviation: float, gain: float, *, most: int = 50) -> Figure:
    """Half width of the interval of a paired difference over the number of seeds, and the gain that is to be seen."""
    figure, axis = plt.subplots(figsize=(6, 2.8), dpi=80, layout="constrained")
    seeds = np.arange(2, most + 1)
    width = seed_interval(deviation, seeds)
    axis.plot(seeds, width, marker="o", markersize=3, color=COLOURS[0], label="half width of the 95% interval")
    axis.axhline(gain, color=COLOURS[3], linestyle="--", label=f"a gain of {gain:g} points")
    enough = seeds[width <= gain]
    if len(enough):
        axis.axvline(enough[0], color="grey", linewidth=0.8)
        axis.text(enough[0], 4 * gain, f" {enough[0]} seeds", fontsize=9)
    axis.set(xlabel="seeds", ylabel="points of hIoU", ylim=(0, min(width.max(), 8 * gain)))
    axis.legend(frameon=False, fontsize=8)
    sns.despine(figure)
    return figure
