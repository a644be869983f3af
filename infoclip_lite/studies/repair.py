"""Where fine-tuning forgets, what keeps unseen nouns? InfoCLIP, its rivals, and what each part of it does.

Two settings. *full*: every weight learns from eight seen nouns at the rate that is best for these on
validation scenes, where unseen nouns are lost (see `degradation_map`); all rivals stand beside InfoCLIP.
*qv*: queries and values alone, as CAT-Seg and InfoCLIP tune CLIP, which loses nothing; there InfoCLIP stands
beside plain fine-tuning and itself without its parts. In each, every method that has a strength is tried with
four or five on validation scenes, and runs with the best (`tune`); the choice is written down in `CHOSEN`,
and a test holds it against the report.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, harmonic_mean, quantiles

from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import interval
from ..datasets import Segmented, held_out_data
from ..datasets.base import class_groups
from ..evaluation import Report, evaluate
from ..training.acceleration import autocast, dtype_of
from ..training.build import build_segmentor
from ..training.run import Run
from .redrawn import redrawn
from .relation_quality import relation_quality
from .rows import SPLITS, StudyTable, shown_metrics
from .runs import (
    SCENES,
    TUNING_SCENES,
    Records,
    calibrated,
    score_run,
    swept,
)
from .study import Study, best_choice, tried
from .variants import Variant

FOLDER = data_dir() / "rows" / "repair"
_DRAWS = 2000
# Subtracted from the scores of every word that was trained: are unseen nouns lost, or only outvoted?
# (Calibrated stacking, Chao et al. 2016, 1605.04253.)
GAMMAS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
GRID_SEEDS = (100,)
SETTINGS: Mapping[str, Mapping[str, object]] = {
    "full": {"tune": "full", "optimizer": {"lr": 3e-4}},
    "qv": {"tune": "qv", "optimizer": {"lr": 1e-3}},
}
BASELINES = {f"{setting}: ": f"{setting}: plain" for setting in SETTINGS}


def _objective(name: str, **options: object) -> dict[str, object]:
    return {"objective": {"name": name, **options}}


def _weights(name: str, *weights: float) -> dict[str, dict[str, object]]:
    return {f"{weight:g}": _objective(name, weight=weight) for weight in weights}


def _infoclip(*transfers: float, **options: object) -> dict[str, dict[str, object]]:
    """A reading of InfoCLIP with some strengths of the transfer beside a compression of weight one."""
    return {
        f"{transfer:g}": _objective(
            "infoclip", **{"axis": "pixel", **options}, compression=1.0, transfer=transfer
        )
        for transfer in transfers or (0.3, 1.0, 3.0, 10.0)
    }


def _anchored(strengths: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """The relation has a column more for every noun of the captions that is no class of the data set."""
    return {strength: {**changes, "anchors": "captions"} for strength, changes in strengths.items()}


# {method: {strength: what it changes}}, weakest first: four tries for each, and one further for whoever was
# best at the edge of these.
METHODS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "plain": {"": {}},
    # What one would try first.
    "wise": {f"{part:g}": {"interpolate": part} for part in (0.3, 0.4, 0.5, 0.8)},
    "l2sp": _weights("l2sp", 0.001, 0.01, 0.1, 1.0, 3.0),
    "kl": _weights("kl", 0.1, 0.3, 1.0, 3.0, 10.0),
    "feature": _weights("feature", 0.3, 1.0, 3.0, 10.0),
    "pooled": _weights("pooled", 0.1, 0.3, 1.0, 3.0),
    # Relational distillation.
    "similarity": _weights("similarity", 10.0, 30.0, 100.0, 300.0),
    "rkd": _weights("rkd", 0.3, 1.0, 3.0, 10.0, 30.0),
    "cka": _weights("cka", 1.0, 3.0, 10.0, 30.0, 100.0),
    "kernel alignment": _weights("kernel_alignment", 1.0, 3.0, 10.0, 30.0, 100.0),
    "kernel alignment, anchors": _anchored(_weights("kernel_alignment", 1.0, 3.0, 10.0, 30.0)),
    # The siblings' reading: pictures are the samples. The paper's weights, InfoSAM's, and weaker ones.
    "infoclip, pictures": {
        f"{compression:g}, {transfer:g}": _objective(
            "infoclip", axis="batch", compression=compression, transfer=transfer
        )
        for compression, transfer in ((0.03, 0.03), (0.1, 0.1), (0.3, 0.3), (1.0, 0.5), (1.0, 1.0))
    },
    # The two other axes that the figure allows, and what we tried to make it better [O].
    "infoclip, patches": _infoclip(),
    "infoclip, words": _infoclip(0.3, 1.0, 3.0, 10.0, 30.0, axis="class"),
    "infoclip, centred": _infoclip(0.1, 0.3, 1.0, 3.0, 10.0, centre=True),
    # A relation with eight nouns and the grounds is blind to every other word: more columns.
    "infoclip, anchors": _anchored(_infoclip(centre=True)),
    # Information also grows when the student's rows differ more than the teacher's: no more than those have.
    "infoclip, anchors, gap": _anchored(_infoclip(1.0, 3.0, 10.0, 30.0, 100.0, centre=True, kind="gap")),
    "infoclip, anchors, detached": _anchored(_infoclip(centre=True, detach=True)),
    "infoclip, anchors, LPAM first": _anchored(_infoclip(centre=True, ramp=0.25)),
}
# Queries and values lose nothing at any rate of the map: there InfoCLIP's parts are asked for, not rivals.
_ITSELF = ("plain", "infoclip, pictures", "infoclip, anchors, gap")
# Tried on validation scenes, where neither was above the reading that it changes; not asked further.
_TRIED = ("infoclip, centred", "infoclip, anchors, detached", "infoclip, anchors, LPAM first")
COMPARED: Mapping[str, Sequence[str]] = {
    "full": tuple(METHODS),
    "qv": _ITSELF,
}
# Best on validation scenes, of each method and setting: what `tune` found.
CHOSEN: Mapping[str, Mapping[str, str]] = {
    "full": {
        "wise": "0.4",
        "l2sp": "3",
        "kl": "10",
        "feature": "3",
        "pooled": "0.3",
        "similarity": "100",
        "rkd": "30",
        "cka": "30",
        "kernel alignment": "100",
        "kernel alignment, anchors": "10",
        "infoclip, pictures": "0.03, 0.03",
        "infoclip, patches": "3",
        "infoclip, words": "10",
        "infoclip, anchors": "1",
        "infoclip, anchors, gap": "30",
    },
    "qv": {
        "infoclip, pictures": "0.03, 0.03",
        "infoclip, anchors, gap": "100",
    },
}
# The best reading of InfoCLIP on validation scenes, of those after the siblings'.
BEST: Mapping[str, str] = {"full": "infoclip, anchors, gap", "qv": "infoclip, anchors, gap"}


def variant(setting: str, changes: Mapping[str, object]) -> Variant:
    """A training of the study: the map's, half as long and looked at when it is over.

    Multiplied in bfloat16, as the papers' sizes are on a card: a step takes six tenths of the time here, and
    all methods are rounded alike.
    """
    base = Variant("mini/map", {"steps": 400, "evaluation": {"at": []}, "machine": {"dtype": "bfloat16"}})
    return base.changed(**SETTINGS[setting]).changed(**changes)


def candidates() -> dict[str, Variant]:
    """Every strength of every method, "setting: method | strength"."""
    return {
        f"{setting}: {method} | {strength}": variant(setting, changes)
        for setting, methods in COMPARED.items()
        for method in methods
        for strength, changes in METHODS[method].items()
    }


def variants() -> dict[str, Variant]:
    """What is compared on test scenes: every method at its strength, and the best InfoCLIP without a part."""
    found: dict[str, Variant] = {}
    for setting, chosen in CHOSEN.items():
        for method in (each for each in COMPARED[setting] if each not in _TRIED):
            strengths = METHODS[method]
            strength = chosen.get(method, next(iter(strengths)))
            found[f"{setting}: {method}"] = variant(setting, strengths[strength])
        weighed = variant(setting, METHODS["infoclip, pictures"]["1, 1"])
        found[f"{setting}: infoclip, paper's weights"] = replace(weighed, paper=True)
        best = found[f"{setting}: {BEST[setting]}"]
        found[f"{setting}: infoclip without compression"] = best.changed(objective={"compression": 0.0})
        found[f"{setting}: infoclip without transfer"] = best.changed(objective={"transfer": 0.0})
    return found


def contrasts() -> tuple[tuple[str, str], ...]:
    """The seven questions, named before the study runs."""
    full, qv = (f"{setting}: {BEST[setting]}" for setting in ("full", "qv"))
    return (
        ("full: infoclip, paper's weights", "full: plain"),
        (full, "full: plain"),
        (full, "full: wise"),  # the cheapest rival: no teacher beside the training
        (full, "full: infoclip without compression"),
        ("full: kernel alignment, anchors", "full: plain"),
        (qv, "qv: plain"),
        (qv, "qv: infoclip without compression"),
    )


def tune(*, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None) -> JsonObject:
    """Try every strength on validation scenes, and write repair_grid.json.

    Args:
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "measured": {"setting: method | strength": metrics}, "best": as of `best_strengths`,
        "zero_shot": metrics before any training}, all of validation scenes.
    """
    measured = tried(candidates(), GRID_SEEDS, folder / "grid", part=part)
    content = {
        "seeds": list(GRID_SEEDS),
        "measured": measured,
        "best": best_strengths(measured),
        "zero_shot": _shown(zero_shot(("val",))["val"]),
    }
    return write_report("repair_grid", content, out)


def best_strengths(measured: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, str]]:
    """Of each setting and method the strength with the highest hIoU.

    Args:
        measured: {"setting: method | strength": {"hIoU": ...}}; a method that lacks one is left out.
    """
    found: dict[str, dict[str, str]] = {}
    for setting, methods in COMPARED.items():
        for method in methods:
            labels = {each: f"{setting}: {method} | {each}" for each in METHODS[method]}
            best = best_choice(measured, labels)
            if best is not None:
                found.setdefault(setting, {})[method] = best
    return found


def _score(run: Run) -> dict[str, object]:
    """As every study scores; calibrated; with other instances drawn; and whether noise left the relation."""
    found: JsonObject = score_run(run, splits=("val", *SPLITS), nouns=True, gammas=GAMMAS)
    # Validation scenes choose gamma and nothing else; what it is worth is asked of new instances.
    del found["val"], found["calibration"]["test-known"]
    return {
        **found,
        "redrawn": redrawn(run, scenes=SCENES),
        "relation": relation_quality(run),
    }


def _adds(records: Records, rows: StudyTable) -> dict[str, object]:
    """The relation before and after LPAM, contrasts with other nouns and instances, CLIP before training."""
    relations = {
        label: {
            key: interval([run["relation"][key] for run in runs]).to_json() for key in runs[0]["relation"]
        }
        for label, runs in records.items()
        if runs[0].get("relation")
    }
    finished = [pair for pair in contrasts() if all(label in records for label in pair)]
    again = {
        what: {f"{first} - {second}": draw(records[first], records[second]) for first, second in finished}
        for what, draw in (("contrasts_over_nouns", over_nouns), ("contrasts_over_instances", over_instances))
    }
    return {
        "relation": relations,
        **again,
        "calibration": {label: at_its_gamma(runs) for label, runs in records.items()},
        **_before_training(),
    }


def at_its_gamma(runs: Sequence[JsonObject]) -> dict[str, object]:
    """What is lost once trained words are no longer favoured: gamma is taken on validation scenes.

    Args:
        runs: of one method.

    Returns:
        As of `calibrated`, and "test": {metric: one value a seed} at that gamma.
    """
    found = calibrated(runs)
    rows = [run["calibration"]["test"][str(found["gamma"])] for run in runs]
    return {**found, "test": {key: [row[key] for row in rows] for key in rows[0]}}


def over_nouns(first: Sequence[JsonObject], second: Sequence[JsonObject]) -> dict[str, float]:
    """A difference in hIoU on new instances with a 95% interval over nouns: would it hold with other nouns?

    Args:
        first, second: runs of two methods, of the same seeds.

    Returns:
        {"mean", "low", "high"}: seen and unseen nouns are drawn with replacement, each among its own, the
        same ones for both methods; an IoU is a noun's mean over seeds.
    """
    data = _scenes("test")
    groups, names = class_groups(data) or {}, data.names
    # A word that no scene shows has an IoU in those runs alone that called a pixel so: it is in no group.
    known = set.intersection(*(set(run["nouns"]) for run in (*first, *second)))
    shown = [[names[i] for i in groups[group] if names[i] in known] for group in ("seen", "unseen")]
    means = [
        {name: fmean(run["nouns"][name] for run in runs) for group in shown for name in group}
        for runs in (first, second)
    ]
    rng = random.Random("repair")

    def difference(drawn: Sequence[Sequence[str]]) -> float:
        ours, theirs = (harmonic_mean([fmean(of[name] for name in group) for group in drawn]) for of in means)
        return ours - theirs

    draws = [difference([rng.choices(group, k=len(group)) for group in shown]) for _ in range(_DRAWS)]
    return _middle(difference(shown), draws)


def over_instances(first: Sequence[JsonObject], second: Sequence[JsonObject]) -> dict[str, float]:
    """A difference in hIoU on new instances with a 95% interval over instances: would it hold with others?

    Args:
        first, second: runs of two methods, of the same seeds.

    Returns:
        {"mean", "low", "high"}: the same instances are drawn for both methods; see `redrawn`.
    """
    draws = [
        fmean(ours) - fmean(theirs) for ours, theirs in zip(*map(_by_draw, (first, second)), strict=True)
    ]
    return _middle(
        fmean(a["test"]["hIoU"] - b["test"]["hIoU"] for a, b in zip(first, second, strict=True)), draws
    )


def _by_draw(runs: Sequence[JsonObject]) -> list[tuple[float, ...]]:
    return list(zip(*(run["redrawn"] for run in runs), strict=True))


def _middle(mean: float, draws: Sequence[float]) -> dict[str, float]:
    """The middle 95% of draws."""
    cuts = quantiles(draws, n=40)
    return {"mean": mean, "low": cuts[0], "high": cuts[-1]}


def _scenes(split: str) -> Segmented:
    length = TUNING_SCENES if split == "val" else SCENES
    return held_out_data(variant("full", {}).load(0).data, split, length=length)


def zero_shot(splits: Sequence[str], *, gammas: Sequence[float] = ()) -> dict[str, Report]:
    """CLIP before any training, on the scenes of each split; multiplied as trainings are, and calibrated with
    `gammas`.
    """
    recipe = variant("full", {}).load(0)
    model = build_segmentor(recipe)
    with autocast(model.clip.device, dtype_of(recipe.machine.dtype)):
        return {split: evaluate(model, _scenes(split), gammas=gammas) for split in splits}


def _before_training() -> dict[str, object]:
    """What a report says of CLIP before any training."""
    found = zero_shot(("val", *SPLITS), gammas=GAMMAS)
    sweeps = {split: swept(found[split]) for split in ("val", "test")}
    return {
        "zero_shot": {split: _shown(found[split]) for split in SPLITS},
        "zero_shot_calibrated": at_its_gamma([{"calibration": sweeps}]),
    }


def _shown(found: Report) -> dict[str, float]:
    return {key: found.metrics[key] for key in shown_metrics(found.metrics)}


def study() -> Study:
    """The study with what was chosen."""
    return Study(
        "repair",
        variants(),
        baselines=BASELINES,
        contrasts=contrasts(),
        grid=candidates(),
        grid_seeds=GRID_SEEDS,
        score=_score,
        adds=_adds,
        planned_seeds=10,
    )


def repair(
    *,
    seeds: int = 5,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Run every method with every seed and write data/reports/repair.json; see `Study.run`."""
    return study().run(seeds=seeds, part=part, folder=folder, out=out)
