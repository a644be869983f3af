"""Segment with cosines of patches and words: the zero-shot baseline, and the head of plain fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..clip import DenseCLIP
from ..clip.readouts import WORD_LOGITS, check_read_outs
from ..core.lookup import call
from .base import Encoded, Segmentor, scaled_cosines


class ZeroShotSegmentor(Segmentor):
    """Logits are scaled cosines of patch and word, upsampled to the picture.

    A read-out that looks at words (`clip.readouts.WORD_LOGITS`) gives logits of its own, from the same pass.

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
            The first read-out's as `dense`, which objectives look at, the others' as `more`. A read-out that
            looks at words gives what it makes of the pass without them; the pass comes with it.
        """
        looking = any(name in WORD_LOGITS for name in self.read_outs)
        # Such a read-out asks the tower twice, and its blocks should run once.
        tower = self.clip.tower(images, keep=looking or len(self.read_outs) > 1)
        first, *more = self.clip.read_each(tower, self.read_outs)
        return Encoded(first, tuple(more), tower if looking else None)

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Scaled cosines, or what a read-out makes of words itself, averaged over the read-outs.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.
        """
        read = zip(self.read_outs, (encoded.dense, *encoded.more), strict=True)
        maps = [self._logits(name, dense, encoded, text) for name, dense in read]
        return torch.stack(maps).mean(0)

    def _logits(self, name: str, dense: Tensor, encoded: Encoded, text: Tensor) -> Tensor:
        """Logits (B, C, h, w) of one read-out."""
        if encoded.tower is None or name not in WORD_LOGITS:
            return scaled_cosines(self.clip, dense, text)
        logits = WORD_LOGITS[name](encoded.tower.told(text), self.clip.logit_scale.float())
        return logits.mT.unflatten(2, encoded.tower.grid)
