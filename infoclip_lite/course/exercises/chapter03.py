"""Chapter 3: what mutual information is, and who measures it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...information.critics import donsker_varadhan_bound, nwj_bound
from ...information.estimators import gaussian, ksg
from . import exercise
from .compare import Wrong, close, listed, tensor


@exercise(
    "3.1", "No information means that every row is the same but for its size, not that all entries are alike."
)
def diary(answer: object) -> None:
    """The answer is a table (2, 2): the outer product of (0.3, 0.7) and (0.6, 0.4)."""
    table = tensor(
        answer, (2, 2), what="the table", perhaps="rain and dry in rows, umbrellas and none in columns"
    )
    expected = "rows that add up to 0.3 and 0.7, columns that add up to 0.6 and 0.4"
    rows, columns = table.sum(1).tolist(), table.sum(0).tolist()
    got = "rows that add up to {:.2f} and {:.2f}, columns to {:.2f} and {:.2f}".format(*rows, *columns)
    near = torch.tensor([*rows, *columns]).sub(torch.tensor([0.3, 0.7, 0.6, 0.4])).abs().max() < 1e-3
    if (table < 0).any() or abs(table.sum().item() - 1) > 1e-3:
        raise Wrong(got, "four shares that add up to 1", "you wrote days: divide by 100")
    if not near:
        swapped = abs(rows[0] - 0.6) < 1e-3 and abs(columns[0] - 0.3) < 1e-3
        raise Wrong(
            got,
            expected,
            "rain belongs in rows, umbrellas in columns"
            if swapped
            else "the margins are given: rain 0.3, umbrellas 0.6",
        )
    product = table.sum(1, keepdim=True) * table.sum(0, keepdim=True)
    bits = torch.special.xlogy(table, table / product).sum().item() / math.log(2)
    close(
        bits,
        0.0,
        what="the information of your table",
        tolerance=1e-4,
        unit=" bits",
        otherwise="multiply the margins: 0.3 times 0.6, and so on",
    )


@exercise("3.2", "A whole bit takes a correlation of 0.87: correlation flatters.")
def one_bit(answer: object) -> None:
    """The answer is a number: the square root of 3/4."""
    traps = [
        (math.sqrt(1 - math.exp(-2)), "that gives one nat: a bit is ln 2 nats"),
        (0.75, "that is rho squared: take the root"),
        (math.sqrt(0.5), "did you lose the factor 1/2 before the logarithm?"),
        (-math.sqrt(0.75), "that shares one bit as well, but take the positive root"),
    ]
    close(answer, math.sqrt(0.75), what="the correlation", tolerance=1e-3, traps=traps)


@exercise("3.3", "The pairs that are needed grow exponentially with the information.")
def pairs_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: nats -> the smallest b with ln b >= nats; 2981 for 8."""
    # A small and a large number: at 2 nats rounding shows, at 8 the wrong base.
    for nats in (2.0, 8.0):
        truth = math.ceil(math.exp(nats))
        traps = [
            (math.ceil(2**nats), "that is for bits: nats go with e"),
            (math.floor(math.exp(nats)), "that is one pair too few: round up"),
            (math.exp(nats), "a batch is a whole number: round up"),
            (math.log(nats), "that is the other way round: solve ln b = nats for b"),
        ]
        close(answer(nats), truth, what=f"{nats:g} nats", tolerance=0.01, unit=" pairs", traps=traps)


@exercise("3.4", "A bound without a ceiling pays with variance, and the logarithm of a mean adds a bias.")
def donsker_varadhan_of(answer: Callable[..., object]) -> None:
    """The answer is a function: scores (b, b) -> the Donsker-Varadhan bound in nats."""
    # Pairs score two more than strangers, as after some training.
    scores = torch.randn(
        6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ) + 2 * torch.eye(6, dtype=torch.float64)
    pairs, strangers = scores.diagonal().mean(), scores[~torch.eye(6, dtype=torch.bool)]
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
        (-donsker_varadhan_bound(scores).item(), "that is the loss: turn the sign"),
    ]
    close(
        answer(scores),
        donsker_varadhan_bound(scores).item(),
        what="a table of 6 x 6 scores",
        tolerance=1e-4,
        unit=" nats",
        traps=traps,
    )


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
    # Both are asked: noise alone is missed by correlation too, and neighbours find nothing in it.
    straight, near = gaussian(x, y).value, ksg(x, y).value
    got, expected = f"gaussian {straight:.2f} nats, ksg {near:.2f} nats", "gaussian below 0.02, ksg above 0.5"
    if straight >= 0.02:
        raise Wrong(got, expected, "y still grows (or falls) with x on the whole: make it symmetric")
    if near <= 0.5:
        raise Wrong(
            got, expected, "there is too little to find: y must follow x closely, but not along a line"
        )
