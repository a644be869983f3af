"""Where forgetting is: plain fine-tuning over learning rates, steps and what is tuned.

Two things look alike at the end of a training that went wrong, and are told apart here. *Broken*: seen nouns,
whose pixels are learnt from, fall below where they began; the optimiser was too fast. *Forgetting*: seen
nouns gain, unseen nouns fall below where they began and stay there. Both are told on test scenes, of new and
of known instances; the rate that one would use is chosen on validation scenes, by seen nouns alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import Interval, pooled_intervals
from ..datasets import held_out_data
from ..datasets.base import class_groups
from ..evaluation import evaluate
from ..segmentors import Segmentor
from ..training.recipe import FineTuneRecipe
from ..training.run import Run, Watch
from .rows import METRICS, SPLITS, STUFF, Curves, Point, curves_json
from .runs import gather_any, run_variants
from .variants import Variant, settings_of

FOLDER = data_dir() / "rows" / "degradation_map"
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
# An ablation of its own: every weight learns, and pixels of unseen nouns are called background.
BACKGROUND_RATES = (3e-5, 1e-4, 3e-4)
HEAD_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
TUNINGS = ("full", "qv", "image", "stem")
SEEN, UNSEEN = "test/mIoU_seen", "test/mIoU_unseen"  # new instances
# What a verdict is of: names of seen and of unseen nouns on scenes of one sort.
SORTS: Mapping[str, tuple[str, str]] = {
    split: (f"{split}/mIoU_seen", f"{split}/mIoU_unseen") for split in SPLITS
}
IOU = "test/IoU of "  # a noun's, in the rows alone

Evaluations = Mapping[str, Sequence[Mapping[str, float]]]  # seed -> what was measured, one record a step
Verdict = Literal["broken", "forgetting", "lost", "kept", "no gain"]


def cells() -> dict[str, Variant]:
    """The variants of the map, "tuning/rate"."""
    found = {
        f"{tune}/{rate:g}": Variant("mini/map", {"tune": tune, "optimizer": {"lr": rate}})
        for rate in RATES
        for tune in TUNINGS
    }
    heads = {
        f"head/{rate:g}": Variant("mini/map-head", {"optimizer": {"head_lr": rate}}) for rate in HEAD_RATES
    }
    told = {
        f"background/{rate:g}": Variant("mini/map", {"background": "background", "optimizer": {"lr": rate}})
        for rate in BACKGROUND_RATES
    }
    return {**found, **heads, **told}


def degradation_map(
    *,
    seeds: int = 3,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Run the cells that are missing and write degradation_map.json with what is finished.

    Args:
        seeds: of each cell.
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept; they are small, and are read from there the next time.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "missing": {tuning/rate: number of seeds}, "settings", "zero_shot": {metric: mean before any
        training}, "cells": {tuning/rate: {"seeds", "verdict": {split: word}, "differences": {metric: {"mean",
        "half"}}, "curves": {metric: [{"step", "mean", "half"}]}}}, "usable": {tuning: rate}, "nouns":
        {tuning/usable rate: {noun: {"before", "after"}}}}; differences are of the last step to zero-shot,
        paired by seed; nouns are IoUs on new instances, means over seeds. Intervals of all cells share one
        spread over seeds.
    """
    run_variants(cells(), range(seeds), folder, score_nothing, watch=on_every_split, part=part)
    return write_report("degradation_map", what_is_finished(seeds, folder), out)


def score_nothing(run: Run) -> dict[str, object]:
    """What is looked at here is measured along the way; a record keeps the run's evaluations anyway."""
    return {}


def what_is_finished(seeds: int, folder: Path = FOLDER) -> JsonObject:
    """The content of the report, from the runs in a folder; arguments as of `degradation_map`."""
    variants = cells()
    records = gather_any(variants, range(seeds), folder)
    found = {label: {str(run["seed"]): run["evaluations"] for run in runs} for label, runs in records.items()}
    # Where every tuning of CLIP itself begins, whatever the seed; a head begins at random, and is measured
    # from here too.
    zero_shot = next(
        (path[0] for label, runs in found.items() if not label.startswith("head/") for path in runs.values()),
        None,
    )
    told = _told(found)
    rows = cell_rows(told, zero_shot) if zero_shot is not None and told else {}
    rates = usable(rows)
    return {
        "seeds": seeds,
        "missing": {
            label: seeds - len(found.get(label, ()))
            for label in variants
            if len(found.get(label, ())) < seeds
        },
        "settings": settings_of({label: variants[label] for label in rows}),
        "zero_shot": {} if zero_shot is None else _shown(zero_shot),
        "cells": rows,
        "usable": rates,
        "nouns": {
            label: _nouns(list(found[label].values()))
            for label in (f"{tuning}/{rate}" for tuning, rate in rates.items())
        },
    }


def on_every_split(recipe: FineTuneRecipe) -> Watch:
    """What a cell measures beside validation scenes: as many scenes of new and of known instances, every
    noun's IoU on the new ones, and how far CLIP's weights went.
    """
    data = {split: held_out_data(recipe.data, split, length=recipe.evaluation.scenes) for split in SPLITS}
    begun: dict[str, Tensor] = {}

    def watch(step: int, segmentor: Segmentor) -> dict[str, float]:
        weights = dict(segmentor.clip.model.named_parameters())
        if not begun:
            begun.update({name: weight.detach().clone() for name, weight in weights.items()})
        found: dict[str, float] = {"weight_distance": _distance(weights, begun)}
        for split, scenes in data.items():
            report = evaluate(segmentor, scenes)
            found |= {f"{split}/{key}": report.metrics[key] for key in (*METRICS, STUFF)}
            rows = {row.name: row for row in report.classes}
            for group, ids in (class_groups(scenes) or {}).items():
                nouns = [rows[scenes.names[i]] for i in ids]
                found[f"{split}/accuracy_{group}"] = fmean(row.accuracy or 0.0 for row in nouns if row.pixels)
                if split == "test" and group != "stuff":
                    found |= {f"{IOU}{row.name}": row.iou for row in nouns if row.iou is not None}
        return found

    return watch


@torch.no_grad()
def _distance(weights: Mapping[str, Tensor], begun: Mapping[str, Tensor]) -> float:
    """|w - w0| / |w0| over all weights."""
    moved = sum((weights[name] - begun[name]).square().sum() for name in begun)
    return math.sqrt(float(moved / sum(weight.square().sum() for weight in begun.values())))


def _told(found: Mapping[str, Evaluations]) -> dict[str, Evaluations]:
    """Cells of which it is known how far seeds lie apart, if only from their like."""
    kinds = {label: label.startswith("head/") for label in found}
    known = {kinds[label] for label, runs in found.items() if len(runs) > 1}
    return {label: runs for label, runs in found.items() if kinds[label] in known}


def _shown(measured: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in measured.items() if key != "step" and not key.startswith(IOU)}


def _nouns(paths: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Each noun's IoU before and after, means over trainings."""
    names = [key for key in paths[0][0] if key.startswith(IOU)]
    return {
        key.removeprefix(IOU): {
            "before": round(fmean(path[0][key] for path in paths), 5),
            "after": round(fmean(path[-1][key] for path in paths), 5),
        }
        for key in names
    }


def cell_rows(found: Mapping[str, Evaluations], zero_shot: Mapping[str, float]) -> dict[str, JsonObject]:
    """Every cell's row of the report.

    Args:
        found: by cell and seed, the evaluations from the start to the last step.
        zero_shot: what was measured before any training.
    """
    metrics = [metric for pair in SORTS.values() for metric in pair]
    ends = {metric: _changes(found, zero_shot, metric) for metric in metrics}
    curves = _curves(found)
    return {
        label: {
            "seeds": len(runs),
            "verdict": {
                split: verdict(ends[seen][label], ends[unseen][label])
                for split, (seen, unseen) in SORTS.items()
            },
            "differences": {metric: ends[metric][label].to_json() for metric in metrics},
            "curves": curves_json(curves[label]),
        }
        for label, runs in found.items()
    }


def _changes(
    found: Mapping[str, Evaluations], zero_shot: Mapping[str, float], metric: str
) -> dict[str, Interval]:
    """From zero-shot to the last evaluated step, of every cell."""
    return _pooled(
        {
            label: [path[-1][metric] - zero_shot[metric] for path in runs.values()]
            for label, runs in found.items()
        }
    )


def _pooled(values: Mapping[str, Sequence[float]]) -> dict[str, Interval]:
    """Intervals of cells: one spread for those that tune CLIP, one for heads, which begin at random."""
    heads = {label: of for label, of in values.items() if label.startswith("head/")}
    rest = {label: of for label, of in values.items() if label not in heads}
    return {
        label: found for group in (rest, heads) if group for label, found in pooled_intervals(group).items()
    }


def _curves(found: Mapping[str, Evaluations]) -> dict[str, Curves]:
    """By cell and metric, mean and interval at each step that was evaluated."""
    curves: dict[str, Curves] = {label: {} for label in found}
    first = next(iter(next(iter(found.values())).values()))
    for metric in _shown(first[0]):
        for place, at in enumerate(first):
            values = {label: [path[place][metric] for path in runs.values()] for label, runs in found.items()}
            for label, score in _pooled(values).items():
                # Five digits, as the rows have.
                point = Point(round(score.mean, 5), round(score.ci95, 5), at["step"])
                curves[label].setdefault(metric, []).append(point)
    return curves


def verdict(seen: Interval, unseen: Interval) -> Verdict:
    """What the 95% intervals of a training's last step against zero-shot say.

    Args:
        seen, unseen: change of mIoU.

    Returns:
        "broken": seen nouns end below where they began. "forgetting": they gain, and unseen nouns end below.
        "lost": unseen nouns end below, and seen ones did not even gain. Where unseen nouns do not end below:
        "kept" if seen nouns gain, "no gain" if not.
    """
    if seen.high < 0:
        return "broken"
    if unseen.high < 0:
        return "forgetting" if seen.low > 0 else "lost"
    return "kept" if seen.low > 0 else "no gain"


def usable(rows: Mapping[str, JsonObject]) -> dict[str, str]:
    """The rate that one would use of each tuning: best for seen nouns of validation scenes at the last step.

    Args:
        rows: cells by "tuning/rate".
    """
    best: dict[str, str] = {}
    for label in rows:
        tuning, rate = label.split("/")
        if tuning not in best or _last(rows[label]) > _last(rows[f"{tuning}/{best[tuning]}"]):
            best[tuning] = rate
    return best


def _last(row: JsonObject) -> float:
    return float(row["curves"]["mIoU_seen"][-1]["mean"])
