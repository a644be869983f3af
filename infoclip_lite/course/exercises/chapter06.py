"""Chapter 6: transfer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...objectives import transfer_loss
from ...objectives.infoclip import Axis
from . import exercise
from .compare import Wrong, choice, close, number, tensor


@exercise(
    "6.1", "Samples of length one have no scale left: information asks who is alike, not how sure anybody is."
)
def scale_free(answer: object) -> None:
    """The answer is a text: "normalize"."""
    reasons = {
        "mean": "subtracting a mean takes away what is added, not what is multiplied: twice the "
        "cosines are still twice the differences",
        "len": "that divides by the same number whatever the cosines are",
        "trace": "that mends the joint table only; g_t and g_s would still be four times as large",
        "log2": "a logarithm turns a factor into something that is added, which is still there",
    }
    choice(
        answer,
        "normalize",
        ["mean", "normalize", "len", "trace", "log2"],
        what="what removes the factor",
        reasons=reasons,
    )


@exercise(
    "6.2",
    "Blurring costs a good part of the information and hardly any KL: neighbours grow alike, words stay "
    "as probable as they were.",
)
def blur(answer: Callable[..., object]) -> None:
    """The answer is a function: (B, 144, C) -> (B, 144, C), each patch the mean of its 3 x 3 neighbours."""
    # A walk along the patches, not noise: neighbours are alike, so that blurring the row is a trap.
    x = 1 + torch.randn(2, 144, 5, generator=torch.Generator().manual_seed(0)).cumsum(1) / 5
    got = tensor(
        answer(x),
        x.shape,
        what="blur(relation)",
        perhaps="a map is 12 x 12 patches: unflatten, pool, flatten again, words last",
    )
    maps = x.mT.unflatten(2, (12, 12))

    def back(pooled: Tensor) -> Tensor:
        return pooled.flatten(2).mT.double()

    truth = back(F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False))
    traps = [
        (
            back(F.avg_pool2d(maps, 3, 1, 1)),
            "the edges are mixed with zeros from outside: count_include_pad=False",
        ),
        (back(F.max_pool2d(maps, 3, 1, 1)), "that is the largest of the nine, not their mean"),
        (
            F.avg_pool1d(x.mT, 3, 1, 1).mT.double(),
            "patches are in a row there: lay them out as 12 x 12 first",
        ),
        (x.double(), "nothing was blurred"),
    ]
    if not torch.allclose(got, truth, atol=1e-4):
        perhaps = next(
            (words for trap, words in traps if torch.allclose(got, trap, atol=1e-4)),
            "average each word's map, not the words",
        )
        raise Wrong(
            f"{got[0, 0, 0]:.3f} in the first corner",
            f"{truth[0, 0, 0]:.3f}, the mean of four patches",
            perhaps,
        )


@exercise(
    "6.3",
    "Patches as samples do not mind what words are called; words as samples do, and do not mind "
    "where patches lie.",
)
def share(answer: Callable[..., object]) -> None:
    """The answer is a function.

    (teacher, student, axis) -> I(T; S) / I(T; T), centred; 1 where it is blind.
    """
    # Shifted by two, so that leaving out centre=True shows.
    generator = torch.Generator().manual_seed(0)
    teacher = 2 + torch.randn(3, 36, 8, generator=generator)
    words, patches = torch.randperm(8, generator=generator), torch.randperm(36, generator=generator)
    students = {"permuted words": teacher[..., words], "shuffled patches": teacher[:, patches]}
    axes: tuple[Axis, ...] = ("pixel", "class")
    for axis in axes:
        for name, student in students.items():
            bits, own, bare, bare_own = (
                -transfer_loss(teacher, s, axis=axis, centre=centre).item()
                for centre in (True, False)
                for s in (student, teacher)
            )
            truth = bits / own
            traps = [
                (-truth, "the sign: transfer_loss is minus the information"),
                (bits, "those are bits: divide by what the teacher tells about itself"),
                (-bits, "that is the loss: take minus it, and divide by what the teacher tells about itself"),
                (bare / bare_own, "centre=True is missing"),
                (own / bits if bits else 1.0, "divide the other way round"),
            ]
            traps = [trap for trap in traps if abs(trap[0] - truth) > 0.005]
            close(
                answer(teacher, student, axis),
                truth,
                what=f"{name}, axis {axis!r}",
                tolerance=0.005,
                traps=traps,
            )


@exercise(
    "6.4",
    "The more a loss sees, the fewer students please it: it holds them to the teacher's knowledge "
    "and to its mistakes.",
)
def remedy(answer: Callable[..., object]) -> None:
    """The answer is a function.

    (teacher, student) -> 0 at the teacher and its multiples, above 0.01 elsewhere.
    """
    # Of rank three: fewer dimensions than words, as in pictures, where few things matter.
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(2, 36, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
    for factor in (1, 2):
        what = f"the loss of {'the teacher itself' if factor == 1 else 'twice the teacher'}"
        close(
            answer(teacher, factor * teacher),
            0.0,
            what=what,
            tolerance=1e-3,
            otherwise="take off what the best student gets: see the gap",
        )
    students = {
        "permuted words": (
            teacher.roll(1, -1),
            "patches as samples do not mind that: add a term that sees the words",
        ),
        "shuffled patches": (
            teacher.roll(7, 1),
            "words as samples do not mind that: add a term that sees the patches",
        ),
        "noise": (
            teacher + 2 * torch.randn(teacher.shape, generator=generator),
            "noise must never be cheaper than the teacher",
        ),
        "a softmax": ((4 * teacher).softmax(-1), "a sharper student must not be as good as the teacher"),
    }
    for name, (student, perhaps) in students.items():
        got = number(answer(teacher, student), f"the loss of {name}")
        if not got > 0.01:
            raise Wrong(
                f"{got:.3f} for {name}",
                "more than 0.010: only the teacher and its multiples are at zero",
                perhaps,
            )
    student = teacher + torch.randn(teacher.shape, generator=generator)
    loss = answer(teacher, student.requires_grad_())
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise Wrong(
            "a loss that has lost its gradient",
            "a tensor that can be followed back to the student",
            "no .item() or argmax on the way",
        )
