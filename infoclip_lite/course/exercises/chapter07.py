"""Chapter 7: InfoCLIP, end to end."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev, stdev
from typing import NamedTuple

import torch
from torch import Tensor

from ...core.statistics import interval, paired_interval
from ...objectives import LPAM, compression_loss, transfer_loss
from . import exercise
from .compare import Case, Wrong, answered, close, close_each, number, tensor, varies


class _Step(NamedTuple):
    """A loss and where its gradient arrives; None where it does not.

    Attributes:
        value: of the loss.
        teacher, student: gradients (B, N, D) at the patches.
        lpam: gradient (D, D) at LPAM's query.
    """

    value: float
    teacher: Tensor | None
    student: Tensor | None
    lpam: Tensor | None


_Losses = Callable[[LPAM, Tensor, Tensor, Tensor], object]


def _both(
    lpam: LPAM,
    teacher: Tensor,
    student: Tensor,
    words: Tensor,
    *,
    held: bool = False,
    compressed: float = 1.0,
    transferred: float = 1.0,
) -> Tensor:
    """The paper's loss with patches as samples, centred; or, with other options, a mistake."""
    frozen = teacher.detach()
    relation = lpam(frozen, words)
    wanted = relation.detach() if held else relation
    squeeze = compression_loss(frozen, words, relation, axis="pixel", centre=True)
    keep = transfer_loss(wanted, lpam(student, words), axis="pixel", centre=True)
    return compressed * squeeze + transferred * keep


def _step(losses: _Losses, seed: int) -> _Step:
    """What a loss of drawn patches and words says and teaches."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        lpam = LPAM(12)
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(2, 16, 12, generator=generator).requires_grad_()
    student = (teacher.detach() + 0.3 * torch.randn(2, 16, 12, generator=generator)).requires_grad_()
    loss = answered(losses(lpam, teacher, student, torch.randn(5, 12, generator=generator)))
    value = number(loss, "the loss")
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    return _Step(value, teacher.grad, student.grad, lpam.query.weight.grad)


@exercise(
    "7.1",
    "Compression trains LPAM, transfer LPAM and the student, and nothing the teacher: a loss is not only a "
    "number, but who learns from it.",
)
def both_losses(answer: _Losses) -> None:
    """The answer is a function: lpam, teacher (B, N, D), student (B, N, D), words (C, D) -> L_c + L_d."""
    seeds = (0, 1)
    steps = {seed: _step(answer, seed) for seed in seeds}
    varies([step.value for step in steps.values()], what="the losses of these patches")
    for seed, got in steps.items():
        truth = _step(_both, seed)
        alone, signed = (_step(_with(transferred=weight), seed).value for weight in (0.0, -1.0))
        traps = [
            (alone, "that is compression alone: transfer is missing"),
            (_step(_with(compressed=0.0), seed).value, "that is transfer alone: compression is missing"),
            (signed, "transfer_loss is minus the information already: add it"),
        ]
        close(got.value, truth.value, what="the loss", tolerance=1e-4, unit=" bits", traps=traps)
        _check_gradients(got, truth, _step(_with(held=True), seed).lpam)


def _with(**options: float | bool) -> _Losses:
    return lambda lpam, teacher, student, words: _both(lpam, teacher, student, words, **options)  # type: ignore[arg-type]


def _check_gradients(got: _Step, truth: _Step, held: Tensor | None) -> None:
    if got.teacher is not None and bool(got.teacher.any()):
        raise Wrong(
            "the right number, and a gradient at the teacher",
            "none: it is frozen",
            "detach the teacher's patches before anything is made of them",
        )
    if not _equal(got.student, truth.student):
        advice = "the student learns through LPAM from transfer: detach nothing on its side"
        raise Wrong("the right number, and another gradient at the student", "that of transfer", advice)
    if not _equal(got.lpam, truth.lpam):
        perhaps = "LPAM learns from both: detach the embeddings, not the relation"
        if _equal(got.lpam, held):
            perhaps = (
                "you held the teacher's relation fixed in transfer; in the siblings' code it moves with "
                "LPAM, which chooses what is asked of the student"
            )
        raise Wrong("the right number, and another gradient at LPAM", "that of both losses", perhaps)


def _equal(got: Tensor | None, truth: Tensor | None) -> bool:
    if got is None or truth is None:
        return got is truth
    return torch.allclose(got, truth, atol=1e-5)


@exercise(
    "7.2",
    "Squares of independent errors add up. Pairing is right either way; it narrows only what a seed "
    "does to both methods alike.",
)
def unpaired(answer: Callable[..., object]) -> None:
    """The answer is a function: two lists of scores -> root of the summed squares of their half-widths."""
    cases = []
    for n, spread in ((5, 0.03), (8, 0.01), (4, 0.02)):
        # What a seed does to both alike is larger than what it does to one: pairing matters.
        generator = torch.Generator().manual_seed(n)
        common = 0.4 + spread * torch.randn(n, generator=generator)
        ours, theirs = (
            (common + shift + 0.3 * spread * torch.randn(n, generator=generator)).tolist()
            for shift in (0.02, 0.0)
        )
        a, b = interval(ours).ci95, interval(theirs).ci95
        traps = [
            (paired_interval(ours, theirs).ci95, "that is the paired interval: here the seeds are unrelated"),
            (a + b, "half-widths do not add up, their squares do: independent errors rarely agree"),
            (a**2 + b**2, "the root is missing"),
            (interval(ours + theirs).ci95, "that is one interval for all the scores together"),
            (100 * (a * a + b * b) ** 0.5, "that is in points: return it in the unit of the scores"),
        ]
        got = answer(list(ours), list(theirs))
        cases.append(Case(f"{n} seeds of each method", got, (a * a + b * b) ** 0.5, traps))
    close_each(cases, tolerance=2e-4)


# hIoU of each strength, weakest first, on validation scenes: its mean, and what its seeds add to it.
_GRIDS: tuple[tuple[Mapping[str, float], Sequence[float]], ...] = (
    ({"0.1": 24.2, "0.3": 24.7, "1": 25.0, "3": 24.9, "10": 21.0}, (-1.0, 1.0, -0.5, 0.5)),
    ({"weak": 30.9, "usual": 31.0, "strong": 28.0}, (-0.6, 0.2, 0.4, -0.3, 0.3)),
    ({"1": 20.0, "2": 22.0, "4": 25.0, "8": 26.0, "16": 25.9}, (-0.5, 0.5, 0.1, -0.1)),
)


@exercise(
    "7.3",
    "A strength is a choice, too: made on validation scenes and other seeds, for every rival alike, and "
    "where the seeds cannot tell two apart, the weaker one will do.",
)
def best_setting(answer: Callable[..., object]) -> None:
    """The answer is a function.

    scores {setting: hIoU a seed}, weakest first -> the first one at most a standard error below the best.
    """
    tables = [
        {name: [mean + extra for extra in seeds] for name, mean in means.items()} for means, seeds in _GRIDS
    ]
    given = [answered(answer({name: list(values) for name, values in table.items()})) for table in tables]
    varies(given, what="a setting of the table that it gets")
    for got, table in zip(given, tables, strict=True):
        if got not in table:
            raise Wrong(repr(got), f"one of {', '.join(table)}", "return the name of the setting, its key")
        _check_setting(str(got), table)


def _check_setting(got: str, table: Mapping[str, Sequence[float]]) -> None:
    means = {name: fmean(values) for name, values in table.items()}
    best = max(means, key=lambda name: means[name])
    deviation, n = stdev(table[best]), len(table[best])

    def level(width: float) -> list[str]:
        return [name for name, mean in means.items() if mean >= means[best] - width - 1e-9]

    right, *others = level(deviation / n**0.5)
    if got == right:
        return
    perhaps = "compare means, and take the first that is at most one standard error below the best"
    if got == best:
        perhaps = "that is the best mean; a weaker setting is level with it, as far as the seeds can tell"
    elif got in others:
        perhaps = "it is level with the best, but so is a weaker one, which stands before it"
    elif got == level(deviation)[0]:
        perhaps = "a standard error is the deviation divided by the root of the number of seeds"
    elif got == min(means, key=lambda name: means[name]):
        perhaps = "that is the lowest hIoU"
    raise Wrong(f"{got!r} with a mean of {means[got]:.1f}", f"{right!r} with {means[right]:.1f}", perhaps)


@exercise(
    "7.4", "One weighted mean, after the training: the cheapest way back to what the pretrained weights knew."
)
def go_back(answer: Callable[..., object]) -> None:
    """The answer is a function: pretrained, tuned, share -> (1 - share) * pretrained + share * tuned."""
    generator = torch.Generator().manual_seed(0)
    pretrained, tuned = (
        {"weight": torch.randn(3, 2, generator=generator), "bias": torch.randn(3, generator=generator)}
        for _ in range(2)
    )
    # Not 0.5 alone, at which the two parts may be swapped unseen.
    for share in (0.5, 0.8, 0.0):
        mixed = answered(answer(dict(pretrained), dict(tuned), share))
        if not isinstance(mixed, dict) or set(mixed) != set(tuned):
            expected = "a dictionary with the names of the two that came in"
            raise Wrong(
                f"{sorted(mixed) if isinstance(mixed, dict) else type(mixed).__name__}",
                expected,
                "mix name by name",
            )
        for name, weights in tuned.items():
            _check_mixture(mixed[name], pretrained[name], weights, share, name)


def _check_mixture(mixed: object, pretrained: Tensor, tuned: Tensor, share: float, name: str) -> None:
    perhaps = "mix the tensors as they are, element by element"
    got = tensor(mixed, tuned.shape, what=f"the mixed {name}", perhaps=perhaps)

    def near(weights: Tensor) -> bool:
        return torch.allclose(got, weights.double(), atol=1e-5)

    if near((1 - share) * pretrained + share * tuned):
        return
    perhaps = "the two parts have to add up to one"
    if near(share * pretrained + (1 - share) * tuned):
        perhaps = "the other way round: `share` is the part of the tuned weights"
    elif near(tuned) or near(pretrained):
        perhaps = "those are the weights of one of the two: nothing was mixed"
    elif near((pretrained + tuned) / 2):
        perhaps = "that is half of each, whatever the share is"
    raise Wrong(
        f"another {name} at a share of {share}", f"{1 - share:.1f} pretrained and {share:.1f} tuned", perhaps
    )


_NOUNS, _DRAWN = 24, 600


@exercise(
    "7.5",
    "Nouns differ by far more than methods do. Draw the same ones for both, and only the methods are left; "
    "what then still moves is how far the answer depends on the nouns one happened to have.",
)
def redrawn_difference(answer: Callable[..., object]) -> None:
    """The answer is a function: ours and theirs {noun: IoU}, rng -> difference of means, nouns redrawn."""
    rng = random.Random(0)
    theirs = {f"noun {i}": rng.uniform(0.05, 0.8) for i in range(_NOUNS)}
    ours = {noun: iou + rng.gauss(0.02, 0.03) for noun, iou in theirs.items()}
    drawn = [
        number(answer(dict(ours), dict(theirs), random.Random(seed)), "a difference")
        for seed in range(_DRAWN)
    ]
    gaps = [ours[noun] - theirs[noun] for noun in theirs]
    spread, expected = stdev(drawn), pstdev(gaps) / _NOUNS**0.5
    _check_spread(spread, expected, pstdev(list(theirs.values())) / _NOUNS**0.5)
    _check_middle(fmean(drawn), fmean(gaps), 4 * expected / _DRAWN**0.5)


def _check_middle(got: float, truth: float, slack: float) -> None:
    """The mean of all draws is the difference of all nouns."""
    if abs(got - truth) <= slack:
        return
    perhaps = "it is the mean over the drawn nouns of ours minus theirs"
    if abs(got + truth) <= slack:
        perhaps = "the sign: ours minus theirs"
    elif abs(got / 100 - truth) <= slack:
        perhaps = "return it in the unit of the IoUs"
    raise Wrong(f"{got:.4f} in the mean over {_DRAWN} draws", f"about {truth:.4f}", perhaps)


def _check_spread(got: float, truth: float, unpaired: float) -> None:
    """How far draws lie apart: within a tenth of what a paired draw of all nouns gives."""
    if abs(got / truth - 1) <= 0.1:
        return
    perhaps = "draw as many nouns as there are, with replacement, the same ones for both"
    if got < 1e-9:
        perhaps = "nothing moves: `rng.choices` draws with replacement, `rng.sample` does not"
    elif got > 1.1 * unpaired:  # of two drawn apart: 1.4
        perhaps = "the two methods were given different nouns, so that the nouns' differences came in"
    elif got > 2 * truth:
        perhaps = "too few nouns were drawn: draw as many as there are"
    raise Wrong(f"draws with a deviation of {got:.4f}", f"about {truth:.4f}", perhaps)
