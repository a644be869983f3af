"""Plain fine-tuning over seeds: metrics and probes along the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..core.reports import JsonObject, write_report
from ..core.statistics import Interval, interval, paired_interval
from ..training.run import Run
from .rows import Curves, Point, curves_json
from .runs import gather, run_variants
from .variants import Variant, settings_of

FOLDER = Path("runs/degradation")
RECIPES = ("mini/plain-few", "mini/plain-few-qv", "mini/plain")

Evaluations = Mapping[str, Sequence[Mapping[str, float]]]  # seed -> what was measured, one record a step


def degradation(
    recipes: Iterable[str] = RECIPES,
    *,
    seeds: int = 5,
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Fine-tune plainly with several seeds and follow metrics and probes; no finished run is run again.

    Args:
        recipes: of fine-tuning, each with steps in `evaluation.at`.
        seeds: of each.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"recipes": {name: settings}, "curves": {name: {seed: [evaluations]}}, "summary": {name: {metric:
        [{"step", "mean", "half"}]}}} of the recipes that all seeds have finished.
    """
    variants = {Path(recipe).stem: Variant(recipe) for recipe in recipes}
    written: JsonObject = {}
    for name, variant in variants.items():
        run_variants({name: variant}, range(seeds), folder, score_nothing)
        records = gather(variants, range(seeds), folder)
        curves = {label: evaluations_of(runs) for label, runs in records.items()}
        content = {
            "recipes": settings_of({label: variants[label] for label in records}),
            "curves": curves,
            "summary": {label: curves_json(summarise(runs)) for label, runs in curves.items()},
        }
        # After each recipe: what is finished is written, however long the rest takes.
        written = write_report("degradation", content, out)
    return written


def evaluations_of(runs: Sequence[JsonObject]) -> Evaluations:
    """What was measured along the way of each of a variant's runs, by seed."""
    return {str(run["seed"]): run["evaluations"] for run in runs}


def score_nothing(run: Run) -> dict[str, object]:
    """What is looked at here is measured along the way; a record keeps the run's evaluations anyway."""
    return {}


def summarise(runs: Evaluations) -> Curves:
    """For each metric, mean and interval over seeds at each step that was evaluated."""
    by_step = list(zip(*runs.values(), strict=True))
    keys = [key for key in by_step[0][0] if key != "step"]
    return {key: [_point(at, key) for at in by_step] for key in keys}


def _point(records: Sequence[Mapping[str, float]], key: str) -> Point:
    """One metric at one step, over the seeds."""
    found = interval([record[key] for record in records])
    return Point(found.mean, found.ci95, records[0]["step"])


def paired_difference(runs: Evaluations, metric: str, first: int, second: int) -> Interval:
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
