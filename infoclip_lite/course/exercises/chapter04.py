"""Chapter 4: from distances to entropy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ...information import gram, renyi_mutual_information
from . import exercise
from .compare import Wrong, answered, close, number, tensor

CORRECTED = "that is the corrected value: here it is the plug-in value that is asked for, without correction"


@exercise(
    "4.1",
    "S_2 is the logarithm of the number of things, if all are of one size; a large group dominates a square.",
)
def entropy_of(answer: Callable[..., object]) -> None:
    """The answer is a function: sizes of groups -> S_2 in bits; 3 for 8 groups of 8."""
    nats, trace = "that is nats: use log2", "did you forget to divide by the trace?"
    equal = [
        (3 * math.log(2), nats),
        (math.log2(64 / 8) - 6 - 6, trace),
        (-3.0, "the minus sign is missing"),
        (8.0, "that is 2 ** S, the things"),
    ]
    close(
        answer([8] * 8),
        3.0,
        what="8 groups of 8",
        tolerance=0.01,
        unit=" bits",
        traps=equal,
        otherwise="square the shares and add up",
    )
    # One large group, since groups of one size do not tell Renyi's entropy from Shannon's.
    shares = [n / 64 for n in (32, 5, 5, 5, 5, 4, 4, 4)]
    truth = -math.log2(sum(s * s for s in shares))
    shannon = -sum(s * math.log2(s) for s in shares)
    uneven = [
        (shannon, "that is Shannon's entropy (alpha = 1): square the shares"),
        (3.0, "the groups are no longer of one size"),
    ]
    close(
        answer([32, 5, 5, 5, 5, 4, 4, 4]),
        truth,
        what="one group of 32 and seven small ones",
        tolerance=0.01,
        unit=" bits",
        traps=uneven,
    )


@exercise(
    "4.2", "Any function of two samples can be a kernel, as long as its table has no negative eigenvalue."
)
def laplace(answer: Callable[..., object]) -> None:
    """The answer is a function: (n, d) and (m, d) -> (n, m) similarities exp(-|x - y|)."""
    # Other numbers of samples on the two sides: a table that is turned over has another shape.
    u, v = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = u[:4]
    got = tensor(
        answer(u, v),
        (4, 6),
        what="laplace(u, v)",
        perhaps="one row for each sample of u, one column for each of v",
    )
    distance = torch.cdist(u, v)
    traps = [
        (torch.exp(-(distance**2) / 2), "that is the Gaussian kernel: the distance is squared"),
        (torch.exp(-(distance**2)), "the distance is squared: the Laplacian kernel takes it as it is"),
        (
            torch.exp(-(u[:, None] - v[None]).abs().sum(-1)),
            "that adds up the differences of the coordinates: take the Euclidean distance",
        ),
        (distance, "those are distances: a kernel is 1 for equal samples and falls towards 0"),
        (torch.exp(distance), "similarity grows with distance: the minus sign is missing"),
    ]
    truth = torch.exp(-distance)
    if not torch.allclose(got, truth, atol=1e-4):
        perhaps = next(
            (words for trap, words in traps if torch.allclose(got, trap, atol=1e-4)),
            "exp of minus all distances",
        )
        raise Wrong(
            f"{got[0, 0]:.4f} for two samples {distance[0, 0]:.4f} apart", f"{truth[0, 0]:.4f}", perhaps
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
        got = number(answer(n), f"the share for n = {n}")
        close(
            got,
            truth,
            what=f"n = {n}",
            tolerance=0.03,
            traps=traps,
            otherwise="draw 200 batches: randn(2, 200, n, 20), normalize=True",
        )


@exercise(
    "4.4",
    "No bound at zero: at alpha = 2 two things that depend on each other can score less than two "
    "that do not.",
)
def negative(answer: object) -> None:
    """The answer is four counts of a 2 x 2 table with I_2 below -0.06 bits, as 24, 8, 8, 0 (-0.072)."""
    counts = tensor(answered(answer), (4,), what="the table", perhaps="four counts, row by row: [a, b, c, d]")
    if bool((counts < 0).any()) or not bool((counts == counts.round()).all()) or counts.sum() == 0:
        raise Wrong(
            f"{counts.tolist()}",
            "four whole numbers from 0 on, not all 0",
            "they count days: none can be negative or half",
        )
    p = counts.reshape(2, 2) / counts.sum()
    rows, columns = p.sum(1), p.sum(0)
    value = torch.log2(p.square().sum() / (rows.square().sum() * columns.square().sum())).item()
    if value >= -0.06:
        independent = torch.allclose(p, rows[:, None] * columns, atol=1e-9)
        near = (
            "begin at [18, 11, 11, 0] and move days from the middle cells to the first one, a few at a time"
        )
        raise Wrong(
            f"{value:+.3f} bits for {[int(c) for c in counts]}",
            "less than -0.060 bits",
            f"the two variables of your table are independent; {near}" if independent else near,
        )
