"""The Chimera-Seg experiment: what each part adds, on the same seeds and scenes, and what a picture costs at inference."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from ..clip import load_clip
from ..core.reports import write_report
from ..core.statistics import Interval, paired_interval
from ..datasets.collage import Collage
from ..evaluation import evaluate
from ..segmentors import ZeroShotSegmentor
from ..training.run import Run
from .rows import StudyTable
from .study import Variant, described, gather, run_variants, score_run, table, table_json, tune

FOLDER = Path("runs/chimera")
BASELINE = "linear"
GAMMAS = (0.5, 1.0, 2.0, 4.0)
_SMALL = {
    "architecture": "Segformer",
    "encoder": "tu-tf_efficientnet_lite0",
    "weights": "package",
    "width": 256,
    "pool": 2,
}
_GLM = {"name": "chimera", "alignment": 0.0, "schedule": "constant"}
_SGD = {"name": "chimera", "alignment": 0.0, "source": "teacher"}


def _chimera(objective: dict[str, Any] | None, attention: str = "vanilla", **body: Any) -> Variant:
    return Variant("mini/chimera", {"chimera": {**_SMALL, **body}, "objective": objective, "attention": [attention]})


# Each rung has one part more than the one before it. No variant is "the paper's": of the paper we have an abstract.
LADDER: dict[str, Variant] = {
    BASELINE: _chimera(None, head="linear"),
    "head": _chimera(None),
    "head, GLM": _chimera(_GLM),
    "head, SGD": _chimera(_SGD),
    "head, SGD, SAM": _chimera({**_SGD, "alignment": 1.0}),
}
# The order is the order of running.
VARIANTS: dict[str, Variant] = {
    **LADDER,
    "head, SGD of the student": _chimera({**_GLM, "schedule": "cosine", "smallest": 32}),
    "linear, SGD": _chimera(_SGD, head="linear"),
    "head, SGD, all positions": _chimera({**_SGD, "schedule": "constant"}),
    "body from scratch, SGD": _chimera(_SGD, weights=None),
    "head of 2 blocks, SGD": _chimera(_SGD, blocks=2),
    "head, SGD step": _chimera({**_SGD, "schedule": "step"}),
    "head, SGD linear": _chimera({**_SGD, "schedule": "linear"}),
}

# Tried on validation scenes with another seed, to choose weights and K.
GRID: dict[str, Variant] = {
    "GLM 1": _chimera(_GLM),
    "GLM 3": _chimera({**_GLM, "distillation": 3.0}),
    "SGD of the student, to 8": _chimera({**_GLM, "schedule": "cosine", "smallest": 8}),
    "SGD of the student, to 32": _chimera({**_GLM, "schedule": "cosine", "smallest": 32}),
    "SGD 3, to 16": _chimera(_SGD),
    "SGD 10, to 16": _chimera({**_SGD, "dense": 10.0}),
    "SGD 3, to 16, SAM 0.1": _chimera({**_SGD, "alignment": 0.1}),
    "SGD 3, to 16, SAM 1": _chimera({**_SGD, "alignment": 1.0}),
}
GRID_SEEDS = (100,)


def chimera(*, seeds: int = 5, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None) -> dict[str, Any]:
    """Run every variant with every seed on test scenes; write data/reports/chimera.json with what all seeds have finished.

    Args:
        seeds: number of runs of each variant.
        part: (k, n) does the k-th of n shares of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"variants", "missing", "seeds", "grid", "table", "ladder", "calibration", "zero_shot", "logs", "seconds"}. Differences in the table
        are to `BASELINE`; in "ladder" each rung has the difference to the one before it.

    Raises:
        FileNotFoundError: the baseline is not finished.
    """
    grid = tune(GRID, GRID_SEEDS, folder / "grid", part=part)
    run_variants(VARIANTS, range(seeds), folder, _score, part=part)
    records = gather(VARIANTS, range(seeds), folder)
    if BASELINE not in records:
        raise FileNotFoundError(f"{folder} has {list(records)} with all {seeds} seeds; expected {BASELINE!r}")
    rows = table(records, BASELINE)
    content = {
        "variants": described({label: VARIANTS[label] for label in records}),
        "missing": [label for label in VARIANTS if label not in records],
        "seeds": seeds,
        "grid": grid,
        "table": table_json(rows),
        "ladder": table_json(ladder(rows)),
        "calibration": {label: _calibration(runs) for label, runs in records.items()},
        "zero_shot": _zero_shot(),
        "logs": {label: [run["log"] for run in runs] for label, runs in records.items()},
        "seconds": {label: [run["seconds"]["train"] for run in runs] for label, runs in records.items()},
    }
    return write_report("chimera", content, out)


def ladder(rows: StudyTable) -> dict[str, dict[str, Interval]]:
    """For each rung but the first: mean and 95% interval of its difference to the rung below, seed by seed."""
    rungs = [label for label in LADDER if label in rows]
    return {
        label: {key: paired_interval(score.values, rows[below][key].values) for key, score in rows[label].items()}
        for below, label in zip(rungs, rungs[1:], strict=False)
    }


def _score(run: Run) -> dict[str, Any]:
    """As every study scores, with the calibration sweep; CLIP is frozen, so there is nothing to probe."""
    return score_run(run, probes=False, gammas=GAMMAS)


def _calibration(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    return {str(g): {k: statistics.fmean(r["calibration"][str(g)][k] for r in runs) for k in runs[0]["test"]} for g in GAMMAS}


def _zero_shot() -> dict[str, Any]:
    """The teacher itself, untrained, on the same test scenes."""
    clip, recipe = load_clip(), VARIANTS[BASELINE].load(0)
    data = Collage("test", recipe.size, length=200, seen=recipe.seen)
    return {"+".join(a): evaluate(ZeroShotSegmentor(clip, a), data).metrics for a in (("vanilla",), clip.read_out)}
