"""Chimera-Seg, part by part: what do the head, GLM, SGD and SAM add, and what do other choices do?

Trainings of 400 steps of eight scenes, the papers' cosine over each; the body is MobileNetV2, which shares
nothing with CLIP, and EfficientNet-Lite0, which is CLIP's own stem, is the labelled control. Settings were
chosen on validation scenes with a seed of their own (`tune`), each with three tries, and a fourth where the
best was at the edge; `CHOSEN` says which, and a test holds it to the report. How many steps the head needs is
asked by `chimera_heads`.

Stuff is labelled in every training and competes in every evaluation; hIoU is of nouns. In the VOC-like split
("voc: ") the nouns are those of VOC that the pack has pictures of, after its 15/5 split; there too grounds
have names and labels, where VOC's background is ignored.

One core of two busy ones takes some 0.4 s a step (0.27 s without an objective): forty minutes of a core for
`tune`, two hours and a quarter for `chimera_seg`, half an hour for `chimera_seg_planned`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from ..clip import load_clip
from ..core.files import data_dir, whole_file
from ..core.reports import JsonObject, write_report
from ..core.statistics import Contrast, Score, difference, holm, pooled_intervals
from ..datasets import held_out_data
from ..datasets.base import class_groups, fingerprint
from ..evaluation import evaluate
from ..evaluation.counts import digest
from ..segmentors import ZeroShotSegmentor
from ..training.recipe import FineTuneRecipe
from ..training.run import Run
from .repair import over_nouns
from .rows import METRICS, SPLITS, STUFF, StudyTable
from .runs import (
    SCENES,
    Records,
    calibrated,
    gather_any,
    run_variants,
    score_run,
)
from .study import best_choice, table_json, tried
from .variants import Variant, in_voc_like, settings_of

FOLDER = data_dir() / "rows" / "chimera_seg"
RECIPE = "mini/chimera-mobilenet"
GRID_SEEDS = (100,)
PLANNED_SEEDS = 5  # of the rows that a planned contrast names; the others have three
GAMMAS = (0.5, 1.0, 2.0, 4.0)
SHOWN = (*METRICS, STUFF)
_VOC = "voc: "

Changes = Mapping[str, object]
# {setting: {try: what it changes}}: one at a time, the others as they begin.
TRIES: Mapping[str, Mapping[str, Changes]] = {
    # Of the pretrained encoder and of all that begins at random, together. Each head has its own: a rate that
    # suits one of them would decide between them.
    "rate, linear": {
        "0.3": {"optimizer": {"lr": 3e-5, "head_lr": 6e-4}},
        "1": {"optimizer": {"lr": 1e-4, "head_lr": 2e-3}},
        "3": {"optimizer": {"lr": 3e-4, "head_lr": 6e-3}},
        "10": {"optimizer": {"lr": 1e-3, "head_lr": 2e-2}},
    },
    "rate, head": {
        "0.3": {"optimizer": {"lr": 3e-5, "head_lr": 6e-4}},
        "1": {"optimizer": {"lr": 1e-4, "head_lr": 2e-3}},
        "3": {"optimizer": {"lr": 3e-4, "head_lr": 6e-3}},
    },
    "dense": {str(weight): {"objective": {"dense": float(weight)}} for weight in (1, 3, 10, 30)},
    "smallest": {str(count): {"objective": {"smallest": count}} for count in (9, 36, 72)},
    "alignment": {str(weight): {"objective": {"alignment": weight}} for weight in (0.1, 0.3, 1.0)},
}
# Where each begins, and what the others have while one is tried.
START: Mapping[str, str] = {
    "rate, linear": "1",
    "rate, head": "1",
    "dense": "3",
    "smallest": "36",
    "alignment": "1.0",
}
# Best on validation scenes: what `tune` found.
CHOSEN: Mapping[str, str] = {
    "rate, linear": "3",
    "rate, head": "1",
    "dense": "30",
    "smallest": "72",
    "alignment": "0.3",
}


def variant(head: str, chosen: Mapping[str, str], *settings: str, **changes: object) -> Variant:
    """The recipe with one of the two heads at its rate, and what was chosen of some settings.

    Args:
        head: "linear" or "semantic".
        chosen: a try of every setting.
        settings: which of them matter here.
        changes: further keys of the recipe.
    """
    found = Variant(RECIPE, {"segmentor": {"head": head}})
    rate = "rate, linear" if head == "linear" else "rate, head"
    for setting in (rate, *settings):
        found = found.changed(**TRIES[setting][chosen[setting]])
    return found.changed(**changes)


def _plain(head: str, chosen: Mapping[str, str] = CHOSEN) -> Variant:
    """Labelled pixels alone."""
    return variant(head, chosen, objective=None)


def _glm(**options: object) -> Variant:
    """Global distillation of all the student's positions (CLIP-ZSS), unless options say otherwise."""
    settings = {"source": "student", "schedule": "constant", "dense": 0.0, "alignment": 0.0}
    return variant("semantic", CHOSEN, objective={**settings, **options})


def _lessons(
    head: str, chosen: Mapping[str, str] = CHOSEN, segmentor: Changes | None = None, **options: object
) -> Variant:
    """GLM and CLIP's dense features at the K positions most like its CLS; K falls unless options say not."""
    found = variant(head, chosen, "dense", "smallest", objective={"alignment": 0.0})
    return found.changed(objective=options, segmentor=segmentor or {})


def _everywhere(head: str, chosen: Mapping[str, str] = CHOSEN, **segmentor: object) -> Variant:
    """The same lessons at all positions, to the end."""
    return _lessons(head, chosen, segmentor, schedule="constant")


def _whole(chosen: Mapping[str, str] = CHOSEN) -> Variant:
    """All that we read in the abstract."""
    return variant("semantic", chosen, "dense", "smallest", "alignment")


# Each rung has one part more than the one before it. No variant is "the paper's": of the paper we have an
# abstract.
LADDER: Mapping[str, Variant] = {
    "linear": _plain("linear"),
    "head": _plain("semantic"),
    "head, GLM": _glm(),
    "head, all positions": _everywhere("semantic"),
    "head, SGD": _lessons("semantic"),
    "head, SGD, SAM": _whole(),
}
# The order is the order of running.
VARIANTS: Mapping[str, Variant] = {
    **LADDER,
    "linear, all positions": _everywhere("linear"),
    # The other reading: the student's own positions are selected, by K or by weights that differ.
    "head, SGD of the student": _glm(schedule="cosine", smallest=36),
    "head, GLM, weights that select": _glm(summary_temperature=0.07),
    # Where a teacher's patch is chosen, and what it teaches there.
    "head, SGD, chosen by sclip": _lessons("semantic", chosen_by="sclip"),
    "head, SGD, taught by value": _lessons("semantic", lesson=["value"]),
    "head, SGD in steps": _lessons("semantic", schedule="step"),
    "head of 2 blocks, SGD": _lessons("semantic", segmentor={"blocks": 2}),
    "body from scratch, SGD": _lessons("semantic", segmentor={"weights": None}),
    # The control: the body is the network that CLIP's stem was, and still is.
    "lite0: linear, all positions": _everywhere("linear", encoder="tu-tf_efficientnet_lite0"),
    "lite0: head, all positions": _everywhere("semantic", encoder="tu-tf_efficientnet_lite0"),
    "voc: linear, all positions": in_voc_like(_everywhere("linear")),
    "voc: head, all positions": in_voc_like(_everywhere("semantic")),
}
# Named before anything was measured: each rung against the one before it, and the two heads with lessons.
CONTRASTS: Sequence[tuple[str, str]] = (
    *zip(list(LADDER)[1:], LADDER, strict=False),
    ("head, all positions", "linear, all positions"),
)


def label_of(setting: str, each: str) -> str:
    """The label of a try in `candidates`: two settings of SGD begin with one and the same training."""
    shared = setting in ("dense", "smallest") and each == START[setting]
    return "SGD as it begins" if shared else f"{setting} | {each}"


def candidates() -> dict[str, Variant]:
    """Every try of every setting."""
    found: dict[str, Variant] = {}
    for setting, tries in TRIES.items():
        for each in tries:
            chosen = {**START, setting: each}
            found[label_of(setting, each)] = {
                "rate, linear": _everywhere("linear", chosen),
                "rate, head": _everywhere("semantic", chosen),
                "alignment": _whole(chosen),
            }.get(setting, _lessons("semantic", chosen))
    return found


def tune(*, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Try every setting on validation scenes, and write chimera_seg_grid.json.

    Args:
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "measured": {label of `candidates`: metrics}, "best": as of `best_tries`}.
    """
    measured = tried(candidates(), GRID_SEEDS, folder / "grid", part=part)
    content = {"seeds": list(GRID_SEEDS), "measured": measured, "best": best_tries(measured)}
    return write_report("chimera_seg_grid", content, out)


def best_tries(measured: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Of each setting the try with the highest hIoU.

    Args:
        measured: by label of `candidates`, {"hIoU": ...}; a setting that lacks a try is left out.
    """
    found: dict[str, str] = {}
    for setting, tries in TRIES.items():
        best = best_choice(measured, {each: label_of(setting, each) for each in tries})
        if best is not None:
            found[setting] = best
    return found


def planned() -> dict[str, Variant]:
    """The variants that a planned contrast names."""
    named = {label for pair in CONTRASTS for label in pair}
    return {label: of for label, of in VARIANTS.items() if label in named}


def chimera_seg(
    *,
    seeds: int = 3,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Run what is missing, and write chimera_seg.json with what is finished.

    Args:
        seeds: of each variant.
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept; they are small, and are read from there the next time.
        out: where the report is written; data/reports by default.

    Returns:
        What `what_is_finished` does.
    """
    zero_shot(folder)
    run_variants(VARIANTS, range(seeds), folder, score, part=part)
    return write_report("chimera_seg", what_is_finished(seeds, folder), out)


def chimera_seg_planned(
    *, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None
) -> JsonObject:
    """Give what planned contrasts name its further seeds, and write chimera_seg.json; see `chimera_seg`."""
    run_variants(planned(), range(PLANNED_SEEDS), folder, score, part=part)
    return write_report("chimera_seg", what_is_finished(folder=folder), out)


def score(run: Run) -> dict[str, object]:
    """Metrics on validation and test scenes with a calibration sweep of each, and every noun's IoU.

    CLIP is frozen, so there is nothing to probe.
    """
    splits = _splits(run)
    found: JsonObject = score_run(run, splits=splits, probes=False, nouns=True, gammas=GAMMAS)
    return {**found, **{split: _shown(found[split]) for split in splits}}


def _splits(run: Run) -> tuple[str, ...]:
    """Validation and test scenes, but for VOC's unseen nouns: none has an instance on validation scenes."""
    if not isinstance(run.recipe, FineTuneRecipe):
        raise ValueError(f"got a run of {run.recipe.name!r}; expected one of fine-tuning")
    groups = class_groups(held_out_data(run.recipe.data, "val", length=1)) or {}
    return ("val", *SPLITS) if groups.get("unseen") else SPLITS


def _shown(metrics: Mapping[str, float]) -> dict[str, float]:
    """Five digits of what is reported: rows travel with the project."""
    return {key: round(metrics[key], 5) for key in SHOWN if key in metrics}


def zero_shot(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The teacher itself on the scenes of each split: as it was trained to be read, and at its best.

    Args:
        folder: what was measured once is kept there, and measured again with another CLIP or other scenes.

    Returns:
        {read-outs: {split: metrics}}.
    """
    clip = load_clip()
    section = LADDER["linear"].load(0).data
    scenes = {split: held_out_data(section, split, length=SCENES) for split in SPLITS}
    of = {
        "clip": digest(clip, clip.encode_text(scenes[SPLITS[0]].names)),
        "scenes": fingerprint([data.describe() for data in scenes.values()]),
    }
    kept = folder / "zero_shot.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if found.get("of") != of:
        measured = {
            "+".join(names): {
                split: _shown(evaluate(ZeroShotSegmentor(clip, names), data).metrics)
                for split, data in scenes.items()
            }
            for names in (("vanilla",), clip.read_outs)
        }
        found = {"of": of, "measured": measured}
        with whole_file(kept) as scratch:
            scratch.write_text(json.dumps(found))
    return found["measured"]


def what_is_finished(seeds: int = 3, folder: Path = FOLDER) -> JsonObject:
    """The content of the report, from the runs in a folder; arguments as of `chimera_seg`.

    Returns:
        {"seeds", "planned_seeds", "missing": {label: number of seeds}, "variants": settings, "table":
        {label: {"split/metric": row}}, "contrasts": {split: rows, of hIoU}, "contrasts_over_nouns",
        "calibration": {label: as of `calibrated`}, "zero_shot", "seconds_a_step": {label: median}};
        a table has rows as soon as one variant has two seeds, from which intervals can be told.
    """
    wanted = {label: max(seeds, PLANNED_SEEDS) if label in planned() else seeds for label in VARIANTS}
    records = gather_any(VARIANTS, range(max(wanted.values())), folder)
    kept = folder / "zero_shot.json"
    return {
        "seeds": seeds,
        "planned_seeds": PLANNED_SEEDS,
        "missing": {
            label: count - len(records.get(label, ()))
            for label, count in wanted.items()
            if count > len(records.get(label, ()))
        },
        "variants": settings_of({label: VARIANTS[label] for label in records}),
        "table": table_json(rows(records)),
        "contrasts": {
            split: [each.to_json() for each in contrasts_of(records, CONTRASTS, split)] for split in SPLITS
        },
        "contrasts_over_nouns": {
            f"{first} - {second}": over_nouns(*paired)
            for first, second in CONTRASTS
            if (paired := _paired(records, first, second))
        },
        "calibration": {label: calibrated(runs) for label, runs in records.items()},
        "zero_shot": zero_shot(folder) if kept.exists() else {},
        "seconds_a_step": {
            label: round(median(run["seconds"]["train"] / run["recipe"]["steps"] for run in runs), 3)
            for label, runs in records.items()
        },
    }


def rows(records: Records) -> StudyTable:
    """Every label and measure; intervals of all variants of a vocabulary share one spread over seeds.

    Args:
        records: by label; some may have fewer seeds than others, or one.

    Returns:
        {label: {"split/metric": Score}}; without a variant of two seeds there is no spread, and no row.
    """
    found: StudyTable = {}
    # Other words, other scores: the VOC-like split has a spread of its own.
    for of_voc in (False, True):
        group = {label: runs for label, runs in records.items() if label.startswith(_VOC) == of_voc}
        if not any(len(runs) > 1 for runs in group.values()):
            continue
        first = next(iter(group.values()))[0]
        for split in first["calibration"]:
            for metric in first[split]:
                values = {label: _values(runs, split, metric) for label, runs in group.items()}
                for label, each in pooled_intervals(values).items():
                    cell = Score(each.mean, each.ci95, values=values[label])
                    found.setdefault(label, {})[f"{split}/{metric}"] = cell
    return {label: found[label] for label in records if label in found}


def contrasts_of(
    records: Records, pairs: Sequence[tuple[str, str]], split: str, metric: str = "hIoU"
) -> list[Contrast]:
    """The planned comparisons whose two variants share two seeds, paired by seed.

    Args:
        records: by label.
        pairs: (first, second) labels: all that are planned. p-values are corrected for all of them (Holm),
            the missing ones too: what is not there yet must not make the rest look surer.
        split, metric: of what.
    """
    there = [
        (pair, difference(*(Score(0.0, 0.0, values=_values(runs, split, metric)) for runs in paired)))
        for pair in pairs
        if (paired := _paired(records, *pair))
    ]
    corrected = holm([d.p for _, d in there] + [1.0] * (len(pairs) - len(there)))
    return [
        Contrast(d.mean, d.ci95, d.p, first, second, p)
        for ((first, second), d), p in zip(there, corrected, strict=False)
    ]


def _values(runs: Sequence[JsonObject], split: str, metric: str) -> tuple[float, ...]:
    return tuple(run[split][metric] for run in runs)


def _paired(records: Records, first: str, second: str) -> tuple[list[JsonObject], list[JsonObject]] | None:
    """The runs of two variants with the seeds that both have, if these are two at least."""
    ours, theirs = ({run["seed"]: run for run in records.get(label, ())} for label in (first, second))
    both = sorted(ours.keys() & theirs.keys())
    return ([ours[s] for s in both], [theirs[s] for s in both]) if len(both) > 1 else None
