"""Chapter 11: Chimera-Seg, end to end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from ...core.statistics import interval, paired_interval
from . import exercise
from .compare import Case, Wrong, answered, close, close_each, number, varies

_Scores = Mapping[frozenset[str], float]  # parts that are there -> hIoU in points


@exercise(
    "11.1",
    "What a part adds depends on what is there before it: a ladder is one order of many. Say which one you "
    "climbed.",
)
def credit(answer: Callable[..., object]) -> None:
    """The answer is a function: scores {frozenset of parts: hIoU} -> {part: mean gain over all orders}."""
    tables = [_made_up(parts, seed) for seed, parts in enumerate((("GLM", "SGD", "SAM"), ("head", "SGD")))]
    given = [answered(answer(dict(scores))) for scores in tables]
    varies([str(found) for found in given], what="the gains in the table that it gets")
    for found, scores in zip(given, tables, strict=True):
        parts = sorted(frozenset().union(*scores))
        if not isinstance(found, dict) or set(found) != set(parts):
            got = sorted(map(str, found)) if isinstance(found, dict) else type(found).__name__
            raise Wrong(f"{got}", f"a dictionary with {', '.join(parts)}", "one number for each part")
        for part in parts:
            case = _credit_case(part, parts, scores, found[part])
            close(case.got, case.truth, what=case.what, tolerance=1e-3, unit=" points", traps=case.traps)


def _made_up(parts: Sequence[str], seed: int) -> _Scores:
    """hIoU of every set of parts; together they gain less, or more, than the sum of each alone."""
    generator = torch.Generator().manual_seed(seed)
    subsets = [
        frozenset(chosen) for n in range(len(parts) + 1) for chosen in itertools.combinations(parts, n)
    ]
    return {
        chosen: round(0.6 + 7 * len(chosen) ** 0.5 + 6 * float(torch.rand(1, generator=generator)), 2)
        for chosen in subsets
    }


def _credit_case(part: str, parts: Sequence[str], scores: _Scores, got: object) -> Case:
    def gain(before: Sequence[str]) -> float:
        return scores[frozenset({*before, part})] - scores[frozenset(before)]

    orders = list(itertools.permutations(parts))
    gains = [gain(order[: order.index(part)]) for order in orders]
    others = [other for other in parts if other != part]
    sets = [c for n in range(len(parts)) for c in itertools.combinations(others, n)]
    traps = [
        (gain(()), "that is what it adds alone, to nothing"),
        (gain(others), "that is what it adds last, to all the others"),
        (gain(parts[: parts.index(part)]), "that is one order: take the mean over all of them"),
        (
            fmean(gain(c) for c in sets),
            "that is a mean over sets: a set that more orders come by counts more",
        ),
        (
            (scores[frozenset(parts)] - scores[frozenset()]) / len(parts),
            "that is an equal share of the whole",
        ),
        (sum(gains), "that is a sum over all orders: take the mean"),
    ]
    return Case(f"what {part} adds", got, fmean(gains), traps)


@exercise(
    "11.2",
    "What is chosen on validation scenes is reported on others. A gamma chosen on the scenes that are "
    "reported is fitted to them, and always looks better.",
)
def calibrated(answer: Callable[..., object]) -> None:
    """The answer is a function.

    val, test {gamma: hIoU} -> (gamma that is best on val, points over gamma = 0 on test).
    """
    gammas = (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
    curves = (
        # On the test scenes another gamma is the best, and once the chosen one loses.
        ((0.19, 0.21, 0.22, 0.24, 0.23, 0.15), (0.20, 0.22, 0.26, 0.23, 0.22, 0.14)),
        ((0.30, 0.33, 0.31, 0.30, 0.29, 0.20), (0.31, 0.30, 0.33, 0.32, 0.30, 0.22)),
        ((0.12, 0.13, 0.13, 0.14, 0.16, 0.15), (0.11, 0.12, 0.15, 0.15, 0.14, 0.16)),
    )
    chosen, added = [], []
    for of_val, of_test in curves:
        val, test = dict(zip(gammas, of_val, strict=True)), dict(zip(gammas, of_test, strict=True))
        pair = answered(answer(dict(val), dict(test)))
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Wrong(repr(pair), "a pair (gamma, points)", "return both: the gamma, and what it adds")
        first, second = _calibrated_cases(val, test, *pair)
        chosen.append(first)
        added.append(second)
    close_each(chosen, tolerance=1e-6, otherwise="take the gamma with the largest hIoU on validation scenes")
    close_each(added, tolerance=0.005, unit=" points")


def _calibrated_cases(
    val: Mapping[float, float], test: Mapping[float, float], gamma: object, points: object
) -> tuple[Case, Case]:
    best, fitted = (max(sweep, key=lambda g: sweep[g]) for sweep in (val, test))
    gain = 100 * (test[best] - test[0.0])
    cheating = "that one is best on the scenes that are reported: choose on the validation scenes"
    return (
        Case("the gamma", gamma, best, [(fitted, cheating)]),
        Case(
            f"what gamma = {best:g} adds",
            points,
            gain,
            [
                (gain / 100, "that is a share: times 100 for points"),
                (100 * (val[best] - val[0.0]), "that is what it adds on the scenes it was chosen on"),
                (100 * test[best], "that is hIoU itself: subtract what gamma = 0 has"),
                (-gain, "the sign: what gamma adds is hIoU with it minus hIoU without it"),
            ],
        ),
    )


@exercise(
    "11.3",
    "A harmonic mean hears the smaller number: with seen words at 50%, unseen ones have to reach "
    "twice what they have.",
)
def unseen_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: seen, hiou -> unseen; h s / (2 s - h)."""
    cases = []
    # A case that can be checked in the head, and others.
    for seen, hiou in ((0.5, 0.348), (0.5, 0.5), (0.6, 0.2), (0.3, 0.41)):
        truth = hiou * seen / (2 * seen - hiou)
        traps = [
            (2 * hiou - seen, "that solves the arithmetic mean: hIoU is the harmonic one"),
            (
                2 * hiou * seen / (hiou + seen),
                "that is a harmonic mean of what is given: solve for the unknown",
            ),
            (hiou**2 / seen, "that solves the geometric mean: hIoU is the harmonic one"),
            (100 * truth, "that is in percent: return a share"),
        ]
        cases.append(Case(f"seen {seen:.3f} and hIoU {hiou:.3f}", answer(seen, hiou), truth, traps))
    close_each(cases, tolerance=5e-4)


class _Chimera(nn.Module):
    """A toy of the real one: a body, a frozen head, an encoder left at home, and one layer used twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 3)
        self.twice = nn.Conv2d(width, width, 1)
        self.head = nn.Conv2d(width, 2, 1).requires_grad_(False)
        self.left_at_home = nn.Linear(width, 10 * width)

    def forward(self, picture: Tensor) -> Tensor:
        return self.head(self.twice(self.twice(self.body(picture)).relu()))


@exercise(
    "11.4",
    "Count what a picture meets, not what a file holds: what is left at home costs nothing, what is frozen "
    "costs as much as what is trained.",
)
def weights_met(answer: Callable[..., object]) -> None:
    """The answer is a function: model, picture (1, 3, H, W) -> number of weights that the picture meets."""
    cases = []
    for width in (4, 9):
        with torch.random.fork_rng():
            torch.manual_seed(width)
            model = _Chimera(width)
        sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
        total, met = sum(sizes.values()), sum(sizes.values()) - sizes["left_at_home"]
        traps = [
            (total, "those are all its weights: what no picture meets was left at home"),
            (met - sizes["head"], "frozen weights are met, too: a gradient does not show them"),
            (total - sizes["head"], "those are the weights that can be trained, met or not"),
            (met + sizes["twice"], "a layer that is used twice has its weights once"),
        ]
        with torch.enable_grad():  # whatever the notebook has switched off
            got = number(answer(model, torch.rand(1, 3, 8, 8)), "the number of weights")
        cases.append(Case(f"a model of {total} weights", got, met, traps))
    close_each(cases, tolerance=0.4, unit=" weights")


_Curve = Mapping[int, Sequence[float]]  # step -> hIoU of each seed
_LOOKS = (200, 400, 800, 1600, 4000)


@exercise(
    "11.5",
    "A curve that crosses once is not ahead: the head is the better buy from where it is surely better, and "
    "stays so.",
)
def better_buy(answer: Callable[..., object]) -> None:
    """The answer is a function.

    linear, head {step: hIoU of each seed} -> the first step from which on the paired 95% interval of head
    minus linear is above zero at every look; infinity if there is none.
    """
    # Gaps in points at each look: early, late after a false start, never though always ahead on average.
    gaps = ((-2.0, 1.5, 1.8, 2.0, 2.2), (1.5, -1.0, 0.2, 1.6, 12.0), (0.2, 0.3, 0.2, 0.4, 0.3))
    cases = []
    for number_, of in enumerate(gaps):
        linear, head = _curves(of, seed=number_)
        sure = [paired_interval(head[step], linear[step]).low > 0 for step in _LOOKS]
        alone = [interval(head[step]).low > interval(linear[step]).high for step in _LOOKS]
        ahead = [fmean(head[step]) > fmean(linear[step]) for step in _LOOKS]
        traps = [
            (_from_then_on(ahead), "that looks at means alone: is the difference more than seeds differ?"),
            (_first(sure), "that is the first look at which it is ahead: it falls behind again later"),
            (_first(ahead), "that is the first look with the larger mean: how sure is it, and does it stay?"),
            (
                _from_then_on(alone),
                "those intervals are not paired: the same seed has the same scenes in both",
            ),
        ]
        got = answer(dict(linear), dict(head))
        cases.append(Case(f"curve {number_ + 1}", got, _from_then_on(sure), traps))
    varies([case.got for case in cases], what="a step that depends on the curves")
    for case in cases:
        _same_step(case)


def _curves(gaps: Sequence[float], seed: int) -> tuple[_Curve, _Curve]:
    """Five seeds that differ by far more than the heads do, and alike in both: only pairs can tell."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.linspace(-0.04, 0.04, 5)[torch.randperm(5, generator=generator)]
    linear: dict[int, list[float]] = {}
    head: dict[int, list[float]] = {}
    for place, (step, gap) in enumerate(zip(_LOOKS, gaps, strict=True)):
        noise = torch.tensor([-0.5, 0.6, -0.1, 0.3, -0.3])[torch.randperm(5, generator=generator)] / 100
        base = 0.10 + 0.03 * place + own
        linear[step], head[step] = base.tolist(), (base + gap / 100 + noise).tolist()
    return linear, head


def _first(holds: Sequence[bool]) -> float:
    return next((step for step, each in zip(_LOOKS, holds, strict=True) if each), math.inf)


def _from_then_on(holds: Sequence[bool]) -> float:
    """The first look from which on it always holds."""
    return _first([all(holds[place:]) for place in range(len(holds))])


def _same_step(case: Case) -> None:
    """Infinity has no distance to be near by."""
    got = number(case.got, case.what)
    if got == case.truth:
        return
    perhaps = next((mistake for trap, mistake in case.traps if got == trap), "look at the hint")
    raise Wrong(f"{got:g} for {case.what}", f"{case.truth:g}", perhaps)
