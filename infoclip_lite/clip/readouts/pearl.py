"""PEARL's attention (2603.21528): keys turned onto queries.

Its text-aware propagation refines the scores of any read-out: `clip.refinements.Propagation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass

KEYS = 0.08  # weight of key-key attention; 0.3 for ADE20K [S]
ITERATIONS = 5  # of Newton and Schulz [S]
_TINY = 1e-6  # [S]


def pearl(tower: TowerPass, *, keys: float = KEYS, iterations: int | None = ITERATIONS) -> Tensor:
    """softmax(q (k R)^T + 0.08 k_c k_c^T) v, no residual, no feed-forward layer [S].

    R is the rotation that brings the keys of a head nearest to its queries (orthogonal Procrustes),
    so that a query finds the keys of its own place: query-key attention becomes as
    local as key-key attention [P]. The authors' code approximates it in five steps, which are too few for the
    directions in which keys and queries hardly vary together: those are shrunk instead of turned [S].

    Args:
        tower: the pass.
        keys: weight of key-key attention.
        iterations: steps towards R; None finds the rotation itself, as the paper defines it [P].

    Returns:
        (B, N, W) tokens of the patches.
    """
    q, k, v = project_qkv(tower.last, tower.entering)
    # Queries and keys are centred by means in which long queries count more, and CLS has no say [S].
    weights = q.norm(dim=-1, keepdim=True)  # (B, heads, 1 + N, 1)
    weights = torch.cat([torch.zeros_like(weights[..., :1, :]), weights[..., 1:, :]], -2)
    weights = weights / weights.sum(-2, keepdim=True)
    q_centred, k_centred = (x - (weights * x).sum(-2, keepdim=True) for x in (q, k))
    # R is found between centred ones and applied to the keys as they are [S].
    turn = rotation(k_centred, q_centred) if iterations is None else turned(k_centred, q_centred, iterations)
    logits = similarity(q, k @ turn) + keys * similarity(k_centred, k_centred)
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


@torch.no_grad()
def turned(source: Tensor, target: Tensor, iterations: int) -> Tensor:
    """What the iteration of Newton and Schulz makes of `rotation` in a few steps, without gradient [S].

    M (M^T M)^(-1/2) with M = source^T target, the root found by iteration from M^T M over its norm. The
    directions are those of the rotation; a singular value that is small beside the largest stays below one.

    Args:
        source, target: (..., n, d).
        iterations: steps; the more, the nearer to the rotation.

    Returns:
        (..., d, d), of the type of `source`.
    """
    product = source.float().mT @ target.float()
    identity = torch.eye(product.shape[-1], device=product.device)
    square = product.mT @ product
    norm = square.flatten(-2).norm(dim=-1).clamp(min=_TINY)[..., None, None]
    # root goes to the square root, and inverse to its inverse.
    root, inverse = square / norm + _TINY * identity, identity.expand_as(square)
    for _ in range(iterations):
        step = 0.5 * (3 * identity - inverse @ root)
        root, inverse = root @ step, step @ inverse
    return (product @ inverse / norm.sqrt()).to(source.dtype)
