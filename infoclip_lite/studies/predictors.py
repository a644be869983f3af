"""Do bits predict what is kept? Probes along the trainings of the map of fine-tuning, against unseen nouns.

Two questions. *Rank correlation*: where a probe is higher, is more kept of unseen nouns? *Early stopping*:
how much is kept by who stops when a probe has fallen by more than a limit? The limit is chosen on other
tunings than the one that it is tried on. The first is asked once more of finished trainings with a repair.

Trainings of a head alone are left out: no weight of CLIP moves, and no probe of CLIP with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ..core.reports import JsonObject, write_report
from ..core.statistics import interval, paired_interval
from . import repair
from .degradation_map import FOLDER, SEEN, UNSEEN, cells
from .runs import gather, gather_any

Probe = Callable[[Mapping[str, float]], float]  # of an evaluation

# What a training can be asked; of each, higher is closer to where it began, but for `mIoU_seen`, which is
# what one would look at without any of them. Margins are of labelled patches of validation scenes, those of
# the development's unseen nouns among them; no other probe but the last needs a pixel label.
PROBES: Mapping[str, Probe] = {
    "bits shared": lambda at: at["relation_bits"],
    **{f"CKA, block {block}": lambda at, key=f"cka_{block}": at[key] for block in (2, 4, 6)},  # type: ignore[misc]
    "word margin": lambda at: at["margin"],
    "margin of unseen words": lambda at: at["margin_unseen"],
    "caption recall": lambda at: (at["image_to_text"] + at["text_to_image"]) / 2,
    "noun recognition": lambda at: at["noun_recognition"],
    "weight distance": lambda at: -at["weight_distance"],
    "seen mIoU": lambda at: at["mIoU_seen"],
}
# Of these the repair study has what they are at the end of a training, on scenes of known instances. Both
# margins are left out: there they look at pixels of the very nouns that are asked about.
AT_THE_END = [
    name for name in PROBES if name in ("bits shared", "caption recall", "noun recognition") or "CKA" in name
]
DRAWS = 2000
LIMITS = 20  # of a fall, that are tried
HARMONIC = "test/hIoU"

Evaluated = Sequence[Mapping[str, float]]  # one training's evaluations, in order


class Training(NamedTuple):
    """One training of the map.

    Attributes:
        cell: "tuning/rate".
        seed: of the training.
        path: its evaluations, the first before any step.
    """

    cell: str
    seed: int
    path: Evaluated

    @property
    def tuning(self) -> str:
        """What is tuned."""
        return self.cell.split("/")[0]


def predictors(
    *,
    seeds: int = 3,
    folder: Path = FOLDER,
    repairs: Path = repair.FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Read the finished runs of the map and of the repair study and write predictors.json.

    Args:
        seeds: of each cell; those that are finished count.
        folder: where the map keeps its runs.
        repairs: where the repair study keeps its own.
        out: where the report is written; data/reports by default.

    Returns:
        {"seeds", "cells", "points": as of `points`, "correlation": {probe: as of `correlations`, and
        "than bits": as of `differences`}, "stopping": as of `stopping`, "repaired": as of `repaired`}.

    Raises:
        FileNotFoundError: no cell is finished.
    """
    trainings = finished(range(seeds), folder)
    if not trainings:
        raise FileNotFoundError(
            f"{folder} has no run of the first {seeds} seeds; expected some of the map's runs"
        )
    of_probes = {name: rhos(trainings, probe) for name, probe in PROBES.items()}
    content = {
        "seeds": seeds,
        "cells": list(dict.fromkeys(training.cell for training in trainings)),
        "points": [point for training in trainings for point in points(training)],
        "correlation": {
            name: {**correlations(of), "than bits": differences(of, of_probes["bits shared"])}
            for name, of in of_probes.items()
        },
        "stopping": stopping(trainings),
        "repaired": repaired(repairs),
    }
    return write_report("predictors", content, out)


def finished(seeds: Sequence[int], folder: Path = FOLDER) -> list[Training]:
    """The map's trainings with some seeds that are finished, those of a head alone left out.

    Args:
        seeds: of the runs.
        folder: where the map keeps them.
    """
    of_clip = {label: variant for label, variant in cells().items() if not label.startswith("head/")}
    return [
        Training(label, int(run["seed"]), run["evaluations"])
        for label, runs in gather_any(of_clip, seeds, folder).items()
        for run in runs
    ]


def points(training: Training) -> list[dict[str, object]]:
    """Every step after the first: each probe, and what is kept of unseen nouns (mIoU less that of step 0)."""
    start = training.path[0][UNSEEN]
    return [
        {
            "tuning": training.tuning,
            "cell": training.cell,
            "seed": training.seed,
            "step": int(at["step"]),
            "kept": at[UNSEEN] - start,
            **{name: probe(at) for name, probe in PROBES.items()},
        }
        for at in training.path[1:]
    ]


class Rhos(NamedTuple):
    """Spearman's rho of a probe with what is kept, over steps, seeds and cells: each by its scope.

    Attributes:
        found: "all", each tuning, and "within", their mean.
        drawn: the same of cells drawn again with replacement, DRAWS times, those of each tuning among
            themselves; the same draws for every probe. Steps and seeds of a cell are no independent
            witnesses.
    """

    found: dict[str, float]
    drawn: list[dict[str, float]]


def rhos(trainings: Sequence[Training], probe: Probe) -> Rhos:
    """Of a probe, with what is kept.

    Args:
        trainings: of one tuning or of several.
        probe: of an evaluation.
    """
    by_tuning, rng = _pairs(trainings, probe), random.Random("predictors")
    drawn = [
        _rhos({t: [rng.choice(list(c.values())) for _ in c] for t, c in by_tuning.items()})
        for _ in range(DRAWS)
    ]
    return Rhos(_rhos({tuning: list(of.values()) for tuning, of in by_tuning.items()}), drawn)


def correlations(of: Rhos) -> dict[str, dict[str, float]]:
    """The rhos of a probe with 95% intervals: {"rho", "low", "high"} of each scope."""
    return {name: _with_interval(rho, [draw[name] for draw in of.drawn]) for name, rho in of.found.items()}


def differences(of: Rhos, other: Rhos) -> dict[str, dict[str, float]]:
    """rho of a probe less that of another, from the same draws: two intervals that overlap tell no order.

    Args:
        of, other: of two probes of the same trainings.

    Returns:
        "all" and "within": {"rho", "low", "high"}, of the difference.
    """
    drawn = list(zip(of.drawn, other.drawn, strict=True))
    return {
        scope: _with_interval(
            of.found[scope] - other.found[scope], [ours[scope] - theirs[scope] for ours, theirs in drawn]
        )
        for scope in ("all", "within")
    }


def repaired(folder: Path = repair.FOLDER, *, seeds: int = 5) -> JsonObject:
    """The same question of trainings that have a repair, and of those that they are compared with.

    Args:
        folder: where the repair study keeps its runs.
        seeds: of each variant; one that lacks a seed is left out.

    Returns:
        {"points": a variant each, {"training", "unseen": mIoU of unseen nouns on new instances, the probes on
        known ones}, means over seeds; "correlation": {probe: {"rho", "low", "high", "than bits": the same of
        the difference to bits}}, with 95% intervals of variants drawn again with replacement}; empty with
        fewer than three variants.
    """
    found: list[dict[str, Any]] = [
        {
            "training": label,
            "unseen": fmean(run["test"]["mIoU_unseen"] for run in runs),
            **{name: fmean(PROBES[name](run["probes"]) for run in runs) for name in AT_THE_END},
        }
        for label, runs in gather(repair.variants(), range(seeds), folder).items()
    ]
    if len(found) < 3:
        return {"points": [], "correlation": {}}
    rng = random.Random("repaired")
    drawn = [rng.choices(found, k=len(found)) for _ in range(DRAWS)]

    def rho_of(name: str, points: Sequence[Mapping[str, float]]) -> float:
        return spearman([(point[name], point["unseen"]) for point in points])

    every = {name: [rho_of(name, points) for points in (found, *drawn)] for name in AT_THE_END}
    bits = every["bits shared"]
    return {
        "points": found,
        "correlation": {
            name: {
                **_with_interval(rho, rhos),
                "than bits": _with_interval(
                    rho - bits[0], [a - b for a, b in zip(rhos, bits[1:], strict=True)]
                ),
            }
            for name, (rho, *rhos) in every.items()
        },
    }


# By tuning and cell, a probe beside what is kept, a pair a look.
_Pairs = dict[str, dict[str, list[tuple[float, float]]]]


def _pairs(trainings: Sequence[Training], probe: Probe) -> _Pairs:
    by_tuning: _Pairs = {}
    for training in trainings:
        start = training.path[0][UNSEEN]
        pairs = [(probe(at), at[UNSEEN] - start) for at in training.path[1:]]
        by_tuning.setdefault(training.tuning, {}).setdefault(training.cell, []).extend(pairs)
    return by_tuning


def _rhos(by_tuning: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> dict[str, float]:
    """Of all tunings together, of each, and the mean of these."""
    joined = {tuning: [pair for cell in of for pair in cell] for tuning, of in by_tuning.items()}
    each = {tuning: spearman(pairs) for tuning, pairs in joined.items()}
    whole = spearman([pair for pairs in joined.values() for pair in pairs])
    return {"all": whole, **each, "within": fmean(each.values())}


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rank correlation; 0 where one side never changes, since it then tells nothing."""
    from scipy import stats

    first, second = (stats.rankdata(side) for side in zip(*pairs, strict=True))
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(((first - first.mean()) * (second - second.mean())).mean() / (first.std() * second.std()))


def _with_interval(rho: float, drawn: Sequence[float]) -> dict[str, float]:
    """A rho, or a difference of two, with the ends of the middle 95% of its draws."""
    ordered = sorted(drawn)
    cut = round(0.025 * len(ordered))
    return {"rho": rho, "low": ordered[cut], "high": ordered[-1 - cut]}


def stopping(trainings: Sequence[Training]) -> dict[str, JsonObject]:
    """What each rule of early stopping keeps, on tunings that it was not set up on.

    Args:
        trainings: of at least two tunings.

    Returns:
        {rule: {"unseen", "seen", "hIoU": {"mean", "half"} over cells, "difference": of hIoU to the last
        step, paired}}. Rules beside probes: "last step"; "best seen mIoU" and "best hIoU", on validation
        scenes, whose unseen nouns are others than the test's; "no training"; "best of all", which looks at
        the answer.
    """
    rules: dict[str, list[Mapping[str, float]]] = {
        "last step": [training.path[-1] for training in trainings],
        "best seen mIoU": [max(training.path, key=PROBES["seen mIoU"]) for training in trainings],
        "best hIoU": [max(training.path, key=lambda at: at["hIoU"]) for training in trainings],
        "no training": [training.path[0] for training in trainings],
        "best of all": [max(training.path, key=lambda at: at[HARMONIC]) for training in trainings],
    }
    for name, probe in PROBES.items():
        if name != "seen mIoU":
            rules[name] = [_stopped(training, trainings, probe) for training in trainings]
    last = _by_cell(trainings, rules["last step"], HARMONIC)
    keys = {"unseen": UNSEEN, "seen": SEEN, "hIoU": HARMONIC}
    return {
        name: {
            **{label: interval(_by_cell(trainings, chosen, key)).to_json() for label, key in keys.items()},
            "difference": paired_interval(_by_cell(trainings, chosen, HARMONIC), last).to_json(),
        }
        for name, chosen in rules.items()
    }


def _by_cell(trainings: Sequence[Training], chosen: Evaluated, key: str) -> list[float]:
    """Means over the seeds of each cell: seeds of one cell are no independent witnesses."""
    found: dict[str, list[float]] = {}
    for training, at in zip(trainings, chosen, strict=True):
        found.setdefault(training.cell, []).append(at[key])
    return [fmean(values) for values in found.values()]


def _stopped(training: Training, trainings: Sequence[Training], probe: Probe) -> Mapping[str, float]:
    """Where a training stops by a probe, at the limit that suits the other tunings best."""
    others = [other for other in trainings if other.tuning != training.tuning]
    changes = sorted(probe(at) - probe(other.path[0]) for other in others for at in other.path[1:])
    # Limits where trainings really are: probes have scales of their own, and a fraction of where one began
    # would be a fine limit for some and none at all for others.
    limits = [0.0, *(changes[round(i * (len(changes) - 1) / LIMITS)] for i in range(LIMITS + 1))]
    limit = max(
        limits, key=lambda each: fmean(stop_at(other.path, probe, each)[HARMONIC] for other in others)
    )
    return stop_at(training.path, probe, limit)


def stop_at(path: Evaluated, probe: Probe, limit: float) -> Mapping[str, float]:
    """The last evaluation before a probe's change falls below a limit.

    Args:
        path: evaluations in order.
        probe: of an evaluation.
        limit: of the probe less what it was at the beginning, such as -0.1.
    """
    kept = path[0]
    for at in path[1:]:
        if probe(at) - probe(path[0]) < limit:
            break
        kept = at
    return kept
