"""Where forgetting is: plain fine-tuning over learning rates, steps and what is tuned.

Two things look alike at the end of a training that went wrong, and are told apart here. *Broken*: seen nouns,
whose pixels are learnt from, fall below where they began; the optimiser was too fast. *Forgetting*: seen
nouns gain, unseen nouns fall below where they began and stay there. Both are told on test scenes, since of
most seen nouns validation scenes show one instance; the rate that one would use is chosen on these.
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
from ..core.statistics import Interval, paired_interval
from ..datasets import held_out_data
from ..datasets.base import class_groups
from ..evaluation import evaluate
from ..segmentors import Segmentor
from ..training.recipe import FineTuneRecipe
from ..training.run import Watch
from .degradation import Evaluations, evaluations_of, score_nothing, summarise
from .rows import METRICS, SPLITS, STUFF, curves_json
from .runs import gather, run_variants
from .variants import Variant, settings_of

FOLDER = data_dir() / "rows" / "degradation_map"
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
# An ablation of its own: every weight learns, and pixels of unseen nouns are called background.
BACKGROUND_RATES = (3e-5, 1e-4, 3e-4)
HEAD_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
TUNINGS = ("full", "qv", "image", "stem")
SEEN, UNSEEN = "test/mIoU_seen", "test/mIoU_unseen"  # new instances
IOU = "test/IoU of "  # a noun's, in the rows alone

Verdict = Literal["broken", "forgetting", "kept", "no gain"]


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
    """Run the cells that are missing and write degradation_map.json with those that all seeds have finished.

    Args:
        seeds: of each cell, at least two.
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept; they are small, and are read from there the next time.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "missing", "settings", "zero_shot": {metric: mean before any training}, "cells":
        {tuning/rate: {"verdict", "differences": {metric: {"mean", "half"}}, "curves": {metric: [{"step",
        "mean", "half"}]}}}, "usable": {tuning: rate}}; differences are of the last step to zero-shot, paired
        by seed.
    """
    variants = cells()
    run_variants(variants, range(seeds), folder, score_nothing, watch=on_every_split, part=part)
    records = gather(variants, range(seeds), folder)
    found = {label: evaluations_of(runs) for label, runs in records.items()}
    # Where every tuning of CLIP itself begins; a head begins at random, and is measured from here too.
    begun = next((runs for label, runs in found.items() if not label.startswith("head/")), None)
    zero_shot = {} if begun is None else {seed: path[0] for seed, path in begun.items()}
    rows = {label: _cell(runs, zero_shot) for label, runs in found.items()} if zero_shot else {}
    content = {
        "seeds": seeds,
        "missing": [label for label in variants if label not in rows],
        "settings": settings_of({label: variants[label] for label in rows}),
        "zero_shot": _means(list(zero_shot.values())),
        "cells": rows,
        "usable": usable(rows),
    }
    return write_report("degradation_map", content, out)


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


ZeroShot = Mapping[str, Mapping[str, float]]  # seed -> what was measured before any training


def _means(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    keys = [key for key in measured[0] if key != "step" and not key.startswith(IOU)] if measured else []
    return {key: fmean(each[key] for each in measured) for key in keys}


def _cell(runs: Evaluations, zero_shot: ZeroShot) -> JsonObject:
    curves = {metric: points for metric, points in summarise(runs).items() if not metric.startswith(IOU)}
    return {
        "verdict": verdict(runs, zero_shot),
        "differences": {metric: _change(runs, zero_shot, metric).to_json() for metric in (SEEN, UNSEEN)},
        "curves": curves_json(curves),
    }


def _change(runs: Evaluations, zero_shot: ZeroShot, metric: str) -> Interval:
    """From zero-shot to the last evaluated step, seed by seed."""
    last = [path[-1][metric] for path in runs.values()]
    return paired_interval(last, [zero_shot[seed][metric] for seed in runs])


def verdict(runs: Evaluations, zero_shot: ZeroShot) -> Verdict:
    """What the 95% intervals over seeds say of a training on new instances, its last step against zero-shot.

    Args:
        runs: by seed, the evaluations from the start to the last step.
        zero_shot: by seed, what was measured before any training.

    Returns:
        "broken": seen nouns end below where they began. "no gain": they end neither above nor below.
        "forgetting": they gain and unseen nouns end below. "kept": they gain and unseen nouns do not end
        below.
    """
    seen, unseen = (_change(runs, zero_shot, metric) for metric in (SEEN, UNSEEN))
    if seen.high < 0:
        return "broken"
    if seen.low <= 0:
        return "no gain"
    return "forgetting" if unseen.high < 0 else "kept"


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
