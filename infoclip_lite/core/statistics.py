"""How sure a number is: intervals over seeds, paired differences, planned contrasts, possible ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

# scipy.stats takes longer to load than everything else in this room together, and most who read a report
# need no quantile: it is imported where it is used.

Row = Mapping[str, Any]  # a row of a JSON report, before it is read: JSON has no types of its own
LEVEL = 0.05  # the chance of a false "different": what the field reports, and what a 95% interval says


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95% interval, both in the unit of what was measured.

    In JSON it is {"mean": ..., "half": ...}.
    """

    mean: float
    ci95: float

    @property
    def low(self) -> float:
        """The lower end."""
        return self.mean - self.ci95

    @property
    def high(self) -> float:
        """The upper end."""
        return self.mean + self.ci95

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero: of a difference, whether it is sure."""
        return abs(self.mean) > self.ci95

    @property
    def percent(self) -> Interval:
        """The same of a fraction, in percent."""
        return Interval(100 * self.mean, 100 * self.ci95)

    def to_json(self) -> dict[str, object]:
        """The row that reports hold."""
        return {"mean": self.mean, "half": self.ci95}


@dataclass(frozen=True)
class Score(Interval):
    """What a method scored, with what is needed to pair it with another.

    Attributes:
        values: of a trained method, one for each training; the same seeds in the same order for every method.
        draws: of a method that is not trained, its score on scenes drawn again with replacement; the same
            draws for every method.
        difference: to the baseline of its study, paired by seed; None of the baseline itself.
    """

    values: tuple[float, ...] = ()
    draws: tuple[float, ...] = ()
    difference: Interval | None = None

    @classmethod
    def from_json(cls, row: Row) -> Score:
        """A score of a report: {"mean", "half"} with "values" or "draws", and perhaps a "difference".

        Raises:
            KeyError: a row without "mean" or "half".
        """
        values, draws = (tuple(row.get(key, ())) for key in ("values", "draws"))
        versus = row.get("difference")
        difference = None if versus is None else read_interval(versus)
        return cls(row["mean"], row["half"], values, draws, difference)

    def to_json(self) -> dict[str, object]:
        """The row that reports hold; what is empty is left out."""
        row = super().to_json()
        if self.values:
            row["values"] = list(self.values)
        if self.draws:
            row["draws"] = list(self.draws)
        if self.difference is not None:
            row["difference"] = self.difference.to_json()
        return row


@dataclass(frozen=True)
class Difference(Interval):
    """Mean of a - b with its interval, and the two-sided p-value of "no difference"."""

    p: float


@dataclass(frozen=True)
class Contrast(Difference):
    """A comparison that was planned before anything was measured.

    Attributes:
        first, second: the two methods; the difference is first minus second.
        corrected: the p-value when all planned comparisons together are to hold (Holm).
    """

    first: str
    second: str
    corrected: float

    @property
    def holds(self) -> bool:
        """Whether the two differ, all contrasts of the study counted."""
        return self.corrected <= LEVEL

    def to_json(self) -> dict[str, object]:
        """The row that reports hold."""
        pair: dict[str, object] = {"first": self.first, "second": self.second}
        return {**pair, **super().to_json(), "p": self.p, "corrected": self.corrected}


def read_interval(row: Row) -> Interval:
    """The interval of a report's row.

    Raises:
        KeyError: a row without "mean" or "half".
    """
    return Interval(row["mean"], row["half"])


def ci95_of_mean(deviation: float, count: int) -> float:
    """Half-width of the 95% interval (Student's t) of a mean.

    Args:
        deviation: standard deviation of the values, with n - 1.
        count: how many values, at least 2.
    """
    return _t_quantile(count - 1) * deviation / count**0.5


def _t_quantile(freedom: int) -> float:
    """Student's t, two-sided at LEVEL."""
    from scipy import stats

    return float(stats.t.ppf(1 - LEVEL / 2, freedom))


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95% interval (Student's t) of independent values, such as one a seed.

    Raises:
        ValueError: fewer than two values.

    >>> found = interval([1.0, 2.0, 3.0])
    >>> found.mean, round(found.ci95, 3)
    (2.0, 2.484)
    """
    if len(values) < 2:
        raise ValueError(f"got {len(values)} values; expected at least 2 seeds for an interval")
    return Interval(fmean(values), ci95_of_mean(stdev(values), len(values)))


def pooled_intervals(groups: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Mean and 95% interval of each of many small groups, with one spread for all of them.

    Three seeds say little of how far seeds lie apart; thirty groups of three say it well (the error of a
    one-way analysis of variance). The price: groups that vary more than most get too narrow an interval.

    Args:
        groups: independent values by name; some groups may hold a single one.

    Raises:
        ValueError: no group with two values.

    >>> found = pooled_intervals({"a": [1.0, 3.0], "b": [7.0, 7.0, 10.0]})
    >>> found["b"].mean, round(found["b"].ci95, 3)
    (8.0, 3.0)
    """
    freedom = sum(len(values) - 1 for values in groups.values())
    if not freedom:
        raise ValueError("got no group with two values; expected at least one, for a spread over seeds")
    squares = sum((value - fmean(values)) ** 2 for values in groups.values() for value in values)
    deviation = (squares / freedom) ** 0.5
    half = _t_quantile(freedom) * deviation
    return {name: Interval(fmean(values), half / len(values) ** 0.5) for name, values in groups.items()}


def paired_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Mean and 95% interval of first - second, each value against the one of the same seed.

    Raises:
        ValueError: other numbers of values, or fewer than two.
    """
    return interval(_pairs(first, second))


def difference(a: Score, b: Score) -> Difference:
    """Mean of a - b, half-width of its 95% interval, and the two-sided p-value of "no difference".

    Two trained methods are paired by seed (Student's t); a trained and an untrained one likewise, the
    latter being the same for
    every seed: both speak of other trainings and the same scenes. Two untrained ones are paired by draw
    (normal approximation to the bootstrap): that speaks of other scenes.

    Raises:
        ValueError: other numbers of seeds or draws, fewer than two, or a score with neither.

    >>> d = difference(Score(2.0, 0.0, values=(1.0, 2.0, 3.0)), Score(0.0, 0.0, draws=(0.0, 0.0)))
    >>> d.mean, round(d.ci95, 3), round(d.p, 3)
    (2.0, 2.484, 0.074)
    """
    seeds = len(a.values or b.values)
    if seeds:
        # Nothing is drawn when an untrained method runs: it has the same score under every seed.
        pairs = _pairs(*(score.values or (score.mean,) * seeds for score in (a, b)))
        return _by_seed(pairs)
    if not (a.draws and b.draws):
        raise ValueError("got a score with neither values nor draws; expected one of them")
    # The mean is that of all scenes, as the table shows it; the draws only say how far it moves with other
    # scenes.
    return _by_draw(a.mean - b.mean, _pairs(a.draws, b.draws))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of many tests, corrected: the chance of any false one below LEVEL stays below LEVEL.

    Holm 1979: the smallest is multiplied by the number of tests, the next by one less, and so on; none is
    smaller than the one before.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    # statsmodels has this as multipletests(method="holm"); these eight lines spare a dependency of which
    # nothing else would be used.
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - done)))
        corrected[place] = largest
    return corrected


def contrasts(
    scores: Mapping[str, Score], pairs: Sequence[tuple[str, str]], *, planned: int | None = None
) -> list[Contrast]:
    """The comparisons that a study planned: paired differences, and p-values corrected for all of them.

    Args:
        scores: by method.
        pairs: (first, second) methods; a planned few, named before anything was measured.
        planned: how many were planned, those that are not measured yet among them: what is not there yet must
            not make the rest look surer. None: as many as `pairs`.

    Raises:
        ValueError: fewer planned than pairs, a method without a score, or scores that cannot be paired.
    """
    missing = sorted({label for pair in pairs for label in pair} - scores.keys())
    if missing:
        known = ", ".join(scores)
        raise ValueError(f"got a contrast with {missing[0]!r}; expected methods that were measured: {known}")
    lacking = 0 if planned is None else planned - len(pairs)
    if lacking < 0:
        raise ValueError(f"got {len(pairs)} contrasts, of which {planned} were planned; expected no more")
    found = [difference(scores[first], scores[second]) for first, second in pairs]
    corrected_for_all = holm([d.p for d in found] + [1.0] * lacking)
    rows = zip(pairs, found, corrected_for_all[: len(found)], strict=True)
    return [Contrast(d.mean, d.ci95, d.p, first, second, corrected) for (first, second), d, corrected in rows]


def seeds_needed(pairs: Sequence[float], *, power: float = 0.8, most: int = 1000) -> int | None:
    """How many seeds would tell two methods apart, were their difference what it was measured to be.

    Args:
        pairs: differences seed by seed, at least two.
        power: chance that a paired t-test (two-sided, 95%) then finds it.
        most: where the search ends.

    Returns:
        The smallest number of seeds, at least two; None if it is more than `most`.

    Raises:
        ValueError: fewer than two differences.

    >>> seeds_needed([1.0, 1.2, 0.8, 1.1, 0.9]), seeds_needed([1.0, -1.0])
    (3, None)
    """
    from scipy import stats

    found = interval(pairs)
    deviation = stdev(pairs)
    if found.mean == 0:
        return None
    if deviation == 0:
        return 2
    effect = abs(found.mean) / deviation
    # As many as a normal distribution would ask for; a t-test of few seeds asks for a few more.
    least = math.ceil(((stats.norm.ppf(1 - LEVEL / 2) + stats.norm.ppf(power)) / effect) ** 2)
    for count in range(max(2, least), most + 1):
        limit = stats.t.ppf(1 - LEVEL / 2, count - 1)
        # The t of that many seeds is not central: its distribution moves with the effect.
        if stats.nct.sf(limit, count - 1, effect * count**0.5) >= power:
            return count
    return None


def surely_better(scores: Mapping[str, Score], *, corrected: bool = False) -> set[tuple[str, str]]:
    """Pairs (better, worse) whose 95% interval of the paired difference excludes zero.

    Args:
        scores: by method.
        corrected: ask for more, so that all pairs together hold with 95% (Holm). Without it, of the pairs
            that are truly equal one in twenty is called better or worse.
    """
    labels = list(scores)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    found = [difference(scores[a], scores[b]) for a, b in pairs]
    p_values = [d.p for d in found]
    sure = [p <= LEVEL for p in holm(p_values)] if corrected else [p < LEVEL for p in p_values]
    rows = zip(pairs, found, sure, strict=True)
    return {pair if d.mean > 0 else pair[::-1] for pair, d, holds in rows if holds}


def rank_ranges(labels: Sequence[str], better: set[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """The best and the worst rank of each method: surely better ones stand above it, surely worse ones below.

    Args:
        labels: the methods.
        better: pairs (better, worse), as from `surely_better`.

    >>> rank_ranges(["a", "b", "c"], {("a", "c")})
    {'a': (1, 2), 'b': (1, 3), 'c': (2, 3)}
    """
    above = {label: sum(worse == label for _, worse in better) for label in labels}
    below = {label: sum(best == label for best, _ in better) for label in labels}
    return {label: (1 + above[label], len(labels) - below[label]) for label in labels}


def pareto_front(times: Mapping[str, float], beats: Callable[[str, str], bool]) -> list[str]:
    """Methods that no other beats without taking longer, fastest first.

    Args:
        times: of each method.
        beats: whether the first method is better than the second.

    >>> score = {"slow": 2.0, "fast": 1.0, "bad": 0.5}
    >>> pareto_front({"slow": 9.0, "fast": 1.0, "bad": 3.0}, lambda a, b: score[a] > score[b])
    ['fast', 'slow']
    """

    def beaten(label: str) -> bool:
        return any(times[other] <= times[label] and beats(other, label) for other in times)

    return sorted((label for label in times if not beaten(label)), key=lambda label: times[label])


def _pairs(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Each value of the first minus the one of the second at the same place."""
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"got {len(first)} and {len(second)} values; expected the same number, at least 2")
    return [a - b for a, b in zip(first, second, strict=True)]


def _by_seed(pairs: Sequence[float]) -> Difference:
    from scipy import stats

    found = interval(pairs)
    if found.ci95 == 0:
        return _certain(found.mean)
    return Difference(found.mean, found.ci95, float(stats.ttest_1samp(pairs, 0.0).pvalue))


def _by_draw(mean: float, pairs: Sequence[float]) -> Difference:
    from scipy import stats

    deviation = stdev(pairs)
    if deviation == 0:
        return _certain(mean)
    width = float(stats.norm.ppf(1 - LEVEL / 2)) * deviation
    return Difference(mean, width, float(2 * stats.norm.sf(abs(mean) / deviation)))


def _certain(mean: float) -> Difference:
    """Where every pair says the same there is no doubt left: t and z would divide by zero."""
    return Difference(mean, 0.0, float(mean == 0))
