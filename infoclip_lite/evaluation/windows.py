"""From pictures to labels: windows, several a pass, and classes in chunks, so that memory does not grow with the number of words.

Only what is done to each word alone is chunked: enlarging, averaging, the search for the best. The model sees all words at once, since
class aggregation couples them; its small maps are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..segmentors import Segmentor
from ..segmentors.catseg.model import ClassAggregation
from .protocol import WHOLE, Protocol

_KNOWN = {segmentor.forward for segmentor in get_args(Segmentor)}  # their forward is: encode, decode, enlarge
Place = tuple[slice, slice]


@dataclass(frozen=True)
class Passes:
    """What the model said of every window, before it is enlarged and put together.

    Attributes:
        logits: of each window, (B, C, h, w), as small as the model gives them.
        places: rows and columns of each window in the picture.
        whole: (B, C, h, w) of the pass over the whole picture, if the protocol has one.
        size: (H, W) of the picture.
        protocol: how the parts become one.
    """

    logits: list[Tensor]
    places: list[Place]
    whole: Tensor | None
    size: tuple[int, int]
    protocol: Protocol

    def scores(self, words: slice = slice(None)) -> Tensor:
        """Scores (B, c, H, W) of some words, of all by default."""
        if len(self.places) == 1 and self.whole is None:
            return self._activated(self.logits[0][:, words], self.places[0])
        first = self.logits[0][:, words]
        total = first.new_zeros(*first.shape[:2], *self.size, dtype=torch.float32)
        count = total.new_zeros(self.size)
        for logits, (rows, columns) in zip(self.logits, self.places, strict=True):
            total[..., rows, columns] += self._activated(logits[:, words], (rows, columns))
            count[rows, columns] += 1
        total /= count
        if self.whole is not None:
            side = slice(0, self.protocol.window)
            total += _enlarge(self._activated(self.whole[:, words], (side, side)), self.size)
            total /= 2
        return total

    def _activated(self, logits: Tensor, place: Place) -> Tensor:
        logits = _enlarge(logits, tuple(p.stop - p.start for p in place))
        return logits.sigmoid() if self.protocol.activation == "sigmoid" else logits


def _enlarge(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape[-2:]) == size else F.interpolate(x, size, mode="bilinear", align_corners=False)


def look(segmentor: Any, images: Tensor, text: Tensor, protocol: Protocol = WHOLE, window_batch: int = 1) -> Passes:
    """Show the model every window.

    Args:
        segmentor: forward(images, text) -> logits at the images' size.
        images: (B, 3, H, W) floats in [0, 1].
        text: (C, D) unit vectors, or what the segmentor takes.
        protocol: sizes and windows.
        window_batch: windows in one pass through the model; more is faster on a GPU and takes more memory.
    """
    picture, images = resized(images, protocol)
    height, width = images.shape[-2:]
    window = protocol.window or max(height, width)
    stride = protocol.stride or max(1, window // 2)
    places = [
        (slice(top, min(top + window, height)), slice(left, min(left + window, width)))
        for top in _starts(height, window, stride)
        for left in _starts(width, window, stride)
    ]
    side = None if protocol.patches is None else protocol.patches * segmentor.clip.patch_size
    logits: list[Tensor] = []
    with class_pooling(segmentor, protocol.pooling):
        for first in range(0, len(places), window_batch):
            windows = [images[..., rows, columns] for rows, columns in places[first : first + window_batch]]
            logits += _logits(segmentor, torch.cat(windows), text, side).split(len(images))
        whole = None
        if protocol.whole:
            whole = _logits(segmentor, _enlarge(picture, (window, window)), text, side)
    return Passes(logits, places, whole, (height, width), protocol)


def _logits(segmentor: Any, images: Tensor, text: Tensor, side: int | None) -> Tensor:
    """Logits as small as the segmentor can give them."""
    if side is not None:
        images = _enlarge(images, (side, side))
    if type(segmentor).forward in _KNOWN:
        return segmentor.decode(segmentor.encode(images), text)
    return segmentor(images, text)


def infer(segmentor: nn.Module, images: Tensor, text: Tensor, *, window: int | None = None, stride: int | None = None) -> Tensor:
    """Logits (B, C, H, W) of whole pictures, or averaged over sliding windows that cover every pixel.

    Args:
        segmentor: forward(images, text) -> logits at the images' size.
        images: (B, 3, H, W) floats in [0, 1].
        text: (C, D) unit vectors.
        window: side of the square windows in pixels; None, or not smaller than the picture: the whole picture.
        stride: step between windows; half a window by default.

    Raises:
        ValueError: a window or stride below 1, or a stride larger than the window, which would leave gaps.
    """
    if window is None:
        return segmentor(images, text)
    return look(segmentor, images, text, replace(WHOLE, window=window, stride=stride)).scores()


def resized(images: Tensor, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """The pictures after step 3 of the protocol, and after step 4."""
    picture = images
    if protocol.shorter is not None:
        height, width = images.shape[-2:]
        scale = protocol.shorter / min(height, width)
        if protocol.longest is not None:
            scale = min(scale, protocol.longest / max(height, width))
        size = (int(height * scale + 0.5), int(width * scale + 0.5))  # how detectron2 and mmcv round
        picture = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=protocol.antialias)
        picture = (picture * 255).round().clamp(0, 255) / 255
    return picture, picture if protocol.square is None else _enlarge(picture, (protocol.square, protocol.square))


@contextmanager
def class_pooling(segmentor: nn.Module, pooling: int | None) -> Iterator[None]:
    """A block in which class aggregation looks at squares of `pooling` patches; None, and segmentors without it, change nothing."""
    if pooling is None:
        yield
        return
    layers = [m for m in segmentor.modules() if isinstance(m, ClassAggregation)]
    before = [layer.pooling for layer in layers]
    try:
        for layer in layers:
            layer.pooling = pooling
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.pooling = value


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin so that the last one ends at the border."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]
