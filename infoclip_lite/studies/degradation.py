"""Plain fine-tuning over seeds: metrics and probes along the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.reports import write_report
from ..core.statistics import Interval, interval, paired_interval
from ..training.recipe import load_recipe
from ..training.run import train
from .rows import Curves, Point, curves_json

DEGRADATION = ("mini/plain-few", "mini/plain-few-qv", "mini/plain")


def degradation(
    recipes: Iterable[str] = DEGRADATION,
    *,
    seeds: int = 5,
    folder: Path = Path("runs/degradation"),
    out: Path | None = None,
) -> dict[str, Any]:
    """Fine-tune plainly with several seeds and follow metrics and probes; every finished run is kept and not run again.

    Returns:
        {"recipes": {name: {...}}, "curves": {name: {seed: [evaluations]}}, "summary": {name: {metric: [{step, mean, half}]}}}
    """
    curves: dict[str, dict[str, list]] = {}
    used: dict[str, Any] = {}
    written: dict[str, Any] = {}
    for recipe in recipes:
        for seed in range(seeds):
            what = load_recipe(recipe, seed=seed)
            run = train(what, folder=folder / what.name / str(seed))
            curves.setdefault(what.name, {})[str(seed)] = run.evaluations()
            used[what.name] = {key: value for key, value in vars(what).items() if key != "seed"}
        result = {
            "recipes": used,
            "curves": curves,
            "summary": {name: curves_json(summarise(runs)) for name, runs in curves.items()},
        }
        written = write_report("degradation", result, out)  # after each recipe: what is finished is kept
    return written


def summarise(runs: dict[str, list[dict[str, float]]]) -> Curves:
    """For each metric, mean and interval over seeds at each step that was evaluated."""
    by_step = list(zip(*runs.values(), strict=True))
    keys = [key for key in by_step[0][0] if key != "step"]
    return {key: [_point(at, key) for at in by_step] for key in keys}


def _point(records: Sequence[Mapping[str, float]], key: str) -> Point:
    """One metric at one step, over the seeds."""
    found = interval([record[key] for record in records])
    return Point(found.mean, found.ci95, records[0]["step"])


def paired_difference(runs: Mapping[str, Sequence[Mapping[str, float]]], metric: str, first: int, second: int) -> Interval:
    """Mean and 95% interval over seeds of metric(second step) - metric(first step), each seed against itself.

    Raises:
        ValueError: a step that was not evaluated.
    """
    before, after = [], []
    for evaluations in runs.values():
        by_step = {record["step"]: record[metric] for record in evaluations}
        if first not in by_step or second not in by_step:
            raise ValueError(f"got steps {first} and {second}; expected two of {sorted(by_step)}")
        before.append(by_step[first])
        after.append(by_step[second])
    return paired_interval(after, before)


def peak_step(points: Sequence[Point]) -> int:
    """The evaluated step at which the mean over seeds is largest."""
    return int(max(points, key=lambda point: point.mean).step)
