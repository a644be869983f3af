"""PEARL's attention (2603.21528): keys turned onto queries. Its text-guided propagation is not part of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass

KEYS = 0.08  # weight of key-key attention [S]


def pearl(tower: TowerPass) -> Tensor:
    """softmax(q (k R)^T + 0.08 k_c k_c^T) v, no residual, no feed-forward layer (B, N, W) [S].

    R is the rotation that brings the keys of a head nearest to its queries (orthogonal Procrustes), so that a
    query finds the keys of its own place: query-key attention becomes as local as key-key attention.
    """
    q, k, v = project_qkv(tower.last, tower.entering)
    weights = q.norm(dim=-1, keepdim=True)
    weights = torch.cat([torch.zeros_like(weights[..., :1, :]), weights[..., 1:, :]], -2)  # CLS has no say
    weights = weights / weights.sum(-2, keepdim=True)
    q_centred, k_centred = (x - (weights * x).sum(-2, keepdim=True) for x in (q, k))
    turned = k @ rotation(k_centred, q_centred)
    logits = similarity(q, turned) + KEYS * similarity(k_centred, k_centred)
    return project_out(tower.last, logits.softmax(-1) @ v)[:, 1:]


@torch.no_grad()
def rotation(source: Tensor, target: Tensor) -> Tensor:
    """The orthogonal R (..., d, d) for which source R is nearest to target; both (..., n, d).

    Without gradient: that of a singular value decomposition is not finite where two singular values are equal
    [O].
    """
    left, _, right = torch.linalg.svd(
        (source.mT @ target).float(), full_matrices=False
    )  # which has no half-precision kernel
    return (left @ right).to(source.dtype)
