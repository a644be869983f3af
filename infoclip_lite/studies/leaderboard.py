"""The leaderboard: every method on the same scenes, what it costs, and the ranks its intervals allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from ..clip import DenseCLIP, load_clip
from ..clip.readouts import READ_OUTS
from ..core.environment import environment
from ..core.files import data_dir, whole_file
from ..core.reports import JsonObject, read_report, write_report
from ..core.statistics import Score, interval, rank_ranges, seeds_needed, surely_better
from ..core.timing import take_turns
from ..datasets import Segmented, held_out_data
from ..segmentors import Segmentor, ZeroShotSegmentor
from ..segmentors.base import count
from ..training.build import build_segmentor, build_task
from ..training.finetuning import FineTuning
from ..training.recipe import FineTuneRecipe, load_finetuning
from . import chimera_seg, repair
from .by_scene import DRAWS, groups_of, redrawn_scores, tally
from .card import MEASURED
from .cost import forward_pass, speed_rows
from .rows import REPORTED, SPLITS, Method, RankRange, shown_metrics
from .runs import SCENES, Records, gather, same_scenes
from .variants import Variant

# What everything on the board learns from, or is tested on: the scenes of chapter 02's map.
DATA = load_finetuning("mini/map-head").data
BATCH, ROUNDS = 16, 40
REFERENCE = "CLIP, one vector a picture"
SHARED = "every read-out, one pass"
# What a recipe's `tune` moves: in a row, and in the name of a method.
TUNED = {
    "full": "all of CLIP",
    "image": "CLIP's image tower",
    "qv": "CLIP's q and v",
    "none": "nothing of CLIP",
}
_IN_NAME = {"full": "all weights", "image": "image tower", "qv": "q and v"}
# The groups of the board: what a method was told of scenes.
FREE, MASKS = "training-free", "masks of seen words"

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Source:
    """A study whose finished runs, all of them with masks, are rows of the board.

    Attributes:
        command: that runs it: `infoclip-lite benchmark COMMAND`.
        variants: its trainings by label.
        folder: where its runs are kept.
    """

    command: str
    variants: Callable[[], Mapping[str, Variant]]
    folder: Path


SOURCES = (
    Source("repair", repair.variants, repair.FOLDER),
    Source("chimera_seg", chimera_seg.planned, chimera_seg.FOLDER),
)


def leaderboard(
    *,
    seeds: int = 5,
    rounds: int = ROUNDS,
    sources: Sequence[Source] = SOURCES,
    out: Path | None = None,
) -> JsonObject:
    """Gather what studies have finished, measure what is not trained, rank all, and write the report.

    Nothing is trained here: a row that a study has not finished with all seeds is named as missing.

    Args:
        seeds: of every training.
        rounds: timed passes of each way of inference.
        sources: the studies.
        out: where the report is written; data/reports/leaderboard.json by default.

    Returns:
        {"size", "scenes", "words", "seen", "seeds", "separation", "missing", "left_out", "speed", "rows"}:
        how many seeds would tell neighbours apart; what is not finished and what is of other scenes or
        settings; see `Method` and `measure_speed`.
    """
    clip = load_clip()
    methods = {f"zero-shot: {'+'.join(names)}": _untrained(clip, names) for names in untrained()}
    missing: dict[str, list[str]] = {}
    left_out: dict[str, list[str]] = {}
    recipes: list[FineTuneRecipe] = []
    for source in sources:
        found = finished_rows(source, seeds)
        missing[source.command], left_out[source.command] = found.missing, found.left_out
        for label, runs in found.records.items():
            variant = source.variants()[label]
            name, method = _trained(label, variant, runs)
            methods[name] = method
            recipes.append(variant.load(0))
    best = ranked(methods)
    content = {
        "size": DATA["size"],
        "scenes": SCENES,
        "words": len(_scenes(SPLITS[0]).names),
        "seen": DATA["seen"],
        "seeds": seeds,
        "separation": {split: separation(best, split) for split in SPLITS},
        "missing": missing,
        "left_out": left_out,
        "speed": measure_speed(backends(clip, recipes), rounds=rounds),
        "rows": {label: method.to_json() for label, method in best.items()},
    }
    return write_report("leaderboard", content, out)


def speed_again(*, rounds: int = ROUNDS, out: Path | None = None) -> JsonObject:
    """Measure only the speed of every way of inference, in one run; the report's rows stay as they are.

    Args:
        rounds: timed passes of each.
        out: where the report is written; data/reports/leaderboard.json by default.

    Raises:
        FileNotFoundError: there is no report yet.
    """
    report = read_report("leaderboard")
    # The machine of the speed stands beside it: that of the rows may have been another.
    recipes = [
        variant.load(0)
        for source in SOURCES
        for label, variant in source.variants().items()
        if label not in report.get("missing", {}).get(source.command, ())
    ]
    models = backends(load_clip(), recipes)
    report["speed"] = {**measure_speed(models, rounds=rounds), "environment": environment()}
    with whole_file(out or data_dir() / "reports" / "leaderboard.json") as scratch:
        scratch.write_text(json.dumps(report, indent=1) + "\n")
    return report


def untrained() -> list[tuple[str, ...]]:
    """What is read without training: every read-out alone, and the blends of CLIP's card.

    They are measured anew, a minute or two: their scenes are drawn again for all of them alike, without which
    two rows could not be told apart.
    """
    return list(dict.fromkeys([*((name,) for name in READ_OUTS), *MEASURED]))


class Finished(NamedTuple):
    """What a study has for the board.

    Attributes:
        records: finished runs by label, one a seed.
        missing: labels that lack seeds of the settings that the package has now.
        left_out: labels whose runs are of other scenes than the board's.
    """

    records: Records
    missing: list[str]
    left_out: list[str]


def finished_rows(source: Source, seeds: int) -> Finished:
    """The runs of a study that can stand on the board, wherever the study stopped.

    Args:
        source: the study.
        seeds: of every row.
    """
    variants = source.variants()
    records = gather(variants, range(seeds), source.folder)
    left_out = [label for label in records if not same_scenes(variants[label].load(0).data, DATA)]
    kept = {label: runs for label, runs in records.items() if label not in left_out}
    return Finished(kept, [label for label in variants if label not in records], left_out)


def separation(methods: Mapping[str, Method], split: str) -> list[dict[str, object]]:
    """How many seeds would tell neighbours of the board apart: of trained rows, best first.

    Args:
        methods: the rows.
        split: by whose hIoU they stand.

    Returns:
        [{"first", "second", "mean", "seeds"}]: the difference, and `seeds_needed`, None where that is more
        than a thousand.
    """
    trained = {label: method.scores[split]["hIoU"] for label, method in methods.items()}
    order = sorted((label for label in trained if trained[label].values), key=lambda one: -trained[one].mean)
    found = []
    for first, second in zip(order, order[1:], strict=False):
        a, b = trained[first], trained[second]
        pairs = [x - y for x, y in zip(a.values, b.values, strict=True)]
        found.append(
            {"first": first, "second": second, "mean": a.mean - b.mean, "seeds": seeds_needed(pairs)}
        )
    return found


def _scenes(split: str, length: int = SCENES) -> Segmented:
    return held_out_data(DATA, split, length=length)


def _untrained(clip: DenseCLIP, names: Sequence[str]) -> Method:
    """CLIP as it is, under one read-out or several."""
    model = ZeroShotSegmentor(clip, names)
    scores = {split: untrained_scores(model, _scenes(split)) for split in SPLITS}
    return Method("zero-shot", "nothing", model.backend, _sizes(model, trained=0), 0, scores, group=FREE)


@torch.inference_mode()
def untrained_scores(model: Segmentor, data: Segmented, *, draws: int = DRAWS) -> dict[str, Score]:
    """Metrics of a model that is not trained, with a 95% interval over scenes, by bootstrap [O].

    Args:
        model: a segmentor.
        data: the scenes.
        draws: how often as many scenes are drawn with replacement; the same ones for every model.

    Returns:
        metric -> Score: of all scenes as `evaluate` gives it, 1.96 deviations of the draws, and the draws.
    """
    text, groups = model.encode_text(data.names), groups_of(data)
    counted = []
    for scene in (data[i] for i in range(len(data))):
        labels = model(scene.image[None], text).argmax(1).cpu()
        counted.append(tally(labels, scene.mask[None], len(data.names)))
    return redrawn_scores(torch.cat(counted), groups, draws=draws)


def _trained(label: str, variant: Variant, runs: Sequence[JsonObject]) -> tuple[str, Method]:
    """The name and the row of a variant of a study."""
    recipe = variant.load(0)
    task, _ = build_task(recipe)
    model = task.segmentor
    method = Method(
        family=model.family,
        tuned=TUNED[recipe.tune],
        backend=model.backend,
        parameters=_sizes(model, trained=_count_trained(task)),
        labelled_scenes=_labelled_scenes(recipe),
        scores={split: _of_split(runs, split) for split in SPLITS},
        paper=variant.paper,
        group=MASKS,
        labels="masks",
    )
    return method_name(model.family, recipe.tune, label), method


def _of_split(runs: Sequence[JsonObject], split: str) -> dict[str, Score]:
    """The metrics of a row on one split, a value a seed."""
    values = {key: tuple(run[split][key] for run in runs) for key in shown_metrics(runs[0][split])}
    found = {key: interval(own) for key, own in values.items()}
    return {key: Score(found[key].mean, found[key].ci95, values=own) for key, own in values.items()}


def method_name(family: str, tune: str, label: str) -> str:
    """What the leaderboard calls a variant of a study.

    Args:
        family: of its segmentor.
        tune: what of CLIP its recipe tunes.
        label: of the study; one that says itself what is tuned gets no addition.

    >>> method_name("CAT-Seg", "full", "full: wise"), method_name("cosine head", "qv", "qv: plain")
    ('CAT-Seg, all weights: wise', 'cosine head, q and v: plain')
    >>> method_name("Chimera-Seg", "none", "head, SGD")
    'Chimera-Seg: head, SGD'
    """
    tuned = _IN_NAME.get(tune)
    kind = family if tuned is None or tuned in label else f"{family}, {tuned}"
    return f"{kind}: {label.removeprefix('full: ').removeprefix('qv: ')}"


def _labelled_scenes(recipe: FineTuneRecipe) -> int:
    """How many scenes with masks a training saw, those of its start included."""
    before = 0 if recipe.start is None else _labelled_scenes(load_finetuning(recipe.start))
    return recipe.steps * recipe.batch + before


def _sizes(model: Segmentor, *, trained: int) -> dict[str, int]:
    """Weights: "total" with both towers, "trained" with the objective's own, and at "inference"."""
    inference = sum(model.weights_at_inference().values())
    return {"total": count(model.parameters()), "trained": trained, "inference": inference}


def _count_trained(task: FineTuning) -> int:
    """Weights that move, the objective's own among them."""
    tuned = count(task.trained)
    # Under "qv" the keys share a tensor with queries and values but never move.
    moving = tuned * 2 // 3 if task.tune == "qv" else tuned
    return moving + count(task.heads)


def backends(clip: DenseCLIP, recipes: Iterable[FineTuneRecipe] = ()) -> dict[str, Segmentor]:
    """One segmentor for each way of inference on the board; their weights do not matter here.

    Args:
        clip: of what is not trained.
        recipes: of the rows.
    """
    models: dict[str, Segmentor] = {}
    for names in untrained():
        read = ZeroShotSegmentor(clip, names)
        models[read.backend] = read
    # What further looks cost where the tower has run.
    models[SHARED] = ZeroShotSegmentor(clip, tuple(READ_OUTS))
    for model in distinct(dict(enumerate(recipes))).values():
        models.setdefault(model.backend, model.to(clip.device))
    return models


def distinct(recipes: Mapping[_Key, FineTuneRecipe]) -> dict[_Key, Segmentor]:
    """The segmentors of recipes, each section once, under its first key: most variants share one, and differ
    in the training.

    Args:
        recipes: by any key.
    """
    models: dict[_Key, Segmentor] = {}
    built: list[object] = []
    for key, recipe in recipes.items():
        if recipe.segmentor not in built:
            built.append(recipe.segmentor)
            models[key] = build_segmentor(recipe)
    return models


def measure_speed(
    models: Mapping[str, Segmentor],
    *,
    rounds: int = ROUNDS,
    batch: int = BATCH,
    size: int = DATA["size"],
) -> dict[str, object]:
    """Time of one forward pass, words encoded beforehand, float32; every model once a round, in turns.

    Args:
        models: by the name of their way of inference; all with CLIPs of one size, on one device.
        rounds: timed passes of each; medians count.
        batch: pictures at a time.
        size: of them in pixels.

    Returns:
        {"batch", "rounds", "dtype", "reference", "backends": {name: {"ms", "ratio", "low", "high", "mb"}}}:
        milliseconds a picture; how many times CLIP's own forward pass (`encode_image`) in the same round:
        median, and first and third quartile; and memory, see `Speed`.
    """
    data = held_out_data({**DATA, "size": size}, SPLITS[0], length=batch)
    clip = next(iter(models.values())).clip
    images = torch.stack([data[i].image for i in range(batch)]).to(clip.device)
    reference = torch.inference_mode()(lambda: clip.encode_image(images))
    passes = {
        REFERENCE: reference,
        # Each with words as it takes them: some say beside a word whether training knew it.
        **{
            name: forward_pass(model, images, model.encode_text(data.names).detach())
            for name, model in models.items()
        },
    }
    # Two rounds do not count: the first allocates, and the second still finds caches filled by the first.
    seconds = take_turns(passes, rounds, warmup=2, device=clip.device)
    found = speed_rows(passes, seconds, REFERENCE, batch)
    return {"batch": batch, "rounds": rounds, "dtype": "float32", "reference": REFERENCE, "backends": found}


def ranked(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods by hIoU on new instances, best first, each with its ranks on each split."""
    ranks: dict[str, dict[str, RankRange]] = {label: {} for label in methods}
    for split in SPLITS:
        scores = {label: method.scores[split]["hIoU"] for label, method in methods.items()}
        plain = rank_ranges(list(scores), surely_better(scores))
        corrected = rank_ranges(list(scores), surely_better(scores, corrected=True))
        order = sorted(scores, key=lambda label: -scores[label].mean)
        for place, label in enumerate(order, 1):
            ranks[label][split] = RankRange(place, *plain[label], corrected[label])
    first = sorted(methods, key=lambda label: -methods[label].scores[REPORTED]["hIoU"].mean)
    return {label: replace(methods[label], ranks=ranks[label]) for label in first}
