"""Pictures with pixel labels from the official files: one reader for every data set."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Sample(NamedTuple):
    """One picture with its labels.

    Attributes:
        image: (3, H, W) float32 in [0, 1], at the picture's own size.
        mask: (H, W) int64, class ids, or the data set's `ignore`.
        path: of the picture.
    """

    image: Tensor
    mask: Tensor
    path: str
