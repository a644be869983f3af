"""CAT-Seg: the model, and the official weights for it."""

from .model import AggregationConfig, CostAggregationSegmentor

__all__ = ["AggregationConfig", "CostAggregationSegmentor"]
