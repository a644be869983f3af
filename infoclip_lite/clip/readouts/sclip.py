"""SCLIP (2312.01597): correlative self-attention."""

from __future__ import annotations

from torch import Tensor

from ..blocks import feed_forward, project_out, project_qkv, similarity
from ..tower import TowerPass


def sclip(tower: TowerPass) -> Tensor:
    """(softmax(q q^T) + softmax(k k^T)) v, residual and feed-forward layer kept [S].

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    q, k, v = project_qkv(tower.last, tower.entering)
    # A sum and not a mean, as in the official code: rows sum to two, and the residual
    # weighs half as much [S].
    mixed = (similarity(q, q).softmax(-1) + similarity(k, k).softmax(-1)) @ v
    return feed_forward(tower.last, tower.entering + project_out(tower.last, mixed))[:, 1:]
