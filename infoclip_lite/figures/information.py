"""Figures on information: `compute_*` gives the numbers behind a slider, `plot_*` draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from torch import Tensor

from ..core.colours import shades
from ..information import gaussian_rbf_information, gram, renyi_entropy, renyi_mutual_information
from ..information.tasks import get_task
from ..studies.rows import EstimatorReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A Gram matrix as a heat map: its samples have no names.
_SQUARE = {"cmap": "mako", "square": True, "xticklabels": False, "yticklabels": False}
# Curves and marks are told apart by shape as well as by colour.
_MARKS = "osv^DPX*"

# Positions of an explorer's sliders; a correlation has a slider of every hundredth.
SAMPLES, WIDTHS, ORDERS = (
    (4, 16, 50, 100, 200),
    (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
    (0.5, 1.0, 1.5, 2.0, 3.0, 5.0),
)

Band = tuple[Sequence[float], Sequence[float]]  # (low, high) at each x


@dataclass(frozen=True)
class RenyiView:
    """What `compute_renyi` found, in bits.

    Attributes:
        gram_x, gram_y: (n, n) Gram matrices of trace 1.
        eigenvalues: (n,) of the first, largest first.
        entropy_x, entropy_y: of order alpha.
        information: of order alpha, as the formula gives it.
        corrected: at alpha = 2, less what unrelated samples would give.
        population: at alpha = 2, what it tends to as n grows.
        shannon: the pair's information.
    """

    gram_x: Tensor
    gram_y: Tensor
    eigenvalues: Tensor
    entropy_x: float
    entropy_y: float
    information: float
    corrected: float
    population: float
    shannon: float


def compute_renyi(
    n: int = 100,
    rho: float = 0.75,
    width: float = 1.0,
    alpha: float = 2.0,
    seed: int = 0,
) -> RenyiView:
    """Gram matrices of n normal pairs under RBF kernels of one width, and everything they say, in bits.

    Args:
        n: pairs.
        rho: their correlation.
        width: of both kernels, in standard deviations.
        alpha: order of entropies and information.
        seed: of the draw.
    """
    x, y = get_task("normal", rho=rho).sample(n, torch.Generator().manual_seed(seed))
    # Sorted by x, so that the eye sees a band along the diagonal; no entropy depends on the order.
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
    """A joint table beside the product of its margins, and the terms that add up to the information.

    Args:
        joint: (X, Y) probabilities that sum to 1.
        names_x, names_y: of rows and columns.
    """
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    # 0 log 0 is 0: what never happens adds nothing.
    terms = np.where(joint > 0, joint * np.log2(np.where(joint > 0, joint / product, 1)), 0)
    figure, axes = _canvas(3, width=7.5)
    panels = (
        ("joint p(x, y)", joint, "Blues"),
        ("if independent, p(x) p(y)", product, "Blues"),
        ("terms of the sum (bits)", terms, "vlag"),
    )
    for axis, (title, values, colours) in zip(axes, panels, strict=True):
        # Joint and product share one scale, or equal colours would not mean equal probabilities.
        scale = {"center": 0} if colours == "vlag" else {"vmin": 0, "vmax": max(joint.max(), product.max())}
        ticks = {"xticklabels": names_y, "yticklabels": names_x}
        sns.heatmap(values, annot=True, fmt=".3f", cmap=colours, cbar=False, ax=axis, **ticks, **scale)
        axis.set(title=title, xlabel="y")
    axes[0].set_ylabel("x")
    return figure


def plot_pairs(samples: Sequence[tuple[str, Tensor, Tensor]]) -> Figure:
    """Scatter plots side by side: y over x; where x has more than one dimension, its plane with y as colour.

    Args:
        samples: (title, x, y) each, x and y of shape (n, dimensions); of x the first two coordinates are
            drawn, of y the first.
    """
    figure, axes = _canvas(len(samples), width=2.6 * len(samples))
    colours = shades(len(samples))
    for i, (axis, (title, x, y)) in enumerate(zip(axes, samples, strict=True)):
        if x.shape[1] == 1:
            axis.scatter(x[:, 0], y[:, 0], s=4, alpha=0.4, color=colours[i])
            axis.set(title=title, xlabel="x", ylabel="y")
            continue
        # y over one coordinate of a roll would hide that it is a roll.
        drawn = axis.scatter(x[:, 0], x[:, 1], s=4, c=y[:, 0], cmap="viridis")
        axis.set(title=title, xlabel="first coordinate of x", ylabel="second coordinate of x")
        figure.colorbar(drawn, ax=axis, label="y")
    return figure


def plot_lines(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    bands: Mapping[str, Band] | None = None,
    levels: Mapping[str, float] | None = None,
    places: Mapping[str, int] | None = None,
    log_x: bool = False,
    identity: bool = False,
) -> Figure:
    """Named curves over x.

    Args:
        x: where they were measured.
        lines: name -> values at each x.
        xlabel, ylabel: with units.
        bands: name -> (low, high) at each x, shaded.
        levels: name -> a height, drawn as a horizontal line.
        places: name -> its place among colours and marks, so that a curve looks alike in two figures; None
            gives them out in the order of the lines.
        log_x: whether x is logarithmic.
        identity: draw the line y = x, as "truth".
    """
    figure, (axis,) = _canvas(1, width=6.4)
    _draw_lines(axis, x, lines, bands or {}, places or {})
    for i, (name, value) in enumerate((levels or {}).items()):
        axis.axhline(value, color="black", linestyle=("--", ":", "-.")[i % 3], label=name)
    if identity:
        axis.plot(x, x, color="black", linewidth=1, label="truth")
    if log_x:
        axis.set_xscale("log")
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return figure


def plot_panels(
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    bands: Mapping[str, Mapping[str, Band]] | None = None,
    level: tuple[str, float] | None = None,
) -> Figure:
    """Curves over a logarithmic x in panels side by side, each with a y-axis of its own.

    Where one set of curves is so near a line that on the other's scale it could not be told from it.

    Args:
        x: where they were measured, in powers of two.
        panels: title -> name -> values at each x; equal names have equal colours.
        xlabel, ylabel: with units.
        bands: title -> name -> (low, high) at each x, shaded.
        level: name and height of a horizontal line in every panel.
    """
    figure, axes = _canvas(len(panels), width=4.4 * len(panels))
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    places = {name: place for place, name in enumerate(names)}
    for i, (axis, (title, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
        _draw_lines(axis, x, lines, (bands or {}).get(title, {}), places)
        if level is not None:
            axis.axhline(level[1], color="black", linestyle="--", linewidth=1, label=level[0])
        # Samples are counted in powers of two, and are written as what they are.
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(x), [f"{value:g}" for value in x])
        axis.set(title=title, xlabel=xlabel, ylabel=ylabel if i == 0 else "")
        axis.legend(frameon=False, fontsize=8)
    return figure


def _draw_lines(
    axis: Axes,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    bands: Mapping[str, Band],
    places: Mapping[str, int],
) -> None:
    places = {name: places.get(name, i) for i, name in enumerate(lines)}
    colours = shades(max(places.values()) + 1)
    for name, values in lines.items():
        colour, mark = colours[places[name]], _MARKS[places[name] % len(_MARKS)]
        axis.plot(x, values, marker=mark, markersize=4, color=colour, label=name)
        if name in bands:
            axis.fill_between(x, *bands[name], color=colour, alpha=0.2, linewidth=0)


def plot_benchmark(report: EstimatorReport, n: int, estimators: Sequence[str]) -> Figure:
    """Heat map of mean errors (estimate minus truth, nats) at one n, tasks by estimators.

    Args:
        report: of `read_estimators`.
        n: number of samples.
        estimators: the columns.
    """
    found = {cell: row.mean for cell, row in report.at(n).items()}
    # NaN stays blank in the figure: it was not run, being too slow there.
    values = [[found.get((known.task, name), math.nan) for name in estimators] for known in report.tasks]
    # What rounds to zero has no sign.
    texts = [["" if math.isnan(v) else f"{round(v, 2) + 0.0:.2f}" for v in row] for row in values]
    names = [f"{known.task}  ({known.truth:.2f})" for known in report.tasks]
    figure, (axis,) = _canvas(1, width=9.0, height=0.34 * len(names) + 1.4)
    sns.heatmap(
        np.array(values),
        annot=np.array(texts),
        fmt="",
        # An odd number of shades: the middle one, white, is for what is right to a tenth of a nat.
        cmap=plt.get_cmap("vlag", 19),
        vmin=-2,
        vmax=2,
        ax=axis,
        annot_kws={"size": 7},
        xticklabels=list(estimators),
        yticklabels=names,
        cbar_kws={"label": "estimate minus truth (nats)", "extend": "both"},
    )
    axis.set(xlabel="estimator", ylabel="task (exact nats)", title=f"n = {n}, mean of {report.seeds} seeds")
    plt.setp(axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    return figure


def plot_renyi(view: RenyiView) -> Figure:
    """Two Gram matrices, the eigenvalues of the first, and the entropies and information they give.

    Args:
        view: of `compute_renyi`.
    """
    figure, axes = _canvas(4, width=11.0)
    n = len(view.gram_x)
    for axis, matrix, name in ((axes[0], view.gram_x, "x"), (axes[1], view.gram_y, "y")):
        # The trace is 1, so a diagonal entry is 1 / n: times n it is the kernel itself, 1 for a sample and
        # itself.
        sns.heatmap(matrix * n, vmin=0, vmax=1, cbar=name == "y", ax=axis, **_SQUARE)
        axis.set(
            title=f"similarity in {name}",
            xlabel="sample (sorted by x)",
            ylabel="sample" if name == "x" else "",
        )
    shown = view.eigenvalues[:20].numpy()
    colours = shades(3)
    axes[2].bar(range(1, len(shown) + 1), shown, color=colours[0])
    axes[2].set(title="eigenvalues of A (sum 1)", xlabel="rank", ylabel="share", ylim=(0, 1))
    bars = {
        "S(x)": view.entropy_x,
        "S(y)": view.entropy_y,
        "I": view.information,
        "Shannon's I": view.shannon,
    }
    axes[3].barh(list(bars), list(bars.values()), color=[*colours, "grey"])
    axes[3].axvline(math.log2(n), color="black", linestyle="--", linewidth=1)
    # The information of a Gram matrix may fall below zero for every order but 1: the axis begins there.
    left = min(0.0, view.information)
    axes[3].set(title=f"bits (dashed: log2 {n})", xlabel="bits", xlim=(left, math.log2(n) * 1.05))
    axes[3].invert_yaxis()
    return figure


def plot_grams(matrices: Sequence[tuple[str, Tensor]], *, unit: str) -> Figure:
    """Square matrices as heat maps side by side on one colour scale.

    Args:
        matrices: (title, (n, n) values) each.
        unit: of the values.
    """
    top = max(float(matrix.max()) for _, matrix in matrices)
    figure, axes = _canvas(len(matrices), width=2.7 * len(matrices))
    for i, (axis, (title, matrix)) in enumerate(zip(axes, matrices, strict=True)):
        # One colour bar for all: they are on one scale.
        last = i == len(matrices) - 1
        bar = {"label": unit, "shrink": 0.7} if last else None
        sns.heatmap(matrix, vmin=0, vmax=top, cbar=last, cbar_kws=bar, ax=axis, **_SQUARE)
        axis.set(title=title, xlabel="sample j", ylabel="sample i" if i == 0 else "")
    return figure


def _canvas(columns: int, *, width: float, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    # No dpi of its own: how fine a page draws is for the page to say, in matplotlib's settings.
    size = (width, height)
    figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
    return figure, list(axes[0])
