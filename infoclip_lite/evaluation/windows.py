"""What a segmentor says of a picture that is resized and cut into windows as a protocol wants it.

Only what is done to each word alone can be done for a few words at a time: enlarging, averaging, the
search for the best. The model sees all words at once, since class aggregation couples them; its small
maps are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .protocol import WHOLE, EvaluationProtocol

if TYPE_CHECKING:
    from ..clip import DenseCLIP
    from ..segmentors.base import Segmentor

Region = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class WindowLogits:
    """What the model said of every window, before it is enlarged and put together.

    Attributes:
        logits: of each window, (B, C, h, w), as small as the model gives them.
        regions: rows and columns of each window in the picture.
        whole: (B, C, h, w) of the pass over the whole picture, if the protocol has one.
        size: (H, W) of the picture.
        window: side in pixels of the pass over the whole picture.
        sigmoid: whether each window's logits go through a sigmoid before they are averaged.
        picture: (B, 3, ., .) the pictures after step 3 of the protocol, on the model's device.
    """

    logits: list[Tensor]
    regions: list[Region]
    whole: Tensor | None
    size: tuple[int, int]
    window: int
    sigmoid: bool
    picture: Tensor

    def scores(self, words: slice = slice(None)) -> Tensor:
        """Scores (B, c, H, W) of some words, of all by default."""
        if len(self.regions) == 1 and self.whole is None:
            return self._activated(self.logits[0][:, words], self.size)
        scores = self._mean_of_windows(words)
        if self.whole is not None:
            squeezed = self._activated(self.whole[:, words], (self.window, self.window))
            scores += enlarged(squeezed, self.size)
            scores /= 2
        return scores

    def _mean_of_windows(self, words: slice) -> Tensor:
        """Every pixel's mean over the windows that saw it."""
        first = self.logits[0][:, words]
        # summed in float32, whatever the model computes in: a pixel lies in up to nine windows
        total = first.new_zeros(*first.shape[:2], *self.size, dtype=torch.float32)
        count = total.new_zeros(self.size)
        for logits, (rows, columns) in zip(self.logits, self.regions, strict=True):
            side = (rows.stop - rows.start, columns.stop - columns.start)
            total[..., rows, columns] += self._activated(logits[:, words], side)
            count[rows, columns] += 1
        return total.div_(count)

    def _activated(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        logits = enlarged(logits, size)
        return logits.sigmoid() if self.sigmoid else logits


def takes_sigmoid(segmentor: Segmentor, protocol: EvaluationProtocol) -> bool:
    """Whether this segmentor's logits go through a sigmoid in this protocol.

    Only where they were trained as one sigmoid a word. Of cosines times 100 a sigmoid is 1.0 for every
    word that is not plainly wrong, and the first word would win everywhere.
    """
    return protocol.activation == "sigmoid" and segmentor.independent


def run_windows(
    segmentor: Segmentor,
    images: Tensor,
    text: Tensor,
    protocol: EvaluationProtocol = WHOLE,
    window_batch: int = 1,
) -> WindowLogits:
    """Run the model on every window of some pictures.

    Args:
        segmentor: the model.
        images: (B, 3, H, W) floats in [0, 1], on any device.
        text: (C, D) unit vectors, or what the segmentor's `encode_text` gives, on the model's device.
        protocol: sizes and windows.
        window_batch: windows in one pass through the model; more is faster on a GPU and takes more
            memory.
    """
    patch = segmentor.clip.patch_size
    picture, images = (x.to(text.device) for x in resized(images, protocol, patch))
    height, width = images.shape[-2:]
    regions = _regions(height, width, protocol)
    side = None if protocol.patches is None else protocol.patches * patch

    def logits_of(windows: Tensor) -> Tensor:
        if side is not None:
            windows = enlarged(windows, (side, side))
        encoded = segmentor.encode(_whole_patches(windows, protocol, segmentor.clip))
        return segmentor.decode(encoded, text, pooling=protocol.pooling)

    # several windows of a picture, or one of several pictures, are a batch to the model
    logits: list[Tensor] = []
    window = protocol.window or max(height, width)
    with _positions(segmentor.clip, protocol):
        for first in range(0, len(regions), window_batch):
            windows = [images[..., rows, columns] for rows, columns in regions[first : first + window_batch]]
            logits += logits_of(torch.cat(windows)).split(len(images))
        # "whole": all context once more, which windows lack
        whole = logits_of(enlarged(picture, (window, window))) if protocol.whole else None
    sigmoid = takes_sigmoid(segmentor, protocol)
    return WindowLogits(logits, regions, whole, (height, width), window, sigmoid, picture)


@contextmanager
def _positions(clip: DenseCLIP, protocol: EvaluationProtocol) -> Iterator[None]:
    """The protocol's way to bring position embeddings to a grid, as long as the block lasts."""
    # Set and put back: it is a matter of the test, and must not stay with a model that is trained on.
    before, clip.positions = clip.positions, protocol.positions
    try:
        yield
    finally:
        clip.positions = before


def _whole_patches(windows: Tensor, protocol: EvaluationProtocol, clip: DenseCLIP) -> Tensor:
    """Windows whose sides are multiples of the patch, or as they are where the model is to stretch them."""
    height, width = windows.shape[-2:]
    patch = clip.patch_size
    if protocol.partial == "cut":
        # A strip that is narrower than a patch has none to lose.
        return windows[..., : max(patch, height // patch * patch), : max(patch, width // patch * patch)]
    if protocol.partial == "pad" and (height % patch or width % patch):
        sides = (-(-side // patch) * patch for side in (height, width))  # rounded up
        # CLIP's mean is what its normalisation makes zeros of.
        padded = clip.mean.to(windows).expand(*windows.shape[:2], *sides).clone()
        padded[..., :height, :width] = windows
        return padded
    return windows


def resized(images: Tensor, protocol: EvaluationProtocol, patch: int) -> tuple[Tensor, Tensor]:
    """The pictures after step 3 of the protocol, and after step 4.

    Args:
        images: (B, 3, H, W) floats in [0, 1].
        protocol: the sizes.
        patch: side of CLIP's patches in pixels.
    """
    picture = images
    if protocol.shorter is not None:
        picture = _resampled(images, _resized_sides(images, protocol, patch), protocol)
    square = protocol.square
    return picture, picture if square is None else enlarged(picture, (square, square))


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) brought to a size by bilinear interpolation without smoothing."""
    if tuple(x.shape[-2:]) == size:
        return x  # no copy of what may be gigabytes
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def _resized_sides(images: Tensor, protocol: EvaluationProtocol, patch: int) -> tuple[int, int]:
    height, width = images.shape[-2:]
    shorter = protocol.shorter or min(height, width)
    scale = shorter / min(height, width)
    if protocol.longest is not None:
        scale = min(scale, protocol.longest / max(height, width))

    def side(length: int) -> int:
        pixels = int(length * scale + 0.5)  # how detectron2 and mmcv round
        if protocol.whole_patches:
            pixels = max(patch, round(length * scale / patch) * patch)
        return pixels if protocol.elongation is None else min(pixels, protocol.elongation * shorter)

    return side(height), side(width)


def _resampled(images: Tensor, size: tuple[int, int], protocol: EvaluationProtocol) -> Tensor:
    if protocol.eight_bit and protocol.antialias:
        return torch.stack([_by_pillow(image, size) for image in images.cpu()]).to(images)
    smooth = protocol.antialias
    found = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=smooth)
    return (found * 255).round().clamp(0, 255) / 255 if protocol.eight_bit else found.clamp(0, 1)


def _by_pillow(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) in [0, 1] brought to (height, width), as detectron2 does it: bytes, by Pillow.

    Floats rounded afterwards would differ by 1/255 in every sixth value, PyTorch's own interpolation of
    bytes, with its shorter weights, in up to a quarter of them [O].
    """
    as_bytes = (image * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    height, width = size
    found = Image.fromarray(as_bytes.numpy()).resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(found)).permute(2, 0, 1) / 255


def _regions(height: int, width: int, protocol: EvaluationProtocol) -> list[Region]:
    window = protocol.window
    if window is None or (protocol.strips_only and max(height, width) <= 2 * window):
        return [(slice(0, height), slice(0, width))]
    stride = protocol.stride or max(1, window // 2)
    return [
        (slice(top, min(top + window, height)), slice(left, min(left + window, width)))
        for top in _starts(height, window, stride)
        for left in _starts(width, window, stride)
    ]


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that the last one ends at the border."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]
