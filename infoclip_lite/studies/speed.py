"""What the package costs: against peers, in training, in memory, and at the papers' size on a GPU."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..clip import DenseCLIP, load_clip
from ..core.processes import default_device
from ..core.reports import JsonObject, write_report
from ..core.timing import kept_for_gradient, medians, peak_memory, seconds_of, take_turns
from ..datasets import Sample, SegmentationDataset
from ..evaluation import evaluate, get_protocol
from ..segmentors import CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from ..training.acceleration import accelerate, autocast, dtype_of
from ..training.build import build_task
from ..training.dry_run import Timed, counted
from ..training.loop import fit
from .cost import cost_rows, rendered
from .growth import against_pairs, growth
from .peers import (
    SIDE,
    WORDS,
    against_open_clip,
    against_torchmetrics,
    against_torchvision,
    against_transformers,
)
from .rows import TrainingWay

_T = TypeVar("_T")
# (size of CAT-Seg's head or none, words whose scores are enlarged at a time): as it is, and with all words
# at once.
_MEMORY = (("vit_b", None), ("vit_b", WORDS), ("none", None), ("none", WORDS))


def speed(*, rounds: int = 21, model: str = "ViT-B-16-quickgelu", out: Path | None = None) -> JsonObject:
    """Measure everything and write data/reports/speed.json.

    Args:
        rounds: turns that ours and the peer take; medians count.
        model: of open_clip, with random weights.
        out: where the report is written; data/reports by default.

    Returns:
        {"model", "contests", "matrix_peak_tflops", "memory", "growth", "forward_tflop", "objective",
        "training"}; see `Contest`, `evaluation_memory`, `growth`, `forward_cost`, `StepCost` and
        `TrainingWay`.

    Raises:
        ImportError: transformers or torchmetrics, the peers, are not installed.
        RuntimeError: a peer's output differs from ours.
    """
    device = default_device()
    clip = load_clip(model, device=device)
    contests = [
        against_open_clip(clip, rounds),
        against_transformers(clip, rounds),
        against_torchmetrics(rounds),
        against_torchvision(rounds),
        *against_pairs(rounds),
    ]
    peaks = {name: round(matrix_peak(dtype_of(name), device) / 1e12, 3) for name in ("float32", "bfloat16")}
    content: dict[str, object] = {
        "model": model,
        "contests": [found.to_json() for found in contests],
        "matrix_peak_tflops": peaks,
        "memory": [in_own_process(head, chunk) for head, chunk in _MEMORY],
        "growth": growth(rounds=5),
        "forward_tflop": {"words": 171, "side": 384, **forward_cost(clip)},
        "objective": [row.to_json() for row in cost_rows(repeats=3, sizes=("mini",))],
    }
    # Last, because training changes the weights.
    content["training"] = [way.to_json() for way in training_speed(clip, rounds=3, peaks=peaks)]
    return write_report("speed", content, out)


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Multiplications and additions a second of square matrices: the most this device does in this type."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    # The best of ten: a peak is what the device can do, not what it does while others disturb it.
    return 2 * side**3 / min(seconds_of(lambda: a @ b, device) for _ in range(10))


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
) -> list[TrainingWay]:
    """Training steps of the image tower in turns: float32, bfloat16, and bfloat16 recomputed or compiled.

    Args:
        clip: the model; its weights change.
        rounds: timed steps of each; medians count.
        peaks: of `matrix_peak`, in 10^12 a second, by type.
        side, batch: of the pictures.
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
    took = medians(take_turns({name: partial(step, name) for name in _WAYS}, rounds, device=clip.device))
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


def in_own_process(head: str, chunk: int | None) -> dict[str, object]:
    """`evaluation_memory` in a process of its own, whose peak is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(evaluation_memory, head, chunk).result()


def evaluation_memory(
    head: str, chunk: int | None, *, model: str = "ViT-B-16-quickgelu"
) -> dict[str, object]:
    """Peak memory of evaluating a picture of 640 pixels with 847 words in CAT-Seg's protocol.

    Args:
        head: "vit_b" (CAT-Seg's) or "none" (cosines alone).
        chunk: words whose scores are enlarged at a time; None is `evaluate`'s own choice.
        model: of open_clip, with random weights.
    """
    device = default_device()
    clip = load_clip(model, device=device)
    segmentor: Segmentor = ZeroShotSegmentor(clip, "cls_value")
    if head != "none":
        segmentor = CostAggregationSegmentor(clip, "cls_value", head).to(device).eval()
    # One prompt: an ensemble of eighty would measure the text tower.
    protocol = replace(get_protocol("catseg"), templates=("a photo of a {}",))
    before, started = peak_memory(), time.perf_counter()
    evaluate(segmentor, _ManyWords(), limit=1, protocol=protocol, class_chunk=chunk)
    seconds = time.perf_counter() - started
    return {
        "head": head,
        "words_at_a_time": chunk or "chosen",
        "before_gb": round(before / 1e9, 2),
        "peak_gb": round(peak_memory() / 1e9, 2),
        "seconds": round(seconds, 1),
    }


class _ManyWords(SegmentationDataset):
    """One picture of 640 pixels, and 847 words."""

    def __init__(self) -> None:
        super().__init__([f"word {i}" for i in range(WORDS)])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, SIDE, SIDE, generator=generator)
        return Sample(image, torch.randint(WORDS, (SIDE, SIDE), generator=generator), "drawn")


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
    peaks = {name: matrix_peak(dtype_of(name), device) / 1e12 for name in ("float32", "bfloat16")}
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
