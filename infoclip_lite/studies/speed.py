"""What the package costs: against peers, in training, in memory, and at the papers' size on a GPU."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..clip import DenseCLIP, load_clip
from ..core.environment import environment
from ..core.files import whole_file
from ..core.processes import default_device
from ..core.reports import JsonObject, write_report
from ..core.timing import kept_for_gradient, medians, one_thread, peak_memory, seconds_of, take_turns
from ..evaluation import get_protocol
from ..evaluation.predict import best_words
from ..evaluation.vocabulary import Vocabulary
from ..evaluation.windows import WindowLogits, run_windows
from ..segmentors import CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from ..training.acceleration import accelerate, autocast, dtype_of
from ..training.build import build_task
from ..training.dry_run import Timed, counted
from ..training.loop import fit
from .cost import objective_share, rendered
from .growth import against_catseg, growth
from .peers import (
    SIDE,
    WORDS,
    Clock,
    Contest,
    against_open_clip,
    against_torchmetrics,
    against_torchvision,
    against_transformers,
)
from .rows import TrainingWay

_T = TypeVar("_T")
_PARTS = Path("runs/speed")  # of a measurement that is not over


def speed(*, model: str = "ViT-B-16-quickgelu", out: Path | None = None) -> JsonObject:
    """Measure everything and write data/reports/speed.json: ratios, each of two things done in turns.

    Some ten minutes of one CPU thread, in seconds that this process computed. Every part is kept in
    runs/speed as soon as it is measured, so that the same command goes on; the report replaces them.

    Args:
        model: of open_clip, with random weights.
        out: where the report is written; data/reports by default.

    Returns:
        {"model", "contests", "objective", "evaluation", "growth", "matrix_peak_tflops", "forward_tflop",
        "training"}; see `Contest`, `objective_share`, `evaluation_cost`, `growth`, `matrix_peak`,
        `forward_cost` and `TrainingWay`.

    Raises:
        ImportError: transformers or torchmetrics, the peers, are not installed.
        RuntimeError: a peer's output differs from ours.
    """
    device = default_device()
    with one_thread(device) as clock:
        parts = _measured(model, device, clock)
        found = {name: _kept(name, model, measure) for name, measure in parts.items()}
        contests = [row for name in _CONTESTS for row in found.pop(name)]
        # Written before the threads are given back: they are part of what a number was measured on.
        report = write_report("speed", {"model": model, "contests": contests, **found}, out)
    for name in parts:
        (_PARTS / f"{name}.json").unlink(missing_ok=True)
    return report


_CONTESTS = ("encoding", "counting", "loading", "head")  # parts that are lists of contests


def _measured(model: str, device: torch.device, clock: Clock) -> dict[str, Callable[[], object]]:
    """Every part of the report, and what measures it; what is cheap comes first."""

    def clip() -> DenseCLIP:
        return load_clip(model, device=device)

    def encoding() -> list[Contest]:
        one = clip()
        others = against_transformers(one, rounds=9, batch=1, clock=clock)
        return [*against_open_clip(one, rounds=15, batch=1, clock=clock), others]

    def training() -> list[TrainingWay]:
        return training_speed(clip(), rounds=1, peaks=_peaks(device, clock), batch=1, clock=clock)

    return {
        "encoding": encoding,
        "counting": lambda: [against_torchmetrics(rounds=9, clock=clock)],
        "loading": lambda: against_torchvision(rounds=15, clock=clock),
        "matrix_peak_tflops": lambda: _peaks(device, clock),
        "forward_tflop": lambda: {"words": 171, "side": 384, **forward_cost(clip())},
        "head": lambda: against_catseg(rounds=3, clock=clock),
        "objective": lambda: [objective_share(clock=clock)],
        "evaluation": lambda: [in_own_process(head, model) for head in ("none", "vit_b")],
        "growth": lambda: growth(rounds=1, clock=clock),
        "training": training,
    }


def _kept(name: str, model: str, measure: Callable[[], object]) -> Any:
    """A part as JSON has it: of an earlier call on this machine and revision, else measured now."""
    path, here = _PARTS / f"{name}.json", {"model": model, **environment()}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["environment"] == here:
            return kept["found"]
    found = measure()
    rows = (
        [row.to_json() if hasattr(row, "to_json") else row for row in found]
        if isinstance(found, list)
        else found
    )
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps({"found": rows, "environment": here}))
    print(f"measured: {name}", flush=True)
    return json.loads(path.read_text(encoding="utf-8"))["found"]


_TYPES = ("float32", "bfloat16")


def _peaks(device: torch.device, clock: Clock = time.perf_counter) -> dict[str, float]:
    """10^12 multiplications and additions a second at most, by type."""
    return {name: round(matrix_peak(dtype_of(name), device, clock) / 1e12, 3) for name in _TYPES}


def matrix_peak(dtype: torch.dtype, device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Multiplications and additions a second of square matrices: the most this device does in this type."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    # The best of ten: a peak is what the device can do, not what it does while others disturb it.
    return 2 * side**3 / min(seconds_of(lambda: a @ b, device, clock) for _ in range(10))


@dataclass(frozen=True)
class _Way:
    """One way to take a training step: a number format, and options of `accelerate`."""

    dtype: str
    options: Mapping[str, bool] = field(default_factory=dict)


_WAYS: dict[str, _Way] = {
    "float32": _Way("float32"),
    "bfloat16": _Way("bfloat16"),
    "bfloat16, recomputed": _Way("bfloat16", {"checkpointing": True}),
    "bfloat16, compiled": _Way("bfloat16", {"compile": True}),
}


def training_speed(
    clip: DenseCLIP,
    *,
    rounds: int,
    peaks: Mapping[str, float],
    side: int = 384,
    batch: int = 4,
    clock: Clock = time.perf_counter,
) -> list[TrainingWay]:
    """Training steps of the image tower in turns: float32, bfloat16, and bfloat16 recomputed or compiled.

    Args:
        clip: the model; its weights change.
        rounds: timed steps of each; medians count.
        peaks: of `matrix_peak`, in 10^12 a second, by type.
        side, batch: of the pictures.
        clock: see `take_turns`.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, side, side, generator=generator).to(clip.device)
    optimizer = torch.optim.AdamW(clip.visual.parameters(), lr=1e-5, fused=True)
    plain, blocks = clip.block, {}
    for name, way in _WAYS.items():
        clip.block = plain
        accelerate(ZeroShotSegmentor(clip, "vanilla"), **way.options)
        blocks[name] = clip.block

    def loss(name: str) -> Tensor:
        clip.block = blocks[name]
        with autocast(clip.device, dtype_of(_WAYS[name].dtype)):
            return clip.encode_dense(images, "vanilla")[:, 0].square().mean()

    def step(name: str) -> None:
        optimizer.zero_grad()
        loss(name).backward()
        optimizer.step()

    # What a compiled block keeps is its compiler's affair.
    eager = [name for name, way in _WAYS.items() if not way.options.get("compile")]
    kept = {name: kept_for_gradient(partial(loss, name), clip) / 1e6 for name in eager}
    with FlopCounterMode(display=False) as counter:
        step("float32")
    # The round that does not count compiles.
    steps = {name: partial(step, name) for name in _WAYS}
    took = medians(take_turns(steps, rounds, device=clip.device, clock=clock))
    clip.block = plain
    return [
        TrainingWay(
            what=name,
            images_per_s=round(batch / took[name], 3),
            ratio=round(took["float32"] / took[name], 3),
            kept_mb=round(kept[name], 1) if name in kept else None,
            # What is computed again is not counted: it is work that only this way has.
            fraction_of_peak=round(counter.get_total_flops() / took[name] / 1e12 / peaks[way.dtype], 3),
        )
        for name, way in _WAYS.items()
    ]


@torch.no_grad()
def forward_cost(
    clip: DenseCLIP, *, words: int = 171, side: int = 384, head: str = "vit_b"
) -> dict[str, float]:
    """10^12 multiplications and additions of one forward pass of CAT-Seg's parts, as COCO-Stuff needs them.

    Args:
        clip: the model.
        words: classes, one prompt each.
        side: of the one picture.
        head: size of the aggregation.
    """
    segmentor = CostAggregationSegmentor(clip, "cls_value", head).to(clip.device)
    image = torch.rand(1, 3, side, side, device=clip.device)
    cost: dict[str, float] = {}

    def counted(what: str, function: Callable[[], _T]) -> _T:
        with FlopCounterMode(display=False) as counter:
            result = function()
        cost[what] = round(counter.get_total_flops() / 1e12, 4)
        return result

    encoded = counted("image tower", lambda: segmentor.encode(image))
    text = counted("text tower", lambda: segmentor.encode_text([f"word {i}" for i in range(words)]))
    counted("aggregation", lambda: segmentor.decode(encoded, text))
    return cost


def in_own_process(head: str, model: str) -> dict[str, object]:
    """`evaluation_cost` in a process of its own, whose peak is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(evaluation_cost, head, model).result()


@torch.inference_mode()
def evaluation_cost(head: str, model: str = "ViT-B-16-quickgelu") -> dict[str, object]:
    """A picture of 640 pixels and 847 words in CAT-Seg's protocol: a few words at a time, and all at once.

    Words are random vectors: their encoding, once for all pictures, is no part of it. Both ways share one
    pass of the model. All words at once come second, for a peak only rises.

    Args:
        head: "vit_b" (CAT-Seg's) or "none" (cosines alone).
        model: of open_clip, with random weights.

    Returns:
        {"head", "words", "side", "loaded_gb", "ways": {"in parts", "at once": {"peak_gb", "model_s",
        "labels_s", "pictures_per_s"}}}.
    """
    device = default_device()
    with one_thread(device) as clock:
        clip = load_clip(model, device=device)
        segmentor: Segmentor = ZeroShotSegmentor(clip, "cls_value")
        if head != "none":
            segmentor = CostAggregationSegmentor(clip, "cls_value", head).to(device)
        segmentor.eval()
        draw = torch.Generator().manual_seed(0)
        image = torch.rand(1, 3, SIDE, SIDE, generator=draw)
        text = F.normalize(torch.randn(WORDS, clip.embed_dim, generator=draw), dim=-1).to(device)
        seen = torch.ones(WORDS, dtype=torch.bool, device=device)
        vocabulary = Vocabulary(text, torch.arange(WORDS, device=device), seen)
        windows: list[WindowLogits] = []
        loaded = peak_memory()

        def look() -> None:
            windows.append(run_windows(segmentor, image, text, get_protocol("catseg")))

        seen_s = seconds_of(look, device, clock)
        ways = {}
        for way, chunk in (("in parts", None), ("at once", WORDS)):
            label = partial(best_words, windows[0], vocabulary, (SIDE, SIDE), chunk=chunk)
            seconds = seconds_of(label, device, clock)
            ways[way] = {
                "peak_gb": round(peak_memory() / 1e9, 2),
                "model_s": round(seen_s, 2),
                "labels_s": round(seconds, 2),
                "pictures_per_s": round(1 / (seen_s + seconds), 4),
            }
    return {"head": head, "words": WORDS, "side": SIDE, "loaded_gb": round(loaded / 1e9, 2), "ways": ways}


# What is trained at the papers' size: a recipe, and what a machine without data and weights changes in it.
PAPER_SIZE: dict[str, tuple[str, Mapping[str, object]]] = {
    "InfoCLIP": ("paper/infoclip-vitb16", {}),
    "plain (CAT-Seg)": ("paper/catseg-vitb16", {}),
    "Chimera-Seg": ("paper/chimera-segformer", {"data": {"size": 384}, "segmentor": {"weights": None}}),
}


def paper_size(*, steps: int = 300, minutes: float = 8.0, out: Path | None = None) -> JsonObject:
    """Train the papers' recipes at their size on rendered scenes; writes data/reports/gpu.json.

    It fits in ten minutes of one card: where steps are slow there are fewer of them.

    Args:
        steps: of each training, at most.
        minutes: for the trainings of all recipes together.
        out: where the report is written; data/reports by default, where it is measured on a GPU.

    Returns:
        {"steps", "matrix_peak_tflops", "training", "rows": [{"what", "recipe", "dtype", "steps",
        "images_per_s", "peak_gb", "share_of_peak", "loss_first", "loss_last", "losses"}]}: first and last are
        means of a tenth of the steps; "training" compares number formats and compilation (`TrainingWay`).

    Raises:
        ValueError: no GPU, and no `out`.
    """
    if out is None and not torch.cuda.is_available():
        hint = "name another file with --out to measure the CPU"
        raise ValueError(f"got no GPU; expected one for data/reports/gpu.json: {hint}")
    device = default_device()
    peaks = {name: matrix_peak(dtype_of(name), device) / 1e12 for name in _TYPES}
    each = 60 * minutes / len(PAPER_SIZE)
    rows = [
        _paper_row(what, name, changes, steps, each, peaks) for what, (name, changes) in PAPER_SIZE.items()
    ]
    content: dict[str, object] = {
        "steps": steps,
        "matrix_peak_tflops": {name: round(peak, 3) for name, peak in peaks.items()},
        "rows": rows,
    }
    # Compilers and a larger card are for a GPU; elsewhere `benchmark speed` has these rows.
    if torch.cuda.is_available():
        ways = training_speed(load_clip("ViT-B-16-quickgelu", device=device), rounds=5, peaks=peaks)
        content["training"] = [way.to_json() for way in ways]
    return write_report("gpu", content, out)


_TRIED = 3  # steps before those that count: they say how many there is time for


def _paper_row(
    what: str,
    name: str,
    changes: Mapping[str, object],
    steps: int,
    seconds: float,
    peaks: Mapping[str, float],
) -> dict[str, object]:
    recipe = rendered(name, steps=steps, evaluation={"at": []}, **changes)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    built = build_task(recipe)[0]
    tried = Timed(built)
    fit(tried, steps=_TRIED)
    steps = max(1, min(steps, int(seconds / tried.steps[-1])))
    task = Timed(built)
    # No warm-up of the rate: a few hundred steps would be nothing else.
    losses = [record["total"] for record in fit(task, steps=steps, progress=what)]
    took, peak = median(task.steps[1:] or task.steps), round(peak_memory() / 1e9, 2)
    tflop = counted(built)[0]
    dtype = "float32" if built.dtype == torch.float32 else "bfloat16"
    tenth = max(1, steps // 10)
    return {
        "what": what,
        "recipe": name,
        "dtype": str(built.dtype).removeprefix("torch."),
        "steps": steps,
        "images_per_s": round(recipe.batch / took, 3),
        "peak_gb": peak,
        "share_of_peak": round(tflop / took / peaks[dtype], 3),
        "loss_first": round(fmean(losses[:tenth]), 4),
        "loss_last": round(fmean(losses[-tenth:]), 4),
        "losses": [round(loss, 4) for loss in losses],
    }
