"""The masks that a picture's labels make: one of every class that is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.labels import NO_LABEL


@dataclass(frozen=True)
class Masks:
    """Masks that queries are to find, in as many slots as the fullest picture needs.

    Attributes:
        ids: (B, K) int64, the class of each; 0 in an empty slot.
        masks: (B, K, h, w) float32, one inside; zero in an empty slot.
        valid: (B, K) bool, whether there is a mask in the slot.
    """

    ids: Tensor
    masks: Tensor
    valid: Tensor

    def at(self, size: tuple[int, int]) -> Tensor:
        """The masks at another size (B, K, h', w'), by the nearest pixel: a mask stays zero or one."""
        if tuple(self.masks.shape[2:]) == tuple(size):
            return self.masks
        return F.interpolate(self.masks, size, mode="nearest-exact")


def classes_present(labels: Tensor, classes: int) -> Tensor:
    """How many pixels each class has.

    Args:
        labels: (B, H, W) int64, 0 .. classes - 1, or NO_LABEL.
        classes: C.

    Returns:
        (B, C) int64.
    """
    # One place more, for what has no label; counted by adding, of which the result has a known shape.
    places = torch.where(labels == NO_LABEL, classes, labels).flatten(1)
    counts = torch.zeros(len(labels), classes + 1, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(1, places, torch.ones_like(places))[:, :classes]


def most(counts: Tensor) -> int:
    """Slots that the fullest picture needs, at least one: a picture of nothing known has an empty slot.

    Args:
        counts: (B, C), pixels of each class.
    """
    # The one number that is read from the device: shapes depend on it.
    return max(1, int((counts > 0).sum(1).max()))


def class_masks(labels: Tensor, classes: int) -> Masks:
    """A mask for every class that a picture has a pixel of [S].

    Args:
        labels: (B, H, W) int64, 0 .. classes - 1, or NO_LABEL, which is in no mask.
        classes: C.

    Returns:
        The masks, the largest first.
    """
    counts = classes_present(labels, classes)
    pixels, ids = counts.topk(min(most(counts), classes), dim=1)
    valid = pixels > 0
    ids = torch.where(valid, ids, 0)
    masks = (labels[:, None] == ids[:, :, None, None]) & valid[:, :, None, None]
    return Masks(ids, masks.float(), valid)
