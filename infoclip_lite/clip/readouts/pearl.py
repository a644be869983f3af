"""PEARL's attention (2603.21528): keys turned onto queries. Its text-guided propagation is not part of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass

KEYS = 0.08  # weight of key-key attention [S]


def pearl(tower: TowerPass) -> Tensor:
    """softmax(q (k R)^T + 0.08 k_c k_c^T) v, no residual, no feed-forward layer [S].

    R is the rotation that brings the keys of a head nearest to its queries (orthogonal Procrustes),
    so that a query finds the keys of its own place: query-key attention becomes as
    local as key-key attention.

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    q, k, v = project_qkv(tower.last, tower.entering)
    # Queries and keys are centred by means in which long queries count more, and CLS has no say [S].
    weights = q.norm(dim=-1, keepdim=True)  # (B, heads, 1 + N, 1)
    weights = torch.cat([torch.zeros_like(weights[..., :1, :]), weights[..., 1:, :]], -2)
    weights = weights / weights.sum(-2, keepdim=True)
    q_centred, k_centred = (x - (weights * x).sum(-2, keepdim=True) for x in (q, k))
    # The rotation is found between centred ones and applied to the keys as they are [S].
    turned = k @ rotation(k_centred, q_centred)
    logits = similarity(q, turned) + KEYS * similarity(k_centred, k_centred)
    return project_out(tower.last, logits.softmax(-1) @ v)[:, 1:]


@torch.no_grad()
def rotation(source: Tensor, target: Tensor) -> Tensor:
    """The orthogonal R for which source R is nearest to target, without gradient.

    Args:
        source, target: (..., n, d).

    Returns:
        (..., d, d), of the type of `source`.
    """
    # No gradient: that of a singular value decomposition is not finite where two singular values are
    # equal [O]. And float32, for it has no half-precision kernel.
    left, _, right = torch.linalg.svd((source.mT @ target).float(), full_matrices=False)
    return (left @ right).to(source.dtype)
