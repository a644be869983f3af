"""Segmentors and data sets small enough to know the answer of, for every room that measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite.datasets import Sample, SegmentationDataset
from infoclip_lite.evaluation.protocol import EvaluationProtocol
from infoclip_lite.evaluation.published import CATSEG, TRAINING_FREE, ZERO_SHOT
from infoclip_lite.segmentors.base import Encoded, Segmentor

PICTURE = torch.rand(1, 3, 30, 45, generator=torch.Generator().manual_seed(0))
# every step of the published protocols, at a size that a test can afford
SMALL: dict[str, EvaluationProtocol] = {
    "catseg": replace(CATSEG, shorter=40, longest=55, square=40, window=24, stride=16, patches=2),
    "training-free": replace(TRAINING_FREE, shorter=20, longest=200, window=14, stride=7),
    "zero-shot": replace(ZERO_SHOT, shorter=24, longest=30, window=24, stride=20),
}


def scaled(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, not smoothed."""
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)


class ToyClip:
    """What an evaluation asks of a CLIP: each word has an axis of its own; what was asked is remembered."""

    name, patch_size, logit_scale = "toy", 8, torch.tensor(10.0)
    positions = "size"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        self.asked = list(names)
        return torch.eye(len(names))


class PerPixel(Segmentor):
    """Encoded are the pictures themselves; `logits` says what a subclass makes of them."""

    read_outs = ("pixels",)

    def __init__(self) -> None:
        super().__init__()
        self.clip: Any = ToyClip()
        self.poolings: list[int | None] = []

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        return self.clip.encode_text(names, templates)

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(images)

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        self.poolings.append(pooling)
        return self.logits(encoded.dense, text)

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        """(B, C, H, W) of pictures (B, 3, H, W) and words (C, D)."""
        raise NotImplementedError


class Reader(PerPixel):
    """Reads the label off the red channel, 0.1 a class: a logit of 1; green is a rival worth 0.6."""

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        labels = ((images[:, channel] * 10).round().long() for channel in (0, 1))
        red, green = (nn.functional.one_hot(label, 11).movedim(-1, 1).float() for label in labels)
        return (red + 0.6 * green * (1 - red))[:, : len(text)]


class Constant(PerPixel):
    """Word i has the logit 1 + i everywhere."""

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        values = torch.arange(1.0, 1 + len(text))
        return values[None, :, None, None].expand(len(images), -1, *images.shape[-2:])


class Colours(PerPixel):
    """The channels are the logits, so windows must change nothing; refuses windows that are too large."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        assert max(images.shape[-2:]) <= self.largest and min(images.shape[-2:]) >= 1
        return images[:, : len(text)]


class Neighbours(PerPixel):
    """Looks at a pixel and its neighbours, so that windows and sizes matter. One sigmoid a word."""

    independent = True

    def __init__(self, words: int = 7) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, words, 3, padding=1).requires_grad_(False)
        self.seen: list[tuple[int, ...]] = []

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return 4 * self.layer(images)[:, : len(text)]


class Painted(SegmentationDataset):
    """Pictures that say what the Reader will answer, and masks that say what is right."""

    def __init__(
        self, answers: Tensor, rivals: Tensor, masks: Tensor, names: Sequence[str], unseen: Sequence[int] = ()
    ) -> None:
        super().__init__(names, split="val", unseen=unseen)
        self.answers, self.rivals, self.masks = answers, rivals, masks

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Sample:
        blue = torch.zeros(self.masks[index].shape)
        image = torch.stack([self.answers[index] / 10, self.rivals[index] / 10, blue])
        return Sample(image, self.masks[index], f"painted/{index}.png")


class Photos(SegmentationDataset):
    """Random pictures of unequal sizes with random labels."""

    def __init__(self, count: int = 6, killed_at: int | None = None, wrong_at: int | None = None) -> None:
        super().__init__([f"word {i}" for i in range(7)], split="val", unseen=(5, 6))
        self.count, self.killed_at, self.wrong_at = count, killed_at, wrong_at
        self.opened: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index == self.killed_at:
            raise KeyboardInterrupt
        self.opened.append(index)
        g = torch.Generator().manual_seed(index)
        shape = (24 + 3 * index, 40 - 2 * index)
        mask = torch.randint(len(self.names), shape, generator=g) + (150 if index == self.wrong_at else 0)
        return Sample(torch.rand(3, *shape, generator=g), mask, f"photos/{index}.jpg")
