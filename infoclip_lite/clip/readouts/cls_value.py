"""CAT-Seg's read-out (2303.11797)."""

from __future__ import annotations

from torch import Tensor

from ..blocks import feed_forward, project_out, project_qkv
from ..tower import TowerPass


def cls_value(tower: TowerPass) -> Tensor:
    """What CLS would become if it attended to patch i alone: y = x_CLS + out(v_i), then y + mlp(y) (B, N, W)
    [S].
    """
    tokens = tower.entering
    values = project_out(tower.last, project_qkv(tower.last, tokens)[2])[:, 1:]
    return feed_forward(tower.last, tokens[:, :1] + values)
