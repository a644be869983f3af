"""Which query answers for which mask: costs of all pairs, and the cheapest one-to-one matching (DETR)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import ALPHA, GAMMA

NOBODY = -1  # in a matching: the slot is empty, or there were more masks than queries


def focal_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """The focal loss of every query's mask against every wanted one, a mean over pixels.

    Args:
        logits: (B, Q, h, w).
        masks: (B, K, h, w), 0 or 1.

    Returns:
        (B, Q, K), nats.
    """
    flat, wanted = logits.flatten(2), masks.flatten(2)
    probability = flat.sigmoid()
    # What a pixel costs if it is wanted, and if it is not: every pair is then a product of matrices.
    inside = ALPHA * (1 - probability) ** GAMMA * F.softplus(-flat)
    outside = (1 - ALPHA) * probability**GAMMA * F.softplus(flat)
    return (_products(inside, wanted) + _products(outside, 1 - wanted)) / flat.shape[2]


def dice_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of every query's mask and every wanted one.

    Args:
        logits: (B, Q, h, w).
        masks: (B, K, h, w), 0 or 1.

    Returns:
        (B, Q, K), 0 .. 1.
    """
    got, wanted = logits.sigmoid().flatten(2), masks.flatten(2)
    size = got.sum(2)[:, :, None] + wanted.sum(2)[:, None]
    return 1 - (2 * _products(got, wanted) + 1) / (size + 1)


def _products(got: Tensor, wanted: Tensor) -> Tensor:
    """Inner products of all pairs: (B, Q, N) and (B, K, N) to (B, Q, K)."""
    # In float32 also under autocast: in half precision a sum over many pixels cannot tell neighbours apart.
    with torch.autocast(got.device.type, enabled=False):
        return got.float() @ wanted.float().mT


@torch.no_grad()
def assign(cost: Tensor, valid: Tensor) -> Tensor:
    """The cheapest matching of masks and queries, no query with two masks (Hungarian algorithm).

    Args:
        cost: (B, Q, K) of every pair.
        valid: (B, K) bool; other masks are matched with nobody.

    Returns:
        (B, K) int64: the query of each mask, NOBODY where there is none.

    Raises:
        FloatingPointError: a cost that is not finite.

    >>> assign(torch.tensor([[[0.0, 9.0], [1.0, 2.0], [8.0, 1.0]]]), torch.tensor([[True, True]]))
    tensor([[0, 2]])
    """
    from scipy.optimize import linear_sum_assignment  # here: who names the room need not wait for it

    found = np.full(tuple(valid.shape), NOBODY)
    # One transfer for the whole batch: the algorithm is scipy's, on the CPU.
    costs, present = cost.detach().float().cpu().numpy(), valid.cpu().numpy()
    for one, (matrix, there) in enumerate(zip(costs, present, strict=True)):
        wanted = np.flatnonzero(there)
        pairs = matrix[:, wanted]
        if not np.isfinite(pairs).all():
            raise FloatingPointError(
                "a cost of the matching is not finite; expected finite ones: lower the learning rate"
            )
        queries, masks = linear_sum_assignment(pairs)
        found[one, wanted[masks]] = queries
    return torch.from_numpy(found).to(valid.device)
