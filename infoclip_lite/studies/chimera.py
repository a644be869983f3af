"""The Chimera-Seg experiment on the first collage-mini: what each part adds, on the same seeds and scenes.

`chimera_seg` and `chimera_heads` ask again, with a body that is not CLIP's stem. When they have their rows,
this module goes, and with it data/reports/chimera.json, `benchmark chimera`, its tests and the leaderboard's
reading of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ..clip import load_clip
from ..core.reports import JsonObject
from ..core.statistics import Interval, paired_interval
from ..datasets import held_out_data
from ..evaluation import evaluate
from ..segmentors import ZeroShotSegmentor
from ..training.run import Run
from .rows import SPLITS, StudyTable
from .runs import SCENES, Records, score_run
from .study import Study, table_json
from .variants import Variant

FOLDER = Path("runs/chimera")
BASELINE = "linear"
GAMMAS = (0.5, 1.0, 2.0, 4.0)


def _without(**segmentor: object) -> Variant:
    """The recipe without any objective beside the task loss, with some options of the segmentor changed."""
    return Variant("mini/chimera", {"objective": None, **_section("segmentor", segmentor)})


def _glm(**objective: object) -> Variant:
    """Global distillation from all positions of the student (CLIP-ZSS's GLM), without alignment."""
    glm = {"source": "student", "schedule": "constant", "alignment": 0.0}
    return Variant("mini/chimera", {"objective": {**glm, **objective}})


def _sgd(segmentor: dict[str, object] | None = None, **objective: object) -> Variant:
    """The recipe's selective distillation, without alignment; options of both sections changed."""
    return Variant(
        "mini/chimera", {"objective": {"alignment": 0.0, **objective}, **_section("segmentor", segmentor)}
    )


def _section(name: str, options: dict[str, object] | None) -> dict[str, object]:
    return {name: options} if options else {}


# Each rung has one part more than the one before it. No variant is "the paper's": of the paper we have an
# abstract.
LADDER: dict[str, Variant] = {
    BASELINE: _without(head="linear"),
    "head": _without(),
    "head, GLM": _glm(),
    "head, SGD": _sgd(),
    "head, SGD, SAM": Variant("mini/chimera"),
}
# The order is the order of running.
VARIANTS: dict[str, Variant] = {
    **LADDER,
    "head, SGD of the student": _glm(schedule="cosine", smallest=32),
    "linear, SGD": _sgd({"head": "linear"}),
    "head, SGD, all positions": _sgd(schedule="constant"),
    "body from scratch, SGD": _sgd({"weights": None}),
    "head of 2 blocks, SGD": _sgd({"blocks": 2}),
    "head, SGD step": _sgd(schedule="step"),
    "head, SGD linear": _sgd(schedule="linear"),
}

# Tried on validation scenes with another seed, to choose weights and K.
GRID: dict[str, Variant] = {
    "GLM 1": _glm(),
    "GLM 3": _glm(distillation=3.0),
    "SGD of the student, to 8": _glm(schedule="cosine", smallest=8),
    "SGD of the student, to 32": _glm(schedule="cosine", smallest=32),
    "SGD 3, to 16": _sgd(),
    "SGD 10, to 16": _sgd(dense=10.0),
    "SGD 3, to 16, SAM 0.1": _sgd(alignment=0.1),
    "SGD 3, to 16, SAM 1": _sgd(alignment=1.0),
}


def ladder(rows: StudyTable) -> dict[str, dict[str, Interval]]:
    """For each rung but the first: its difference to the rung below, seed by seed, with its interval."""
    rungs = [label for label in LADDER if label in rows]
    return {
        label: {
            key: paired_interval(score.values, rows[below][key].values) for key, score in rows[label].items()
        }
        for below, label in zip(rungs, rungs[1:], strict=False)
    }


def _score(run: Run) -> dict[str, object]:
    """As every study scores, with the calibration sweep; CLIP is frozen, so there is nothing to probe."""
    found: JsonObject = score_run(run, probes=False, gammas=GAMMAS)
    return {**found, "calibration": found["calibration"][SPLITS[0]]}


def _adds(records: Records, rows: StudyTable) -> dict[str, object]:
    """The ladder, the calibration sweep of every variant, and the teacher alone."""
    return {
        "ladder": table_json(ladder(rows)),
        "calibration": {label: _calibration(runs) for label, runs in records.items()},
        "zero_shot": zero_shot(),
    }


def _calibration(runs: Sequence[JsonObject]) -> dict[str, dict[str, float]]:
    """{gamma: metrics on known instances}, means over seeds."""
    sweeps = [run["calibration"] for run in runs]
    keys = list(runs[0]["calibration"]["0.0"])
    return {
        str(gamma): {key: fmean(sweep[str(gamma)][key] for sweep in sweeps) for key in keys}
        for gamma in GAMMAS
    }


def zero_shot() -> dict[str, dict[str, float]]:
    """The teacher itself on the same known instances: as it was trained to be read, and at its best."""
    clip, recipe = load_clip(), VARIANTS[BASELINE].load(0)
    data = held_out_data(recipe.data, SPLITS[0], length=SCENES)
    read_outs = (("vanilla",), clip.read_outs)
    return {"+".join(names): evaluate(ZeroShotSegmentor(clip, names), data).metrics for names in read_outs}


CHIMERA = Study(
    "chimera",
    VARIANTS,
    baselines={"": BASELINE},
    # What each rung adds to the one below it is what the ladder was built to ask.
    contrasts=tuple(zip(list(LADDER)[1:], LADDER, strict=False)),
    grid=GRID,
    grid_seeds=(100,),
    score=_score,
    adds=_adds,
)


def chimera(
    *,
    seeds: int = 5,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Run every variant with every seed and write data/reports/chimera.json; see `Study.run`."""
    return CHIMERA.run(seeds=seeds, part=part, folder=folder, out=out)
