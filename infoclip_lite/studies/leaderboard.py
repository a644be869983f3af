"""The leaderboard: every method on the same scenes, what it costs, and the ranks its intervals allow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F

from ..clip import DenseCLIP, load_clip
from ..core.environment import environment
from ..core.files import data_dir, whole_file
from ..core.reports import JsonObject, read_report, write_report
from ..core.statistics import Score, rank_ranges, surely_better
from ..core.timing import ratios, take_turns
from ..datasets import Segmented, held_out_data
from ..datasets.base import class_groups
from ..segmentors import Segmentor, ZeroShotSegmentor
from ..segmentors.base import count
from ..training.build import build_segmentor, build_task
from ..training.finetuning import FineTuning
from ..training.recipe import FineTuneRecipe, load_finetuning
from .by_scene import DRAWS, redrawn_scores, tally
from .card import MEASURED
from .chimera import CHIMERA
from .cost import forward_pass
from .infoclip import INFOCLIP
from .rows import METRICS, SPLITS, Method, RankRange, Speed, StudyTable, shown_metrics, table_of
from .runs import SCENES, score_run
from .study import Study
from .variants import Variant, settings_of

FOLDER = Path("runs/leaderboard")
# The data of both studies: everything on the board learns from it, or is tested on it.
DATA = load_finetuning("mini/chimera").data
BATCH, ROUNDS = 16, 40
REFERENCE = "CLIP, one vector a picture"
# The card's read-outs, and the rest of the training-free field.
UNTRAINED = (*MEASURED, *((name,) for name in ("maskclip", "gem", "pearl", "cliper", "resclip")))
# What a recipe's `tune` moves: in a row, and in the name of a method.
TUNED = {
    "full": "all of CLIP",
    "image": "CLIP's image tower",
    "qv": "CLIP's q and v",
    "none": "nothing of CLIP",
}
_IN_NAME = {"full": "all weights", "image": "image tower", "qv": "q and v"}

# Chapter 02's trainings on the studies' data, so that plain fine-tuning without a head stands on the same
# scenes.
_HERE = {"data": {"size": DATA["size"]}, "evaluation": {"at": []}}
COSINE = Study(
    "cosine",
    {
        "plain, q and v": Variant("mini/plain-few-qv", _HERE),
        "plain, all weights": Variant("mini/plain-few", _HERE),
    },
    baselines={"": "plain, q and v"},
    score=partial(score_run, probes=False),
)
STUDIES = {study.name: study for study in (INFOCLIP, CHIMERA)}


def leaderboard(
    *,
    retrain: bool = False,
    seeds: int = 5,
    rounds: int = ROUNDS,
    folder: Path = FOLDER,
    out: Path | None = None,
) -> JsonObject:
    """Measure what is not trained, read the two studies, rank all, and write the report.

    The cosine heads are trained here; speed and sizes are of every way of inference on the board.

    Args:
        retrain: first run both studies, each to be gone on with where it stopped (hours of two cores);
            without it their reports are read.
        seeds: of every training; the reports must have the same.
        rounds: timed passes of each way of inference.
        folder: where finished runs of the cosine heads are kept.
        out: where the report is written; data/reports/leaderboard.json by default.

    Returns:
        {"size", "scenes", "words", "seen", "seeds", "speed", "rows"}; see `Method` and `measure_speed`.

    Raises:
        ValueError: a report that is incomplete, or made with other seeds, pictures or words.
    """
    if retrain:
        for study in STUDIES.values():
            study.run(seeds=seeds)
    tables = {name: read_study(study, read_report(name), seeds) for name, study in STUDIES.items()}
    tables[COSINE.name] = _cosine_table(seeds, folder)
    clip = load_clip()
    methods = {f"zero-shot: {'+'.join(names)}": _untrained(clip, names) for names in UNTRAINED}
    _same_scenes(read_report("chimera"), methods)
    for study in (COSINE, *STUDIES.values()):
        for label, variant in study.variants.items():
            name, method = _trained(label, variant, tables[study.name][label])
            methods[name] = method
    content = {
        "size": DATA["size"],
        "scenes": SCENES,
        "words": len(_scenes(SPLITS[0]).names),
        "seen": DATA["seen"],
        "seeds": seeds,
        "speed": measure_speed(backends(clip), rounds=rounds),
        "rows": {label: method.to_json() for label, method in ranked(methods).items()},
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
    report["speed"] = {**measure_speed(backends(load_clip()), rounds=rounds), "environment": environment()}
    with whole_file(out or data_dir() / "reports" / "leaderboard.json") as scratch:
        scratch.write_text(json.dumps(report, indent=1) + "\n")
    return report


def read_study(study: Study, report: JsonObject, seeds: int) -> StudyTable:
    """The table of a study's report, if every variant is in it, with the settings that the package has now.

    Args:
        study: what it should hold.
        report: its content.
        seeds: of each variant.

    Raises:
        ValueError: variants or measures are missing, or were run with other seeds, pictures, words or
            settings.
    """
    command = f"run `infoclip-lite benchmark {study.name} --seeds {seeds}`"
    again = f"{command}, or `infoclip-lite benchmark leaderboard --retrain`"
    what = f"the report {study.name!r}"
    missing = [label for label in study.variants if label not in report["table"]]
    if missing or report["missing"]:
        lacking = ", ".join(missing or report["missing"])
        raise ValueError(f"{what} lacks {lacking}; expected every variant: {again}")
    if report["seeds"] != seeds:
        raise ValueError(f"{what} has {report['seeds']} seeds; expected {seeds}: {again}")
    table = table_of(report)
    for label, wanted in settings_of(study.variants).items():
        made = report["variants"].get(label, {})
        other = sorted(key for key in {*made, *wanted} if made.get(key) != wanted.get(key))
        if other:
            first = other[0]
            now = f"expected {first}={wanted.get(first)!r}, as the package has it now"
            raise ValueError(f"{what} has {label!r} with {first}={made.get(first)!r}; {now}: {again}")
        measures = [f"{split}/{metric}" for split in SPLITS for metric in METRICS]
        short = [key for key in measures if key not in table[label] or len(table[label][key].values) != seeds]
        if short:
            raise ValueError(
                f"{what} has no {seeds} values of {short[0]} for {label!r}; expected one a seed: {again}"
            )
    return table


def _cosine_table(seeds: int, folder: Path) -> StudyTable:
    """Train the cosine heads, or read the finished runs."""
    report = COSINE.run(seeds=seeds, folder=folder, out=folder / "cosine.json")
    return table_of(report)


def _scenes(split: str, length: int = SCENES) -> Segmented:
    return held_out_data(DATA, split, length=length)


def _same_scenes(report: JsonObject, methods: Mapping[str, Method]) -> None:
    """CLIP itself is in Chimera-Seg's report: on the same scenes it scores what it scores here."""
    for names, metrics in report["zero_shot"].items():
        here = methods[f"zero-shot: {names}"].scores[SPLITS[0]]["hIoU"].mean
        # Another processor rounds otherwise, and a pixel on the edge changes sides.
        if abs(metrics["hIoU"] - here) > 0.002:
            found = f"hIoU {metrics['hIoU']:.4f} in the report 'chimera' and {here:.4f} here"
            hint = "run `infoclip-lite benchmark leaderboard --retrain`"
            raise ValueError(f"CLIP ({names}) has {found}; expected the same scenes and checkpoint: {hint}")


def _untrained(clip: DenseCLIP, names: Sequence[str]) -> Method:
    """CLIP as it is, under one read-out or several."""
    model = ZeroShotSegmentor(clip, names)
    scores = {split: untrained_scores(model, _scenes(split)) for split in SPLITS}
    return Method("zero-shot", "nothing", model.backend, _sizes(model, trained=0), 0, scores)


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
    text, groups = model.encode_text(data.names), class_groups(data)
    if groups is None:
        groups = {
            "seen": [i for i in range(len(data.names)) if i not in data.unseen],
            "unseen": data.unseen,
        }
    counted = []
    for scene in (data[i] for i in range(len(data))):
        labels = model(scene.image[None], text).argmax(1).cpu()
        counted.append(tally(labels, scene.mask[None], len(data.names)))
    return redrawn_scores(torch.cat(counted), groups, draws=draws)


def _trained(label: str, variant: Variant, measures: Mapping[str, Score]) -> tuple[str, Method]:
    """The name and the row of a variant of a study."""
    recipe = variant.load(0)
    task, _ = build_task(recipe)
    model = task.segmentor
    scores = {split: _of_split(measures, split) for split in SPLITS}
    method = Method(
        family=model.family,
        tuned=TUNED[recipe.tune],
        backend=model.backend,
        parameters=_sizes(model, trained=_count_trained(task)),
        labelled_scenes=_labelled_scenes(recipe),
        scores=scores,
        paper=variant.paper,
    )
    return method_name(model.family, recipe.tune, label), method


def _of_split(measures: Mapping[str, Score], split: str) -> dict[str, Score]:
    """The metrics of a row on one split, out of "split/metric"."""
    own = {
        key.removeprefix(f"{split}/"): score for key, score in measures.items() if key.startswith(f"{split}/")
    }
    return {key: _alone(own[key]) for key in shown_metrics(own)}


def _alone(score: Score) -> Score:
    """A study's difference to its baseline has no place among other studies' methods."""
    return replace(score, difference=None)


def method_name(family: str, tune: str, label: str) -> str:
    """What the leaderboard calls a variant of a study.

    Args:
        family: of its segmentor.
        tune: what of CLIP its recipe tunes.
        label: of the study; one that says itself what is tuned gets no addition.

    >>> method_name("CAT-Seg", "full", "full: wise"), method_name("cosine head", "qv", "plain, q and v")
    ('CAT-Seg, all weights: wise', 'cosine head: plain, q and v')
    """
    tuned = _IN_NAME.get(tune)
    kind = family if tuned is None or tuned in label else f"{family}, {tuned}"
    return f"{kind}: {label.removeprefix('full: ')}"


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


def backends(clip: DenseCLIP) -> dict[str, Segmentor]:
    """One segmentor for each way of inference on the board; their weights do not matter here."""
    models: dict[str, Segmentor] = {}
    for names in UNTRAINED:
        untrained = ZeroShotSegmentor(clip, names)
        models[untrained.backend] = untrained
    built: list[object] = []
    for recipe in (variant.load(0) for study in STUDIES.values() for variant in study.variants.values()):
        # Most variants share a section: what differs between them is the training.
        if recipe.segmentor not in built:
            built.append(recipe.segmentor)
            model = build_segmentor(recipe).to(clip.device)
            models.setdefault(model.backend, model)
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
        {"batch", "rounds", "dtype", "reference", "backends": {name: {"ms", "ratio", "low", "high"}}}:
        milliseconds a picture; and how many times CLIP's own forward pass (`encode_image`) in the same
        round: median, and first and third quartile.
    """
    data = held_out_data({**DATA, "size": size}, SPLITS[0], length=batch)
    clip = next(iter(models.values())).clip
    images = torch.stack([data[i].image for i in range(batch)]).to(clip.device)
    generator = torch.Generator().manual_seed(0)
    words = F.normalize(torch.randn(len(data.names), clip.embed_dim, generator=generator), dim=-1).to(
        clip.device
    )
    reference = torch.inference_mode()(lambda: clip.encode_image(images))
    passes = {
        REFERENCE: reference,
        **{name: forward_pass(model, images, words) for name, model in models.items()},
    }
    # Two rounds do not count: the first allocates, and the second still finds caches filled by the first.
    seconds = take_turns(passes, rounds, warmup=2, device=clip.device)
    found = {}
    for name, own in ratios(seconds, REFERENCE).items():
        low, middle, high = (round(cut, 3) for cut in quantiles(own, n=4, method="inclusive"))
        ms = round(1000 * median(seconds[name]) / batch, 3)
        found[name] = Speed(ms, ratio=middle, low=low, high=high).to_json()
    return {"batch": batch, "rounds": rounds, "dtype": "float32", "reference": REFERENCE, "backends": found}


def ranked(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods by hIoU on known instances, best first, each with its ranks on each split."""
    ranks: dict[str, dict[str, RankRange]] = {label: {} for label in methods}
    for split in SPLITS:
        scores = {label: method.scores[split]["hIoU"] for label, method in methods.items()}
        plain = rank_ranges(list(scores), surely_better(scores))
        corrected = rank_ranges(list(scores), surely_better(scores, corrected=True))
        order = sorted(scores, key=lambda label: -scores[label].mean)
        for place, label in enumerate(order, 1):
            ranks[label][split] = RankRange(place, *plain[label], corrected[label])
    first = sorted(methods, key=lambda label: -methods[label].scores[SPLITS[0]]["hIoU"].mean)
    return {label: replace(methods[label], ranks=ranks[label]) for label in first}
