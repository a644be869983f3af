"""Segment with cosines between patches and words: the zero-shot baseline, and the head that plain fine-tuning trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.readouts import VARIANTS


class ZeroShotSegmentor(nn.Module):
    """Logits are scaled cosines of patch and word, upsampled to the picture.

    Args:
        clip: the model.
        attention: the dense read-out, or several whose cosines are averaged.

    Raises:
        ValueError: unknown read-out.
    """

    def __init__(self, clip: DenseCLIP, attention: str | Sequence[str] = "value") -> None:
        super().__init__()
        self.clip = clip
        self.attention = (attention,) if isinstance(attention, str) else tuple(attention)
        unknown = [a for a in self.attention if a not in VARIANTS]
        if unknown or not self.attention:
            raise ValueError(f"unknown attention {unknown or attention!r}; expected one or more of {', '.join(VARIANTS)}")

    def forward(self, images: Tensor, text_embeddings: Tensor) -> Tensor:
        """Logits of every word at every pixel.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            text_embeddings: (C, D) unit vectors.

        Returns:
            (B, C, H, W) cosines times the model's logit scale.
        """
        return F.interpolate(self.decode(self.encode(images), text_embeddings), images.shape[-2:], mode="bilinear", align_corners=False)

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """(C, D) unit vectors of words, in the model's own templates if none are given."""
        return self.clip.encode_text(names, templates)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Dense embeddings (B, D, h, w) of each read-out."""
        return tuple(self.clip.encode_dense(images, a) for a in self.attention)

    def decode(self, encoded: Sequence[Tensor], text_embeddings: Tensor) -> Tensor:
        """Logits (B, C, h, w) from what `encode` gave, before they are enlarged."""
        cosines = [torch.einsum("bdhw,cd->bchw", dense, text_embeddings) for dense in encoded]
        return self.clip.logit_scale.float() * torch.stack(cosines).mean(0)
