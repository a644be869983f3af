"""Chapter 5: compression."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...objectives import compression_loss
from ...objectives.infoclip import Axis
from . import exercise
from .compare import Wrong, answered, close, number, tensor


@exercise(
    "5.1",
    "Four pictures leave room for 2 bits, 1.6 after centring; the patches of one picture for more than 9.",
)
def cap(answer: Callable[..., object]) -> None:
    """The answer is a function: (n, centred) -> bits; log2 n, and log2(n - 1) after centring."""
    for n, centred in ((4, False), (576, False), (4, True)):
        room = n - centred
        traps = [
            (math.log(room), "that is nats: use log2"),
            (float(room), "that is the number of different things: take its logarithm"),
            (math.log2(n), "samples that add up to zero span one dimension less"),
        ]
        close(
            answer(n, centred),
            math.log2(room),
            what=f"cap({n}, {centred})",
            tolerance=0.005,
            unit=" bits",
            traps=traps,
        )


@exercise(
    "5.2",
    "A common part makes all samples look alike; subtract the mean over the samples, then scale each "
    "to length one.",
)
def centred_gram(answer: Callable[..., object]) -> None:
    """The answer is a function: (n, d) -> (n, n), the centred Gram matrix of trace one."""
    # Far from zero, so that whether and when the mean is subtracted shows in every entry.
    x = 3 + torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = tensor(
        answer(x), (6, 6), what="centred_gram(x)", perhaps="samples by samples: x @ x.T, not x.T @ x"
    )

    def table(z: torch.Tensor) -> torch.Tensor:
        return z @ z.T / z.square().sum()

    truth = table(F.normalize(x - x.mean(0), dim=1))
    traps = [
        (truth * len(x), "the trace is not one: divide by it"),
        (table(F.normalize(x, dim=1)), "nothing was subtracted"),
        (
            table(F.normalize(x - x.mean(1, keepdim=True), dim=1)),
            "you subtracted each sample's own mean: take the mean over the samples, dim 0",
        ),
        (
            table(F.normalize(x, dim=1) - F.normalize(x, dim=1).mean(0)),
            "you scaled first and centred afterwards: centre first",
        ),
        (table(x - x.mean(0)), "the samples are not of length one"),
    ]
    if not torch.allclose(got, truth, atol=1e-5):
        perhaps = next(
            (words for trap, words in traps if torch.allclose(got, trap, atol=1e-5)),
            "centre, scale, multiply, divide by the trace",
        )
        raise Wrong(
            f"a table with trace {got.trace():.3f} and first entries {_row(got)}",
            f"trace 1.000 and {_row(truth)}",
            perhaps,
        )


@exercise(
    "5.3",
    "With pictures or patches as samples the text acts only through the relation; words as samples "
    "give it a table of its own.",
)
def sees_text(answer: Callable[..., object]) -> None:
    """The answer is a function: axis -> whether other words change L_c while the relation stays ("class")."""
    generator = torch.Generator().manual_seed(0)
    dense, text, other = (torch.randn(shape, generator=generator) for shape in ((4, 9, 8), (6, 8), (6, 8)))
    relation = dense @ text.T
    axes: tuple[Axis, ...] = ("batch", "pixel", "class")
    for axis in axes:
        before, after = (compression_loss(dense, words, relation, axis=axis) for words in (text, other))
        truth, got = bool((before - after).abs() > 1e-4), answered(answer(axis))
        if isinstance(got, str) or bool(got) != truth:
            perhaps = (
                "use words that differ from one another"
                if truth
                else "did the relation change too? Keep the same one for both calls"
            )
            raise Wrong(f"{got!r} for axis {axis!r}", repr(truth), perhaps)


@exercise("5.4", "Near order 1 the many small eigenvalues still count; a square looks at the one large one.")
def bits_left(answer: Callable[..., object]) -> None:
    """The answer is a function.

    (alpha, share, n) -> bits; of 0.95 and 144 some 0.15 at order 2, 0.62 at 1.01.
    """
    share, n = 0.95, 144
    for alpha in (2.0, 1.01):
        power = share**alpha + (n - 1) * ((1 - share) / (n - 1)) ** alpha
        truth = math.log2(power) / (1 - alpha)
        traps = [
            (math.log(power) / (1 - alpha), "that is nats: use log2"),
            (-truth, "the sign: divide by 1 - alpha"),
            (math.log2(power), "divide by 1 - alpha"),
            (
                math.log2(share**alpha) / (1 - alpha),
                "the other eigenvalues are missing: they are small, but there are n - 1 of them",
            ),
            (
                math.log2(share**alpha + (1 - share) ** alpha) / (1 - alpha),
                "the rest is shared by n - 1 eigenvalues, not one",
            ),
        ]
        traps = [trap for trap in traps if abs(trap[0] - truth) > 0.01]
        close(
            answer(alpha, share, n),
            truth,
            what=f"order {alpha:g}, share 0.95 of 144",
            tolerance=0.005,
            unit=" bits",
            traps=traps,
        )


@exercise(
    "5.5",
    "A caption says what, not where: enough to tell useful bits from idle ones without a single pixel label.",
)
def brake(answer: Callable[..., object]) -> None:
    """The answer is a function: relation (B, N, C), named (B, C) -> loss, low where named words stand out."""
    generator = torch.Generator().manual_seed(0)
    named = torch.tensor(
        [
            [True, True, False, False, False],
            [False, False, True, False, True],
            [True, False, False, True, False],
        ]
    )
    # Open: any loss will do that tells named words from others. Judged are its order and its gradient.
    noise = 0.1 * torch.randn(3, 9, 5, generator=generator)
    peak = torch.zeros(3, 9, 5)
    peak[:, 4] = 4.0
    right, wrong = noise - 2 + peak * named[:, None], noise - 2 + peak * ~named[:, None]
    collapsed = torch.zeros(3, 9, 5).requires_grad_()
    low, high = number(answer(right, named), "the loss"), number(answer(wrong, named), "the loss")
    if not low < high:
        sign = (
            "a loss goes down when things get better: change the sign"
            if low > high
            else "the loss does not look at which words are named"
        )
        raise Wrong(
            f"{low:.3f} where named words light up, {high:.3f} where the others do",
            "less for the named ones",
            sign,
        )
    # A relation that has collapsed to zeros must not be the best any more.
    start = answer(collapsed, named)
    if not (isinstance(start, torch.Tensor) and start.requires_grad):
        raise Wrong(
            "a loss that has lost its gradient",
            "a tensor that can be followed back to the relation",
            "no .item(), argmax or > on the way",
        )
    if not low < start.item():
        raise Wrong(
            f"{start.item():.3f} for a relation of zeros, {low:.3f} for the right one",
            "more for the zeros",
            "collapse is still rewarded",
        )
    (pull,) = torch.autograd.grad(start, collapsed)
    if not (pull.sum(1)[named].max() < 0 and pull.sum(1)[~named].min() > 0):
        advice = "compare named words with the others: raising all words is no answer"
        raise Wrong(
            "a gradient that does not part the words", "named words pulled up, all others down", advice
        )


def _row(table: torch.Tensor) -> str:
    return ", ".join(f"{entry:+.3f}" for entry in table[0, :3].tolist())
