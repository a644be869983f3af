"""How sure an order is: paired differences between methods, the ranks they allow, and who is worth the time.

A score is {"mean", "half"} and either "values", one for each training (the same seeds for every method), or, for a method that is not
trained, "draws": its score on scenes drawn again with replacement (the same draws for every method).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from scipy import stats

Score = Mapping[str, Any]


def difference(a: Score, b: Score) -> dict[str, float]:
    """Mean of a - b, half-width of its 95% interval, and the two-sided p-value of "no difference".

    Two trained methods are paired by seed (Student's t); a trained and an untrained one likewise, the latter being the same for every
    seed: both speak of other trainings and the same scenes. Two untrained ones are paired by draw (normal approximation to the
    bootstrap): that speaks of other scenes.

    Raises:
        ValueError: other numbers of seeds or draws, fewer than two, or a score with neither.

    >>> d = difference({"mean": 2.0, "values": [1.0, 2.0, 3.0]}, {"mean": 0.0, "draws": [0.0, 0.0]})
    >>> {name: round(value, 3) for name, value in d.items()}
    {'mean': 2.0, 'half': 2.484, 'p': 0.074}
    """
    seeds = [score["values"] for score in (a, b) if "values" in score]
    if seeds:
        first, second = (score.get("values") or [score["mean"]] * len(seeds[0]) for score in (a, b))
    elif "draws" in a and "draws" in b:
        first, second = a["draws"], b["draws"]
    else:
        raise ValueError("got a score with neither 'values' nor 'draws'; expected one of them")
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"got {len(first)} and {len(second)} values; expected the same number, at least 2")
    pairs = [x - y for x, y in zip(first, second, strict=True)]
    if seeds:
        mean, error, law = fmean(pairs), stdev(pairs) / len(pairs) ** 0.5, stats.t(len(pairs) - 1)
    else:
        mean, error, law = a["mean"] - b["mean"], stdev(pairs), stats.norm()
    if error == 0:
        return {"mean": mean, "half": 0.0, "p": float(mean == 0)}
    return {"mean": mean, "half": float(law.ppf(0.975) * error), "p": float(2 * law.sf(abs(mean) / error))}


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of many tests still hold if the chance of a single false one among them is to stay below the level (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [True, False, False]
    """
    kept = [False] * len(p_values)
    for done, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] > level / (len(p_values) - done):
            break
        kept[place] = True
    return kept


def surely_better(scores: Mapping[str, Score], *, corrected: bool = False) -> set[tuple[str, str]]:
    """Pairs (better, worse) whose 95% interval of the paired difference excludes zero.

    Args:
        scores: by method.
        corrected: ask for more, so that all pairs together hold with 95% (Holm). Without it, of the pairs that are truly equal one in
            twenty is called better or worse.
    """
    labels = list(scores)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    found = [difference(scores[a], scores[b]) for a, b in pairs]
    p_values = [d["p"] for d in found]
    sure = holm(p_values) if corrected else [p < 0.05 for p in p_values]
    return {pair if d["mean"] > 0 else pair[::-1] for pair, d, holds in zip(pairs, found, sure, strict=True) if holds}


def rank_ranges(labels: Sequence[str], better: set[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """The best and the worst rank of each method: only those that are surely better stand above it, only those surely worse below.

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
    kept = [label for label in times if not any(times[other] <= times[label] and beats(other, label) for other in times)]
    return sorted(kept, key=lambda label: times[label])


def seed_interval(deviation: float, seeds: int | np.ndarray) -> Any:
    """Half width of the 95% interval (Student's t) of a mean over seeds whose values have this standard deviation."""
    return stats.t.ppf(0.975, np.asarray(seeds) - 1) * deviation / np.sqrt(seeds)


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half-width of the 95% interval (Student's t) of independent runs.

    Raises:
        ValueError: fewer than two values.

    >>> {name: round(value, 3) for name, value in interval([1.0, 2.0, 3.0]).items()}
    {'mean': 2.0, 'half': 2.484}
    """
    if len(values) < 2:
        raise ValueError(f"got {len(values)} values; expected at least 2 seeds for an interval")
    deviation = torch.tensor(values, dtype=torch.float64)
    half = seed_interval(deviation.std().item(), len(values))
    return {"mean": deviation.mean().item(), "half": float(half)}
