"""Last-block read-outs of a CLIP ViT, written on the block's weights.

Each variant takes the tokens that enter the last block, (B, 1 + N, W) with CLS first, and returns patch tokens
(B, N, W) that enter ln_post. `block.attn` is never called: its layout and class differ between open_clip versions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

NEIGHBOURHOOD_STD = 5.0  # patches; NACLIP's Gaussian


def project_qkv(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a residual block, each (B, heads, N, W / heads), from tokens (B, N, W)."""
    attn = block.attn
    batch, length, width = tokens.shape
    qkv = F.linear(block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = qkv.view(batch, length, 3, attn.num_heads, width // attn.num_heads).permute(2, 0, 3, 1, 4)
    return q, k, v


def project_out(block: Any, values: Tensor) -> Tensor:
    """Mixed values (B, heads, N, W / heads) through the block's output projection: (B, N, W)."""
    batch, heads, length, width = values.shape
    merged = values.transpose(1, 2).reshape(batch, length, heads * width)
    return block.ls_1(F.linear(merged, block.attn.out_proj.weight, block.attn.out_proj.bias))


def feed_forward(block: Any, tokens: Tensor) -> Tensor:
    """The block's second half, residual included: (B, N, W) -> (B, N, W)."""
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def attention_kernel(device: torch.device) -> AbstractContextManager:
    """Within it, open_clip's own blocks choose as `attend` does."""
    plain = device.type == "cpu" and torch.is_grad_enabled()
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v. On a CPU the fused kernel's backward pass is slow, so gradients take the plain one."""
    if v.device.type == "cpu" and torch.is_grad_enabled():
        logits = similarity(q, k)
        return (logits if mask is None else logits + mask).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, mask)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Scaled inner products of all pairs: (B, heads, N, d) twice -> (B, heads, N, N)."""
    return (a * a.shape[-1] ** -0.5) @ b.transpose(-1, -2)


def standard_block(block: Any, tokens: Tensor) -> Tensor:
    """The block as CLIP trained it: (B, N, W) -> (B, N, W)."""
    return feed_forward(block, tokens + project_out(block, attend(*project_qkv(block, tokens))))


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
