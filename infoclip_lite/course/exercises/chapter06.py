"""Chapter 6: transfer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...objectives import transfer_loss
from ...objectives.infoclip import Axis
from . import exercise
from .compare import Case, Wrong, answered, close_each, number, same_tensor, varies

# A loss of two relations (B, N, C), the teacher's and the student's.
_Loss = Callable[[Tensor, Tensor], Tensor]
_CHANGES = ("scale", "offset", "order")


def _of_words(teacher: Tensor, student: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="none").sum(-1).mean()


def _losses() -> dict[str, tuple[_Loss, set[str]]]:
    """Losses, and the changes of the student that each is blind to."""

    def bits(axis: Axis, centre: bool) -> _Loss:
        return lambda t, s: transfer_loss(t, s, axis=axis, centre=centre)

    return {
        "information, patches centred": (bits("pixel", True), {"scale", "offset", "order"}),
        "squared differences": (lambda t, s: (t - s).square().mean(), set()),
        "KL of the words at each patch": (_of_words, set()),
        "information, patches as they are": (bits("pixel", False), {"scale", "order"}),
        "1 - cosine of all entries": (
            lambda t, s: 1 - F.cosine_similarity(t.flatten(1), s.flatten(1)).mean(),
            {"scale"},
        ),
        "information, words centred": (bits("class", True), {"scale"}),
    }


@exercise(
    "6.1", "Samples of length one have no scale left: information asks who is alike, not how sure anybody is."
)
def blind_to(answer: Callable[..., object]) -> None:
    """The answer is a function: loss, teacher (B, N, C) -> which of scale, offset, order it does not see."""
    generator = torch.Generator().manual_seed(0)
    teacher = 1 + torch.randn(2, 30, 6, generator=generator, dtype=torch.float64)
    given = {}
    for name, (loss, _) in _losses().items():
        found = answered(answer(loss, teacher.clone()))
        if not isinstance(found, set | list | tuple) or not set(found) <= set(_CHANGES):
            expected = f"a set of {', '.join(map(repr, _CHANGES))}, or an empty one"
            raise Wrong(repr(found), expected, "collect the names of the changes in a set")
        given[name] = set(found)
    varies([sorted(found) for found in given.values()], what="another set for each loss")
    for name, (loss, truth) in _losses().items():
        if given[name] == truth:
            continue
        perhaps = "compare with what the loss says of the teacher itself, to a thousandth"
        if given[name] == _near_zero(loss, teacher):
            perhaps = (
                "you asked for a loss of zero: information is not zero at the teacher, so compare with "
                "loss(teacher, teacher)"
            )
        elif given[name] == set(_CHANGES) - truth:
            perhaps = "those are the changes that it does see"
        elif "order" in given[name] ^ truth:
            perhaps = "the order of the *words* is changed, the last axis, and in all patches alike"
        elif "offset" in given[name] ^ truth:
            perhaps = "another constant for each word: one for all words moves no differences"
        raise Wrong(f"{sorted(given[name])} for {name}", f"{sorted(truth)}", perhaps)


def _near_zero(loss: _Loss, teacher: Tensor) -> set[str]:
    """The changes at which a loss is about zero."""
    offsets = torch.linspace(-1, 1, teacher.shape[-1], dtype=teacher.dtype)
    students = {"scale": 2 * teacher, "offset": teacher + offsets, "order": teacher.roll(1, -1)}
    return {name for name, student in students.items() if abs(loss(teacher, student).item()) < 1e-3}


@exercise(
    "6.2",
    "Blurring costs a good part of the information and hardly any KL: neighbours grow alike, words stay "
    "as probable as they were.",
)
def blur(answer: Callable[..., object]) -> None:
    """The answer is a function: (B, 144, C) -> (B, 144, C), each patch the mean of its 3 x 3 neighbours."""
    # A walk along the patches, not noise: neighbours are alike, so that blurring the row is a trap.
    drawn = [
        1 + torch.randn(pictures, 144, words, generator=torch.Generator().manual_seed(words)).cumsum(1) / 5
        for pictures, words in ((2, 5), (1, 3))
    ]
    given = [answer(x.clone()) for x in drawn]
    varies(given, what="this relation, blurred")
    for got, x in zip(given, drawn, strict=True):
        _check_blurred(got, x)


def _check_blurred(got: object, x: Tensor) -> None:
    maps = x.mT.unflatten(2, (12, 12))

    def back(pooled: Tensor) -> Tensor:
        return pooled.flatten(2).mT

    same_tensor(
        got,
        back(F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)),
        what="blur(relation)",
        shape="a map is 12 x 12 patches: unflatten, pool, flatten again, words last",
        traps=[
            (
                back(F.avg_pool2d(maps, 3, 1, 1)),
                "the edges are mixed with zeros from outside: count_include_pad=False",
            ),
            (back(F.max_pool2d(maps, 3, 1, 1)), "that is the largest of the nine, not their mean"),
            (F.avg_pool1d(x.mT, 3, 1, 1).mT, "patches are in a row there: lay them out as 12 x 12 first"),
            (x.mean(1, keepdim=True).expand_as(x), "that is the mean of all patches, not of neighbours"),
            (x, "nothing was blurred"),
        ],
        otherwise="average each word's map, not the words",
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
    cases = []
    for seed in (0, 1):
        # Shifted by two, so that leaving out centre=True shows.
        generator = torch.Generator().manual_seed(seed)
        teacher = 2 + torch.randn(3, 36, 8, generator=generator)
        words, patches = torch.randperm(8, generator=generator), torch.randperm(36, generator=generator)
        students = {"permuted words": teacher[..., words], "shuffled patches": teacher[:, patches]}
        axes: tuple[Axis, ...] = ("pixel", "class")
        cases += [
            _share_case(f"{name}, axis {axis!r}", teacher, student, axis, answer(teacher, student, axis))
            for axis in axes
            for name, student in students.items()
        ]
    close_each(cases, tolerance=0.005)


def _share_case(what: str, teacher: Tensor, student: Tensor, axis: Axis, got: object) -> Case:
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
    # A mistake that gives the right number is none.
    return Case(what, got, truth, [trap for trap in traps if abs(trap[0] - truth) > 0.005])


@exercise(
    "6.4",
    "Compare the tables of who is alike, and the words need not be the same, nor as many: this family is "
    "called relational distillation, and the gap is one of it.",
)
def relational(answer: Callable[..., object]) -> None:
    """The answer is a function.

    teacher (B, N, C), student (B, N, K) -> 0 where the patches lie to each other as the teacher's do, up to
    scale and a common part, and above 0.01 elsewhere.
    """
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        # Of rank three: fewer dimensions than words, as in pictures, where few things matter.
        teacher = torch.randn(2, 36, 3, generator=generator) @ torch.randn(3, 8, generator=generator)
        _check_alike(answer, teacher, _relatives(teacher, generator))
        _check_apart(answer, teacher, generator)


_Students = dict[str, tuple[Tensor, str]]  # by name: the relation, and what a wrong loss of it suggests


def _relatives(teacher: Tensor, generator: torch.Generator) -> _Students:
    """Students whose patches lie to each other as the teacher's do."""
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    rows = torch.linalg.qr(torch.randn(11, 8, generator=generator)).Q.T  # (8, 11), orthonormal
    return {
        "the teacher itself": (teacher, "take off what the best student gets: see the gap"),
        "twice the teacher": (2 * teacher, "take a cosine of the tables: sureness is free"),
        "the space of words rotated": (
            teacher @ rotation,
            "you compare entry by entry: compare how the *patches* lie to each other, in a table of pairs",
        ),
        "a constant added to each word": (
            teacher + torch.randn(8, generator=generator),
            "subtract the mean over the patches first: what all share says nothing of who is alike",
        ),
        "eleven other words": (
            teacher @ rows,
            "the student may have other words, and more of them: only the patches are the same",
        ),
    }


def _check_alike(answer: Callable[..., object], teacher: Tensor, students: _Students) -> None:
    for name, (student, perhaps) in students.items():
        try:
            got = number(answer(teacher, student), f"the loss of {name}")
        except (RuntimeError, ValueError) as error:
            raise Wrong(f"{type(error).__name__} for {name}: {error}", "a loss of zero", perhaps) from error
        if not abs(got) <= 1e-3:
            raise Wrong(f"{got:.3f} for {name}", "0.000, to a thousandth", perhaps)


def _check_apart(answer: Callable[..., object], teacher: Tensor, generator: torch.Generator) -> None:
    students = {
        "shuffled patches": (teacher.roll(7, 1), "the patches are not in their places: it has to cost"),
        "noise": (
            teacher + 2 * torch.randn(teacher.shape, generator=generator),
            "noise must never be as cheap as the teacher",
        ),
        "a softmax": ((4 * teacher).softmax(-1), "a sharper student must not be as good as the teacher"),
        "patches that are all alike": (
            teacher[:, :1] + 0.01 * torch.randn(teacher.shape, generator=generator),
            "collapse must cost",
        ),
    }
    for name, (student, perhaps) in students.items():
        got = number(answer(teacher, student), f"the loss of {name}")
        if not got > 0.01:
            expected = "more than 0.010: only what the patches share with the teacher is at zero"
            raise Wrong(f"{got:.3f} for {name}", expected, perhaps)
    student = teacher + torch.randn(teacher.shape, generator=generator)
    loss = answer(teacher, student.requires_grad_())
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise Wrong(
            "a loss that has lost its gradient",
            "a tensor that can be followed back to the student",
            "no .item() or argmax on the way",
        )


@exercise(
    "6.5",
    "Three sums of squares and a logarithm: the whole loss is a few lines, and what a sample is decides what "
    "they say.",
)
def distillation(answer: Callable[..., object]) -> None:
    """The answer is a function.

    wanted, got (B, N, C), axis "batch", "pixel" or "class" -> L_d in bits, centred, mean over the pictures.
    """
    cases = []
    axes: tuple[Axis, ...] = ("pixel", "class", "batch")
    for seed, shape in enumerate(((6, 7, 5), (4, 9, 6))):
        generator = torch.Generator().manual_seed(seed)
        # Far from zero, so that whether the mean is subtracted shows.
        wanted = 2 + torch.randn(shape, generator=generator, dtype=torch.float64)
        got = wanted + torch.randn(shape, generator=generator, dtype=torch.float64)
        for axis in axes:
            loss = answer(wanted.clone(), got.clone(), axis)
            cases.append(_distillation_case(wanted, got, axis, loss))
    close_each(cases, tolerance=1e-4, unit=" bits")
    for axis in axes:
        _check_pull(answer, axis)


def _distillation_case(wanted: Tensor, got: Tensor, axis: Axis, loss: object) -> Case:
    def said(axis: Axis, centre: bool = True) -> float:
        return transfer_loss(wanted, got, axis=axis, centre=centre).item()

    samples = [{"batch": x.flatten(1)[None], "pixel": x, "class": x.mT}[axis] for x in (wanted, got)]

    def squares(*tables: Tensor) -> Tensor:
        return torch.stack(tables).prod(0).square().sum((-2, -1)).log2()

    tables = []
    for x in samples:
        unit = F.normalize(x - x.mean(-2, keepdim=True), dim=-1)
        tables.append(unit @ unit.mT / x.shape[-2])
    a, b = tables
    truth = said(axis)
    traps = [
        (-truth, "the sign: the loss is *minus* the information"),
        (truth * math.log(2), "that is nats: use log2"),
        (said(axis, centre=False), "subtract the mean over the samples first"),
        (
            (squares(a) + squares(b) - squares(a, b)).mean().item(),
            "the joint table has to have trace one again",
        ),
        (truth * (1 if axis == "batch" else len(wanted)), "take the mean over the pictures, not the sum"),
        *((said(other), f"those are the samples of axis {other!r}") for other in ("batch", "pixel", "class")),
        (
            transfer_loss(wanted, got, axis=axis, centre=True, kind="gap").item(),
            "that is the gap: here nothing is subtracted for what each tells about itself",
        ),
    ]
    # A mistake that gives the right number is none.
    return Case(
        f"{len(wanted)} pictures, axis {axis!r}",
        loss.detach() if isinstance(loss, Tensor) else loss,
        truth,
        [trap for trap in traps if abs(trap[0] - truth) > 1e-3],
    )


def _check_pull(answer: Callable[..., object], axis: Axis) -> None:
    """The gradient reaches both relations, as the paper's does."""
    generator = torch.Generator().manual_seed(7)
    drawn = [torch.randn(4, 6, 5, generator=generator, dtype=torch.float64) for _ in range(2)]
    pulls = []
    for loss in (answer, lambda t, s, axis: transfer_loss(t, s, axis=axis, centre=True)):
        wanted, got = (x.clone().requires_grad_() for x in drawn)
        value = loss(wanted, got, axis)
        if not (isinstance(value, Tensor) and value.requires_grad):
            advice = "no .item(), detach or no_grad on the way"
            raise Wrong("the right numbers, and no gradient", "a tensor that can train", advice)
        value.backward()
        pulls.append((wanted.grad, got.grad))
    for side, own, truth in zip(("teacher", "student"), *pulls, strict=True):
        if own is None or not torch.allclose(own, truth, atol=1e-5):
            found = "no gradient" if own is None else "another gradient"
            advice = "detach neither relation: LPAM learns on both sides (section 6)"
            raise Wrong(f"the right number, and {found} at the {side}'s relation", "that of the loss", advice)
