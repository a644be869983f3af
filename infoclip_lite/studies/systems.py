"""Every trained system of the field on one bench: the same scenes, CLIP, seeds and words, tuned alike.

The bench is the wide split: all 25 nouns that may be labelled are. With the recipes' eight, a decoder that
must learn what a word's mask is names hardly a noun after as many steps (`few`).

*Grid*: three learning rates of each system on validation scenes, and a fourth for whoever was best at the
edge of these; one length (`tune`). The choice is written down in `CHOSEN`, and a test holds it against the
report. *Rows*: five seeds on test scenes. *Ablations*: three seeds of each system without the one idea that
it adds. *Contrasts*: few, planned here, corrected by Holm. Read-outs without training are rows of the same
table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..clip.readouts import READ_OUTS
from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import contrasts
from ..training.run import Run
from . import chimera_seg, repair
from .leaderboard import distinct, measure_speed
from .rows import SPLITS, StudyTable
from .runs import SCENES, TUNING_SCENES, Records, gather, of_read_out, run_variants, score_run
from .study import best_choice, table, table_json, tried, untrained_row
from .variants import Variant, in_wide, settings_of

FOLDER = data_dir() / "rows" / "systems"
GRID_SEEDS = (100,)  # of no run that is reported
ABLATION_SEEDS = 3
# The budget of every system: three rates, a fourth beyond whichever end was the best, one length. Of what
# begins at random: with eight labelled nouns the lowest of 3e-4, 1e-3 and 3e-3 was the best of none.
RATES = (1e-3, 3e-3, 1e-2)
# Of CLIP's own weights: half a decade on either side of the rates that the repair study has from chapter 02's
# map.
EVERY_WEIGHT = (1e-4, 3e-4, 1e-3)
Q_AND_V = (1e-4, 3e-4, 1e-3, 3e-3)
_LOWER, _HIGHER = (3e-4, *RATES), (*RATES, 3e-2)
STEPS, BATCH = 600, 8
# What comes pretrained in a system learns slower, as ZSSeg's body does [C].
_PRETRAINED = 0.1

Labels = Literal["masks", "words", "captions"]


@dataclass(frozen=True)
class System:
    """A system as the study runs it.

    Attributes:
        base: its training, before the study's budget, rate and scenes.
        labels: what its training is told of a scene: masks of seen words, which seen words are there, or
            captions.
        changes: of the recipe, beside rate and length.
        without: the ideas that it adds, one by one: {what is left out or put in its place: changes}.
        rates: that are tried, lowest first: of CLIP's weights where these learn, else of what begins at
            random.
    """

    base: Variant
    labels: Labels
    changes: Mapping[str, object] = field(default_factory=dict)
    without: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    rates: Sequence[float] = RATES


# Pixels without masks as things: a cost-aggregation head on the frozen CLIP. The table compares with it.
PIXELS = "CAT-Seg's head"
# Strengths of KL and InfoCLIP are those that chapter 07 chose with eight labelled nouns: here the rate alone
# is tuned, with three tries as everyone's.
_REPAIR = repair.variants()
# The order is the order of running: first those whose CLIP sees whole batches, which one another's runs of a
# seed remember; crops and single pictures come last, and may find the memory full.
SYSTEMS: Mapping[str, System] = {
    PIXELS: System(Variant("mini/map-head"), "masks"),
    "Cascade-CLIP": System(
        Variant("mini/cascade"),
        "masks",
        without={"one decoder": {"segmentor": {"groups": 1}}},
        rates=_LOWER,
    ),
    "Split Matching": System(
        Variant("mini/split-matching"),
        "masks",
        without={"no candidates": {"segmentor": {"candidates": 0}}},
        rates=_LOWER,
    ),
    "CLIP-ZSS": System(
        Variant("mini/clip-teacher"),
        "masks",
        without={
            "no CLS distillation": {"objective": None},
            # No cluster has more patches than the picture: all unlabelled pixels stay so.
            "no pseudo labels": {"segmentor": {"smallest": 145}},
        },
    ),
    "ClsCLIP": System(
        Variant("mini/clsclip"),
        "masks",
        without={"word before the last blocks": {"segmentor": {"blocks": [4, 5]}}},
        rates=_LOWER,
    ),
    "PACL": System(
        Variant("mini/pacl"),
        "captions",
        # As many scenes as the others see, in batches that have pictures to tell a sentence's apart from.
        {"steps": STEPS * BATCH // 32, "batch": 32},
        without={
            # Sharpness as good as none: every patch weighs the same.
            "mean of the patches": {"supervision": {"sharpness": 1e-6}},
            "sharp pooling": {"supervision": {"sharpness": 10.0}},
        },
        rates=_HIGHER,
    ),
    "Chimera-Seg": System(chimera_seg.VARIANTS["head, SGD, SAM"], "masks"),
    "CLIP tuned, q and v": System(_REPAIR["qv: plain"], "masks", rates=Q_AND_V),
    "CLIP tuned, every weight": System(_REPAIR["full: plain"], "masks", rates=(3e-5, *EVERY_WEIGHT)),
    "CLIP tuned, distilled (KL)": System(_REPAIR["full: kl"], "masks", rates=EVERY_WEIGHT),
    "InfoCLIP, paper's weights": System(_REPAIR["qv: infoclip, paper's weights"], "masks", rates=Q_AND_V),
    "InfoCLIP (ours)": System(_REPAIR["qv: infoclip, anchors, gap"], "masks", rates=Q_AND_V),
    "CLIP-ES": System(
        Variant("mini/clip-es"),
        "words",
        # Labels of a seed's scenes are made once for all rates.
        {"supervision": {"folder": "runs/systems/pseudo_masks"}},
        # A section is changed key by key, what is in a key as a whole: the recipe's `near` stands here too.
        without={"unsure pixels too": {"supervision": {"settings": {"near": "dense", "sure": 0.0}}}},
    ),
    "ZSSeg": System(
        Variant("mini/zsseg"),
        "masks",
        # Learnt with the same masks: what CLIP's crops add when a mask is named.
        without={"masks alone": {"segmentor": {"ensemble": 0.0}}},
        rates=_LOWER,
    ),
}
# The best of each on validation scenes: what `tune` found.
CHOSEN: Mapping[str, float] = {
    "CAT-Seg's head": 3e-3,
    "Cascade-CLIP": 1e-3,
    "Split Matching": 3e-4,
    "CLIP-ZSS": 3e-3,
    "PACL": 3e-2,
    "Chimera-Seg": 3e-3,
    "CLIP tuned, q and v": 3e-4,
    "CLIP tuned, every weight": 3e-5,
    "CLIP tuned, distilled (KL)": 3e-4,
    "InfoCLIP, paper's weights": 3e-4,
    "InfoCLIP (ours)": 1e-4,
    "CLIP-ES": 3e-3,
    "ZSSeg": 1e-3,
}
# The best read-out without training on validation scenes: what `tune` found.
READ_OUT = "maskclip"
_FREE = "CLIP as it is: {}"
FREE = _FREE.format(READ_OUT)
# The questions, named before the study runs. (first, second): the difference is first - second.
CONTRASTS: Sequence[tuple[str, str]] = (
    (PIXELS, FREE),  # trained against training-free
    (PIXELS, "CLIP tuned, q and v"),  # frozen CLIP against tuned: where tuning loses nothing
    (PIXELS, "CLIP tuned, every weight"),  # and where it forgets
    ("ZSSeg", PIXELS),  # masks against pixels: crops name the masks
    ("Split Matching", PIXELS),  # masks against pixels: patches name the masks
    ("CLIP tuned, distilled (KL)", "CLIP-ZSS"),  # distillation with CLIP at inference and without
)
# {system: rate}: what is also trained with the recipes' eight labelled nouns. Each rate is one of `RATES`, so
# that the same training with all nouns stands beside it. PACL reads no mask, and its scenes and captions are
# the same: it shows what other validation scenes alone do.
FEW: Mapping[str, float] = {
    "Cascade-CLIP": 3e-3,
    "Split Matching": 1e-3,
    "CLIP-ZSS": 3e-3,
    "ClsCLIP": 1e-3,
    "PACL": 3e-3,
}


def variant(system: System, rate: float, changes: Mapping[str, object] | None = None) -> Variant:
    """A training of the study.

    Args:
        system: which.
        rate: of CLIP's weights where these learn, else of what begins at random.
        changes: of an ablation.
    """
    return in_wide(_budgeted(system, rate).changed(**(changes or {})))


def _budgeted(system: System, rate: float) -> Variant:
    """A system at a rate for as long as all are trained, on the scenes and nouns of its own recipe."""
    tunes_clip = system.base.load(0).tune != "none"
    rates = {"lr": rate} if tunes_clip else {"lr": _PRETRAINED * rate, "head_lr": rate}
    budget = system.base.changed(
        steps=STEPS,
        batch=BATCH,
        optimizer={**rates, "warmup": 40},
        evaluation={"at": []},
        # As the repair study multiplies: a step takes six tenths of the time here.
        machine={"dtype": "bfloat16"},
    )
    return budget.changed(**system.changes)


def candidates() -> dict[str, Variant]:
    """Every rate of every system, "system | rate"."""
    return {
        _tried(name, rate): variant(system, rate) for name, system in SYSTEMS.items() for rate in system.rates
    }


def few() -> dict[str, Variant]:
    """Some of `candidates` with eight labelled nouns in place of all, "system | rate"."""
    return {_tried(name, rate): _budgeted(SYSTEMS[name], rate) for name, rate in FEW.items()}


def _tried(name: str, rate: float) -> str:
    return f"{name} | {rate:g}"


def rate_of(name: str) -> float:
    """The chosen rate; the second of a system that has not had all its tries yet."""
    return CHOSEN.get(name, SYSTEMS[name].rates[1])


def variants() -> dict[str, Variant]:
    """What is compared on test scenes."""
    return {name: variant(system, rate_of(name)) for name, system in SYSTEMS.items()}


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
        {"seeds", "labels", "measured": {"system | rate": metrics}, "few": the same with eight labelled nouns,
        "best": {system: rate}, "read_outs": {name: metrics}, "read_out": the best without training}: "labels"
        is what a training is told. Validation scenes show the labelled nouns and those that are unseen there:
        with eight they are other scenes.
    """
    measured = tried(candidates(), GRID_SEEDS, folder / "grid", part=part)
    with_few = tried(few(), GRID_SEEDS, folder / "few", part=part)
    data = _data()
    read_outs = {name: of_read_out(name, data, "val", TUNING_SCENES) for name in READ_OUTS}
    content = {
        "seeds": list(GRID_SEEDS),
        "labels": {name: system.labels for name, system in SYSTEMS.items()},
        "measured": measured,
        "few": with_few,
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
    for name, system in SYSTEMS.items():
        best = best_choice(measured, {rate: _tried(name, rate) for rate in system.rates})
        if best is not None:
            found[name] = best
    return found


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
    """As every study scores; a frozen CLIP has nothing to probe, and tuned ones are probed by `repair`."""
    return score_run(run, nouns=True, probes=False)


def report(*, seeds: int = 5, folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Write the report of what is finished.

    Args:
        seeds, folder, out: as for `systems`.

    Returns:
        {"variants", "missing", "seeds", "labels", "table", "ablations", "contrasts", "nouns", "logs",
        "seconds"}: fractions; "labels" is what a row's training was told; "table" has a row of every
        read-out of CLIP as it is, too; "ablations" holds each system's difference to itself without an idea,
        seed by seed; "missing" labels are not finished yet.

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
    scores, data = table(records, PIXELS), _data()
    for name in READ_OUTS:
        measured = {split: of_read_out(name, data, split, SCENES) for split in SPLITS}
        scores[_FREE.format(name)] = untrained_row(measured)
    fewer = gather(parts, range(min(seeds, ABLATION_SEEDS)), folder)
    content = {
        "variants": settings_of({**rows, **parts}),
        "missing": [label for label in (*rows, *parts) if label not in {**records, **fewer}],
        "seeds": seeds,
        "labels": {label: SYSTEMS[label].labels if label in SYSTEMS else "nothing" for label in scores},
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


def speed(*, rounds: int = 10, out: Path | None = None) -> JsonObject:
    """Time and memory of each system at inference, and write systems_speed.json; minutes of an idle machine.

    Args:
        rounds: timed passes of each.
        out: where the report is written; data/reports by default.

    Returns:
        As `measure_speed`, by system; the first of those that infer alike stands for them. Weights are those
        before training: a picture meets as many.
    """
    models = distinct({name: system.base.load(0) for name, system in SYSTEMS.items()})
    return write_report("systems_speed", measure_speed(models, rounds=rounds), out)


def _data() -> Mapping[str, object]:
    """What every system is trained and tested on."""
    return in_wide(SYSTEMS[PIXELS].base).load(0).data
