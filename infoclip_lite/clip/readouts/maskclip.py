"""MaskCLIP (2112.01071), as its own code has it."""

from __future__ import annotations

from torch import Tensor

from ..blocks import feed_forward, project_out, project_qkv
from ..tower import TowerPass


def maskclip(tower: TowerPass) -> Tensor:
    """v in place of what attention mixes; the patch's own residual and the feed-forward layer are kept [S].

    Later papers call `value` MaskCLIP, which drops both.

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    tokens = tower.entering
    values = project_out(tower.last, project_qkv(tower.last, tokens)[2])
    return feed_forward(tower.last, tokens + values)[:, 1:]
