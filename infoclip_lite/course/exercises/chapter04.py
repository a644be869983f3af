"""Chapter 4: from distances to entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...information import gram, renyi_mutual_information
from . import exercise
from .compare import Case, Wrong, answered, close_each, listed, same_tensor, tensor, varies

CORRECTED = "that is the corrected value: here it is the plug-in value that is asked for, without correction"


@exercise(
    "4.1",
    "S_2 is the logarithm of the number of things, if all are of one size; a large group dominates a square.",
)
def entropy_of(answer: Callable[..., object]) -> None:
    """The answer is a function: sizes of groups -> S_2 in bits; 3 for 8 groups of 8."""
    # One large group among them, since groups of one size do not tell Renyi's entropy from Shannon's.
    asked = {
        "8 groups of 8": [8] * 8,
        "one group of 32 and seven small ones": [32, 5, 5, 5, 5, 4, 4, 4],
        "groups of 9, 3 and 1": [9, 3, 1],
    }
    close_each(
        [_groups_case(what, sizes, answer(list(sizes))) for what, sizes in asked.items()],
        tolerance=0.01,
        unit=" bits",
        otherwise="square the shares and add up",
    )


def _groups_case(what: str, sizes: Sequence[int], got: object) -> Case:
    n = sum(sizes)
    shares = [size / n for size in sizes]
    truth = -math.log2(sum(share**2 for share in shares))
    shannon = -sum(share * math.log2(share) for share in shares)
    traps = [
        (truth * math.log(2), "that is nats: use log2"),
        (truth - 2 * math.log2(n), "did you forget to divide by the trace?"),
        (-truth, "the minus sign is missing"),
        (2**truth, "that is 2 ** S, the things"),
        (shannon, "that is Shannon's entropy (alpha = 1): square the shares"),
        (math.log2(len(sizes)), "the groups are not of one size"),
    ]
    return Case(what, got, truth, traps)


@exercise(
    "4.2", "Any function of two samples can be a kernel, as long as its table has no negative eigenvalue."
)
def laplace(answer: Callable[..., object]) -> None:
    """The answer is a function: (n, d) and (m, d) -> (n, m) similarities exp(-|x - y|)."""
    # Other numbers of samples on the two sides: a table that is turned over has another shape.
    generator = torch.Generator().manual_seed(0)
    pairs = [
        tuple(torch.randn(n, d, generator=generator, dtype=torch.float64) for n in (rows, columns))
        for rows, columns, d in ((4, 6, 2), (3, 5, 4))
    ]
    given = [answer(u.clone(), v.clone()) for u, v in pairs]
    varies(given, what="the similarities of these samples")
    for got, (u, v) in zip(given, pairs, strict=True):
        distance = torch.cdist(u, v)
        same_tensor(
            got,
            torch.exp(-distance),
            what="laplace(u, v)",
            shape="one row for each sample of u, one column for each of v",
            traps=[
                (torch.exp(-(distance**2) / 2), "that is the Gaussian kernel: the distance is squared"),
                (
                    torch.exp(-(distance**2)),
                    "the distance is squared: take it as it is",
                ),
                (
                    torch.exp(-(u[:, None] - v[None]).abs().sum(-1)),
                    "that adds up the differences of the coordinates: take the Euclidean distance",
                ),
                (distance, "those are distances: a kernel is 1 for equal samples and falls towards 0"),
                (torch.exp(distance), "similarity grows with distance: the minus sign is missing"),
            ],
            otherwise="exp of minus all distances",
        )


@exercise(
    "4.3",
    "With four samples a stranger scores all but as high as a copy: the plug-in value sits at its "
    "ceiling for both.",
)
def stranger_share(answer: Callable[..., object]) -> None:
    """The answer is a function: n -> I_2(x; stranger) / I_2(x; x), plug-in means in 20 dimensions.

    About 0.99 at n = 4 and 0.87 at n = 64.
    """
    cases = []
    for n in (4, 64):
        # 400 batches: twice what the hint draws, so that the tolerance is the student's to use.
        x, y = torch.randn(2, 400, n, 20, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        a, b = gram(x, normalize=True), gram(y, normalize=True)
        (copy, stranger), (fair_copy, fair_stranger) = (
            [renyi_mutual_information(a, other, correction=c).mean().item() for other in (a, b)]
            for c in (None, "permutation")
        )
        truth = stranger / copy
        traps = [
            (fair_stranger / fair_copy, CORRECTED),
            (stranger, "those are the stranger's bits: divide them by the copy's"),
            (copy, "those are the copy's bits: divide the stranger's by them"),
            (stranger / math.log2(n), "that is the share of the ceiling: divide by what a copy scores"),
            (1.0, "x was compared with itself both times"),
        ]
        # A mistake that gives the right number is none.
        traps = [trap for trap in traps if abs(trap[0] - truth) > 0.05]
        cases.append(Case(f"the share for n = {n}", answer(n), truth, traps))
    otherwise = "draw 200 batches: randn(2, 200, n, 20), normalize=True"
    close_each(cases, tolerance=0.03, otherwise=otherwise)


@exercise(
    "4.4",
    "No bound at zero: at alpha = 2 two things that depend on each other can score less than two "
    "that do not.",
)
def table_with(answer: Callable[..., object]) -> None:
    """The answer is a function: bits, from -0.07 to -0.01 -> counts [a, b, c, d] with that I_2."""
    asked = (-0.06, -0.031, -0.015)
    given = [listed(answer(bits), what="the table", perhaps="four counts: [a, b, c, d]") for bits in asked]
    varies(given, what="a table that has just the bits that are asked for")
    for counts, bits in zip(given, asked, strict=True):
        _check_table(counts, bits)


def _check_table(answer: Sequence[object], bits: float) -> None:
    counts = tensor(list(answer), (4,), what="the table", perhaps="four counts, row by row: [a, b, c, d]")
    if bool((counts < 0).any()) or not bool((counts == counts.round()).all()) or counts.sum() == 0:
        raise Wrong(
            f"{counts.tolist()}",
            "four whole numbers from 0 on, not all 0",
            "they count days: none can be negative or half",
        )
    p = counts.reshape(2, 2) / counts.sum()
    rows, columns = p.sum(1), p.sum(0)
    value = torch.log2(p.square().sum() / (rows.square().sum() * columns.square().sum())).item()
    if abs(value - bits) <= 0.004:
        return
    product = rows[:, None] * columns
    shannon = torch.special.xlogy(p, p / product.clamp_min(1e-12)).sum().item() / math.log(2)
    perhaps = "keep one cell empty, try many sizes of the others, and take the nearest"
    if torch.allclose(p, product, atol=1e-9):
        perhaps = "the two variables of your table are independent: " + perhaps
    elif abs(abs(shannon) - abs(bits)) <= 0.004:
        perhaps = "those are Shannon's bits, which are never negative: square the shares"
    elif abs(value + bits) <= 0.004:
        perhaps = "the right size with the other sign: I_2 has to be below zero"
    got = f"{value:+.3f} bits for {[int(c) for c in counts]}"
    raise Wrong(got, f"{bits:+.3f}, to 0.004", perhaps)


@exercise(
    "4.5",
    "Two forces and no eigenvalue: the entropy pushes each sample away from those it is like, and its length "
    "back to where it was.",
)
def entropy_and_gradient(answer: Callable[..., object]) -> None:
    """The answer is a function: x (n, d) -> S_2 of x x^T / trace in bits, and its gradient (n, d)."""
    drawn = []
    for n, d in ((5, 3), (8, 2), (4, 6)):
        generator = torch.Generator().manual_seed(n)
        # Samples of different lengths with a common part: each forgotten factor shows.
        lengths = 0.5 + 2 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
        drawn.append(lengths * (1 + torch.randn(n, d, generator=generator, dtype=torch.float64)))
    values, gradients = [], []
    for x in drawn:
        pair = listed(answer(x.clone()), what="the answer", perhaps="return both: entropy, gradient")
        if len(pair) != 2:
            raise Wrong(f"{len(pair)} things", "entropy and gradient", "return both: entropy, gradient")
        values.append(_entropy_case(x, pair[0]))
        gradients.append(answered(pair[1]))
    close_each(values, tolerance=1e-4, unit=" bits")
    varies(gradients, what="the gradient at these samples")
    for x, gradient in zip(drawn, gradients, strict=True):
        _check_gradient(x, gradient)


def _entropy_case(x: Tensor, got: object) -> Case:
    k = x @ x.T
    truth = -math.log2((k.square().sum() / k.trace() ** 2).item())
    traps = [
        (truth * math.log(2), "that is nats: use log2"),
        (-math.log2(k.square().sum().item()), "did you forget to divide by the trace?"),
        (-truth, "the minus sign is missing"),
    ]
    return Case(f"the entropy of {len(x)} samples", got, truth, traps)


def _check_gradient(x: Tensor, got: object) -> None:
    k = x @ x.T
    squares, trace = k.square().sum(), k.trace()
    apart, longer = 4 * k @ x / squares / math.log(2), 4 * x / trace / math.log(2)
    truth = longer - apart
    same_tensor(
        got,
        truth,
        what=f"the gradient at {len(x)} samples",
        shape="one number for each number of x",
        traps=[
            (-apart, "the trace depends on x as well: that is the second part, 4 x / (trace ln 2)"),
            (truth * math.log(2), "the gradient of a logarithm to base 2 has 1 / ln 2"),
            (truth / 2, "x stands in K twice, as rows and as columns: twice as much"),
            (-truth, "the sign: the entropy is minus a logarithm"),
        ],
        otherwise="the gradient of ||K||^2 is 4 K x, that of the trace 2 x",
    )
