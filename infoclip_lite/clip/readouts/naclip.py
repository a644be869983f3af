"""NACLIP (2404.08181): keys, and a preference for near patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass

NEIGHBOURHOOD_STD = 5.0  # patches [S]


def naclip(tower: TowerPass) -> Tensor:
    """softmax(k k^T + neighbourhood) v, no residual, no feed-forward layer [S].

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    _, k, v = project_qkv(tower.last, tower.entering)
    weights = (similarity(k, k) + neighbourhood(tower.grid, k)).softmax(-1)
    return project_out(tower.last, weights @ v)[:, 1:]


def neighbourhood(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Gaussian of the distance between patches; zero for CLS, which has no place.

    Args:
        grid: (h, w) of the patches, h w = N.
        like: says the device and the type.

    Returns:
        (1 + N, 1 + N), at most 1, to be added to logits.
    """
    # In float32 whatever `like` is: bfloat16 rounds the squares of distances beyond 16 patches.
    rows, columns = (torch.arange(n, device=like.device, dtype=torch.float32) for n in grid)
    down, across = ((axis[:, None] - axis[None]).square() for axis in (rows, columns))
    # (h, h) and (w, w) to (h, w, h, w), every place with every other, and flat to (N, N).
    distance = (down[:, None, :, None] + across[None, :, None, :]).flatten(2).flatten(0, 1)
    near = torch.exp(-distance / (2 * NEIGHBOURHOOD_STD**2))
    return F.pad(near, (1, 0, 1, 0)).to(like.dtype)
