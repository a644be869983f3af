"""The patches just as they leave the tower."""

from __future__ import annotations

from torch import Tensor

from ..tower import TowerPass


def vanilla(tower: TowerPass) -> Tensor:
    """softmax(q k^T) v, residual and feed-forward layer: what CLIP was trained with, for the sake of CLS.

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    return tower.leaving[:, 1:]
