"""Chapter 2: what fine-tuning on a few words does to the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import stats
from torch import Tensor

from ...core.statistics import interval
from ...information import linear_cka
from . import exercise
from .compare import Case, Wrong, answered, close_each, number, tensor, varies


@exercise("2.1", "A harmonic mean stays near the smaller of two numbers.")
def harmonic(answer: Callable[..., object]) -> None:
    """The answer is a function: seen, unseen mIoU -> 2 S U / (S + U)."""
    cases = []
    for seen, unseen in ((0.6, 0.1), (0.35, 0.5), (0.8, 0.0), (0.0, 0.0)):
        traps = [
            ((seen + unseen) / 2, "that is the arithmetic mean"),
            (seen * unseen / max(seen + unseen, 1e-9), "the factor 2 is missing"),
            (math.sqrt(seen * unseen), "that is the geometric mean"),
            (min(seen, unseen), "that is the smaller of the two: the larger one counts a little"),
        ]
        truth = 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0
        cases.append(Case(f"{seen:g} and {unseen:g}", answer(seen, unseen), truth, traps))
    close_each(cases, tolerance=1e-4)


@exercise(
    "2.2", "Ignored pixels teach nothing; pixels called background teach that unseen things are nothing."
)
def training_target(answer: Callable[..., object]) -> None:
    """The answer is a function: mask (H, W), seen ids -> mask counted in seen, 255 elsewhere."""
    generator = torch.Generator().manual_seed(0)
    masks = [(torch.tensor([[0, 1, 2, 3], [4, 5, 255, 3]]), [1, 3, 4, 0])]
    for seen in ([7, 2, 5], [0, 9, 4, 1, 3]):
        masks.append((torch.randint(0, 10, (5, 6), generator=generator), seen))
    given = [answer(mask.clone(), list(seen)) for mask, seen in masks]
    varies(given, what="the target of this mask")
    for got, (mask, seen) in zip(given, masks, strict=True):
        _check_target(got, mask, seen)


def _check_target(answer: object, mask: Tensor, seen: list[int]) -> None:
    truth, overwritten = torch.full_like(mask, 255), mask.clone()
    unseen = ~torch.isin(mask, torch.tensor(seen))
    overwritten[unseen] = 255
    for new, old in enumerate(seen):
        truth[mask == old] = new
        overwritten[overwritten == old] = new
    got = tensor(answer, mask.shape, what="the target", perhaps="one label for each pixel").long()
    if torch.equal(got, truth):
        return
    perhaps = "look at the hint"
    if torch.equal(got, torch.where(unseen, 255, mask)):
        perhaps = (
            "right pixels, old numbers: seen word number k must be k, so that it fits the k-th text embedding"
        )
    elif torch.equal(got, overwritten):
        perhaps = "did you overwrite the mask while reading it? Always ask the old one"
    elif (got[unseen] != 255).any():
        perhaps = "unseen pixels must be 255: any other number teaches that they are something else"
    raise Wrong(f"{got.tolist()} for {mask.tolist()} and seen {seen}", f"{truth.tolist()}", perhaps)


@exercise(
    "2.3",
    "Comparing each seed with itself removes what the seeds have in common; few seeds need a wide interval.",
)
def paired(answer: Callable[..., object]) -> None:
    """The answer is a function.

    before, after (a number a seed) -> mean change, half-width of its interval.
    """
    runs = [([0.10, 0.20, 0.30, 0.40, 0.55], [0.14, 0.22, 0.37, 0.43, 0.60])]
    for n in (3, 8):
        # Seeds that differ more than the change does, in both: who does not pair finds another width.
        generator = torch.Generator().manual_seed(n)
        common = 0.3 + 0.2 * torch.rand(n, generator=generator)
        change = -0.02 + 0.03 * torch.randn(n, generator=generator)
        runs.append((common.tolist(), (common + change).tolist()))
    means, halves = [], []
    for before, after in runs:
        result = answered(answer(list(before), list(after)))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise Wrong(
                f"a {type(result).__name__}", "two numbers, mean and half-width", "return both: mean, half"
            )
        mean, half = _paired_cases(before, after, *result)
        means.append(mean)
        halves.append(half)
    close_each(means, tolerance=1e-4)
    close_each(halves, tolerance=1e-4)


def _paired_cases(before: Sequence[float], after: Sequence[float], mean: object, half: object) -> list[Case]:
    """The two numbers of one pair of lists."""
    changes = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    truth, n = interval(changes.tolist()), len(changes)
    pooled = (torch.tensor(before).var() + torch.tensor(after).var()).sqrt().item()
    t, root = stats.t.ppf(0.975, n - 1), n**0.5
    traps = [
        (
            1.96 * changes.std().item() / root,
            f"1.96 is for many seeds: {n} need Student's t with {n - 1} degrees of freedom",
        ),
        (t * changes.std(correction=0).item() / root, "divide by n - 1 in the standard deviation: ddof=1"),
        (t * changes.std().item(), "divide by the root of n: the mean varies less than one seed"),
        (2 * truth.ci95, "that is the whole width"),
        (t * pooled / root, "you did not pair: take the deviation of the changes"),
    ]
    return [
        Case(f"the mean change of {n} seeds", mean, truth.mean, [(-truth.mean, "after minus before")]),
        Case(f"the half-width of {n} seeds", half, truth.ci95, traps),
    ]


@exercise("2.4", "CKA sees the geometry among features, not whether they still point at their words.")
def disguise(answer: Callable[..., object]) -> None:
    """The answer is a function: x (n, d) -> features with CKA 1 that point elsewhere, such as -x."""
    # One is added, so that features have a common direction to be turned away from.
    drawn = [
        torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64) + 1.0
        for n, d in ((200, 16), (120, 6))
    ]
    given = [answer(x.clone()) for x in drawn]
    varies(given, what="these features in disguise")
    for x, features in zip(drawn, given, strict=True):
        rule = "the same number of rows and columns"
        y = tensor(features, x.shape, what="the disguised features", perhaps=rule)
        alike, cosine = linear_cka(x, y).item(), torch.nn.functional.cosine_similarity(x, y).mean().item()
        got = f"CKA {alike:.3f}, mean cosine {cosine:.2f}"
        expected = "CKA above 0.999 and a mean cosine below 0.1"
        if not alike > 0.999:
            raise Wrong(got, expected, "that changes the geometry: turn all features in the same way")
        if cosine >= 0.1:
            raise Wrong(got, expected, "they still point where they did: scaling alone turns nothing")


@exercise(
    "2.5",
    "A rule can only stop by what it looks at. In these made-up trainings captions warn; whether they do in "
    "real ones is a question for real ones.",
)
def stop(answer: Callable[..., object]) -> None:
    """The answer is a function: log of one training without unseen metrics -> the step to stop at.

    It is asked of made-up trainings, in which captions are lost when unseen words are, each time at another
    place, while seen mIoU rises in all of them alike: only who looks at captions can know when.
    """
    gains, late, places = [], 0, []
    for turn in _TURNS:
        training = _training(turn)
        # What a training without labels of unseen words can know; the rest is what the choice is judged by.
        shown = [{key: record[key] for key in ("step", "mIoU_seen", "image_to_text")} for record in training]
        step = number(answer(shown), "the step")
        found = [place for place, record in enumerate(training) if record["step"] == step]
        if not found:
            steps = ", ".join(f"{record['step']:g}" for record in training)
            advice = 'return record["step"] of one of this log\'s records, not its place and not a constant'
            raise Wrong(f"step {step:g}", f"one of {steps}", advice)
        places.append(found[0])
        chosen = training[found[0]]
        gains.append(chosen["mIoU_seen"] - training[0]["mIoU_seen"])
        late += chosen["mIoU_unseen"] < training[0]["mIoU_unseen"]
    got = f"seen mIoU {sum(gains) / len(gains):+.3f} on average; {late} of {len(gains)} stopped too late"
    expected = "seen mIoU at least +0.100 on average, unseen mIoU not below zero-shot in any"
    if len(set(places)) == 1:
        raise Wrong(got, expected, "the same record every time: your rule does not look at the captions")
    if late:
        raise Wrong(got, expected, "you stopped too late: watch the recall of captions instead of seen mIoU")
    if sum(gains) / len(gains) < 0.1:
        raise Wrong(got, expected, "you stopped before anything was learnt")


# Where captions, and unseen words with them, begin to be lost: a record of the log.
_TURNS = (4, 1, 7, 2, 9, 5)


def _training(turn: int) -> list[dict[str, float]]:
    """The log of a made-up training, whose captions and unseen words are lost after record `turn`."""
    generator = torch.Generator().manual_seed(turn)
    # Another grid of steps each time, so that a step that fits one training is none of another's.
    strides = torch.randint(5, 30, (11,), generator=generator).tolist()
    noise = (0.01 * torch.randn(12, generator=generator)).tolist()
    log = []
    for place in range(12):
        lost = max(0, place - turn)
        log.append(
            {
                "step": float(sum(strides[:place])),
                "mIoU_seen": 0.3 + 0.4 * (1 - math.exp(-place / 6)),
                "mIoU_unseen": 0.17 + 0.01 * min(place, turn) - (0.1 + 0.02 * lost if lost else 0.0),
                "image_to_text": max(0.05, 0.9 - (0.2 + 0.08 * lost if lost else 0.0) + noise[place]),
            }
        )
    return log
