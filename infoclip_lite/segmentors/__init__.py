"""Segmentors: forward(images, text_embeddings) -> logits (B, C, H, W) at the images' size."""

from .cost_aggregation import AggregationConfig, CostAggregationSegmentor
from .zero_shot import ZeroShotSegmentor

Segmentor = ZeroShotSegmentor | CostAggregationSegmentor

__all__ = ["AggregationConfig", "CostAggregationSegmentor", "Segmentor", "ZeroShotSegmentor"]
