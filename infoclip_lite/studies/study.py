"""Paired comparisons: variants of one recipe, the same seeds for each, tuned on validation scenes and reported on test scenes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ..core.files import whole_file
from ..core.statistics import Interval, Score, interval, paired_interval
from ..datasets.collage import Collage
from ..evaluation import evaluate, probe
from ..training.acceleration import autocast, dtype_of
from ..training.recipe import FineTuneRecipe, load_recipe
from ..training.run import Run, train
from .rows import StudyTable


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        recipe: name of a recipe.
        changes: keys of it to replace.
        paper: whether this is what the paper describes, or our variant.
    """

    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    paper: bool = False

    def load(self, seed: int) -> FineTuneRecipe:
        """The recipe with its changes and a seed."""
        recipe = load_recipe(self.recipe, seed=seed, **self.changes)
        if not isinstance(recipe, FineTuneRecipe):
            raise ValueError(f"{self.recipe} is a recipe for pretraining; expected one with task: finetune")
        return recipe


def run_variants(
    variants: dict[str, Variant],
    seeds: Sequence[int],
    folder: Path,
    score: Callable[[Run], dict[str, Any]],
    *,
    part: tuple[int, int] = (1, 1),
    progress: bool = False,
) -> None:
    """Train and score every variant with every seed; a finished run is a file in `folder`, run again only if its recipe has changed.

    Args:
        variants: by label.
        seeds: of the runs; all variants of a seed see the same scenes in the same order and start from the same weights.
        folder: one JSON for each finished run; the runs that others start from are kept too.
        score: what to measure of a finished run.
        part: (k, n) does the k-th of n shares, so that n processes can divide the work.
        progress: show progress bars.

    Raises:
        ValueError: a part that cannot be.
    """
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"part is {part}; expected (k, n) with 1 <= k <= n")
    starts: dict[tuple[str, int], Run] = {}
    todo = [(label, seed) for label in variants for seed in seeds]
    for label, seed in todo[part[0] - 1 :: part[1]]:
        path, recipe = run_path(folder, label, seed), variants[label].load(seed)
        if path.exists() and json.loads(path.read_text())["recipe"] == vars(recipe):
            continue
        started = time.perf_counter()
        begun = None
        if recipe.start is not None:
            if (recipe.start, seed) not in starts:
                where = folder / "starts" / f"{recipe.start.replace('/', '-')}-{seed}"
                starts[recipe.start, seed] = train(recipe.start, folder=where, progress=progress, seed=seed)
            begun = starts[recipe.start, seed]
        begins = time.perf_counter()
        run = train(recipe, start=begun, progress=progress)
        trained = time.perf_counter()
        record = {
            "label": label,
            "seed": seed,
            "recipe": vars(recipe),
            **score(run),
            "log": run.log[:: max(1, recipe.steps // 20)],
            "evaluations": run.evaluations(),
            "seconds": {
                "start": round(begins - started, 1),
                "train": round(trained - begins, 1),
                "score": round(time.perf_counter() - trained, 1),
            },
        }
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(record))


def tune(grid: dict[str, Variant], seeds: Sequence[int], folder: Path, *, part: tuple[int, int] = (1, 1)) -> dict[str, dict[str, float]]:
    """Run a grid of settings on validation scenes: {label: {"mIoU_seen", "mIoU_unseen", "hIoU"}}, means over seeds, of what is finished.

    Args:
        grid, seeds, folder, part: as for `run_variants`.
    """

    def score(run: Run) -> dict[str, Any]:
        return score_run(run, splits=("val",), scenes=150, probes=False)

    run_variants(grid, seeds, folder, score, part=part)
    keys = ("mIoU_seen", "mIoU_unseen", "hIoU")
    records = gather(grid, seeds, folder)
    return {label: {k: fmean(run["val"][k] for run in runs) for k in keys} for label, runs in records.items()}


def run_path(folder: Path, label: str, seed: int) -> Path:
    """Where the record of one run is."""
    return folder / "runs" / f"{label.replace('/', '-')}-{seed}.json"


def score_run(
    run: Run,
    *,
    splits: Sequence[str] = ("test", "test-new"),
    scenes: int = 200,
    probes: bool = True,
    gammas: Sequence[float] = (),
) -> dict[str, Any]:
    """Metrics on each split, and the probes on 60 scenes of the first, in the precision of the training.

    Args:
        run: a finished run.
        splits: of Collage.
        scenes: of each.
        probes: whether to probe CLIP as well.
        gammas: calibration sweep of the first split, under "calibration".
    """
    recipe = run.recipe
    if not isinstance(recipe, FineTuneRecipe) or run.reference is None:
        raise ValueError("got a run of pretraining; expected one of fine-tuning")
    result: dict[str, Any] = {}
    with autocast(run.model.clip.device, dtype_of(recipe.dtype)):
        for split in splits:
            data = Collage(split, recipe.size, length=scenes, seen=recipe.seen)
            report = evaluate(run, data, gammas=gammas if split == splits[0] else ())
            result[split] = report.metrics
            if report.calibration:
                result["calibration"] = report.calibration
        if not probes:
            return result
        data = Collage(splits[0], recipe.size, length=60, seen=recipe.seen)
        probed = [data[i] for i in range(len(data))]
        result["probes"] = probe(run.model.clip, run.reference, probed, data.names, data.unseen, recipe.attention[0])
    return result


def gather(variants: dict[str, Variant], seeds: Sequence[int], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of the variants that all seeds have finished, by label, in the order of the seeds."""
    finished = [label for label in variants if all(run_path(folder, label, seed).exists() for seed in seeds)]
    return {label: [json.loads(run_path(folder, label, seed).read_text()) for seed in seeds] for label in finished}


def table(records: dict[str, list[dict[str, Any]]], baseline: str) -> StudyTable:
    """For each label and each measure: mean, 95% interval, and the same of the difference to the baseline, seed by seed.

    Measures are "test/mIoU_unseen", "probes/margin" and so on.

    Raises:
        ValueError: no such baseline, or variants with other numbers of runs than it has.
    """
    if baseline not in records:
        raise ValueError(f"no baseline {baseline!r}; expected one of {', '.join(records)}")
    unpaired = [label for label, runs in records.items() if len(runs) != len(records[baseline])]
    if unpaired:
        raise ValueError(
            f"{unpaired[0]} has {len(records[unpaired[0]])} runs, {baseline} {len(records[baseline])}; expected the same seeds"
        )
    flat = {label: [_flatten(r) for r in runs] for label, runs in records.items()}
    rows: StudyTable = {}
    for label, runs in flat.items():
        rows[label] = {}
        for key in runs[0]:
            values, others = (tuple(run[key] for run in of) for of in (runs, flat[baseline]))
            versus = None if label == baseline else paired_interval(values, others)
            found = interval(values)
            rows[label][key] = Score(found.mean, found.ci95, values=values, difference=versus)
    return rows


def table_json(rows: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, object]]]:
    """Rows of a table, or of a ladder of differences, as reports hold them."""
    return {label: {key: cell.to_json() for key, cell in row.items()} for label, row in rows.items()}


def _flatten(record: dict[str, Any]) -> dict[str, float]:
    groups = [name for name in record if name == "probes" or name in ("val", "test", "test-new")]
    return {f"{group}/{key}": value for group in groups for key, value in record[group].items()}


def described(variants: dict[str, Variant], seed: int = 0) -> dict[str, dict[str, Any]]:
    """What each variant runs: recipe, whether it is the paper's, and every key that differs from the recipe's defaults."""
    out = {}
    for label, variant in variants.items():
        recipe = variant.load(seed)
        plain = FineTuneRecipe(name="", steps=0)
        keys = {k: v for k, v in vars(replace(recipe, seed=0)).items() if v != getattr(plain, k)}
        out[label] = {"recipe": variant.recipe, "paper": variant.paper, **keys}
    return out
