"""Runs of variants: each trained and scored once for a seed, and kept as a file."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from statistics import fmean

from ..clip import load_clip
from ..clip.memory import remembered_features
from ..core.files import whole_file
from ..core.reports import JsonObject
from ..datasets import captioned_items, held_out_data
from ..evaluation import Report, evaluate, probe
from ..segmentors import ZeroShotSegmentor
from ..training.acceleration import autocast, dtype_of
from ..training.recipe import FineTuneRecipe, load_finetuning
from ..training.run import Run, Watch, train
from .rows import SPLITS, shown_metrics
from .variants import Variant

# Test scenes of each split: the interval over 200 scenes is about as wide as the one over five seeds.
SCENES = 200
# Validation scenes on which settings are chosen: more would cost more than the choice is worth.
TUNING_SCENES = 150

Records = dict[str, list[JsonObject]]  # label -> one record for each seed, in the order of the seeds
# A finished run -> {"test-known": metrics, ...}, what a record keeps of it.
Scoring = Callable[[Run], Mapping[str, object]]
# A recipe -> what is measured on the way beside what every training measures.
Watching = Callable[[FineTuneRecipe], Watch]


def run_variants(
    variants: Mapping[str, Variant],
    seeds: Sequence[int],
    folder: Path,
    score: Scoring,
    *,
    watch: Watching | None = None,
    part: tuple[int, int] = (1, 1),
    states: Path | None = None,
    progress: bool = False,
) -> None:
    """Train and score every variant with every seed.

    A finished run is a file, and is run again only if its recipe has changed.

    Args:
        variants: by label.
        seeds: of the runs; all variants of a seed see the same scenes in the same order and start from the
            same weights.
        folder: one JSON for each finished run; the runs that others start from are kept too.
        score: what to measure of a finished run.
        watch: what to measure on the way, beside what every training measures.
        part: (k, n) does the k-th of n parts.
        states: folder of what long runs are gone on from when they were killed; a run's is deleted once its
            record is there. None: a run that was killed begins again.
        progress: show progress bars.

    Raises:
        ValueError: a part that cannot be.
    """
    if not 1 <= part[0] <= part[1]:
        raise ValueError(f"part is {part}; expected (k, n) with 1 <= k <= n")
    starts = _Starts(folder / "starts", progress)
    # A whole seed first: what a study will say is seen early. Every n-th run and not every n-th variant:
    # variants take different times, and so each process gets some of each.
    todo = [(label, seed) for seed in seeds for label in variants]
    for _, of_a_seed in groupby(todo[part[0] - 1 :: part[1]], key=itemgetter(1)):
        with remembered_features():  # all variants of a seed see the same scenes, and ask the same teacher
            for label, seed in of_a_seed:
                path = run_path(folder, label, seed)
                if _kept(path, variants[label], seed) is not None:
                    continue
                recipe = variants[label].load(seed)
                state = None if states is None else states / path.stem
                measured = _run(recipe, starts, score, watch, progress, state)
                with whole_file(path) as scratch:
                    scratch.write_text(json.dumps({"label": label, "seed": seed, **measured}))
                if state is not None:
                    shutil.rmtree(state)


class _Starts:
    """Runs that others start from, each trained once for a seed and kept."""

    def __init__(self, folder: Path, progress: bool) -> None:
        self.folder, self.progress = folder, progress
        self.found: dict[tuple[str, int], Run] = {}

    def of(self, recipe: FineTuneRecipe) -> Run | None:
        """What a recipe starts from; None if it starts from CLIP."""
        if recipe.start is None:
            return None
        key = (recipe.start, recipe.seed)
        if key not in self.found:
            where = self.folder / f"{recipe.start.replace('/', '-')}-{recipe.seed}"
            self.found[key] = train(recipe.start, folder=where, progress=self.progress, seed=recipe.seed)
        return self.found[key]


def _run(
    recipe: FineTuneRecipe,
    starts: _Starts,
    score: Scoring,
    watch: Watching | None,
    progress: bool,
    state: Path | None = None,
) -> dict[str, object]:
    """Train and score once; what a record holds of it."""
    started = time.perf_counter()
    start = starts.of(recipe)
    begins = time.perf_counter()
    run = train(recipe, start=start, watch=watch and watch(recipe), progress=progress, folder=state)
    trained = time.perf_counter()
    measured = score(run)
    return {
        "recipe": _as_json(recipe),
        **measured,
        # Twenty points of a curve are as many as a figure shows.
        "log": run.log[:: max(1, recipe.steps // 20)],
        # Five digits: rows travel with the project, and no figure shows more.
        "evaluations": [{key: round(value, 5) for key, value in each.items()} for each in run.evaluations()],
        "seconds": {
            "start": round(begins - started, 1),
            "train": round(trained - begins, 1),
            "score": round(time.perf_counter() - trained, 1),
        },
    }


def same_scenes(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two data sections of recipes are tested on the same scenes with the same words, seen ones too.

    Args:
        one, other: the sections; a key that is left out has its default.
    """
    # Described, not compared key by key: a section need not name what is the default.
    first, second = (held_out_data(section, SPLITS[0], length=SCENES) for section in (one, other))
    return first.describe() == second.describe()


def _as_json(recipe: FineTuneRecipe) -> JsonObject:
    """A recipe as it comes back from a file, where a tuple is a list."""
    return json.loads(json.dumps(asdict(recipe)))


def _is_of(kept: JsonObject, recipe: FineTuneRecipe) -> bool:
    """Whether a file's recipe is this one: a key that came later has its default in older files."""
    try:
        return _as_json(load_finetuning({"task": "finetune", **kept})) == _as_json(recipe)
    except ValueError:  # a key that is no more
        return False


def run_path(folder: Path, label: str, seed: int) -> Path:
    """Where the record of one run is; rows travel, and to machines that allow fewer names than others."""
    name = re.sub(r'[<>:"/|?*]', "-", label)
    return folder / "runs" / f"{name}-{seed}.json"


def gather(variants: Mapping[str, Variant], seeds: Sequence[int], folder: Path) -> Records:
    """The records of the variants that all seeds have finished, by label, in the order of the seeds.

    A record of another recipe than the variant's is none, as for `run_variants`.
    """
    found = gather_any(variants, seeds, folder)
    return {label: runs for label, runs in found.items() if len(runs) == len(seeds)}


def gather_any(variants: Mapping[str, Variant], seeds: Sequence[int], folder: Path) -> Records:
    """The records of those seeds that are finished, of every variant with one at least; see `gather`."""
    found = {
        label: [run for seed in seeds if (run := _kept(run_path(folder, label, seed), variant, seed))]
        for label, variant in variants.items()
    }
    return {label: runs for label, runs in found.items() if runs}


def _kept(path: Path, variant: Variant, seed: int) -> JsonObject | None:
    """The record of a run if it is there and of that recipe."""
    if not path.exists():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    return record if _is_of(record["recipe"], variant.load(seed)) else None


def of_read_out(name: str, section: Mapping[str, object], split: str, scenes: int) -> dict[str, float]:
    """Metrics of a read-out of the frozen CLIP; five digits, as rows have.

    Args:
        name: of the read-out.
        section: the data of a recipe.
        split: of the scenes.
        scenes: how many.

    Returns:
        Fractions; a group of words that no scene shows has no metric.
    """
    data = held_out_data(section, split, length=scenes)
    metrics = evaluate(ZeroShotSegmentor(load_clip(), name), data).metrics
    return {key: round(metrics[key], 5) for key in shown_metrics(metrics) if not math.isnan(metrics[key])}


def score_run(
    run: Run,
    *,
    splits: Sequence[str] = SPLITS,
    scenes: int = SCENES,
    probes: bool = True,
    nouns: bool = False,
    gammas: Sequence[float] = (),
) -> dict[str, object]:
    """Metrics on each split, and the probes on 60 scenes of known ones, in the precision of the training.

    Args:
        run: a finished run.
        splits: of the recipe's data set.
        scenes: of each, `TUNING_SCENES` at most of validation.
        probes: whether to probe CLIP as well.
        nouns: whether to keep the IoU of every class of the last split, under "nouns".
        gammas: constants, subtracted from the logits of all words that were trained. Of each split a sweep
            under "calibration"; see `swept`.

    Raises:
        ValueError: a run of pretraining.
    """
    recipe, model = run.recipe, run.model
    if not isinstance(recipe, FineTuneRecipe) or run.reference is None:
        raise ValueError("got a run of pretraining; expected one of fine-tuning")
    result: dict[str, object] = {}
    sweeps: dict[str, dict[str, dict[str, float]]] = {}
    with autocast(model.clip.device, dtype_of(recipe.machine.dtype)):
        for split in splits:
            length = min(scenes, TUNING_SCENES) if split == "val" else scenes
            found = evaluate(run, held_out_data(recipe.data, split, length=length), gammas=gammas)
            result[split] = found.metrics
            if nouns and split == splits[-1]:
                result["nouns"] = {
                    row.name: round(row.iou, 5) for row in found.classes if row.iou is not None
                }
            if gammas:
                sweeps[split] = swept(found)
        if probes:
            # Sixty captions to tell apart: with more, recall falls for every method and tells them apart no
            # better.
            data = held_out_data(recipe.data, SPLITS[0], length=60)
            items = captioned_items(data, len(data))
            result["probes"] = probe(
                model.clip, run.reference, items, data.names, data.unseen, model.read_outs[0]
            )
    return {**result, "calibration": sweeps} if gammas else result


def swept(found: Report) -> dict[str, dict[str, float]]:
    """{gamma: metrics}, "0.0" where nothing is subtracted, in five digits: rows travel with the project.

    Args:
        found: an evaluation with gammas.
    """
    return {
        gamma: {key: round(metrics[key], 5) for key in shown_metrics(metrics)}
        for gamma, metrics in {"0.0": found.metrics, **found.calibration}.items()
    }


def score_tuning(run: Run) -> dict[str, object]:
    """What settings are chosen by: metrics on validation scenes alone, test scenes are not looked at."""
    return score_run(run, splits=("val",), probes=False)


def calibrated(runs: Sequence[JsonObject]) -> dict[str, object]:
    """A constant subtracted from seen logits: chosen on validation scenes, shown on the others.

    Args:
        runs: of one variant.

    Returns:
        {"gamma": the best mean hIoU on validation scenes, None where these have no unseen nouns, "sweep":
        {split: {gamma: mean metrics}}}.
    """
    sweep = {
        split: {
            gamma: {
                key: round(fmean(run["calibration"][split][gamma][key] for run in runs), 5) for key in keys
            }
            for gamma, keys in runs[0]["calibration"][split].items()
        }
        for split in runs[0]["calibration"]
    }
    chosen = sweep.get("val", {})
    gamma = max(chosen, key=lambda gamma: chosen[gamma]["hIoU"]) if chosen else None
    return {"gamma": gamma, "sweep": sweep}
