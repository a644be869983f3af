"""CLIP's head or a linear map: which is the better buy after how many steps?

One training of 4,000 steps of eight scenes for each head and seed, looked at on the way. A cosine over 4,000
steps would show at step 200 a model in the middle of its training, whose rate is as high as it ever is, and
not what 200 steps can buy; a training of its own for each length would, at 1.75 times the steps. Here the
rate stays after its warm-up and falls over the last fifth alone. Looks before that are of one training,
whatever its end, and the two heads are looked at alike; the last look is at a finished model (a rate that
stays and a cooldown end where a cosine does: 2405.18392). The finished trainings of 400 steps in
`chimera_seg` say what a look at step 400 lacks.

Both heads have the same lessons, those that no schedule changes: GLM, and CLIP's dense features at all
positions. Their rates are those that `chimera_seg.tune` found for each at 400 steps.

One core of two busy ones takes some 0.45 s a step: half an hour a training, three hours for all six.
A training that was killed goes on where it stood (its last state, every 200 steps, is in runs/chimera_heads).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import pooled_intervals
from ..datasets import held_out_data
from ..evaluation import evaluate
from ..segmentors import Segmentor
from ..training.recipe import FineTuneRecipe
from ..training.run import Watch
from .chimera_seg import SHOWN, VARIANTS, contrasts_of, rows, score
from .rows import SPLITS, Curves, Point, curves_json
from .runs import Records, gather_any, run_variants
from .study import table_json
from .variants import Variant, settings_of

FOLDER = data_dir() / "rows" / "chimera_heads"
STATES = Path("runs") / "chimera_heads"
LOOKS = (200, 400, 800, 1600, 3200, 4000)  # the rate falls after the last but one
HEADS = ("linear", "head")
CONTRASTS: Sequence[tuple[str, str]] = (("head", "linear"),)


def variants() -> dict[str, Variant]:
    """The two trainings."""
    return {
        head: VARIANTS[f"{head}, all positions"].changed(
            steps=LOOKS[-1],
            optimizer={"cooldown": LOOKS[-1] - LOOKS[-2]},
            evaluation={"at": list(LOOKS), "scenes": 100},
        )
        for head in HEADS
    }


def chimera_heads(
    *,
    seeds: int = 3,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    states: Path = STATES,
    out: Path | None = None,
) -> JsonObject:
    """Run what is missing, and write chimera_heads.json with what is finished.

    Args:
        seeds: of each head.
        part: (k, n) does the k-th of n parts of the runs; with two, each has one head.
        folder: where finished runs are kept.
        states: where a run that is not finished is kept.
        out: where the report is written; data/reports by default.

    Returns:
        What `what_is_finished` does.
    """
    run_variants(variants(), range(seeds), folder, score, watch=on_test_scenes, part=part, states=states)
    return write_report("chimera_heads", what_is_finished(seeds, folder), out)


def on_test_scenes(recipe: FineTuneRecipe) -> Watch:
    """What is looked at beside validation scenes: as many of new and of known instances."""
    data = {split: held_out_data(recipe.data, split, length=recipe.evaluation.scenes) for split in SPLITS}

    def watch(step: int, segmentor: Segmentor) -> dict[str, float]:
        found: dict[str, float] = {}
        for split, scenes in data.items():
            metrics = evaluate(segmentor, scenes).metrics
            found |= {f"{split}/{key}": metrics[key] for key in SHOWN if key in metrics}
        return found

    return watch


def what_is_finished(seeds: int = 3, folder: Path = FOLDER) -> JsonObject:
    """The content of the report, from the runs in a folder; arguments as of `chimera_heads`.

    Returns:
        {"seeds", "missing": {head: number of seeds}, "variants": settings, "table": the last step's rows,
        "contrasts": {split: rows, of hIoU}, "curves": {head: {metric: points}}, "differences": {metric:
        points of head minus linear, paired by seed}, "seconds_a_step": {head: median}}; without two seeds of
        a head there are neither rows nor points. Looks are part of the seconds; a run that was killed and
        went on tells only those after it, and a head that came second in its process found the teacher's
        answers there.
    """
    wanted = variants()
    records = gather_any(wanted, range(seeds), folder)
    return {
        "seeds": seeds,
        "missing": {
            head: seeds - len(records.get(head, ())) for head in wanted if len(records.get(head, ())) < seeds
        },
        "variants": settings_of({head: wanted[head] for head in records}),
        "table": table_json(rows(records)),
        "contrasts": {
            split: [each.to_json() for each in contrasts_of(records, CONTRASTS, split)] for split in SPLITS
        },
        "curves": {head: curves_json(curve) for head, curve in curves(records).items()},
        "differences": curves_json(differences(records)),
        "seconds_a_step": {
            head: round(median(run["seconds"]["train"] / run["recipe"]["steps"] for run in runs), 3)
            for head, runs in records.items()
        },
    }


def curves(records: Records) -> dict[str, Curves]:
    """By head and metric, mean and interval at each look; both heads share one spread over seeds."""
    paths = {head: [run["evaluations"] for run in runs] for head, runs in records.items()}
    found: dict[str, Curves] = {}
    if not any(len(of) > 1 for of in paths.values()):
        return found
    for metric in _looked_at(paths):
        for place, step in enumerate(LOOKS):
            values = {head: [path[place][metric] for path in of] for head, of in paths.items()}
            for head, each in pooled_intervals(values).items():
                point = Point(round(each.mean, 5), round(each.ci95, 5), step)
                found.setdefault(head, {}).setdefault(metric, []).append(point)
    return found


def differences(records: Records) -> Curves:
    """Head minus linear at each look, paired by seed; looks share one spread over seeds.

    One spread, since three pairs say little of how far pairs lie apart and six looks at them say more. The
    looks of one training are not independent, so that these intervals are somewhat narrow; what is planned is
    told by `contrasts_of`, from the last look alone.
    """
    runs = {head: {run["seed"]: run["evaluations"] for run in records.get(head, ())} for head in HEADS}
    seeds = sorted(runs["head"].keys() & runs["linear"].keys())
    found: Curves = {}
    if len(seeds) < 2:
        return found
    for metric in _looked_at({"head": [runs["head"][seeds[0]]]}):
        pairs = {
            str(step): [runs["head"][s][i][metric] - runs["linear"][s][i][metric] for s in seeds]
            for i, step in enumerate(LOOKS)
        }
        found[metric] = [
            Point(round(each.mean, 5), round(each.ci95, 5), int(step))
            for step, each in pooled_intervals(pairs).items()
        ]
    return found


def _looked_at(paths: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> list[str]:
    """The metrics of a look that are reported."""
    first = next(iter(paths.values()))[0][0]
    named = [*SHOWN, *(f"{split}/{key}" for split in SPLITS for key in SHOWN)]
    return [key for key in named if key in first]
