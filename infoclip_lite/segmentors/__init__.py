"""Segmentors: forward(images, text_embeddings) -> logits (B, C, H, W) at the images' size."""

from .zero_shot import ZeroShotSegmentor

__all__ = ["ZeroShotSegmentor"]
