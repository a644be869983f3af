"""InfoCLIP's loss over a grid of its settings: short trainings, one seed. A map, not a result."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from ..core.reports import JsonObject, write_report
from ..training.run import Run
from .rows import METRICS
from .runs import gather, run_variants, score_run
from .variants import Variant

FOLDER = Path("runs/objective_sweep")
# A seed that no report uses; a hundred points in a night of two cores.
SEED, STEPS, SCENES = 200, 40, 60
AXES = ("batch", "pixel", "class")
ALPHAS = (2.0, 3.0, 1.01)
COMPRESSION = (0.0, 1.0, 3.0)  # lambda_1
TRANSFER = (0.0, 1.0, 3.0, 10.0)  # lambda_2


def label_of(axis: str, alpha: float, compression: float, transfer: float) -> str:
    """Name of a point of the grid; with both weights zero all points are one, plain fine-tuning.

    >>> label_of("batch", 2.0, 1.0, 3.0), label_of("class", 3.0, 0.0, 0.0)
    ('batch, alpha 2, 1, 3', 'plain')
    """
    return f"{axis}, alpha {alpha:g}, {compression:g}, {transfer:g}" if compression or transfer else "plain"


def points() -> dict[str, Variant]:
    """Every point of the grid by its label, plain fine-tuning first, alpha 2 before the others."""
    found = {"plain": Variant("mini/catseg", {"steps": STEPS})}
    short = Variant("mini/infoclip-paper", {"steps": STEPS})
    for alpha, axis, compression, transfer in product(ALPHAS, AXES, COMPRESSION, TRANSFER):
        objective = {"axis": axis, "alpha": alpha, "compression": compression, "transfer": transfer}
        found.setdefault(label_of(axis, alpha, compression, transfer), short.changed(objective=objective))
    return found


def objective_sweep(*, folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Run the points that are missing and write data/reports/objective_sweep.json.

    Args:
        folder: where finished points are kept.
        out: where the report is written; data/reports by default.
    """
    run_variants(points(), (SEED,), folder, _score)
    return report(folder=folder, out=out)


def report(*, folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Write the report of the points that are finished; see `objective_sweep`.

    Raises:
        FileNotFoundError: plain fine-tuning, to which all are compared, is not finished.
    """
    grid = points()
    records = gather(grid, (SEED,), folder)
    if "plain" not in records:
        raise FileNotFoundError(
            f"{folder} has no finished run of 'plain'; run: infoclip-lite benchmark objective_sweep"
        )
    content = {
        "what": "one seed, short trainings, validation scenes: a map and not a result",
        "seed": SEED,
        "steps": STEPS,
        "scenes": SCENES,
        "missing": [label for label in grid if label not in records],
        "points": {label: _point(run) for label, (run,) in records.items()},
    }
    return write_report("objective_sweep", content, out)


def _point(run: JsonObject) -> dict[str, float]:
    return {key: round(run["val"][key], 4) for key in METRICS}


def _score(run: Run) -> dict[str, object]:
    return score_run(run, splits=("val",), scenes=SCENES, probes=False)
