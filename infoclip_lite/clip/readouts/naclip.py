"""NACLIP (2404.08181): keys, and a preference for near patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..tower import TowerPass

NEIGHBOURHOOD_STD = 5.0  # patches [S]


def naclip(tower: TowerPass) -> Tensor:
    """softmax(k k^T + neighbourhood) v, no residual, no feed-forward layer (B, N, W) [S]."""
    _, k, v = project_qkv(tower.last, tower.entering)
    weights = (similarity(k, k) + neighbourhood(tower.grid, k)).softmax(-1)
    return project_out(tower.last, weights @ v)[:, 1:]


def neighbourhood(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Gaussian of the distance between patches (1 + N, 1 + N), of the type of `like`; zero for CLS, which has
    no place.
    """
    rows, columns = (torch.arange(n, device=like.device, dtype=torch.float32) for n in grid)
    down, across = ((axis[:, None] - axis[None]).square() for axis in (rows, columns))
    distance = (down[:, None, :, None] + across[None, :, None, :]).flatten(2).flatten(0, 1)
    near = torch.exp(-distance / (2 * NEIGHBOURHOOD_STD**2))
    return F.pad(near, (1, 0, 1, 0)).to(like.dtype)
