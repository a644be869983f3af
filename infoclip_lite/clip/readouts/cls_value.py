"""CAT-Seg's read-out (2303.11797)."""

from __future__ import annotations

from torch import Tensor

from ..blocks import feed_forward, project_out, project_qkv
from ..tower import TowerPass


def cls_value(tower: TowerPass) -> Tensor:
    """What CLS would become if it attended to patch i alone [S].

    y = x_CLS + out(v_i), then y + mlp(ln_2(y)).

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    tokens = tower.entering
    # The residual is that of CLS at every patch: ln_post and the projection were trained on CLS alone.
    values = project_out(tower.last, project_qkv(tower.last, tokens)[2])[:, 1:]
    return feed_forward(tower.last, tokens[:, :1] + values)
