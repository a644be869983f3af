"""Chapter 14: the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch

from ...core.statistics import holm, interval, paired_interval
from . import exercise
from .compare import Case, Wrong, answered, close_each, listed, number, varies

_Scores = Mapping[str, Sequence[float]]  # method -> hIoU, one number a seed, the same seeds for all


def _league(seed: int, methods: int, seeds: int = 5) -> _Scores:
    """Made-up scores: what a seed does to all methods is larger than what it does to one.

    Not sorted, so that a place in the table is no place by the mean.
    """
    generator = torch.Generator().manual_seed(seed)
    common = 3 * torch.randn(seeds, generator=generator)
    levels = 0.5 * torch.randperm(methods, generator=generator)
    return {
        f"method {chr(ord('A') + i)}": (
            40 + levels[i] + common + 0.6 * torch.randn(seeds, generator=generator)
        ).tolist()
        for i in range(methods)
    }


def _above(scores: _Scores, label: str, *, paired: bool = True) -> int:
    """How many methods are surely above one."""
    return sum(_sure(scores[other], scores[label], paired) for other in scores if other != label)


def _sure(first: Sequence[float], second: Sequence[float], paired: bool = True) -> bool:
    if paired:
        return paired_interval(first, second).low > 0
    return interval(first).low > interval(second).high


@exercise("14.1", "A place in a table is not a result: ask which places the intervals allow.")
def possible_winners(answer: Callable[..., object]) -> None:
    """The answer is a function: scores {method: hIoU a seed} -> how many may be first."""
    cases = []
    for seed, methods in ((0, 7), (1, 5), (2, 9)):
        scores = _league(seed, methods)
        truth = sum(_above(scores, label) == 0 for label in scores)
        unpaired = sum(_above(scores, label, paired=False) == 0 for label in scores)
        means = {label: fmean(values) for label, values in scores.items()}
        first = max(means, key=lambda label: means[label])
        traps = [
            (unpaired, "each seed is its own control: take the interval of the differences, seed by seed"),
            (
                sum(_above(scores, label) > 0 for label in scores),
                "those cannot be first: somebody is surely above them",
            ),
            (
                sum(_sure(scores[first], scores[label]) for label in scores),
                "those are surely below the first: count the others",
            ),
        ]
        traps = [trap for trap in traps if trap[0] != truth]
        got = number(answer({label: list(values) for label, values in scores.items()}), "the number")
        cases.append(Case(f"{methods} methods", got, truth, traps))
    if all(case.got == 1 for case in cases):
        advice = "that is the place by the mean; count methods that no other is surely above"
        raise Wrong("1 every time", "as many as the intervals allow", advice)
    close_each(cases, tolerance=0.4)


@exercise(
    "14.2",
    "Ask many questions and some answer yes by luck; Holm asks more of the surest first. Few questions, "
    "planned beforehand, cost little.",
)
def corrected(answer: Callable[..., object]) -> None:
    """The answer is a function: p-values -> Holm's corrected ones, in the order in which they came."""
    asked = ([0.01, 0.04, 0.03], [0.2, 0.004, 0.011, 0.6, 0.013], [0.03, 0.02, 0.028, 0.9])
    given = [
        [number(p, "a p-value") for p in listed(answer(list(values)), what="the answer")] for values in asked
    ]
    varies(given, what="these p-values, corrected")
    for got, values in zip(given, asked, strict=True):
        _check_corrected(got, values)


def _check_corrected(got: Sequence[float], values: Sequence[float]) -> None:
    truth, n = holm(values), len(values)
    steps = {p: p * (n - place) for place, p in enumerate(sorted(values))}
    traps = [
        (
            [min(1.0, n * p) for p in values],
            "that is Bonferroni: the second smallest is times n - 1, and so on",
        ),
        (sorted(truth), "give them back in the order in which they came"),
        (
            [min(1.0, steps[p]) for p in values],
            "none may be smaller than that of a smaller p: take the larger",
        ),
        ([steps[p] for p in values], "a chance is at most 1, and none smaller than that of a smaller p"),
        (list(values), "nothing was corrected"),
    ]

    def same(other: Sequence[float]) -> bool:
        return len(got) == len(other) and all(abs(a - b) < 1e-6 for a, b in zip(got, other, strict=True))

    if same(truth):
        return
    perhaps = next((mistake for trap, mistake in traps if same(trap)), "look at the hint")
    raise Wrong(f"{_rounded(got)} for {_rounded(values)}", _rounded(truth), perhaps)


def _rounded(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


@exercise(
    "14.3",
    "New instances reorder the table: what was chosen on one kind of scene need not be best on another.",
)
def same_order(answer: Callable[..., object]) -> None:
    """The answer is a function: old, new {method: mean} -> share of pairs that stand in the same order."""
    cases = []
    for seed, methods in ((0, 6), (1, 9)):
        generator = torch.Generator().manual_seed(seed)
        old = torch.rand(methods, generator=generator)
        new = old + 0.5 * torch.rand(methods, generator=generator)
        labels = [f"method {i}" for i in range(methods)]
        tables = [dict(zip(labels, values.tolist(), strict=True)) for values in (old, new)]
        # The second table in another order: who pairs by place compares other methods.
        turned = dict(reversed(tables[1].items()))
        pairs = [(a, b) for i, a in enumerate(labels) for b in labels[:i]]
        agree = sum((tables[0][a] > tables[0][b]) == (turned[a] > turned[b]) for a, b in pairs)
        places = list(turned.values())
        by_place = sum((old[i] > old[j]) == (places[i] > places[j]) for i in range(methods) for j in range(i))
        traps = [
            (agree, "that is the number of pairs: divide by how many pairs there are"),
            (
                2 * agree / len(pairs) - 1,
                "that is Kendall's tau: it counts disagreement as minus one; here a share is asked for",
            ),
            (agree / methods**2, "divide by the number of pairs, n (n - 1) / 2, and not by n squared"),
            (1 - agree / len(pairs), "those are the pairs that changed places"),
            (float(by_place) / len(pairs), "pair methods by their names: the tables are sorted differently"),
        ]
        cases.append(Case(f"{methods} methods", answer(dict(tables[0]), turned), agree / len(pairs), traps))
    close_each(cases, tolerance=0.004, otherwise="compare the means pair by pair")


@exercise(
    "14.4",
    "A rank is an interval, too: below all who are surely above, and above all who are surely below.",
)
def rank_table(answer: Callable[..., object]) -> None:
    """The answer is a function: scores {method: hIoU a seed} -> {method: (best, worst) place}."""
    leagues = [_league(seed, methods) for seed, methods in ((3, 6), (4, 8))]
    given = [
        answered(answer({label: list(values) for label, values in scores.items()})) for scores in leagues
    ]
    varies([str(found) for found in given], what="the places in the table that it gets")
    for found, scores in zip(given, leagues, strict=True):
        if not isinstance(found, dict) or set(found) != set(scores):
            expected = f"a dictionary with the {len(scores)} methods"
            raise Wrong(f"a {type(found).__name__}", expected, "one pair (best, worst) for each method")
        for label in scores:
            pair = listed(found[label], what=f"the places of {label}", perhaps="a pair (best, worst)")
            _check_range(tuple(int(number(place)) for place in pair), scores, label)


def _check_range(pair: tuple[int, ...], scores: _Scores, label: str) -> None:
    n = len(scores)
    below = sum(_sure(scores[label], scores[other]) for other in scores if other != label)
    truth = (1 + _above(scores, label), n - below)
    if pair == truth:
        return
    means = sorted((fmean(values) for values in scores.values()), reverse=True)
    place = 1 + means.index(fmean(scores[label]))
    unpaired_below = sum(_sure(scores[label], scores[other], False) for other in scores if other != label)
    traps: dict[tuple[int, ...], str] = {
        (place, place): "that is the place by the mean, for both",
        (truth[1], truth[0]): "best first: 1 is the best place",
        (truth[0] - 1, truth[1] - 1): "places begin at 1",
        (
            1 + _above(scores, label, paired=False),
            n - unpaired_below,
        ): "each seed is its own control: pair them",
        (1 + below, n - _above(scores, label)): "turned round: those that are surely *above* cost places",
    }
    perhaps = traps.get(pair, "count who is surely above it, and who surely below")
    raise Wrong(f"{pair} for {label}", f"{truth}", perhaps)
