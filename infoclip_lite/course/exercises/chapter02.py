"""Chapter 2: what fine-tuning on a few words does to the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from ...core.statistics import interval
from ...information import linear_cka
from . import exercise
from .compare import Case, Wrong, answered, close, close_each, listed, number, tensor, varies


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


_WORDS, _RATE = 4, 0.02  # of the networks that a loop is judged on


class _Network(nn.Module):
    """A frozen stem and a head that learns: pictures (B, 3, H, W) to logits (B, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, _WORDS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every word at every pixel."""
        return self.head(self.stem(images).tanh())


def _lesson_of(seed: int, steps: int) -> tuple[_Network, list[tuple[Tensor, Tensor]]]:
    """A network, and pairs of pictures and targets; half of the pixels are ignored."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _Network().double()
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(steps):
        images = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
        target = torch.randint(0, _WORDS, (2, 6, 6), generator=generator)
        pairs.append((images, target.masked_fill(torch.rand(2, 6, 6, generator=generator) < 0.5, 255)))
    return model, pairs


# What each slip of a loop does, by the name that `_tuned` knows it by.
_SLIPS = {
    "added up": "gradients add up from step to step: zero them before each `backward`",
    "word 0": "ignored pixels were taught word 0: they must not count at all",
    "all pixels": "the mean is over labelled pixels alone: `ignore_index=255` counts no others",
    "new": "one optimiser for all steps: a new one each step forgets what AdamW has averaged",
    "sgd": "that is plain gradient descent: take `torch.optim.AdamW`",
    "one step": "one step for each pair of the list, in order",
}


def _tuned(seed: int, steps: int, slip: str = "") -> tuple[_Network, list[float]]:
    """The network after the loop, and the losses; with a slip, after that."""
    model, pairs = _lesson_of(seed, steps)
    optimizer, losses = _optimizer(model, slip), []
    for images, target in pairs[:1] if slip == "one step" else pairs:
        if slip == "new":
            optimizer = _optimizer(model)
        wanted = target.where(target != 255, 0) if slip == "word 0" else target
        loss = F.cross_entropy(model(images), wanted, ignore_index=255)
        if slip == "all pixels":
            loss = loss * (target != 255).double().mean()
        if slip != "added up":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def _optimizer(model: _Network, slip: str = "") -> torch.optim.Optimizer:
    kind = torch.optim.SGD if slip == "sgd" else torch.optim.AdamW
    return kind(model.head.parameters(), lr=_RATE)


@exercise(
    "2.6",
    "Gradients zeroed, ignored pixels left out, what is frozen out of the optimiser's hands: a loop that "
    "forgets one of the three runs all the same.",
)
def fine_tune(answer: Callable[..., object]) -> None:
    """The answer is a function: model, [(images, target)], rate -> losses; it trains all but model.stem."""
    asked = ((0, 4), (1, 3), (2, 5))
    trained = []
    for seed, steps in asked:
        model, pairs = _lesson_of(seed, steps)
        try:
            said = answer(model, [(images.clone(), target.clone()) for images, target in pairs], _RATE)
        except IndexError as error:
            if "out of bounds" not in str(error):
                raise
            perhaps = "255 is no word: tell `F.cross_entropy` to ignore it, with `ignore_index=255`"
            raise Wrong(f"IndexError: {error}", "a loss of the labelled pixels", perhaps) from error
        losses = [number(each, "a loss") for each in listed(said, what="what you return")]
        trained.append((model, losses))
    varies([losses for _, losses in trained], what="the losses of this training")
    for (seed, steps), (model, losses) in zip(asked, trained, strict=True):
        _check_tuned(model, seed, steps)
        if len(losses) != steps:
            raise Wrong(f"{len(losses)} losses for {steps} pairs", "one a step", "append one in each turn")
        for step, (got, truth) in enumerate(zip(losses, _tuned(seed, steps)[1], strict=True)):
            close(
                got,
                truth,
                what=f"the loss of step {step + 1}",
                tolerance=1e-4,
                unit=" nats",
                otherwise="the weights are right: return the loss that each step began with",
            )


def _check_tuned(model: _Network, seed: int, steps: int) -> None:
    """The weights: those of the loop, or those that one of the slips gives."""
    start, truth = _lesson_of(seed, steps)[0], _tuned(seed, steps)[0]
    if not _same_weights(model.stem, start.stem):
        advice = "give the optimiser the other parameters alone, or switch the stem's `requires_grad` off"
        raise Wrong("a stem whose weights have moved", "the stem as it was: it is frozen", advice)
    if _same_weights(model.head, truth.head):
        return
    if _same_weights(model.head, start.head):
        advice = "`backward` only finds the gradient: did you call the optimiser's `step`?"
        raise Wrong("a head whose weights have not moved", f"a head after {steps} steps", advice)
    perhaps = "zero the gradients, take the loss, `backward`, `step`, for each pair in order"
    for slip, said in _SLIPS.items():
        if _same_weights(model.head, _tuned(seed, steps, slip)[0].head):
            perhaps = said
    off = float((model.head.weight - truth.head.weight).detach().abs().max())
    raise Wrong(
        f"weights of the head up to {off:.3g} away after {steps} steps", "the loop's weights", perhaps
    )


def _same_weights(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)
