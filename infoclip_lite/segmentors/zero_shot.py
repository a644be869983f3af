"""Segment with cosines of patches and words: the zero-shot baseline, and the head of plain fine-tuning."""

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
        read_outs: the dense read-out, or several whose cosines are averaged; all are read off one
            pass through the tower.

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
        """As for any segmentor, without the recipe's prompt.

        Args:
            clip: the model.
            prompt: not used.
            options: keyword arguments of the class.
            what: how a message calls it.

        Returns:
            The segmentor.

        Raises:
            ValueError: an unknown option, or what the class refuses.
        """
        # Tests keep the model's own templates; the recipe's prompt is for training, and the trainer has it.
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
        """Dense embeddings (B, D, h, w) of each read-out, from one pass through the tower.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            The first read-out's as `dense`, which objectives look at, the others' as `more`.
        """
        first, *more = self.clip.encode_each(images, self.read_outs)
        return Encoded(first, tuple(more))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Scaled cosines, averaged over the read-outs.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.
        """
        maps = [scaled_cosines(self.clip, dense, text) for dense in (encoded.dense, *encoded.more)]
        return torch.stack(maps).mean(0)
