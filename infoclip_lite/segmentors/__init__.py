"""Segmentors: forward(images, text_embeddings) -> logits (B, C, H, W) at the images' size."""

from .catseg.model import AggregationConfig, CostAggregationSegmentor
from .chimera import ChimeraSeg
from .zero_shot import ZeroShotSegmentor

Segmentor = ZeroShotSegmentor | CostAggregationSegmentor | ChimeraSeg

__all__ = ["AggregationConfig", "ChimeraSeg", "CostAggregationSegmentor", "Segmentor", "ZeroShotSegmentor"]
