"""One engine for paired comparisons: the same seeds for every variant, tuned on validation scenes, reported on test scenes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from statistics import fmean

from ..core.files import whole_file
from ..core.reports import JsonObject, write_report
from ..core.statistics import Interval, Score, contrasts, interval, paired_interval
from ..datasets import captioned_items, held_out_data
from ..evaluation import evaluate, probe
from ..training.acceleration import autocast, dtype_of
from ..training.recipe import FineTuneRecipe, load_finetuning, merged
from ..training.run import Run, train
from .rows import SPLITS, StudyTable

METRICS = ("mIoU_seen", "mIoU_unseen", "hIoU")
# Test scenes of each split: the interval over 200 scenes is about as wide as the one over five seeds.
SCENES = 200
# Validation scenes on which settings are chosen: more would cost more than the choice is worth.
TUNING_SCENES = 150

Records = dict[str, list[JsonObject]]  # label -> one record for each seed, in the order of the seeds
Scoring = Callable[[Run], Mapping[str, object]]  # a finished run -> {"test": metrics, ...}, what a record keeps


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        recipe: name of a recipe.
        changes: keys of it to replace; a section is changed key by key, as by `load_recipe`.
        paper: whether this is what the paper describes, or our variant.
    """

    recipe: str
    changes: Mapping[str, object] = field(default_factory=dict)
    paper: bool = False

    def load(self, seed: int) -> FineTuneRecipe:
        """The recipe with its changes and a seed.

        Raises:
            ValueError: a recipe for pretraining, or changes that the recipe refuses.
        """
        return load_finetuning(self.recipe, **merged(self.changes, {"seed": seed}))

    def changed(self, **changes: object) -> Variant:
        """The same with further changes, section by section."""
        return replace(self, changes=merged(self.changes, changes))


def _adds_nothing(records: Records, table: StudyTable) -> dict[str, object]:
    return {}


@dataclass(frozen=True)
class Study:
    """A comparison as a table: what runs, what is compared with what, and what its report adds.

    Attributes:
        name: of the report.
        variants: by label, in the order of running.
        baselines: prefix of labels -> the variant that those are compared with in the table; the longest prefix counts.
        contrasts: (first, second) labels, the few comparisons that are planned; p-values are corrected for these (Holm).
        grid: settings to choose from, run on validation scenes.
        grid_seeds: of the grid; none of them is reported.
        score: what is measured of a finished run.
        adds: what the report has beside the table: (records, table) -> content.
    """

    name: str
    variants: Mapping[str, Variant]
    baselines: Mapping[str, str]
    score: Scoring
    contrasts: Sequence[tuple[str, str]] = ()
    grid: Mapping[str, Variant] = field(default_factory=dict)
    grid_seeds: Sequence[int] = ()
    adds: Callable[[Records, StudyTable], Mapping[str, object]] = _adds_nothing

    def run(
        self,
        *,
        seeds: int = 5,
        part: tuple[int, int] = (1, 1),
        folder: Path | None = None,
        out: Path | None = None,
    ) -> JsonObject:
        """Run what is missing, and write data/reports/NAME.json with the variants that all seeds have finished.

        Args:
            seeds: number of runs of each variant.
            part: (k, n) does the k-th of n parts of the runs, so that n processes can divide the work.
            folder: where finished runs are kept; runs/NAME by default.
            out: where the report is written; data/reports by default.

        Returns:
            The report; see `report`.

        Raises:
            FileNotFoundError: a baseline is not finished.
        """
        where = folder or Path("runs") / self.name
        run_variants(self.grid, self.grid_seeds, where / "grid", score_tuning, part=part)
        run_variants(self.variants, range(seeds), where, self.score, part=part)
        return self.report(seeds=seeds, folder=where, out=out)

    def report(self, *, seeds: int = 5, folder: Path | None = None, out: Path | None = None) -> JsonObject:
        """Write the report of what is finished.

        Args:
            seeds, folder, out: as for `run`.

        Returns:
            {"variants", "missing", "seeds", "baselines", "grid", "table", "contrasts", "logs", "seconds"}, and what the study
            adds; "missing" labels are not finished yet.

        Raises:
            FileNotFoundError: a baseline is not finished.
        """
        where = folder or Path("runs") / self.name
        records = gather(self.variants, range(seeds), where)
        lacking = [label for label in self.baselines.values() if label not in records]
        if lacking:
            wanted = " and ".join(map(repr, self.baselines.values()))
            raise FileNotFoundError(f"{where} has {list(records)} with all {seeds} seeds; expected {wanted}")
        rows = self.table(records)
        content = {
            "variants": settings_of({label: self.variants[label] for label in records}),
            "missing": [label for label in self.variants if label not in records],
            "seeds": seeds,
            "baselines": list(self.baselines.values()),
            "grid": tuned(gather(self.grid, self.grid_seeds, where / "grid")),
            "table": table_json(rows),
            "contrasts": self._contrasts(rows),
            **self.adds(records, rows),
            "logs": {label: [run["log"] for run in runs] for label, runs in records.items()},
            "seconds": {label: [run["seconds"]["train"] for run in runs] for label, runs in records.items()},
        }
        return write_report(self.name, content, out)

    def table(self, records: Records) -> StudyTable:
        """For each label and measure the mean, its interval, and the difference to its baseline; see `table`."""
        groups: dict[str, Records] = {baseline: {} for baseline in self.baselines.values()}
        for label, runs in records.items():
            groups[self.baseline_of(label)][label] = runs
        rows: StudyTable = {}
        for baseline, group in groups.items():
            rows |= table(group, baseline)
        return rows

    def baseline_of(self, label: str) -> str:
        """The variant that this one is compared with.

        Raises:
            ValueError: a label that begins with none of the prefixes.
        """
        fitting = [prefix for prefix in self.baselines if label.startswith(prefix)]
        if not fitting:
            raise ValueError(f"got label {label!r}; expected one that begins with {' or '.join(self.baselines)}")
        return self.baselines[max(fitting, key=len)]

    def _contrasts(self, rows: StudyTable) -> dict[str, list[dict[str, object]]]:
        """hIoU of the planned comparisons on each split, those whose two variants are finished."""
        found: dict[str, list[dict[str, object]]] = {}
        for split in SPLITS:
            key = f"{split}/hIoU"
            scores = {label: row[key] for label, row in rows.items() if key in row}
            planned = [pair for pair in self.contrasts if all(label in scores for label in pair)]
            found[split] = [contrast.to_json() for contrast in contrasts(scores, planned)]
        return found


def run_variants(
    variants: Mapping[str, Variant],
    seeds: Sequence[int],
    folder: Path,
    score: Scoring,
    *,
    part: tuple[int, int] = (1, 1),
    progress: bool = False,
) -> None:
    """Train and score every variant with every seed; a finished run is a file, run again only if its recipe has changed.

    Args:
        variants: by label.
        seeds: of the runs; all variants of a seed see the same scenes in the same order and start from the same weights.
        folder: one JSON for each finished run; the runs that others start from are kept too.
        score: what to measure of a finished run.
        part: (k, n) does the k-th of n parts.
        progress: show progress bars.

    Raises:
        ValueError: a part that cannot be.
    """
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"part is {part}; expected (k, n) with 1 <= k <= n")
    starts = _Starts(folder / "starts", progress)
    todo = [(label, seed) for label in variants for seed in seeds]
    # Every n-th run, not every n-th variant: variants take different times, and so each process gets some of each.
    for label, seed in todo[part[0] - 1 :: part[1]]:
        path, recipe = run_path(folder, label, seed), variants[label].load(seed)
        if path.exists() and json.loads(path.read_text())["recipe"] == _as_json(recipe):
            continue
        record = {"label": label, "seed": seed, **_run(recipe, starts, score, progress)}
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(record))


class _Starts:
    """Runs that others start from, each trained once for a seed and kept."""

    def __init__(self, folder: Path, progress: bool) -> None:
        self.folder, self.progress = folder, progress
        self.found: dict[tuple[str, int], Run] = {}

    def of(self, recipe: FineTuneRecipe) -> Run | None:
        """What a recipe starts from; None if it starts from CLIP."""
        if recipe.start is None:
            return None
        key = (recipe.start, recipe.seed)
        if key not in self.found:
            where = self.folder / f"{recipe.start.replace('/', '-')}-{recipe.seed}"
            self.found[key] = train(recipe.start, folder=where, progress=self.progress, seed=recipe.seed)
        return self.found[key]


def _run(recipe: FineTuneRecipe, starts: _Starts, score: Scoring, progress: bool) -> dict[str, object]:
    """Train and score once; what a record holds of it."""
    started = time.perf_counter()
    start = starts.of(recipe)
    begins = time.perf_counter()
    run = train(recipe, start=start, progress=progress)
    trained = time.perf_counter()
    measured = score(run)
    return {
        "recipe": _as_json(recipe),
        **measured,
        # Twenty points of a curve are as many as a figure shows.
        "log": run.log[:: max(1, recipe.steps // 20)],
        "evaluations": run.evaluations(),
        "seconds": {
            "start": round(begins - started, 1),
            "train": round(trained - begins, 1),
            "score": round(time.perf_counter() - trained, 1),
        },
    }


def _as_json(recipe: FineTuneRecipe) -> JsonObject:
    """A recipe as it comes back from a file, where a tuple is a list."""
    return json.loads(json.dumps(asdict(recipe)))


def run_path(folder: Path, label: str, seed: int) -> Path:
    """Where the record of one run is."""
    return folder / "runs" / f"{label.replace('/', '-')}-{seed}.json"


def gather(variants: Mapping[str, Variant], seeds: Sequence[int], folder: Path) -> Records:
    """The records of the variants that all seeds have finished, by label, in the order of the seeds."""
    paths = {label: [run_path(folder, label, seed) for seed in seeds] for label in variants}
    finished = {label: files for label, files in paths.items() if all(path.exists() for path in files)}
    return {label: [json.loads(path.read_text()) for path in files] for label, files in finished.items()}


def score_run(
    run: Run,
    *,
    splits: Sequence[str] = SPLITS,
    scenes: int = SCENES,
    probes: bool = True,
    gammas: Sequence[float] = (),
) -> dict[str, object]:
    """Metrics on each split, and the probes on 60 scenes of the first, in the precision of the training.

    Args:
        run: a finished run.
        splits: of the recipe's data set.
        scenes: of each.
        probes: whether to probe CLIP as well.
        gammas: calibration sweep of the first split, under "calibration".

    Raises:
        ValueError: a run of pretraining.
    """
    recipe, model = run.recipe, run.model
    if not isinstance(recipe, FineTuneRecipe) or run.reference is None:
        raise ValueError("got a run of pretraining; expected one of fine-tuning")
    result: dict[str, object] = {}
    with autocast(model.clip.device, dtype_of(recipe.machine.dtype)):
        for split in splits:
            data = held_out_data(recipe.data, split, length=scenes)
            found = evaluate(run, data, gammas=gammas if split == splits[0] else ())
            result[split] = found.metrics
            if found.calibration:
                result["calibration"] = found.calibration
        if probes:
            # Sixty captions to tell apart: with more, recall falls for every method and tells them apart no better.
            data = held_out_data(recipe.data, splits[0], length=60)
            items = captioned_items(data, len(data))
            result["probes"] = probe(model.clip, run.reference, items, data.names, data.unseen, model.read_outs[0])
    return result


def score_tuning(run: Run) -> dict[str, object]:
    """What settings are chosen by: metrics on validation scenes alone, test scenes are not looked at."""
    return score_run(run, splits=("val",), scenes=TUNING_SCENES, probes=False)


def tuned(records: Records) -> dict[str, dict[str, float]]:
    """Means over seeds of a grid's metrics on validation scenes: {label: {"mIoU_seen", "mIoU_unseen", "hIoU"}}."""
    return {label: {key: fmean(run["val"][key] for run in runs) for key in METRICS} for label, runs in records.items()}


def table(records: Records, baseline: str) -> StudyTable:
    """For each label and each measure: mean, 95% interval, and the same of the difference to the baseline, seed by seed.

    Measures are "test/mIoU_unseen", "probes/margin" and so on.

    Raises:
        ValueError: no such baseline, or variants with other numbers of runs than it has.
    """
    if baseline not in records:
        raise ValueError(f"no baseline {baseline!r}; expected one of {', '.join(records)}")
    count = len(records[baseline])
    unpaired = next((label for label, runs in records.items() if len(runs) != count), None)
    if unpaired is not None:
        got = f"{unpaired} has {len(records[unpaired])} runs, {baseline} {count}"
        raise ValueError(f"{got}; expected the same seeds")
    values = {label: _by_measure(runs) for label, runs in records.items()}
    rows: StudyTable = {}
    for label, measures in values.items():
        rows[label] = {}
        for key, own in measures.items():
            versus = None if label == baseline else paired_interval(own, values[baseline][key])
            found = interval(own)
            rows[label][key] = Score(found.mean, found.ci95, values=own, difference=versus)
    return rows


def _by_measure(runs: Sequence[JsonObject]) -> dict[str, tuple[float, ...]]:
    """{"test/hIoU": one value a seed} of the groups of a record that hold measures."""
    groups = [name for name in runs[0] if name in ("probes", "val", *SPLITS)]
    keys = [(group, key) for group in groups for key in runs[0][group]]
    return {f"{group}/{key}": tuple(run[group][key] for run in runs) for group, key in keys}


def table_json(rows: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, object]]]:
    """Rows of a table, or of a ladder of differences, as reports hold them."""
    return {label: {key: cell.to_json() for key, cell in row.items()} for label, row in rows.items()}


def settings_of(variants: Mapping[str, Variant], seed: int = 0) -> dict[str, dict[str, object]]:
    """What each variant runs: its recipe, whether it is the paper's, and what differs from the defaults of a recipe."""
    found: dict[str, dict[str, object]] = {}
    for label, variant in variants.items():
        settings = _differing(replace(variant.load(seed), seed=0))
        found[label] = {"recipe": variant.recipe, "paper": variant.paper, **settings}
    return found


def _differing(recipe: FineTuneRecipe) -> dict[str, object]:
    """Keys that differ from the defaults; of a section with fields of its own only the fields that differ."""
    plain = FineTuneRecipe(name="", steps=0)
    differing: dict[str, object] = {}
    for key, value in vars(recipe).items():
        default = getattr(plain, key)
        if value == default:
            continue
        if is_dataclass(value):
            differing[key] = {k: v for k, v in vars(value).items() if v != getattr(default, k)}
        else:
            differing[key] = value
    return differing
