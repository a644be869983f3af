"""Chapter 3: what mutual information is, and who measures it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import digamma
from torch import Tensor

from ...information.critics import donsker_varadhan_bound, nwj_bound
from ...information.estimators import gaussian, ksg
from . import exercise
from .compare import Case, Wrong, close_each, listed, same_tensor, varies


@exercise(
    "3.1", "No information means that every row is the same but for its size, not that all entries are alike."
)
def diary(answer: Callable[..., object]) -> None:
    """The answer is a function: counts (r, c) -> the table with the same margins and no information."""
    generator = torch.Generator().manual_seed(0)
    tables = [torch.tensor([[40.0, 10.0], [20.0, 30.0]])]
    tables += [torch.randint(1, 30, (r, c), generator=generator).float() for r, c in ((2, 2), (3, 5))]
    given = [answer(table.double().numpy().copy()) for table in tables]
    varies(given, what="a table with the margins of the one that it gets")
    for got, table in zip(given, tables, strict=True):
        rows, columns, days = table.sum(1), table.sum(0), table.sum()
        product = rows[:, None] * columns
        traps = [
            (product, "that is a product of counts: divide by the number of days, so that it adds up again"),
            (product / days**2, "those are shares: times the number of days"),
            (table.mean().expand_as(table), "all entries alike have other margins: rain stays as frequent"),
            (table, "that is the diary itself: in it, umbrellas tell something"),
            ((columns[:, None] * rows / days) if len(rows) == len(columns) else table, "rain is in the rows"),
        ]
        same_tensor(
            got,
            product / days,
            what=f"the table of {days:g} days",
            shape="as many rows and columns as the diary has",
            traps=traps,
            otherwise="multiply the margins: each row's sum times each column's",
        )


@exercise("3.2", "A whole bit takes a correlation of 0.87: correlation flatters.")
def correlation_for(answer: Callable[..., object]) -> None:
    """The answer is a function: bits -> correlation, the root of 1 - 2^(-2 bits)."""
    cases = []
    for bits in (1.0, 0.3, 2.5):
        traps = [
            (math.sqrt(1 - math.exp(-2 * bits)), "that many nats: a bit is ln 2 nats"),
            (1 - 2 ** (-2 * bits), "that is rho squared: take the root"),
            (math.sqrt(1 - 2**-bits), "did you lose the factor 1/2 before the logarithm?"),
            (-math.sqrt(1 - 2 ** (-2 * bits)), "that shares as much, but take the positive root"),
        ]
        truth = math.sqrt(1 - 2 ** (-2 * bits))
        cases.append(Case(f"the correlation for {bits:g} bits", answer(bits), truth, traps))
    close_each(cases, tolerance=1e-3)


@exercise("3.3", "The pairs that are needed grow exponentially with the information.")
def pairs_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: nats -> the smallest b with ln b >= nats; 2981 for 8."""
    # Small and large numbers: at 2 nats rounding shows, at 8 the wrong base.
    cases = []
    for nats in (2.0, 8.0, 5.3):
        truth = math.ceil(math.exp(nats))
        traps = [
            (math.ceil(2**nats), "that is for bits: nats go with e"),
            (math.floor(math.exp(nats)), "that is one pair too few: round up"),
            (math.exp(nats), "a batch is a whole number: round up"),
            (math.log(nats), "that is the other way round: solve ln b = nats for b"),
        ]
        cases.append(Case(f"{nats:g} nats", answer(nats), truth, traps))
    close_each(cases, tolerance=0.01, unit=" pairs")


@exercise("3.4", "A bound without a ceiling pays with variance, and the logarithm of a mean adds a bias.")
def donsker_varadhan_of(answer: Callable[..., object]) -> None:
    """The answer is a function: scores (b, b) -> the Donsker-Varadhan bound in nats."""
    cases = []
    for b, seed in ((6, 3), (9, 4)):
        # Pairs score two more than strangers, as after some training.
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(b, b, generator=generator, dtype=torch.float64) + 2 * torch.eye(b)
        cases.append(_bound_case(scores, answer(scores.clone())))
    close_each(cases, tolerance=1e-4, unit=" nats")


def _bound_case(scores: Tensor, got: object) -> Case:
    pairs, strangers = scores.diagonal().mean(), scores[~torch.eye(len(scores), dtype=torch.bool)]
    truth = donsker_varadhan_bound(scores).item()
    traps = [
        (
            nwj_bound(scores).item(),
            "that is NWJ: take the logarithm of the mean instead of the mean less one",
        ),
        (
            (pairs - scores.exp().mean().log()).item(),
            "the diagonal holds pairs, not strangers: leave it out of the second mean",
        ),
        ((pairs - strangers.mean()).item(), "that is the mean of the logarithms (CLUB): take the mean first"),
        ((pairs - strangers.exp().sum().log()).item(), "you took the sum instead of the mean over strangers"),
        (-truth, "that is the loss: turn the sign"),
    ]
    return Case(f"a table of {len(scores)} x {len(scores)} scores", got, truth, traps)


@exercise("3.5", "An estimator sees only what its assumption lets through.")
def blind_spot(answer: Callable[..., object]) -> None:
    """The answer is a function: () -> x, y (n, 1) that correlation misses and neighbours find, as y = x^2."""
    parts = listed(answer(), what="the answer", perhaps="return x and y")
    if len(parts) != 2:
        raise Wrong(f"{len(parts)} things", "x and y", "return x, y")
    x, y = (torch.as_tensor(part).double() for part in parts)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 1 or not 300 <= len(x) <= 2000:
        raise Wrong(
            f"shapes {tuple(x.shape)} and {tuple(y.shape)}",
            "(n, 1) twice, n from 300 to 2000",
            "add a column axis with [:, None]",
        )
    if min(x.std().item(), y.std().item()) == 0:
        raise Wrong(
            "a variable that never changes", "two that vary", "a constant shares nothing with anything"
        )
    # Both are asked: noise alone is missed by correlation too, and neighbours find nothing in it.
    straight, near = gaussian(x, y).value, ksg(x, y).value
    got, expected = f"gaussian {straight:.2f} nats, ksg {near:.2f} nats", "gaussian below 0.02, ksg above 0.5"
    if straight >= 0.02:
        raise Wrong(got, expected, "y still grows (or falls) with x on the whole: make it symmetric")
    if near <= 0.5:
        raise Wrong(
            got, expected, "there is too little to find: y must follow x closely, but not along a line"
        )


@exercise(
    "3.6",
    "Distances to a neighbour and two counts: no density, no bins, no training, and in one or two dimensions "
    "nearly no bias.",
)
def by_neighbours(answer: Callable[..., object]) -> None:
    """The answer is a function: x (n, dx), y (n, dy), k -> KSG's first estimate in nats."""
    cases = []
    for n, dx, dy, k in ((60, 1, 1, 3), (50, 2, 1, 1), (70, 1, 3, 4)):
        generator = torch.Generator().manual_seed(n)
        x = torch.randn(n, dx, generator=generator, dtype=torch.float64)
        y = x[:, :1] + 0.5 * torch.randn(n, dy, generator=generator, dtype=torch.float64)
        # Scaled as the package scales what is not ranked, so that its number is the truth.
        x, y = x / x.std(0, correction=0), y / y.std(0, correction=0)
        cases.append(_neighbour_case(x, y, k, answer(x.clone(), y.clone(), k)))
    close_each(cases, tolerance=1e-3, unit=" nats")


def _neighbour_case(x: Tensor, y: Tensor, k: int, got: object) -> Case:
    n = len(x)
    largest_x, largest_y = torch.cdist(x, x, p=torch.inf), torch.cdist(y, y, p=torch.inf)

    def estimate(of_x: Tensor, of_y: Tensor, joint: Tensor, *, kth: int = k, own: int = 0) -> float:
        radius = joint.sort(1).values[:, kth : kth + 1]
        # The sample itself is counted: n_x + 1 of the formula.
        counts = [((d < radius).sum(1) - own).clamp_min(1).numpy() for d in (of_x, of_y)]
        return float(digamma(k) + digamma(n) - (digamma(counts[0]) + digamma(counts[1])).mean())

    both = torch.maximum(largest_x, largest_y)
    euclid_x, euclid_y = torch.cdist(x, x), torch.cdist(y, y)
    euclid = (euclid_x.square() + euclid_y.square()).sqrt()
    truth = ksg(x, y, k=k, ranks=False).value
    traps = [
        (
            estimate(largest_x, largest_y, both, kth=k - 1),
            "each sample is its own nearest neighbour: the k-th other one stands at place k, not k - 1",
        ),
        (estimate(largest_x, largest_y, both, own=1), "psi(n_x + 1): the sample itself is counted, too"),
        (
            estimate(euclid_x, euclid_y, euclid),
            "a ball is round: take the largest difference, so that the joint ball is a product of two",
        ),
        (estimate(largest_x, largest_y, both) - float(digamma(n)), "psi(n) is missing"),
        (truth / math.log(2), "those are bits: the formula gives nats"),
    ]
    what = f"{n} samples of {x.shape[1]} + {y.shape[1]} dimensions, k = {k}"
    return Case(what, got, truth, traps)
