"""Figures on information, and the few computations behind the sliders: `compute_*` gives numbers, `plot_*` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from torch import Tensor

from ..information import gaussian_rbf_information, gram, renyi_entropy, renyi_mutual_information
from ..information.tasks import get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = sns.color_palette("colorblind", 8)


@dataclass(frozen=True)
class RenyiView:
    """What `compute_renyi` found: two (n, n) Gram matrices, eigenvalues of the first, entropies and information in bits."""

    gram_x: Tensor
    gram_y: Tensor
    eigenvalues: Tensor
    entropy_x: float
    entropy_y: float
    information: float
    corrected: float
    population: float
    shannon: float


def compute_renyi(n: int = 100, rho: float = 0.75, width: float = 1.0, alpha: float = 2.0, seed: int = 0) -> RenyiView:
    """Gram matrices of n normal pairs under RBF kernels of one width, and everything they say, in bits; samples sorted by x for the eye."""
    x, y = get_task("normal", rho=rho).sample(n, torch.Generator().manual_seed(seed))
    order = x[:, 0].argsort()
    a, b = (gram(z[order], "rbf", width=width) for z in (x, y))
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    return RenyiView(
        gram_x=a,
        gram_y=b,
        eigenvalues=torch.linalg.eigvalsh(a).flip(0).clamp_min(0),
        entropy_x=float(renyi_entropy(a, alpha)),
        entropy_y=float(renyi_entropy(b, alpha)),
        information=float(renyi_mutual_information(a, b, alpha)),
        corrected=float(renyi_mutual_information(a, b, correction="permutation")),
        population=gaussian_rbf_information(covariance, 1, width, width),
        shannon=-math.log2(1 - rho**2) / 2,
    )


def plot_table(joint: np.ndarray, names_x: Sequence[str], names_y: Sequence[str]) -> Figure:
    """A joint table beside the product of its margins, and the terms p log2(p / product) that add up to the information."""
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    terms = np.where(joint > 0, joint * np.log2(np.where(joint > 0, joint / product, 1)), 0)
    figure, axes = _canvas(3, width=9.0)
    panels = (
        ("joint p(x, y)", joint, "Blues"),
        ("if independent, p(x) p(y)", product, "Blues"),
        ("terms of the sum (bits)", terms, "vlag"),
    )
    for axis, (title, values, colours) in zip(axes, panels, strict=True):
        centre = {"center": 0} if colours == "vlag" else {"vmin": 0, "vmax": max(joint.max(), product.max())}
        sns.heatmap(values, annot=True, fmt=".3f", cmap=colours, cbar=False, ax=axis, xticklabels=names_y, yticklabels=names_x, **centre)
        axis.set(title=title, xlabel="y")
    axes[0].set_ylabel("x")
    return figure


def plot_pairs(samples: Sequence[tuple[str, Tensor, Tensor]]) -> Figure:
    """Scatter plots side by side, (title, x, y) each; the first coordinates are drawn."""
    figure, axes = _canvas(len(samples), width=2.6 * len(samples))
    for i, (axis, (title, x, y)) in enumerate(zip(axes, samples, strict=True)):
        axis.scatter(x[:, 0], y[:, 0], s=4, alpha=0.4, color=COLOURS[i % 8])
        axis.set(title=title, xlabel="x (first coordinate)", ylabel="y (first coordinate)" if i == 0 else "")
    return figure


def plot_lines(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    levels: Mapping[str, float] | None = None,
    log_x: bool = False,
    identity: bool = False,
) -> Figure:
    """Named curves over x, optionally with (low, high) bands, horizontal levels, a logarithmic x and the line y = x."""
    figure, (axis,) = _canvas(1, width=6.4)
    marks = "osv^DPX*"
    for i, (name, values) in enumerate(lines.items()):
        axis.plot(x, values, marker=marks[i % 8], markersize=4, color=COLOURS[i % 8], label=name)
        if bands and name in bands:
            axis.fill_between(x, *bands[name], color=COLOURS[i % 8], alpha=0.2, linewidth=0)
    for i, (name, value) in enumerate((levels or {}).items()):
        axis.axhline(value, color="black", linestyle=("--", ":", "-.")[i % 3], label=name)
    if identity:
        axis.plot(x, x, color="black", linewidth=1, label="truth")
    if log_x:
        axis.set_xscale("log")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return figure


def plot_benchmark(report: Mapping[str, Any], n: int, estimators: Sequence[str]) -> Figure:
    """Heat map of mean errors (estimate minus truth, nats) at one n, tasks by estimators, from the report of `infoclip-lite benchmark`."""
    tasks = [task["task"] for task in report["tasks"]]
    found = {(row["task"], row["estimator"]): row["mean"] for row in report["errors"] if row["n"] == n}
    values = np.array([[found.get((task, name), np.nan) for name in estimators] for task in tasks])  # NaN stays blank: not run
    names = [f"{task['task']}  ({task['truth']:.2f})" for task in report["tasks"]]
    figure, (axis,) = _canvas(1, width=9.0, height=0.34 * len(tasks) + 1.4)
    sns.heatmap(
        values,
        annot=True,
        fmt=".2f",
        cmap="vlag",
        center=0,
        vmin=-2,
        vmax=2,
        ax=axis,
        annot_kws={"size": 8},
        xticklabels=list(estimators),
        yticklabels=names,
        cbar_kws={"label": "estimate minus truth (nats)", "extend": "both"},
    )
    axis.set(xlabel="estimator", ylabel="task (exact nats)", title=f"n = {n}, mean of {report['seeds']} seeds")
    plt.setp(axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    return figure


def plot_renyi(view: RenyiView) -> Figure:
    """Two Gram matrices, the eigenvalues of the first, and the entropies and information they give."""
    figure, axes = _canvas(4, width=11.0)
    n = len(view.gram_x)
    for axis, matrix, name in ((axes[0], view.gram_x, "x"), (axes[1], view.gram_y, "y")):
        sns.heatmap(matrix * n, cmap="mako", vmin=0, vmax=1, cbar=name == "y", square=True, xticklabels=False, yticklabels=False, ax=axis)
        axis.set(title=f"similarity in {name}", xlabel="sample (sorted by x)", ylabel="sample" if name == "x" else "")
    shown = view.eigenvalues[:20].numpy()
    axes[2].bar(range(1, len(shown) + 1), shown, color=COLOURS[0])
    axes[2].set(title="eigenvalues of A (sum 1)", xlabel="rank", ylabel="share", ylim=(0, 1))
    names = ["S(x)", "S(y)", "I", "Shannon's I"]
    axes[3].barh(names, [view.entropy_x, view.entropy_y, view.information, view.shannon], color=[*COLOURS[:3], "grey"])
    axes[3].axvline(math.log2(n), color="black", linestyle="--", linewidth=1)
    axes[3].set(title=f"bits (dashed: log2 {n})", xlabel="bits", xlim=(min(0.0, view.information), math.log2(n) * 1.05))
    axes[3].invert_yaxis()
    return figure


def plot_grams(matrices: Sequence[tuple[str, Tensor]], *, unit: str) -> Figure:
    """Square matrices as heat maps side by side on one colour scale."""
    top = max(float(matrix.max()) for _, matrix in matrices)
    figure, axes = _canvas(len(matrices), width=2.7 * len(matrices))
    for i, (axis, (title, matrix)) in enumerate(zip(axes, matrices, strict=True)):
        last = i == len(matrices) - 1
        sns.heatmap(
            matrix,
            cmap="mako",
            vmin=0,
            vmax=top,
            square=True,
            cbar=last,
            cbar_kws={"label": unit, "shrink": 0.7} if last else None,
            xticklabels=False,
            yticklabels=False,
            ax=axis,
        )
        axis.set(title=title, xlabel="sample j", ylabel="sample i" if i == 0 else "")
    return figure


def _canvas(columns: int, *, width: float, height: float = 2.8) -> tuple[Figure, list[Any]]:
    figure, axes = plt.subplots(1, columns, figsize=(width, height), dpi=80, layout="constrained", squeeze=False)
    return figure, list(axes[0])
