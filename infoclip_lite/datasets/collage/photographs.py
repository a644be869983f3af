"""Whole photographs of the pack's nouns, none of which is learnt from: a small real test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ...core.files import data_dir

if TYPE_CHECKING:
    from torch import Tensor


class Photograph(NamedTuple):
    """A photograph as it was taken.

    Attributes:
        noun: what it shows; a word of `all_nouns()`.
        file: relative to the pack.
        author, licence: whose it is, and on which terms.
    """

    noun: str
    file: str
    author: str
    licence: str

    def image(self, shorter: int = 96, multiple: int = 8) -> Tensor:
        """The picture (3, H, W), floats in [0, 1].

        Args:
            shorter: its shorter side in pixels.
            multiple: both sides are multiples of this.
        """
        import torch  # here, so that the list can be had without it

        with Image.open(data_dir() / "collage" / self.file) as file:
            picture = file.convert("RGB")
        scale = shorter / min(picture.size)
        width, height = (max(1, round(side * scale / multiple)) * multiple for side in picture.size)
        array = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def photographs() -> list[Photograph]:
    """The whole photographs that ship, in the order of the pack."""
    records = json.loads((data_dir() / "collage" / "photographs.json").read_text(encoding="utf-8"))
    keys = ("noun", "file", "author", "licence")
    return [Photograph(*(record[key] for key in keys)) for record in records]
