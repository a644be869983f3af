"""ClearCLIP (2407.12442): self-self attention without residual and feed-forward layer."""

from __future__ import annotations

from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass


def clearclip(tower: TowerPass) -> Tensor:
    """softmax(q q^T) v, no residual, no feed-forward layer [S].

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    # CLS is among the tokens that are mixed, and left out after; the same in the read-outs beside this one.
    q, _, v = project_qkv(tower.last, tower.entering)
    return project_out(tower.last, similarity(q, q).softmax(-1) @ v)[:, 1:]
