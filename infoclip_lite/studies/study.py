"""One engine for paired comparisons: the same seeds for every variant, tuned and reported on other scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TypeVar

from ..core.reports import JsonObject, write_report
from ..core.statistics import Interval, Score, contrasts, interval, paired_interval
from .rows import SPLITS, StudyTable, shown_metrics
from .runs import Records, Scoring, gather, run_variants, score_tuning
from .variants import Variant, settings_of


def _adds_nothing(records: Records, table: StudyTable) -> dict[str, object]:
    return {}


@dataclass(frozen=True)
class Study:
    """A comparison as a table: what runs, what is compared with what, and what its report adds.

    Attributes:
        name: of the report.
        variants: by label, in the order of running.
        baselines: prefix of labels -> the variant that those are compared with in the table; the longest
            prefix counts.
        contrasts: (first, second) labels, the few comparisons that are planned; p-values are corrected for
            these (Holm).
        grid: settings to choose from, run on validation scenes.
        grid_seeds: of the grid; none of them is reported.
        score: what is measured of a finished run.
        adds: what the report has beside the table: (records, table) -> content.
        planned_seeds: of the variants that a planned contrast names, where they are more than those of the
            others: a claim asks for more than a row.
    """

    name: str
    variants: Mapping[str, Variant]
    baselines: Mapping[str, str]
    score: Scoring
    contrasts: Sequence[tuple[str, str]] = ()
    grid: Mapping[str, Variant] = field(default_factory=dict)
    grid_seeds: Sequence[int] = ()
    adds: Callable[[Records, StudyTable], Mapping[str, object]] = _adds_nothing
    planned_seeds: int = 0

    def run(
        self,
        *,
        seeds: int = 5,
        part: tuple[int, int] = (1, 1),
        folder: Path | None = None,
        out: Path | None = None,
    ) -> JsonObject:
        """Run what is missing, and write data/reports/NAME.json with what all seeds have finished.

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
        run_variants(self.planned, range(seeds, self.planned_seeds), where, self.score, part=part)
        return self.report(seeds=seeds, folder=where, out=out)

    def report(self, *, seeds: int = 5, folder: Path | None = None, out: Path | None = None) -> JsonObject:
        """Write the report of what is finished.

        Args:
            seeds, folder, out: as for `run`.

        Returns:
            {"variants", "missing", "seeds", "planned_seeds", "baselines", "grid", "table", "contrasts",
            "logs", "seconds"}, and what the study adds; "missing" labels are not finished yet.

        Raises:
            FileNotFoundError: a baseline is not finished.
        """
        where = folder or Path("runs") / self.name
        records = gather(self.variants, range(seeds), where)
        more = gather(self.planned, range(max(seeds, self.planned_seeds)), where)
        # All or none: a contrast pairs seed with seed.
        records |= more if len(more) == len(self.planned) else {}
        lacking = [label for label in self.baselines.values() if label not in records]
        if lacking:
            wanted = " and ".join(map(repr, self.baselines.values()))
            raise FileNotFoundError(f"{where} has {list(records)} with all {seeds} seeds; expected {wanted}")
        rows = self.table(records)
        content = {
            "variants": settings_of({label: self.variants[label] for label in records}),
            "missing": [label for label in self.variants if label not in records],
            "seeds": seeds,
            "planned_seeds": max(
                (len(records[label]) for label in self.planned if label in records), default=0
            ),
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
        """Every label and measure: mean, interval, and the difference to its baseline; see `table`."""
        groups: dict[str, Records] = {baseline: {} for baseline in self.baselines.values()}
        for label, runs in records.items():
            groups[self.baseline_of(label)][label] = runs
        rows: StudyTable = {}
        for baseline, group in groups.items():
            rows |= table(group, baseline)
        return rows

    @property
    def planned(self) -> dict[str, Variant]:
        """The variants that a planned contrast names."""
        named = {label for pair in self.contrasts for label in pair}
        return {label: variant for label, variant in self.variants.items() if label in named}

    def baseline_of(self, label: str) -> str:
        """The variant that this one is compared with.

        Raises:
            ValueError: a label that begins with none of the prefixes.
        """
        fitting = [prefix for prefix in self.baselines if label.startswith(prefix)]
        if not fitting:
            raise ValueError(
                f"got label {label!r}; expected one that begins with {' or '.join(self.baselines)}"
            )
        return self.baselines[max(fitting, key=len)]

    def _contrasts(self, rows: StudyTable) -> dict[str, list[dict[str, object]]]:
        """hIoU of the planned comparisons on each split, those whose two variants are finished.

        Corrected for all that are planned, the missing ones too.
        """
        found: dict[str, list[dict[str, object]]] = {}
        for split in SPLITS:
            key = f"{split}/hIoU"
            scores = {label: row[key] for label, row in rows.items() if key in row}
            planned = [pair for pair in self.contrasts if all(label in scores for label in pair)]
            rows_of_split = contrasts(scores, planned, planned=len(self.contrasts))
            found[split] = [contrast.to_json() for contrast in rows_of_split]
        return found


def tried(
    candidates: Mapping[str, Variant], seeds: Sequence[int], folder: Path, *, part: tuple[int, int] = (1, 1)
) -> dict[str, dict[str, float]]:
    """Run what is missing of a grid on validation scenes; what is finished, as of `tuned`.

    Args:
        candidates: by label.
        seeds: of the grid.
        folder: where finished runs are kept.
        part: (k, n) does the k-th of n parts of the runs.
    """
    run_variants(candidates, seeds, folder, score_tuning, part=part)
    return tuned(gather(candidates, seeds, folder))


def tuned(records: Records) -> dict[str, dict[str, float]]:
    """Means over seeds of what a row shows, on validation scenes, by label."""
    return {
        label: {key: fmean(run["val"][key] for run in runs) for key in shown_metrics(runs[0]["val"])}
        for label, runs in records.items()
    }


Choice = TypeVar("Choice", str, float)


def best_choice(measured: Mapping[str, Mapping[str, float]], labels: Mapping[Choice, str]) -> Choice | None:
    """The choice with the highest hIoU on validation scenes; None if one of them is not measured yet.

    Args:
        measured: as of `tried`.
        labels: choice -> its label in what was measured.
    """
    if not set(labels.values()) <= measured.keys():
        return None
    return max(labels, key=lambda choice: measured[labels[choice]]["hIoU"])


def table(records: Records, baseline: str) -> StudyTable:
    """For each label and measure: mean, 95% interval, and the difference to the baseline, seed by seed.

    Measures are "test-known/mIoU_unseen", "probes/margin" and so on.

    A variant with fewer runs than the baseline is paired with the first of these.

    Raises:
        ValueError: no such baseline, or a variant with more runs than it has.
    """
    if baseline not in records:
        raise ValueError(f"no baseline {baseline!r}; expected one of {', '.join(records)}")
    count = len(records[baseline])
    unpaired = next((label for label, runs in records.items() if len(runs) > count), None)
    if unpaired is not None:
        got = f"{unpaired} has {len(records[unpaired])} runs, {baseline} {count}"
        raise ValueError(f"{got}; expected no more")
    values = {label: _by_measure(runs) for label, runs in records.items()}
    rows: StudyTable = {}
    for label, measures in values.items():
        rows[label] = {}
        for key, own in measures.items():
            versus = None if label == baseline else paired_interval(own, values[baseline][key][: len(own)])
            found = interval(own)
            rows[label][key] = Score(found.mean, found.ci95, values=own, difference=versus)
    return rows


def untrained_row(measured: Mapping[str, Mapping[str, float]]) -> dict[str, Score]:
    """A table's row of what nothing trains: nothing is drawn, so it has the same score under every seed.

    Args:
        measured: split -> metrics.

    >>> untrained_row({"test": {"hIoU": 0.25}})["test/hIoU"].to_json()
    {'mean': 0.25, 'half': 0.0}
    """
    return {
        f"{split}/{key}": Score(value, 0.0)
        for split, metrics in measured.items()
        for key, value in metrics.items()
    }


def _by_measure(runs: Sequence[JsonObject]) -> dict[str, tuple[float, ...]]:
    """{"test-known/hIoU": one value a seed} of the groups of a record that hold measures."""
    groups = [name for name in runs[0] if name in ("probes", "val", *SPLITS)]
    keys = [(group, key) for group in groups for key in runs[0][group]]
    return {f"{group}/{key}": tuple(run[group][key] for run in runs) for group, key in keys}


def table_json(rows: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, object]]]:
    """Rows of a table, or of a ladder of differences, as reports hold them."""
    return {label: {key: cell.to_json() for key, cell in row.items()} for label, row in rows.items()}
