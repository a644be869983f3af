"""Chapter 8: do bits predict what is kept?"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from scipy import stats

from ...studies.predictors import HARMONIC, PROBES, Evaluated, finished
from . import exercise
from .compare import Case, Wrong, answered, close_each, number, varies


@exercise("8.1", "Ranks ask whether two things rise together, not whether they do so in a line.")
def rho(answer: Callable[..., object]) -> None:
    """The answer is a function: two lists of numbers, ties among them -> Spearman's rank correlation."""
    cases = []
    for seed, n in ((0, 9), (1, 14), (2, 30)):
        generator = torch.Generator().manual_seed(seed)
        # Rounded, so that there are ties; bent, so that no line fits.
        first = (torch.randn(n, generator=generator) * 3).round()
        second = (first + 2 * torch.randn(n, generator=generator)).exp()
        x, y = first.tolist(), second.tolist()
        truth = float(stats.spearmanr(x, y).statistic)
        order = [[sorted(v).index(each) for each in v] for v in (x, y)]
        traps = [
            (float(stats.pearsonr(x, y).statistic), "that is Pearson's: put ranks in place of the numbers"),
            (float(stats.pearsonr(*order).statistic), "equal numbers share the mean of their places"),
            (float(stats.kendalltau(x, y).statistic), "that is Kendall's tau"),
        ]
        cases.append(Case(f"{n} pairs", answer(x, y), truth, traps))
    close_each(cases, tolerance=1e-4)


@exercise("8.2", "Points of one curve stand and fall together: draw what was repeated, the trainings.")
def redraw(answer: Callable[..., object]) -> None:
    """The answer is a function.

    points by cell {cell: [(probe, kept), ...]}, a random.Random -> as many cells drawn with replacement, all
    their points in one list.
    """
    given = {f"cell {i}": [(float(i), float(j)) for j in range(3 + i)] for i in range(6)}
    drawn, counts = [], []
    for seed in range(40):
        points = answered(answer({name: list(of) for name, of in given.items()}, random.Random(seed)))
        if not isinstance(points, (list, tuple)) or not all(len(point) == 2 for point in points):
            raise Wrong(
                f"a {type(points).__name__}", "one list of pairs", "join the lists of the drawn cells"
            )
        drawn.append(sorted(points))
        counts.append(_whole_cells(given, points))
    varies(drawn, what="what is drawn: use the random generator that is given")
    if len({sum(count.values()) for count in counts}) > 1 or sum(counts[0].values()) != len(given):
        raise Wrong(
            f"{sorted({sum(count.values()) for count in counts})} cells",
            f"{len(given)} in every draw",
            "draw as many as there are",
        )
    if all(max(count.values()) == 1 for count in counts):
        raise Wrong(
            "every cell once", "some twice, some not at all", "with replacement: rng.choice, not sample"
        )
    share = fmean(count["cell 5"] for count in counts)
    if not 0.6 < share < 1.5:
        got = f"the cell of most points {share:.1f} times a draw"
        raise Wrong(got, "once on average", "draw cells, not points: all are equally likely")


def _whole_cells(
    given: Mapping[str, Sequence[tuple[float, float]]], points: Sequence[object]
) -> Counter[str]:
    """How often each cell was drawn."""
    counted, found = Counter(tuple(point) for point in points), Counter()  # type: ignore[arg-type,var-annotated]
    for name, of in given.items():
        times = {counted.pop(point, 0) for point in of}
        if len(times) > 1:
            raise Wrong(
                f"points of {name} drawn {sorted(times)} times",
                "all points of a cell equally often",
                "draw whole cells: points of one training are no independent witnesses",
            )
        found[name] = times.pop()
    if counted:
        raise Wrong(f"a point {next(iter(counted))}", "points of the cells", "return the points as they are")
    return found


@exercise("8.3", "What tells tunings apart may say nothing within any of them: ask both.")
def within(answer: Callable[..., object]) -> None:
    """The answer is a function: points by tuning {tuning: [(probe, kept), ...]} -> mean of their rhos."""
    cases = []
    for seed, groups in ((0, 3), (1, 4), (2, 5)):
        generator = torch.Generator().manual_seed(seed)
        by_tuning: dict[str, list[tuple[float, float]]] = {}
        for group in range(groups):
            # Groups that stand apart, each falling within: the whole rises.
            probe = 5 * group + torch.randn(6 + 3 * group, generator=generator)
            kept = 10 * group - probe + 0.5 * torch.randn(len(probe), generator=generator)
            by_tuning[f"tuning {group}"] = list(zip(probe.tolist(), kept.tolist(), strict=True))
        rhos = [_rho(points) for points in by_tuning.values()]
        joined = [point for points in by_tuning.values() for point in points]
        weighted = sum(r * len(p) for r, p in zip(rhos, by_tuning.values(), strict=True)) / len(joined)
        traps = [
            (_rho(joined), "that is over all points at once: tunings that differ hide what happens in each"),
            (weighted, "every tuning counts once, however many points it has"),
            (sum(rhos), "divide by the number of tunings"),
        ]
        cases.append(Case(f"{groups} tunings", answer(by_tuning), fmean(rhos), traps))
    close_each(cases, tolerance=1e-4)


def _rho(points: Sequence[tuple[float, float]]) -> float:
    return float(stats.spearmanr(*zip(*points, strict=True)).statistic)


# What a rule may look at.
SHOWN = ("bits shared", "CKA, block 6", "caption recall", "noun recognition", "seen mIoU")
_GAIN = 0.004


@exercise(
    "8.4", "Captions cost no pixel label, and their loss shows when a change of CLIP has begun to hurt."
)
def stop(answer: Callable[..., object]) -> None:
    """The answer is a function: log of one training -> the step to stop at.

    A log is a list of records with "step" and the probes of `SHOWN`; trainings are those of the map but the
    ones with seed 0.
    """
    kept, begun, places = [], [], []
    for path in trainings((1, 2)):
        step = number(answer(shown(path)), "the step")
        found = [place for place, at in enumerate(path) if at["step"] == step]
        if not found:
            steps = ", ".join(f"{at['step']:g}" for at in path)
            raise Wrong(f"step {step:g}", f"one of {steps}", 'return record["step"] of one of the records')
        places.append(found[0])
        kept.append(path[found[0]][HARMONIC])
        begun.append(path[0][HARMONIC])
    gain = fmean(kept) - fmean(begun)
    got = f"hIoU on new instances {100 * gain:+.1f} points from zero-shot, mean over {len(kept)} trainings"
    expected = f"at least {100 * _GAIN:+.1f}"
    if len(set(places)) == 1:
        raise Wrong(got, expected, "the same step every time: your rule does not look at the log")
    if gain < _GAIN:
        raise Wrong(got, expected, "some trainings went on too long: which probe falls when words are lost?")


@functools.cache
def trainings(seeds: tuple[int, ...]) -> tuple[Evaluated, ...]:
    """Evaluations of the map's trainings with some seeds, those of a head alone left out."""
    return tuple(training.path for training in finished(seeds))


def shown(path: Evaluated) -> list[dict[str, float]]:
    """A training as a rule sees it."""
    return [{"step": at["step"], **{name: PROBES[name](at) for name in SHOWN}} for at in path]
