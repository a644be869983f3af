"""Dense read-outs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import feed_forward, project_out, project_qkv, similarity, standard_block

NEIGHBOURHOOD_STD = 5.0  # patches; NACLIP's Gaussian


def _vanilla(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return standard_block(block, tokens)[:, 1:]


def _value(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return project_out(block, project_qkv(block, tokens)[2])[:, 1:]


def _cls_value(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    values = project_out(block, project_qkv(block, tokens)[2])[:, 1:]
    return feed_forward(block, tokens[:, :1] + values)


def _sclip(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    q, k, v = project_qkv(block, tokens)
    mixed = (similarity(q, q).softmax(-1) + similarity(k, k).softmax(-1)) @ v
    return feed_forward(block, tokens + project_out(block, mixed))[:, 1:]


def _clearclip(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    q, _, v = project_qkv(block, tokens)
    return project_out(block, similarity(q, q).softmax(-1) @ v)[:, 1:]


def _naclip(block: Any, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    _, k, v = project_qkv(block, tokens)
    weights = (similarity(k, k) + _neighbourhood(grid, k)).softmax(-1)
    return project_out(block, weights @ v)[:, 1:]


def _neighbourhood(grid: tuple[int, int], like: Tensor) -> Tensor:
    """Gaussian of the distance between patches (1 + N, 1 + N); zero for CLS, which has no place."""
    rows, columns = (torch.arange(n, device=like.device, dtype=torch.float32) for n in grid)
    squared = [(axis[:, None] - axis[None]).square() for axis in (rows, columns)]
    distance = (squared[0][:, None, :, None] + squared[1][None, :, None, :]).flatten(2).flatten(0, 1)
    near = torch.exp(-distance / (2 * NEIGHBOURHOOD_STD**2))
    return F.pad(near, (1, 0, 1, 0)).to(like.dtype)


Variant = Callable[[Any, Tensor, tuple[int, int]], Tensor]
VARIANTS: dict[str, Variant] = {
    "vanilla": _vanilla,  # softmax(q k^T) v, as trained
    "value": _value,  # MaskCLIP: v alone, no residual, no feed-forward
    "cls_value": _cls_value,  # CAT-Seg: what CLS would become if it attended to one patch alone
    "sclip": _sclip,  # SCLIP: softmax(q q^T) + softmax(k k^T), residual and feed-forward kept
    "clearclip": _clearclip,  # ClearCLIP: softmax(q q^T) v, no residual, no feed-forward
    "naclip": _naclip,  # NACLIP: softmax(k k^T + neighbourhood) v, no residual, no feed-forward
}
