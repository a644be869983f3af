"""Segment with cosines between patches and words: the zero-shot baseline, and the head that plain fine-tuning
trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..clip import DenseCLIP
from ..clip.readouts import check_read_outs
from ..core.lookup import call
from .base import Encoded, Segmentor, scaled_cosines


class ZeroShotSegmentor(Segmentor):
    """Logits are scaled cosines of patch and word, upsampled to the picture.

    Args:
        clip: the model.
        read_outs: the dense read-out, or several whose cosines are averaged; all are read off one pass
            through the tower.

    Raises:
        ValueError: unknown read-out, or none.
    """

    def __init__(self, clip: DenseCLIP, read_outs: str | Sequence[str] = "value") -> None:
        super().__init__()
        self.clip = clip
        self.read_outs = check_read_outs(read_outs)

    @classmethod
    def from_section(
        cls, clip: DenseCLIP, prompt: str, options: Mapping[str, object], what: str
    ) -> ZeroShotSegmentor:
        """As for any segmentor; tests keep the model's own templates, so the recipe's prompt is for training
        alone.
        """
        return call(cls, (clip,), options, what)

    @property
    def family(self) -> str:
        """Trained, it is a head of cosines and nothing else."""
        return "cosine head"

    @property
    def backend(self) -> str:
        """The read-outs, which are all that costs time."""
        return "+".join(self.read_outs)

    def encode(self, images: Tensor) -> Encoded:
        """Dense embeddings (B, D, h, w) of each read-out; objectives look at the first."""
        first, *more = self.clip.encode_each(images, self.read_outs)
        return Encoded(first, tuple(more))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Logits (B, C, h, w): scaled cosines, averaged over the read-outs."""
        maps = [scaled_cosines(self.clip, dense, text) for dense in (encoded.dense, *encoded.more)]
        return torch.stack(maps).mean(0)
