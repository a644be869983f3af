"""The leaderboard: every method of the package on the same test scenes, what it costs, and the ranks that its intervals allow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..clip import DenseCLIP, load_clip
from ..core.reports import read_report, write_report
from ..core.statistics import Row, Score, rank_ranges, surely_better
from ..datasets.collage import Collage
from ..evaluation import SegmentationMetrics, evaluate
from ..segmentors import ChimeraSeg, Segmentor, ZeroShotSegmentor
from ..training.build import build_segmentor, build_task
from ..training.recipe import FineTuneRecipe, load_recipe
from .card import READ_OUTS
from .chimera import VARIANTS as CHIMERA
from .chimera import chimera
from .infoclip import VARIANTS as INFOCLIP
from .infoclip import infoclip
from .rows import SPLITS, Method, RankRange, StudyTable, table_of
from .study import Variant, described, gather, run_variants, score_run, table

FOLDER = Path("runs/leaderboard")
SIZE, SCENES = 64, 200
METRICS = ("mIoU_seen", "mIoU_unseen", "hIoU")
DRAWS = 500
BATCH, ROUNDS = 16, 40
REFERENCE = "CLIP, one vector a picture"

# Chapter 02's trainings at the size of the two studies, so that plain fine-tuning without a head stands on the same scenes.
COSINES: dict[str, Variant] = {
    "plain, q and v": Variant("mini/plain-few-qv", {"size": SIZE, "evaluate_at": []}),
    "plain, all weights": Variant("mini/plain-few", {"size": SIZE, "evaluate_at": []}),
}
STUDIES = {"infoclip": INFOCLIP, "chimera": CHIMERA}


def leaderboard(
    *,
    retrain: bool = False,
    seeds: int = 5,
    rounds: int = ROUNDS,
    folder: Path = FOLDER,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure what is not trained, the speed and the sizes; train the cosine heads; read the two studies; rank; write the report.

    Args:
        retrain: first run both studies, each to be gone on with where it stopped (hours of two cores); without it their reports are read.
        seeds: of every training; the reports must have the same.
        rounds: timed passes of each way of inference.
        folder: where finished runs of the cosine heads are kept.
        out: where the report is written; data/reports/leaderboard.json by default.

    Returns:
        {"size", "scenes", "words", "seen", "seeds", "speed", "rows"}; see `read_study` and `ranked` for the rows.

    Raises:
        ValueError: a report that is incomplete, or made with other seeds, pictures or words.
    """
    if retrain:
        infoclip(seeds=seeds)
        chimera(seeds=seeds)
    reports = {name: read_report(name) for name in STUDIES}
    tables = {name: read_study(name, report, STUDIES[name], seeds) for name, report in reports.items()}
    run_variants(COSINES, range(seeds), folder, lambda run: score_run(run, probes=False))
    tables["cosine"] = table(gather(COSINES, range(seeds), folder), next(iter(COSINES)))
    clip, seen = load_clip(), load_recipe("mini/chimera").seen  # type: ignore[union-attr]
    rows = {f"zero-shot: {'+'.join(names)}": _untrained(clip, names, seen) for names in READ_OUTS}
    _same_scenes(reports["chimera"], rows)
    for name, variants in {"cosine": COSINES, **STUDIES}.items():
        for label, variant in variants.items():
            key, row = _trained(name, label, variant, tables[name][label])
            rows[key] = row
    content = {
        "size": SIZE,
        "scenes": SCENES,
        "words": len(Collage("test").names),
        "seen": seen,
        "seeds": seeds,
        "speed": speed(_backends(clip), rounds=rounds),
        "rows": {label: method.to_json() for label, method in ranked(rows).items()},
    }
    return write_report("leaderboard", content, out)


def read_study(name: str, report: Row, variants: Mapping[str, Variant], seeds: int) -> StudyTable:
    """The table of a study's report, if every variant is in it, with the settings that the package has now.

    Args:
        name: of the report.
        report: its content.
        variants: what it should hold.
        seeds: of each.

    Raises:
        ValueError: variants or measures are missing, or were run with other seeds, pictures, words or settings.
    """
    again = f"run `infoclip-lite benchmark {name} --seeds {seeds}`, or `infoclip-lite benchmark leaderboard --retrain`"
    missing = [label for label in variants if label not in report["table"]]
    if missing or report["missing"]:
        raise ValueError(f"the report {name!r} lacks {', '.join(missing or report['missing'])}; expected every variant: {again}")
    if report["seeds"] != seeds:
        raise ValueError(f"the report {name!r} has {report['seeds']} seeds; expected {seeds}: {again}")
    for label, wanted in described(dict(variants)).items():
        made = report["variants"].get(label, {})
        other = sorted(key for key in {*made, *wanted} if made.get(key) != wanted.get(key))
        if other:
            first = other[0]
            raise ValueError(
                f"the report {name!r} has {label!r} with {first}={made.get(first)!r}; expected {first}={wanted.get(first)!r}, "
                f"as the package has it now: {again}"
            )
        measures = [f"{split}/{metric}" for split in SPLITS for metric in METRICS]
        short = [key for key in measures if len(report["table"][label].get(key, {}).get("values", ())) != seeds]
        if short:
            raise ValueError(f"the report {name!r} has no {seeds} values of {short[0]} for {label!r}; expected one a seed: {again}")
    return table_of(report)


def _same_scenes(report: Row, rows: Mapping[str, Method]) -> None:
    """CLIP itself is in Chimera-Seg's report: on the same scenes it scores what it scores here, up to the rounding of another processor."""
    for names, metrics in report["zero_shot"].items():
        here = rows[f"zero-shot: {names}"].scores["test"]["hIoU"].mean
        if abs(metrics["hIoU"] - here) > 0.002:
            raise ValueError(
                f"CLIP ({names}) has hIoU {metrics['hIoU']:.4f} in the report 'chimera' and {here:.4f} here; expected the same scenes and "
                "checkpoint: run `infoclip-lite benchmark leaderboard --retrain`"
            )


def _untrained(clip: DenseCLIP, names: Sequence[str], seen: Sequence[str] | None) -> Method:
    model = ZeroShotSegmentor(clip, names)
    scores = {split: untrained_scores(model, Collage(split, SIZE, length=SCENES, seen=seen)) for split in SPLITS}
    sizes = {"total": _count(clip), "trained": 0, "inference": at_inference(model)}
    return Method("zero-shot", "nothing", "+".join(names), sizes, 0, scores)


@torch.inference_mode()
def untrained_scores(model: Segmentor, data: Collage, *, draws: int = DRAWS) -> dict[str, Score]:
    """Metrics of a model that is not trained, with the 95% interval over scenes: a bootstrap, scenes drawn with replacement [O].

    Args:
        model: a segmentor.
        data: the scenes.
        draws: how often as many scenes are drawn; the same ones for every model.

    Returns:
        metric -> Score: of all scenes as `evaluate` gives it, 1.96 deviations of the draws, and the draws.
    """
    metrics = evaluate(model, data).metrics
    text = model.encode_text(data.names)
    counted = []
    for scene in (data[i] for i in range(len(data))):
        alone = SegmentationMetrics(len(data.names), data.unseen)
        alone.update(model(scene.image[None].to(text.device), text).argmax(1).cpu(), scene.mask[None])
        counted.append(alone.confusion)
    generator = torch.Generator().manual_seed(0)
    confusions = torch.stack(counted)
    picked = torch.randint(len(data), (draws, len(data)), generator=generator)
    results = []
    for times in (torch.bincount(row, minlength=len(data)) for row in picked):
        drawn = SegmentationMetrics.from_counts(torch.einsum("n,nij->ij", times, confusions), data.unseen)
        results.append(drawn.compute())
    spread = {key: tuple(round(r[key], 5) for r in results) for key in METRICS}
    return {key: Score(metrics[key], 1.96 * statistics.stdev(spread[key]), draws=spread[key]) for key in METRICS}


def _trained(study: str, label: str, variant: Variant, measures: Mapping[str, Score]) -> tuple[str, Method]:
    recipe = variant.load(0)
    start = None if recipe.start is None else load_recipe(recipe.start)
    begun = start.steps * start.batch if isinstance(start, FineTuneRecipe) else 0
    family = {"cosine": "cosine head", "infoclip": "CAT-Seg", "chimera": "Chimera-Seg"}[study]
    plain = label.removeprefix("full: ")
    kinds = {"full": ", all weights", "qv": ", q and v", "none": ""}
    key = f"CAT-Seg{kinds[recipe.tune]}: {plain}" if study == "infoclip" else f"{family}: {plain}"
    tuned = {"full": "all of CLIP", "qv": "CLIP's q and v", "none": "nothing of CLIP"}[recipe.tune]
    scores = {split: {m: replace(measures[f"{split}/{m}"], difference=None) for m in METRICS} for split in SPLITS}
    seen = recipe.steps * recipe.batch + begun
    return key, Method(family, tuned, backend(recipe), parameters(recipe), seen, scores, paper=variant.paper)


def backend(recipe: FineTuneRecipe) -> str:
    """The name of the way of inference: trainings that differ only in their weights share it, and cost the same."""
    if recipe.segmentor == "zero_shot":
        return "+".join(recipe.attention)
    if recipe.segmentor == "cost_aggregation":
        return "CAT-Seg"
    if recipe.chimera.get("head") == "linear":
        return "Chimera-Seg, linear"
    return f"Chimera-Seg, {recipe.chimera.get('blocks', 1)} of CLIP's blocks"


def parameters(recipe: FineTuneRecipe) -> dict[str, int]:
    """How many weights a method has: "total" with both towers of CLIP, "trained" with the objective's own, and at "inference".

    Under "qv" the keys share a tensor with queries and values but never move: they are not counted as trained.
    """
    task, _ = build_task(recipe)
    tuned = sum(p.numel() for p in task.trained)
    trained = (tuned * 2 // 3 if recipe.tune == "qv" else tuned) + sum(p.numel() for p in task.heads)
    return {"total": _count(task.segmentor), "trained": trained, "inference": at_inference(task.segmentor)}


def at_inference(model: Segmentor) -> int:
    """Weights that a picture meets; the words are encoded once, so the text tower is not among them."""
    if isinstance(model, ChimeraSeg):
        return sum(model.at_inference().values())
    visual = {id(p) for p in model.clip.visual.parameters()}
    text = {id(p) for p in model.clip.parameters()} - visual
    return sum(p.numel() for p in model.parameters() if id(p) not in text)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _backends(clip: DenseCLIP) -> dict[str, Segmentor]:
    """One segmentor for each way of inference; their weights do not matter here."""
    models: dict[str, Segmentor] = {"+".join(names): ZeroShotSegmentor(clip, names) for names in READ_OUTS}
    for variant in (*INFOCLIP.values(), *CHIMERA.values()):
        recipe = variant.load(0)
        if backend(recipe) not in models:
            models[backend(recipe)] = build_segmentor(recipe)
    return models


@torch.inference_mode()
def speed(models: Mapping[str, Segmentor], *, rounds: int = ROUNDS, batch: int = BATCH, size: int = SIZE) -> dict[str, Any]:
    """Time of one forward pass, words encoded beforehand, float32; every model once a round, in turns: all share the machine's moods.

    Args:
        models: by the name of their way of inference; all with CLIPs of one size.
        rounds: timed passes of each; medians count.
        batch: pictures at a time.
        size: of them in pixels.

    Returns:
        {"batch", "rounds", "dtype", "reference", "backends": {name: {"ms", "ratio", "low", "high"}}}: milliseconds a picture; and how many
        times CLIP's own forward pass (`encode_image`) in the same round: median, and first and third quartile over rounds.
    """
    data = Collage("test", size, length=batch)
    images = torch.stack([data[i].image for i in range(batch)])
    passes: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        words = F.normalize(
            torch.randn(len(data.names), model.clip.embed_dim, generator=torch.Generator().manual_seed(0)),
            dim=-1,
        )
        passes.setdefault(REFERENCE, partial(model.clip.encode_image, images))
        passes[name] = partial(model.eval(), images, words)
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds + 2):  # the first two warm up
        for name, forward in passes.items():
            started = time.perf_counter()
            forward()
            taken[name].append(time.perf_counter() - started)
    backends = {}
    for name, seconds in taken.items():
        ratios = [own / clip for own, clip in zip(seconds[2:], taken[REFERENCE][2:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        ms = 1000 * statistics.median(seconds[2:]) / batch
        backends[name] = {
            "ms": round(ms, 3),
            "ratio": round(middle, 3),
            "low": round(low, 3),
            "high": round(high, 3),
        }
    return {
        "batch": batch,
        "rounds": rounds,
        "dtype": "float32",
        "reference": REFERENCE,
        "backends": backends,
    }


def ranked(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods by hIoU on known photographs, best first, each with its ranks on each split."""
    ranks: dict[str, dict[str, RankRange]] = {label: {} for label in methods}
    for split in SPLITS:
        scores = {label: method.scores[split]["hIoU"] for label, method in methods.items()}
        plain, corrected = (rank_ranges(list(scores), surely_better(scores, corrected=c)) for c in (False, True))
        order = sorted(scores, key=lambda label: -scores[label].mean)
        for place, label in enumerate(order, 1):
            ranks[label][split] = RankRange(place, *plain[label], corrected[label])
    first = sorted(methods, key=lambda label: -methods[label].scores[SPLITS[0]]["hIoU"].mean)
    return {label: replace(methods[label], ranks=ranks[label]) for label in first}
