"""Speed, as ratios: ours and a peer take turns in one run on one machine, and must give equal outputs before they are timed."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..clip import DenseCLIP, load_clip
from ..core.processes import default_device
from ..core.reports import write_report
from ..core.timing import kept_for_gradient, peak_memory
from ..datasets import Sample, SegmentationDataset
from ..evaluation import SegmentationMetrics, evaluate, get_protocol
from ..segmentors import CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from ..training.acceleration import accelerate, autocast, dtype_of
from ..training.build import build_task
from ..training.dry_run import Timed
from ..training.loop import fit
from ..training.recipe import FineTuneRecipe, load_recipe
from .cost import cost_rows

WORDS, SIDE = 847, 640  # ADE20K's long list, and the side its pictures are brought to


def speed(*, rounds: int = 21, model: str = "ViT-B-16-quickgelu", out: Path | None = None) -> dict[str, Any]:
    """Measure everything and write data/reports/speed.json.

    Args:
        rounds: turns that ours and the peer take; medians count.
        model: of open_clip, with random weights.
        out: where the report is written; data/reports by default.

    Returns:
        {"model", "contests": [{"what", "ours_s", "peer_s", "ratio"}], "training", "matrix_peak_tflops", "forward_tflop",
        "objective", "memory"}. A ratio is the peer's time by ours: above one, ours is faster.

    Raises:
        ImportError: transformers or torchmetrics, the peers, are not installed.
        RuntimeError: a peer's output differs from ours.
    """
    device = default_device()
    clip = load_clip(model, device=device)
    content: dict[str, Any] = {
        "model": model,
        "contests": [
            against_open_clip(clip, rounds),
            against_transformers(clip, rounds),
            against_torchmetrics(rounds),
        ],
        "matrix_peak_tflops": {name: round(matrix_peak(dtype_of(name), device) / 1e12, 3) for name in ("float32", "bfloat16")},
        "memory": [in_own_process(head, chunk) for head, chunk in (("vit_b", None), ("vit_b", WORDS), ("none", None), ("none", WORDS))],
        "forward_tflop": {"words": 171, "side": 384, **forward_cost(clip)},
        "objective": cost_rows(repeats=3, sizes=("mini",)),
    }
    content["training"] = training_speed(clip, rounds=3, peaks=content["matrix_peak_tflops"])
    return write_report("speed", content, out)


def contest(what: str, ours: Callable[[], Any], peer: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Median seconds of each, taken in turns, and the median of the ratios of each turn; the first turn does not count."""
    turns = []
    for turn in range(rounds + 1):
        pair = (ours, peer) if turn % 2 else (peer, ours)
        seconds = {function: _seconds(function) for function in pair}
        turns.append((seconds[ours], seconds[peer]))
    ours_s, peer_s = (statistics.median(turn[i] for turn in turns[1:]) for i in (0, 1))
    ratio = statistics.median(peer / our for our, peer in turns[1:])
    return {"what": what, "ours_s": round(ours_s, 4), "peer_s": round(peer_s, 4), "ratio": round(ratio, 3)}


def against_open_clip(clip: DenseCLIP, rounds: int, batch: int = 4) -> dict[str, Any]:
    """The vanilla read-out against open_clip's own forward pass with its tokens, projected."""
    visual, images = clip.visual, _pictures(clip, batch)

    @torch.inference_mode()
    def ours() -> Tensor:
        return clip.encode_dense(images, "vanilla").flatten(2).mT

    @torch.inference_mode()
    def peer() -> Tensor:
        visual.output_tokens = True
        tokens = visual((images - clip.mean) / clip.std)[1]
        visual.output_tokens = False
        return F.normalize(tokens @ visual.proj, dim=-1)

    _same(ours(), peer(), "open_clip")
    return contest("dense encoding, against open_clip's own forward", ours, peer, rounds)


def against_transformers(clip: DenseCLIP, rounds: int, batch: int = 4) -> dict[str, Any]:
    """The vanilla read-out against the same weights in Hugging Face's CLIP."""
    twin, images = transformers_twin(clip), _pictures(clip, batch)

    @torch.inference_mode()
    def ours() -> Tensor:
        return clip.encode_dense(images, "vanilla").flatten(2).mT

    @torch.inference_mode()
    def peer() -> Tensor:
        states = twin.vision_model(pixel_values=(images - clip.mean) / clip.std).last_hidden_state
        return F.normalize(twin.visual_projection(twin.vision_model.post_layernorm(states[:, 1:])), dim=-1)

    _same(ours(), peer(), "transformers")
    return contest("dense encoding, against Hugging Face's CLIP", ours, peer, rounds)


def transformers_twin(clip: DenseCLIP) -> Any:
    """The image tower's weights in transformers' CLIPVisionModelWithProjection.

    Raises:
        ImportError: transformers is not installed.
    """
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        raise ImportError("the comparison needs transformers; install with `pip install -e .[paper]`") from error
    visual, blocks = clip.visual, list[Any](clip.blocks)
    config = CLIPVisionConfig(
        hidden_size=clip.width,
        intermediate_size=blocks[0].mlp[0].out_features,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        image_size=visual.image_size[0],
        patch_size=clip.patch_size,
        projection_dim=clip.embed_dim,
        hidden_act="quick_gelu" if "QuickGELU" in type(blocks[0].mlp[1]).__name__ else "gelu",
    )
    state = {
        "vision_model.embeddings.class_embedding": visual.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": visual.conv1.weight,
        "vision_model.embeddings.position_embedding.weight": visual.positional_embedding,
        "visual_projection.weight": visual.proj.T,
    }
    norms = {"pre_layrnorm": visual.ln_pre, "post_layernorm": visual.ln_post}
    layers: dict[str, Any] = {f"vision_model.{name}": norm for name, norm in norms.items()}
    for i, block in enumerate(blocks):
        here = f"vision_model.encoder.layers.{i}"
        for name, weight, bias in zip("qkv", block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3), strict=True):
            state |= {
                f"{here}.self_attn.{name}_proj.weight": weight,
                f"{here}.self_attn.{name}_proj.bias": bias,
            }
        layers |= {
            f"{here}.self_attn.out_proj": block.attn.out_proj,
            f"{here}.layer_norm1": block.ln_1,
            f"{here}.layer_norm2": block.ln_2,
            f"{here}.mlp.fc1": block.mlp[0],
            f"{here}.mlp.fc2": block.mlp[-1],
        }
    for name, layer in layers.items():
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    twin: Any = CLIPVisionModelWithProjection(config)
    twin.load_state_dict(state)
    return twin.to(clip.device).eval()


def against_torchmetrics(rounds: int, pictures: int = 4) -> dict[str, Any]:
    """Counting pictures of 640 pixels and 847 classes, against torchmetrics' confusion matrix.

    Raises:
        ImportError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError as error:
        raise ImportError("the comparison needs torchmetrics; install with `pip install -e .[test]`") from error
    generator = torch.Generator().manual_seed(0)
    predicted, wanted = torch.randint(WORDS, (2, pictures, SIDE, SIDE), generator=generator)
    wanted[torch.rand(wanted.shape, generator=generator) < 0.1] = 65535

    def ours() -> Tensor:
        metrics = SegmentationMetrics(WORDS, ignore_index=65535)
        metrics.update(predicted, wanted)
        return metrics.confusion

    def peer() -> Tensor:
        matrix = MulticlassConfusionMatrix(WORDS, ignore_index=65535)
        matrix.update(predicted, wanted)
        return matrix.compute()

    _same(ours(), peer(), "torchmetrics")
    return contest(f"counting {WORDS} classes, against torchmetrics' confusion matrix", ours, peer, rounds)


def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Multiplications and additions a second of square matrices, the best of ten; what this device can do at most in this type."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(_seconds(lambda: a @ b) for _ in range(10))


def training_speed(clip: DenseCLIP, *, rounds: int, peaks: dict[str, float], side: int = 384, batch: int = 4) -> list[dict[str, Any]]:
    """Training steps of the image tower at 384 pixels: float32 as it is, bfloat16, bfloat16 recomputed, bfloat16 compiled, in turns.

    Args:
        clip: the model; its weights change.
        rounds: timed steps of each; medians count.
        peaks: of `matrix_peak`, in 10^12 a second, by type.
        side, batch: of the pictures.

    Returns:
        One row each: "images_per_s", "ratio" to float32, "kept_mb" for the gradient, "share_of_peak": multiplications and additions of one
        step (those done again not counted) by its time and the peak of the type.
    """
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(clip.device)
    ways: dict[str, tuple[str, dict[str, bool]]] = {
        "float32": ("float32", {}),
        "bfloat16": ("bfloat16", {}),
        "bfloat16, recomputed": ("bfloat16", {"gradient_checkpointing": True}),
        "bfloat16, compiled": ("bfloat16", {"compile": True}),
    }
    plain = clip.block
    optimizer = torch.optim.AdamW(clip.visual.parameters(), lr=1e-5, fused=True)

    def loss(name: str) -> Tensor:
        with autocast(clip.device, dtype_of(ways[name][0])):
            return clip.encode_dense(images, "vanilla")[:, 0].square().mean()

    def step(name: str) -> None:
        optimizer.zero_grad()
        loss(name).backward()
        optimizer.step()

    blocks = {}
    for name, (_, options) in ways.items():
        clip.block = plain
        accelerate(ZeroShotSegmentor(clip, "vanilla"), **options)
        blocks[name] = clip.block
    kept = {}
    for name in ways:
        if not ways[name][1].get("compile"):  # what a compiled block keeps is its compiler's affair
            clip.block = blocks[name]
            kept[name] = kept_for_gradient(partial(loss, name), clip) / 1e6
    clip.block = plain
    with FlopCounterMode(display=False) as counter:
        step("float32")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first warms up, and compiles
        for name in ways:
            clip.block = blocks[name]
            seconds[name].append(_seconds(partial(step, name)))
    clip.block = plain
    medians = {name: statistics.median(turns[1:]) for name, turns in seconds.items()}
    return [
        {
            "what": name,
            "images_per_s": round(batch / medians[name], 3),
            "ratio": round(medians["float32"] / medians[name], 3),
            "kept_mb": round(kept[name], 1) if name in kept else None,
            "share_of_peak": round(counter.get_total_flops() / medians[name] / 1e12 / peaks[ways[name][0]], 3),
        }
        for name in ways
    ]


@torch.no_grad()
def forward_cost(clip: DenseCLIP, *, words: int = 171, side: int = 384, head: str = "vit_b") -> dict[str, float]:
    """10^12 multiplications and additions of one forward pass of CAT-Seg's parts, as COCO-Stuff needs them; a step takes about three.

    Args:
        clip: the model.
        words: classes, one prompt each.
        side: of the one picture.
        head: size of the aggregation.
    """
    segmentor = CostAggregationSegmentor(clip, "cls_value", head).to(clip.device)
    image = torch.rand(1, 3, side, side, device=clip.device)
    cost: dict[str, float] = {}

    def counted(what: str, function: Callable[[], Any]) -> Any:
        with FlopCounterMode(display=False) as counter:
            result = function()
        cost[what] = round(counter.get_total_flops() / 1e12, 4)
        return result

    encoded = counted("image tower", lambda: segmentor.encode(image))
    text = counted("text tower", lambda: segmentor.encode_text([f"word {i}" for i in range(words)]))
    counted("aggregation", lambda: segmentor.decode(encoded, text))
    return cost


def in_own_process(head: str, chunk: int | None) -> dict[str, Any]:
    """`evaluation_memory` in a process of its own, whose peak is nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(evaluation_memory, head, chunk).result()


def evaluation_memory(head: str, chunk: int | None, *, model: str = "ViT-B-16-quickgelu") -> dict[str, Any]:
    """Peak memory of evaluating one picture of 640 pixels with 847 words in CAT-Seg's protocol, one prompt a word.

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
    before, started = peak_memory(), time.perf_counter()
    one_prompt = replace(get_protocol("catseg"), templates=("a photo of a {}",))
    evaluate(segmentor, _ManyWords(), limit=1, protocol=one_prompt, class_chunk=chunk)
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


PAPER_SIZE = {
    "InfoCLIP": ("paper/infoclip-vitb16", {}),
    "plain (CAT-Seg)": ("paper/catseg-vitb16", {}),
    "Chimera-Seg": ("paper/chimera-segformer", {"size": 384}),
}


def paper_size(*, steps: int = 300, out: Path | None = None) -> dict[str, Any]:
    """Train the papers' recipes at their size on rendered scenes, with random weights of CLIP and body; writes data/reports/gpu.json.

    Args:
        steps: of each training.
        out: where the report is written; data/reports by default, where it is measured on a GPU.

    Returns:
        {"steps", "rows": [{"what", "recipe", "images_per_s", "peak_gb", "loss_first", "loss_last", "losses"}]}: first and last are means of
        a tenth of the steps.

    Raises:
        ValueError: no GPU, and no `out`.
    """
    if out is None and not torch.cuda.is_available():
        raise ValueError("got no GPU; expected one for data/reports/gpu.json: name another file with --out to measure the CPU")
    rows = []
    for what, (name, changes) in PAPER_SIZE.items():
        recipe = load_recipe(name, data="collage", pretrained=None, steps=steps, warmup=0, evaluate_at=[], **changes)
        if not isinstance(recipe, FineTuneRecipe):
            raise ValueError(f"{name} is a recipe for pretraining; expected one with task: finetune")
        if recipe.chimera:
            recipe = replace(recipe, chimera={**recipe.chimera, "weights": None})
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        task = Timed(build_task(recipe)[0])
        log = fit(task, steps=steps, progress=what)
        losses, tenth = [record["total"] for record in log], max(1, steps // 10)
        rows.append(
            {
                "what": what,
                "recipe": name,
                "images_per_s": round(recipe.batch / statistics.median(task.steps[1:]), 3),
                "peak_gb": round(peak_memory() / 1e9, 2),
                "loss_first": round(statistics.fmean(losses[:tenth]), 4),
                "loss_last": round(statistics.fmean(losses[-tenth:]), 4),
                "losses": [round(loss, 4) for loss in losses],
            }
        )
    return write_report("gpu", {"steps": steps, "rows": rows}, out)


def _pictures(clip: DenseCLIP, batch: int) -> Tensor:
    return torch.rand(batch, 3, *clip.visual.image_size, generator=torch.Generator().manual_seed(0)).to(clip.device)


def _same(ours: Tensor, peer: Tensor, name: str) -> None:
    difference = float((ours.float() - peer.float()).abs().max())
    if ours.shape != peer.shape or difference > 1e-4:
        raise RuntimeError(f"{name} gives {tuple(peer.shape)}, up to {difference:.1e} from our {tuple(ours.shape)}; expected equal outputs")


def _seconds(function: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
