"""Ours against a peer: equal outputs first, then time, as ratios, in turns in one run on one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..core.timing import medians, ratios, take_turns
from ..datasets import Folder
from ..datasets.crops import TrainingCrops
from ..evaluation import SegmentationMetrics
from .arithmetic import products_of

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

Clock = Callable[[], float]
WORDS, SIDE = 847, 640  # ADE20K's long list, and the side its pictures are brought to


@dataclass(frozen=True)
class Contest:
    """What came out of ours against a peer.

    Attributes:
        what: was done.
        ours_s, peer_s: seconds, medians over rounds.
        ratio: the peer's time by ours in the same round, median; above one, ours is faster.
        pictures: that were dealt with in those seconds; None where none were.
        ours_kept_mb, peer_kept_mb: 10^6 bytes kept for the gradient; None where there is none.
        at_most: the peer's time by that of what both must do, median: the ratio of who did nothing else;
            None where that was not measured.
    """

    what: str
    ours_s: float
    peer_s: float
    ratio: float
    pictures: int | None = None
    ours_kept_mb: float | None = None
    peer_kept_mb: float | None = None
    at_most: float | None = None

    def to_json(self) -> dict[str, object]:
        """The row that the report "speed" holds: what applies, and pictures a second of both."""
        row = {key: value for key, value in asdict(self).items() if value is not None}
        if self.pictures is not None:
            row["ours_pictures_per_s"] = round(self.pictures / self.ours_s, 2)
            row["peer_pictures_per_s"] = round(self.pictures / self.peer_s, 2)
        return row


def contest(
    what: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
    device: torch.device | None = None,
    clock: Clock = perf_counter,
    pictures: int | None = None,
    least: Callable[[], object] | None = None,
) -> Contest:
    """Time both in turns; the first round does not count.

    Args:
        what: is done.
        ours, peer: do it.
        rounds: turns of each.
        device: they compute on.
        clock: see `take_turns`.
        pictures: that each of them deals with.
        least: does what neither can leave out, and nothing else.
    """
    runners = {"ours": ours, "peer": peer} | ({"least": least} if least else {})
    seconds = take_turns(runners, rounds, device=device, clock=clock)
    took, ratio = medians(seconds), median(ratios(seconds, "ours")["peer"])
    at_most = round(median(ratios(seconds, "least")["peer"]), 3) if least else None
    times = round(took["ours"], 4), round(took["peer"], 4)
    return Contest(what, *times, round(ratio, 3), pictures, at_most=at_most)


def against_open_clip(
    clip: DenseCLIP, rounds: int, batch: int = 4, clock: Clock = perf_counter
) -> list[Contest]:
    """The vanilla read-out, then two others, against open_clip's own forward pass with projected tokens."""
    visual, images = clip.visual, _pictures(clip, batch)

    @torch.inference_mode()
    def peer() -> Tensor:
        # The model is shared with everybody else: the switch goes back whatever happens in between.
        visual.output_tokens = True
        try:
            tokens = visual((images - clip.mean) / clip.std)[1]
        finally:
            visual.output_tokens = False
        return F.normalize(tokens @ visual.proj, dim=-1)

    @torch.inference_mode()
    def two() -> list[Tensor]:
        return clip.encode_each(images, ("value", "cls_value"))

    ours = _vanilla(clip, images)
    same_outputs(ours(), peer(), "open_clip")
    named: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
        "dense encoding": (ours, ("vanilla",)),
        "dense encoding with two read-outs": (two, ("value", "cls_value")),
    }
    rows = []
    for what, (own, read_outs) in named.items():
        with torch.no_grad():  # and not in inference mode, which would hide what the layers are made of
            least = products_of(partial(clip.encode_each, images, read_outs))
        label = f"{what}, against open_clip's own forward"
        rows.append(contest(label, own, peer, rounds, clip.device, clock, batch, least))
    return rows


def against_transformers(
    clip: DenseCLIP, rounds: int, batch: int = 4, clock: Clock = perf_counter
) -> Contest:
    """The vanilla read-out against the same weights in Hugging Face's CLIP.

    Raises:
        ImportError: transformers is not installed.
    """
    twin, images = transformers_twin(clip), _pictures(clip, batch)

    @torch.inference_mode()
    def peer() -> Tensor:
        states = twin.vision_model(pixel_values=(images - clip.mean) / clip.std).last_hidden_state
        return F.normalize(twin.visual_projection(twin.vision_model.post_layernorm(states[:, 1:])), dim=-1)

    ours = _vanilla(clip, images)
    same_outputs(ours(), peer(), "transformers")
    what = "dense encoding, against Hugging Face's CLIP"
    return contest(what, ours, peer, rounds, clip.device, clock, batch)


def against_torchmetrics(rounds: int, pictures: int = 4, clock: Clock = perf_counter) -> Contest:
    """Counting pictures of 640 pixels and 847 classes, against torchmetrics' confusion matrix.

    Raises:
        ImportError: torchmetrics is not installed.
    """
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError as error:
        hint = "install with `pip install -e .[test]`"
        raise ImportError(f"the comparison needs torchmetrics; {hint}") from error
    generator = torch.Generator().manual_seed(0)
    predicted, wanted = torch.randint(WORDS, (2, pictures, SIDE, SIDE), generator=generator)
    # A tenth of the pixels has no label, as in ADE20K.
    wanted[torch.rand(wanted.shape, generator=generator) < 0.1] = 65535

    def ours() -> Tensor:
        metrics = SegmentationMetrics(WORDS, ignore_index=65535)
        metrics.update(predicted, wanted)
        return metrics.confusion

    def peer() -> Tensor:
        matrix = MulticlassConfusionMatrix(WORDS, ignore_index=65535)
        matrix.update(predicted, wanted)
        return matrix.compute()

    same_outputs(ours(), peer(), "torchmetrics")
    what = f"counting {WORDS} classes, against torchmetrics' confusion matrix"
    return contest(what, ours, peer, rounds, None, clock, pictures)


def against_torchvision(rounds: int, pictures: int = 8, clock: Clock = perf_counter) -> list[Contest]:
    """Training crops of JPEGs of 480 x 640 pixels, against torchvision's own pipeline; one process each.

    At the size of the papers' crops and at CLIP's own, and with colours changed as training does it and
    without. The pipeline is the one that torchvision's training scripts have: bytes as long as it can be [S].
    Decoders and draws differ, so that outputs are alike and not equal.
    """
    rows = []
    with TemporaryDirectory() as folder:
        data = _photographs(Path(folder), pictures)
        for size in (384, 224):
            for colour in (True, False):
                crops = TrainingCrops(data, size, colour=colour)
                own, peer = partial(_crops, crops, pictures), partial(_piped, _pipeline(size, colour), data)
                least = partial(_decoded, data, size)
                what = f"training crops of {size} pixels, {'with' if colour else 'without'} colours changed"
                label = f"{what}, against torchvision's own pipeline"
                rows.append(contest(label, own, peer, rounds, None, clock, pictures, least))
    return rows


def _crops(crops: TrainingCrops, count: int) -> list[Tensor]:
    return [crops[index].image for index in range(count)]


def _decoded(data: Folder, size: int) -> list[Tensor]:
    """What every loader does: decode both files, reduce the picture, and make floats of it."""
    from torchvision.io import ImageReadMode, decode_image, read_file
    from torchvision.transforms.v2 import functional

    images = []
    for path, labels in data.files:
        decode_image(read_file(labels), ImageReadMode.GRAY)
        image = decode_image(read_file(path), ImageReadMode.RGB)
        smaller = functional.resize(image, [size], antialias=True)
        images.append(smaller[:, :size, :size].float().div_(255))
    return images


def _piped(pipeline: Callable[..., tuple[Tensor, Tensor]], data: Folder) -> list[Tensor]:
    from torchvision import tv_tensors
    from torchvision.io import ImageReadMode, decode_image, read_file

    images = []
    for path, labels in data.files:
        image = tv_tensors.Image(decode_image(read_file(path), ImageReadMode.RGB))
        mask = tv_tensors.Mask(decode_image(read_file(labels), ImageReadMode.GRAY))
        images.append(pipeline(image, mask)[0])
    return images


def _pipeline(size: int, colour: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """What torchvision has for it: the shorter side resized, a window, colours, a flip, then floats."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    kinds = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    colours = [v2.RandomPhotometricDistort()] if colour else []
    return v2.Compose(
        [
            v2.Resize(size, antialias=True),
            v2.RandomCrop(size),
            *colours,
            v2.RandomHorizontalFlip(),
            v2.ToDtype(kinds, scale=True),
        ]
    )


def _photographs(folder: Path, count: int) -> Folder:
    """JPEGs of 480 x 640 pixels that look like photographs to a decoder, with masks."""
    noise = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    (folder / "names.txt").write_text("ground\nthing\n")
    for index in range(count):
        coarse = Image.fromarray(noise.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(
            folder / "images" / f"{index}.jpg", quality=90
        )
        mask = Image.fromarray(noise.integers(0, 2, (6, 8), dtype=np.uint8))
        mask.resize((640, 480), Image.Resampling.NEAREST).save(folder / "masks" / f"{index}.png")
    return Folder(folder, "all")


def transformers_twin(clip: DenseCLIP) -> CLIPVisionModelWithProjection:
    """The image tower's weights in transformers' CLIPVisionModelWithProjection.

    Raises:
        ImportError: transformers is not installed.
    """
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        hint = "install with `pip install -e .[paper]`"
        raise ImportError(f"the comparison needs transformers; {hint}") from error
    # open_clip's modules say of no attribute what it is.
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
    twin: Any = CLIPVisionModelWithProjection(config)
    twin.load_state_dict(_twin_weights(visual, blocks))
    return twin.to(clip.device).eval()


def _twin_weights(visual: Any, blocks: Sequence[Any]) -> dict[str, Tensor]:
    """The tower's weights under the names that transformers gives them."""
    state = {
        "vision_model.embeddings.class_embedding": visual.class_embedding,
        "vision_model.embeddings.patch_embedding.weight": visual.conv1.weight,
        "vision_model.embeddings.position_embedding.weight": visual.positional_embedding,
        "visual_projection.weight": visual.proj.T,
    }
    # "pre_layrnorm" is how transformers spells it.
    norms = {"pre_layrnorm": visual.ln_pre, "post_layernorm": visual.ln_post}
    layers: dict[str, nn.Module] = {f"vision_model.{name}": norm for name, norm in norms.items()}
    for i, block in enumerate(blocks):
        here = f"vision_model.encoder.layers.{i}"
        attention = block.attn
        fused = zip("qkv", attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        for name, weight, bias in fused:
            state |= {
                f"{here}.self_attn.{name}_proj.weight": weight,
                f"{here}.self_attn.{name}_proj.bias": bias,
            }
        layers |= {
            f"{here}.self_attn.out_proj": attention.out_proj,
            f"{here}.layer_norm1": block.ln_1,
            f"{here}.layer_norm2": block.ln_2,
            f"{here}.mlp.fc1": block.mlp[0],
            f"{here}.mlp.fc2": block.mlp[-1],
        }
    for name, layer in layers.items():
        state |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return state


def _vanilla(clip: DenseCLIP, images: Tensor) -> Callable[[], Tensor]:
    """Ours: patch embeddings (B, N, D) as CLIP was trained to read its CLS token."""

    @torch.inference_mode()
    def ours() -> Tensor:
        return clip.encode_dense(images, "vanilla").flatten(2).mT

    return ours


def _pictures(clip: DenseCLIP, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, *clip.visual.image_size, generator=generator).to(clip.device)


def same_outputs(ours: Tensor, peer: Tensor, name: str) -> None:
    """Refuse to time what does not compute the same.

    Args:
        ours, peer: outputs of the same inputs.
        name: of the peer.

    Raises:
        RuntimeError: another shape, or values that differ by more than 1e-4.
    """
    shapes = f"{tuple(peer.shape)}, expected our {tuple(ours.shape)}"
    if ours.shape != peer.shape:
        raise RuntimeError(f"{name} gives {shapes}")
    difference = float((ours.float() - peer.float()).abs().max())
    if difference > 1e-4:
        raise RuntimeError(f"{name} gives values up to {difference:.1e} from ours; expected equal outputs")
