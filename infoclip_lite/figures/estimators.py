"""Estimators on normal data of known information.

`compute_information` draws and estimates, `plot_information` shows bias and spread.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from ..core.colours import shades
from ..information import gaussian_rbf_information, gram, renyi_mutual_information
from ..information.estimators import Estimate, LimitWarning, club, gaussian, gaussian_copula, infonce, ksg
from ..information.tasks import Task, get_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLAIN: dict[str, Callable[..., Estimate]] = {
    "Gaussian": gaussian,
    "Gaussian copula": gaussian_copula,
    "KSG": ksg,
}
_WITH_CRITIC: dict[str, Callable[..., Estimate]] = {
    "InfoNCE, perfect critic": infonce,
    "CLUB, perfect critic": club,
}
MATRIX = "matrix-based"
ESTIMATORS = (*_PLAIN, *_WITH_CRITIC, MATRIX)
CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
DRAWS = 12


@dataclass(frozen=True)
class InformationView:
    """Estimates at every correlation, and at the one that was chosen; all in nats.

    Attributes:
        estimator, n, dim: what was asked; dim pairs of dimensions, each with the same correlation.
        rho: (R,) correlations, the chosen one among them.
        truth: (R,) Shannon's information, exact.
        estimates: (DRAWS, R), one row a draw of n samples.
        limit: the largest value the estimator can give, or None.
        population: (R,) what the matrix-based information at alpha = 2 tends to as n grows; None for all
            else.
        chosen: index of the chosen correlation in `rho`.
    """

    estimator: str
    n: int
    dim: int
    rho: np.ndarray
    truth: np.ndarray
    estimates: np.ndarray
    limit: float | None
    population: np.ndarray | None
    chosen: int


def compute_information(
    estimator: str = "KSG",
    n: int = 100,
    dim: int = 1,
    rho: float = 0.8,
    width: float = 1.0,
    alpha: float = 2.0,
) -> InformationView:
    """Draw n samples DRAWS times at each correlation and estimate their information.

    Args:
        estimator: one of ESTIMATORS.
        n: samples in a draw; InfoNCE contrasts all n at once.
        dim: dimensions of x and of y; dimension i of x is correlated with dimension i of y alone.
        rho: the correlation of each pair of dimensions, in [0, 1).
        width: of the RBF kernel, for the matrix-based information only.
        alpha: its order, likewise.

    Raises:
        ValueError: no such estimator, a correlation outside [0, 1), or what the estimator itself refuses.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"got estimator {estimator!r}; expected one of {', '.join(ESTIMATORS)}")
    if not 0 <= rho < 1:
        raise ValueError(f"got rho = {rho}; expected a correlation in [0, 1)")
    correlations = sorted({*CORRELATIONS, rho})
    tasks = [get_task("normal", rho=r, dim=dim) for r in correlations]
    estimates = np.empty((DRAWS, len(tasks)))
    for draw in range(DRAWS):
        for column, task in enumerate(tasks):
            # One seed a draw for all correlations: neighbours on the curve differ by the correlation, not
            # by luck.
            x, y = task.sample(n, torch.Generator().manual_seed(draw))
            estimates[draw, column] = _estimate(estimator, task, x, y, width, alpha)
    limited = estimator == MATRIX or estimator.startswith("InfoNCE")
    return InformationView(
        estimator=estimator,
        n=n,
        dim=dim,
        rho=np.array(correlations),
        truth=np.array([task.mutual_information for task in tasks]),
        estimates=estimates,
        limit=math.log(n) if limited else None,
        # A closed form exists at order 2 alone.
        population=_population(correlations, dim, width) if estimator == MATRIX and alpha == 2 else None,
        chosen=correlations.index(rho),
    )


def _population(correlations: Sequence[float], dim: int, width: float) -> np.ndarray:
    """(R,) nats that the matrix-based information of order 2 tends to as n grows."""
    pairs = [torch.tensor([[1.0, r], [r, 1.0]], dtype=torch.float64) for r in correlations]
    return dim * np.array([gaussian_rbf_information(pair, 1, width, width, math.e) for pair in pairs])


def describe_information(view: InformationView) -> str:
    """Truth, mean, bias and spread at the chosen correlation, in a sentence."""
    truth, found = view.truth[view.chosen], view.estimates[:, view.chosen]
    what = f"{view.estimator}, {view.n} samples of {view.dim} + {view.dim} dimensions"
    mean = found.mean()
    values = f"truth {truth:.2f} nats, mean of {DRAWS} draws {mean:.2f}, bias {mean - truth:+.2f}"
    spread = f"standard deviation of one draw {found.std(ddof=1):.2f}"
    return f"{what}, correlation {view.rho[view.chosen]:.2f}: {values}, {spread}"


def plot_information(view: InformationView) -> Figure:
    """Truth and estimates over the correlation; beside it the draws at the chosen one.

    Args:
        view: of `compute_information`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), sharey=True, width_ratios=(3, 1))
    figure.set_layout_engine("constrained")
    blue, orange, green = shades(3)
    mean, low, high = view.estimates.mean(0), view.estimates.min(0), view.estimates.max(0)
    left.plot(view.rho, view.truth, color="black", linewidth=2, label="truth")
    left.fill_between(view.rho, view.truth, mean, color=orange, alpha=0.3, linewidth=0, label="bias")
    left.fill_between(view.rho, low, high, color=blue, alpha=0.25, linewidth=0, label=f"all {DRAWS} draws")
    left.plot(view.rho, mean, color=blue, marker="o", markersize=4, label=f"{view.estimator}, mean")
    if view.population is not None:
        label = "its value for endless samples"
        left.plot(view.rho, view.population, color=green, linestyle="--", label=label)
    if view.limit is not None:
        left.axhline(view.limit, color="grey", linestyle=":", label=f"it cannot say more: {view.limit:.2f}")
    left.axvline(view.rho[view.chosen], color="grey", linewidth=0.8)
    left.set(xlabel="correlation of each pair of dimensions", ylabel="information (nats)")
    left.legend(frameon=False, fontsize=8)
    found = view.estimates[:, view.chosen]
    right.scatter(np.linspace(-0.3, 0.3, DRAWS), found, s=14, color=blue)
    right.axhline(view.truth[view.chosen], color="black", linewidth=2)
    right.set(xlabel=f"{DRAWS} draws at {view.rho[view.chosen]:.2f}", xticks=[], xlim=(-0.6, 0.6))
    # CLUB runs far out of any picture: twice the truth is as much as is shown.
    top = max(view.truth.max(), min(high.max(), 2 * view.truth.max()))
    left.set_ylim(min(0.0, low.min()) - 0.05 * top, 1.05 * top)
    return figure


def _estimate(name: str, task: Task, x: Tensor, y: Tensor, width: float, alpha: float) -> float:
    if name == MATRIX:
        first, second = (gram(z, "rbf", width=width) for z in (x, y))
        return float(renyi_mutual_information(first, second, alpha, math.e))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LimitWarning)  # the limit is drawn
        if name in _WITH_CRITIC:
            return _WITH_CRITIC[name](x, y, task.log_ratio, batch_size=len(x)).value
        return _PLAIN[name](x, y).value
