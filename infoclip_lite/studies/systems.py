"""Every trained system of the field on one bench: the same scenes, CLIP, seeds and words, tuned alike.

*Grid*: three learning rates of each system on validation scenes, one length (`tune`); the choice is written
down in `CHOSEN`, and a test holds it against the report. *Rows*: five seeds on test scenes. *Ablations*:
three seeds of each system without the one idea that it adds. *Contrasts*: few, planned here, corrected by
Holm. Rows of other studies on the same scenes are read and not run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..clip.readouts import READ_OUTS
from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import Score, contrasts, interval
from ..training.recipe import load_finetuning
from ..training.run import Run
from . import degradation_map, repair
from .rows import SPLITS, StudyTable
from .runs import (
    SCENES,
    TUNING_SCENES,
    Records,
    gather,
    gather_any,
    of_read_out,
    run_variants,
    same_scenes,
    score_run,
)
from .study import best_choice, table, table_json, tried
from .variants import Variant, settings_of

FOLDER = data_dir() / "rows" / "systems"
GRID_SEEDS = (100,)  # of no run that is reported
ABLATION_SEEDS = 3
# The budget of every system: three rates of what begins at random, one length. A half-decade on either side
# of AdamW's usual rate; the head's own map of five rates has its best in the middle of them.
RATES = (3e-4, 1e-3, 3e-3)
STEPS, BATCH = 600, 8
# What comes pretrained learns slower, as ZSSeg's body does [C].
_PRETRAINED = 0.1

Labels = Literal["masks", "words", "captions"]


@dataclass(frozen=True)
class System:
    """A system as the study runs it.

    Attributes:
        recipe: its mini recipe.
        labels: what its training is told of a scene: masks of seen words, which seen words are there, or
            captions.
        changes: of the recipe, beside rate and length.
        without: the ideas that it adds, one by one: {what is left out or put in its place: changes}.
    """

    recipe: str
    labels: Labels
    changes: Mapping[str, object] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


# The order is the order of running: first those whose CLIP sees whole batches, which one another's runs of a
# seed remember; crops and single pictures come last, and may find the memory full.
SYSTEMS: Mapping[str, System] = {
    "Cascade-CLIP": System("mini/cascade", "masks", without={"one decoder": {"segmentor": {"groups": 1}}}),
    "Split Matching": System(
        "mini/split-matching", "masks", without={"no candidates": {"segmentor": {"candidates": 0}}}
    ),
    "CLIP-ZSS": System(
        "mini/clip-teacher",
        "masks",
        without={
            "no CLS distillation": {"objective": None},
            # No cluster has more patches than the picture: all unlabelled pixels stay so.
            "no pseudo labels": {"segmentor": {"smallest": 145}},
        },
    ),
    "ClsCLIP": System(
        "mini/clsclip", "masks", without={"word before the last blocks": {"segmentor": {"blocks": [4, 5]}}}
    ),
    "PACL": System(
        "mini/pacl",
        "captions",
        # As many scenes as the others see, in batches that have pictures to tell a sentence's apart from.
        {"steps": STEPS * BATCH // 32, "batch": 32},
        without={
            # Sharpness as good as none: every patch weighs the same.
            "mean of the patches": {"supervision": {"sharpness": 1e-6}},
            "sharp pooling": {"supervision": {"sharpness": 10.0}},
        },
    ),
    "CLIP-ES": System(
        "mini/clip-es",
        "words",
        # Labels of a seed's scenes are made once for all rates.
        {"supervision": {"folder": "runs/systems/pseudo_masks"}},
        # A section is changed key by key, what is in a key as a whole: the recipe's `near` stands here too.
        without={"unsure pixels too": {"supervision": {"settings": {"near": "dense", "sure": 0.0}}}},
    ),
    "ZSSeg": System(
        "mini/zsseg",
        "masks",
        # Learnt with the same masks: what CLIP's crops add when a mask is named.
        without={"masks alone": {"segmentor": {"ensemble": 0.0}}},
    ),
}
# Pixels without masks as things: a cost-aggregation head on the frozen CLIP. Its rate is the best of the five
# that the map of chapter 02 tried, on validation scenes; it is tried no further. The map's trainings are
# longer and have the seeds 0 to 2, which are reported here too: its rate alone is no choice of GRID_SEEDS.
PIXELS = "CAT-Seg's head"
PIXEL_RATE = 1e-3
# The best of each on validation scenes: what `tune` found.
CHOSEN: Mapping[str, float] = {}
# The best read-out without training on validation scenes: what `tune` found.
READ_OUT = "value"
FREE = "CLIP as it is"
# Rows of other studies on these scenes: the label here, and in `repair`.
BORROWED: Mapping[str, str] = {
    "CLIP tuned, q and v": "qv: plain",
    "CLIP tuned, every weight": "full: plain",
    "CLIP tuned, distilled (KL)": "full: kl",
}
# The questions, named before the study runs. (first, second): the difference is first - second.
CONTRASTS: Sequence[tuple[str, str]] = (
    (PIXELS, FREE),  # trained against training-free
    (PIXELS, "CLIP tuned, q and v"),  # frozen CLIP against tuned: where tuning loses nothing
    (PIXELS, "CLIP tuned, every weight"),  # and where it forgets
    ("ZSSeg", PIXELS),  # masks against pixels: crops name the masks
    ("Split Matching", PIXELS),  # masks against pixels: patches name the masks
    ("CLIP tuned, distilled (KL)", "CLIP-ZSS"),  # distillation with CLIP at inference and without
)


def variant(system: System, rate: float, changes: Mapping[str, object] | None = None) -> Variant:
    """A training of the study.

    Args:
        system: which.
        rate: of what begins at random.
        changes: of an ablation.
    """
    base = Variant(
        system.recipe,
        {
            "steps": STEPS,
            "batch": BATCH,
            "optimizer": {"lr": _PRETRAINED * rate, "head_lr": rate, "warmup": 40},
            "evaluation": {"at": []},
            # As the repair study multiplies: a step takes six tenths of the time here.
            "machine": {"dtype": "bfloat16"},
        },
    )
    # Scenes and seen nouns are the recipe's, and the same in all: a test holds them together.
    return base.changed(**system.changes).changed(**(changes or {}))


def candidates() -> dict[str, Variant]:
    """Every rate of every system, "system | rate"."""
    return {f"{name} | {rate:g}": variant(system, rate) for name, system in SYSTEMS.items() for rate in RATES}


def rate_of(name: str) -> float:
    """The chosen rate; the middle one of a system that is not tuned yet."""
    return CHOSEN.get(name, RATES[1])


def variants() -> dict[str, Variant]:
    """What is compared on test scenes."""
    pixels = System("mini/map-head", "masks")
    return {
        PIXELS: variant(pixels, PIXEL_RATE),
        **{name: variant(system, rate_of(name)) for name, system in SYSTEMS.items()},
    }


def ablations() -> dict[str, Variant]:
    """Each system without an idea, "system: what is left out"."""
    return {
        f"{name}: {what}": variant(system, rate_of(name), changes)
        for name, system in SYSTEMS.items()
        for what, changes in system.without.items()
    }


def tune(*, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Try every rate of every system on validation scenes, and write systems_grid.json.

    Args:
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "measured": {"system | rate": metrics}, "best": {system: rate}, "read_outs": {name:
        metrics}, "read_out": the best without training}.
    """
    measured = tried(candidates(), GRID_SEEDS, folder / "grid", part=part)
    read_outs = {name: of_read_out(name, _data(), "val", TUNING_SCENES) for name in READ_OUTS}
    content = {
        "seeds": list(GRID_SEEDS),
        "measured": measured,
        "best": best_rates(measured),
        "read_outs": read_outs,
        "read_out": max(read_outs, key=lambda name: read_outs[name]["hIoU"]),
    }
    return write_report("systems_grid", content, out)


def best_rates(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of each system the rate with the highest hIoU.

    Args:
        measured: {"system | rate": {"hIoU": ...}}; a system that lacks one is left out.
    """
    found = {}
    for name in SYSTEMS:
        best = best_choice(measured, {rate: f"{name} | {rate:g}" for rate in RATES})
        if best is not None:
            found[name] = best
    return found


def best_pixel_rate() -> float:
    """The rate of the head with the highest mean hIoU on validation scenes at the end, on the map."""
    cells = {label: cell for label, cell in degradation_map.cells().items() if label.startswith("head/")}
    records = gather_any(cells, range(3), degradation_map.FOLDER)
    means = {
        label: interval([run["evaluations"][-1]["hIoU"] for run in runs]).mean
        # One seed says less than the differences between neighbours.
        for label, runs in records.items()
        if len(runs) > 1
    }
    return float(max(means, key=lambda label: means[label]).removeprefix("head/"))


def systems(
    *,
    seeds: int = 5,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Run what is missing, rows before ablations, and write systems.json with what is finished.

    Args:
        seeds: of every row; ablations have at most three.
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        See `report`.

    Raises:
        FileNotFoundError: the pixels' row is not finished.
    """
    run_variants(variants(), range(seeds), folder, _score, part=part)
    run_variants(ablations(), range(min(seeds, ABLATION_SEEDS)), folder, _score, part=part)
    return report(seeds=seeds, folder=folder, out=out)


def _score(run: Run) -> dict[str, object]:
    """As every study scores; CLIP is frozen, so there is nothing to probe."""
    return score_run(run, nouns=True, probes=False)


def report(*, seeds: int = 5, folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Write the report of what is finished.

    Args:
        seeds, folder, out: as for `systems`.

    Returns:
        {"variants", "missing", "seeds", "labels", "table", "ablations", "contrasts", "nouns", "logs",
        "seconds"}: fractions; "ablations" holds each system's difference to itself without an idea, seed by
        seed; "missing" labels are not finished yet.

    Raises:
        FileNotFoundError: the pixels' row is not finished.
    """
    rows, parts = variants(), ablations()
    records = gather(rows, range(seeds), folder)
    if PIXELS not in records:
        raise FileNotFoundError(
            f"{folder} has {list(records)} with all {seeds} seeds; expected {PIXELS!r}: run "
            "`infoclip-lite benchmark systems` to its end"
        )
    scores = compared(records, seeds)
    fewer = gather(parts, range(min(seeds, ABLATION_SEEDS)), folder)
    content = {
        "variants": settings_of({**rows, **parts}),
        "missing": [label for label in (*rows, *parts) if label not in {**records, **fewer}]
        + [label for label in BORROWED if label not in scores],
        "seeds": seeds,
        "labels": {PIXELS: "masks", **{name: system.labels for name, system in SYSTEMS.items()}},
        "table": table_json(scores),
        "ablations": ablation_table(records, fewer),
        "contrasts": {split: answers(scores, split) for split in SPLITS},
        "nouns": {label: [run["nouns"] for run in runs] for label, runs in {**records, **fewer}.items()},
        "logs": {label: [run["log"] for run in runs] for label, runs in records.items()},
        "seconds": {
            label: [run["seconds"]["train"] for run in runs] for label, runs in {**records, **fewer}.items()
        },
    }
    return write_report("systems", content, out)


def compared(records: Records, seeds: int) -> StudyTable:
    """The table of what is finished, with the rows of other studies and of CLIP as it is.

    Args:
        records: of this study, the pixels' row among them.
        seeds: of every row.
    """
    scores = table({**records, **borrowed(seeds)}, PIXELS)
    # Nothing is drawn where nothing is trained: it has the same score under every seed.
    scores[FREE] = {
        f"{split}/{key}": Score(value, 0.0)
        for split in SPLITS
        for key, value in of_read_out(READ_OUT, _data(), split, SCENES).items()
    }
    return scores


def planned_contrasts(seeds: int, folder: Path = FOLDER) -> dict[str, list[dict[str, object]]]:
    """The planned contrasts of the rows that are finished, on each split; none before the pixels' row is.

    Args:
        seeds: of every row.
        folder: where finished runs are kept.
    """
    records = gather(variants(), range(seeds), folder)
    if PIXELS not in records:
        return {split: [] for split in SPLITS}
    scores = compared(records, seeds)
    return {split: answers(scores, split) for split in SPLITS}


def answers(scores: StudyTable, split: str) -> list[dict[str, object]]:
    """hIoU of the planned contrasts whose two sides are there, corrected for all that are planned.

    Args:
        scores: label -> "split/metric" -> Score.
        split: of the scenes.
    """
    asked = {label: row[f"{split}/hIoU"] for label, row in scores.items() if f"{split}/hIoU" in row}
    planned = [pair for pair in CONTRASTS if all(label in asked for label in pair)]
    return [found.to_json() for found in contrasts(asked, planned, planned=len(CONTRASTS))]


def ablation_table(whole: Records, parts: Records) -> dict[str, dict[str, dict[str, object]]]:
    """What a system loses without an idea: "system: idea" -> measure -> score and difference to the system.

    Args:
        whole: runs of the systems.
        parts: runs without an idea, of the first of these seeds.
    """
    found: StudyTable = {}
    for label, runs in parts.items():
        name = label.split(": ")[0]
        if name in whole:
            found[label] = table({name: whole[name][: len(runs)], label: runs}, name)[label]
    return table_json(found)


def borrowed(seeds: int, folder: Path = repair.FOLDER) -> Records:
    """The rows of other studies that all seeds have finished, on this study's scenes, without probes.

    Args:
        seeds: of each.
        folder: where `repair` keeps its runs.

    Raises:
        ValueError: a row of other scenes or seen nouns.
    """
    theirs = repair.variants()
    found = gather({label: theirs[label] for label in BORROWED.values()}, range(seeds), folder)
    ours = _data()
    for label, runs in found.items():
        for run in runs:
            if not same_scenes(run["recipe"]["data"], ours):
                raise ValueError(
                    f"{label!r} of the repair study has data={run['recipe']['data']}; expected {ours}: run "
                    "`infoclip-lite benchmark repair` again"
                )
    # A frozen CLIP is not probed, so no row of this study has probes to compare theirs with.
    kept = {
        label: [{key: value for key, value in run.items() if key != "probes"} for run in runs]
        for label, runs in found.items()
    }
    return {label: kept[theirs_label] for label, theirs_label in BORROWED.items() if theirs_label in kept}


def _data() -> Mapping[str, object]:
    """What every system is trained and tested on."""
    return load_finetuning("mini/map-head").data
