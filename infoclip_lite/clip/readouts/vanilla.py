"""The patches just as they leave the tower."""

from __future__ import annotations

from torch import Tensor

from ..tower import TowerPass


def vanilla(tower: TowerPass) -> Tensor:
    """softmax(q k^T) v, residual and feed-forward layer: what CLIP was trained with, and only CLS was trained
    on (B, N, W).
    """
    return tower.leaving[:, 1:]
