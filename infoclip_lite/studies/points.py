"""What each term of "CLIP's knowledge into point clouds" (2312.07221) adds, on the scenes of data/points.

Three seeds, since a row is an ablation; weights were chosen on validation scenes, with a seed of their own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..core.files import data_dir, whole_file
from ..core.labels import NO_LABEL
from ..core.reports import JsonObject, write_report
from ..core.statistics import contrasts
from ..datasets.points import Points, PointScene
from ..evaluation.points import Labeller, count_points
from ..segmentors.base import count
from ..segmentors.points import ProjectedCLIP
from ..training.points import Lessons, PointRun, prepare, train_points
from ..training.recipe import PointsRecipe, load_recipe
from .rows import SPLITS, StudyTable
from .runs import Records
from .study import table, table_json, tuned, untrained_row

FOLDER = data_dir() / "rows" / "points"
RECIPE = "mini/points"
FROZEN = "frozen CLIP, projected"
_NOTHING = {"local_alignment": 0.0, "global_alignment": 0.0, "pseudo_labels": 0.0}
# A term more from row to row; what a row does not turn off has the recipe's weight.
VARIANTS: dict[str, dict[str, float]] = {
    "seen labels": _NOTHING,
    "+ local": {"global_alignment": 0.0, "pseudo_labels": 0.0},
    "+ global": {"pseudo_labels": 0.0},
    "+ pseudo labels": {},
    "pseudo labels without alignment": {"local_alignment": 0.0, "global_alignment": 0.0},
}
BASELINE = "seen labels"
CONTRASTS = (
    ("+ local", "seen labels"),
    ("+ global", "+ local"),
    ("+ pseudo labels", "+ global"),
    ("+ pseudo labels", "pseudo labels without alignment"),
    ("+ pseudo labels", FROZEN),
)
# One weight at a time, the others as before anything was chosen; the recipe is the best of the four.
START = {"local_alignment": 1.0, "global_alignment": 0.1, "pseudo_labels": 1.0}
GRID: dict[str, dict[str, float]] = {
    "start": START,
    "local 4": {**START, "local_alignment": 4.0},
    "global 1": {**START, "global_alignment": 1.0},
    "pseudo 2": {**START, "pseudo_labels": 2.0},
}
GRID_SEED = 100  # of no run that is reported


def points(
    *, seeds: int = 3, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None
) -> JsonObject:
    """Run what is missing, and write points.json with what all seeds have finished.

    Args:
        seeds: of every variant.
        part: (k, n) does the k-th of n parts of the runs, so that n processes can divide the work.
        folder: one small JSON for each finished run.
        out: where the report is written; data/reports by default.

    Returns:
        {"variants", "missing", "seeds", "grid", "table", "contrasts", "nouns", "pseudo_labels", "parameters",
        "scenes", "seconds"}: of each variant mean, interval and values of every metric on "test" and
        "test-known", fractions.

    Raises:
        ValueError: a part that cannot be.
        FileNotFoundError: the baseline is not finished.
    """
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"part is {part}; expected (k, n) with 1 <= k <= n")
    clip = load_clip().requires_grad_(False)
    every = [(label, changes, seed) for seed in range(seeds) for label, changes in VARIANTS.items()]
    grid = [(label, changes, GRID_SEED) for label, changes in GRID.items()]
    lessons = _run(grid[part[0] - 1 :: part[1]], folder / "grid", clip, ("val",))
    lessons = _run(every[part[0] - 1 :: part[1]], folder, clip, SPLITS, lessons)
    return report(clip, seeds=seeds, folder=folder, out=out, lessons=lessons)


def report(
    clip: DenseCLIP,
    *,
    seeds: int = 3,
    folder: Path = FOLDER,
    out: Path | None = None,
    lessons: Lessons | None = None,
) -> JsonObject:
    """Write the report of what is finished; see `points`.

    Args:
        clip: the frozen model, measured too.
        seeds, folder, out: as for `points`.
        lessons: of the training's scenes, where they are prepared; None prepares them.

    Raises:
        FileNotFoundError: the baseline is not finished.
    """
    records = _gather(VARIANTS, range(seeds), folder)
    if BASELINE not in records:
        raise FileNotFoundError(
            f"{folder} has {list(records)} with all {seeds} seeds; expected {BASELINE!r}: run "
            "`infoclip-lite benchmark points` to its end"
        )
    rows = table(records, BASELINE)
    frozen = {split: _frozen(clip, split) for split in SPLITS}
    rows[FROZEN] = untrained_row({split: found["metrics"] for split, found in frozen.items()})
    data = Points("train")
    content = {
        "variants": {label: asdict(_recipe(changes, 0)) for label, changes in VARIANTS.items()},
        "missing": [label for label in VARIANTS if label not in records],
        "seeds": seeds,
        "grid": tuned(_gather(GRID, (GRID_SEED,), folder / "grid")),
        "table": table_json(rows),
        "contrasts": {split: _contrasts(rows, split) for split in SPLITS},
        "nouns": {
            FROZEN: frozen["test"]["nouns"],
            **{label: [run["nouns"] for run in runs] for label, runs in records.items()},
        },
        "pseudo_labels": pseudo_quality(data, lessons or prepare(data, clip)),
        "parameters": next(iter(records.values()))[0]["parameters"],
        "scenes": {split: len(Points(split)) for split in ("train", "val", *SPLITS)},
        "seconds": {label: [run["seconds"] for run in runs] for label, runs in records.items()},
    }
    return write_report("points", content, out)


def pseudo_quality(data: Points, lessons: Lessons) -> dict[str, dict[str, float]]:
    """How right the pseudo labels of a training's scenes are, for each unseen noun that is there.

    Args:
        data: the scenes.
        lessons: of `prepare`: the same scenes, at which the teacher has looked.

    Returns:
        {noun: {"points": its points that have a pseudo label, "right": share of them that are called so,
        "uses": points that are called so, "uses_right": share of these that are of the noun}}.
    """
    truth = torch.cat([data[index].labels for index in range(len(data))])
    said = torch.cat([each.pseudo.cpu() for each in lessons.scenes])
    found: dict[str, dict[str, float]] = {}
    for noun in data.unseen:
        own, called = (truth == noun) & (said != NO_LABEL), said == noun
        if own.any() and called.any():
            both = int((own & called).sum())
            points, uses = int(own.sum()), int(called.sum())
            shares = {"right": round(both / points, 5), "uses_right": round(both / uses, 5)}
            found[data.names[noun]] = {"points": points, "uses": uses, **shares}
    return found


def _run(
    todo: Sequence[tuple[str, Mapping[str, float], int]],
    folder: Path,
    clip: DenseCLIP,
    splits: Sequence[str],
    lessons: Lessons | None = None,
) -> Lessons | None:
    """Train and score what is not there, or is of another recipe; the lessons for what comes after.

    The teacher looks once for all runs, and not at all if none is missing.
    """
    for label, changes, seed in todo:
        path, recipe = _path(folder, label, seed), _recipe(changes, seed)
        if path.exists() and _is_of(path, recipe):
            continue
        lessons = lessons or prepare(Points("train"), clip)
        started = time.process_time()
        run = train_points(recipe, data=lessons, progress=False)
        seconds = round(time.process_time() - started, 1)
        record = {"label": label, "seed": seed, "recipe": asdict(recipe), "seconds": seconds}
        record["parameters"] = count(run.model.parameters())
        for split in splits:
            scored = score(run, Points(split))
            record[split] = scored["metrics"]
            if split == splits[-1]:
                record["nouns"] = scored["nouns"]
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(record))
    return lessons


def score(run: PointRun, data: Points) -> dict[str, dict[str, float]]:
    """Metrics of a trained encoder, which sees points alone.

    Args:
        run: a finished training.
        data: the scenes, with the names that the run's words are of.

    Returns:
        {"metrics": fractions, "nouns": IoU of each name that is there}.
    """

    def labelled(scene: PointScene) -> Tensor:
        return run.model(scene.points, scene.colours, run.text)

    return _scored(labelled, data)


def _frozen(clip: DenseCLIP, split: str) -> dict[str, dict[str, float]]:
    """The same of frozen CLIP, which sees the pictures and no label."""
    projected, data = ProjectedCLIP(clip), Points(split)
    text = clip.encode_text(data.names)

    def labelled(scene: PointScene) -> Tensor:
        return projected(scene.points, scene.views, scene.pixels, scene.visible, text).cpu()

    return _scored(labelled, data)


def _scored(labeller: Labeller, data: Points) -> dict[str, dict[str, float]]:
    counted = count_points(labeller, data)
    each = zip(data.names, counted.per_class().tolist(), counted.pixels().tolist(), strict=True)
    # Five digits: rows travel with the project, and no figure shows more.
    return {
        "metrics": {key: round(value, 5) for key, value in counted.compute().items()},
        "nouns": {name: round(iou, 5) for name, iou, points_of in each if points_of},
    }


def _contrasts(rows: StudyTable, split: str) -> list[dict[str, object]]:
    """hIoU of the planned comparisons, of those whose two sides are finished."""
    scores = {label: row[f"{split}/hIoU"] for label, row in rows.items()}
    planned = [pair for pair in CONTRASTS if all(label in scores for label in pair)]
    return [contrast.to_json() for contrast in contrasts(scores, planned)]


def _recipe(changes: Mapping[str, float], seed: int) -> PointsRecipe:
    loaded = load_recipe(RECIPE, **changes, seed=seed)
    if not isinstance(loaded, PointsRecipe):
        raise ValueError(f"{RECIPE} is {type(loaded).__name__}; expected a recipe with task: points")
    return loaded


def _path(folder: Path, label: str, seed: int) -> Path:
    return folder / f"{label.replace('+ ', 'plus-').replace(' ', '-')}-{seed}.json"


def _is_of(path: Path, recipe: PointsRecipe) -> bool:
    """Whether a file's run is of this recipe, as it comes back from JSON."""
    return json.loads(path.read_text(encoding="utf-8"))["recipe"] == json.loads(json.dumps(asdict(recipe)))


def _gather(variants: Mapping[str, object], seeds: Sequence[int], folder: Path) -> Records:
    """The records of the variants that all seeds have finished."""
    paths = {label: [_path(folder, label, seed) for seed in seeds] for label in variants}
    return {
        label: [json.loads(path.read_text(encoding="utf-8")) for path in files]
        for label, files in paths.items()
        if all(path.exists() for path in files)
    }
