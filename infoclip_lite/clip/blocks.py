"""The parts of a residual block of CLIP, on the block's own weights.

`block.attn` is never called: its layout (LND or NLD) and its class differ between open_clip versions.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class FusedAttention(Protocol):
    """The weights of an attention layer with q, k and v in one matrix.

    Attributes:
        in_proj_weight, in_proj_bias: (3 W, W) and (3 W,), queries first, then keys, then values; the bias may
            be None.
        out_proj: W to W.
        num_heads: of them.
    """

    in_proj_weight: Tensor
    in_proj_bias: Tensor | None
    out_proj: nn.Linear
    num_heads: int


class ResidualBlock(Protocol):
    """What a block of CLIP is made of: attention and a feed-forward layer, each with a norm and a scale."""

    attn: FusedAttention
    ln_1: Callable[[Tensor], Tensor]
    ln_2: Callable[[Tensor], Tensor]
    mlp: Callable[[Tensor], Tensor]
    ls_1: Callable[[Tensor], Tensor]
    ls_2: Callable[[Tensor], Tensor]


def project_qkv(block: ResidualBlock, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a residual block, each (B, heads, N, W / heads), from tokens (B, N, W)."""
    attn = block.attn
    batch, length, width = tokens.shape
    qkv = F.linear(block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias)  # (B, N, 3 W)
    # The 3 stands outside the heads, as in nn.MultiheadAttention: all queries first, then keys, then values.
    by_head = qkv.view(batch, length, 3, attn.num_heads, width // attn.num_heads)
    q, k, v = by_head.permute(2, 0, 3, 1, 4)  # (3, B, heads, N, W / heads)
    return q, k, v


def project_out(block: ResidualBlock, values: Tensor) -> Tensor:
    """Mixed values (B, heads, N, W / heads) through the block's output projection: (B, N, W)."""
    batch, heads, length, width = values.shape
    merged = values.transpose(1, 2).reshape(batch, length, heads * width)  # `width` here is W / heads
    # ls_1 is the scale of blocks that were trained with one, and the identity in CLIP's own.
    return block.ls_1(F.linear(merged, block.attn.out_proj.weight, block.attn.out_proj.bias))


def feed_forward(block: ResidualBlock, tokens: Tensor) -> Tensor:
    """The block's second half, residual included: (B, N, W) -> (B, N, W)."""
    return _added(tokens, block.ls_2(block.mlp(block.ln_2(tokens))))


def _added(tokens: Tensor, update: Tensor) -> Tensor:
    """tokens + update; the update is nobody else's, and is written over where no gradient is asked for."""
    # Not under autocast, where the sum has the tokens' wider type.
    if torch.is_grad_enabled() or update.dtype != tokens.dtype:
        return tokens + update
    return update.add_(tokens)


def attention_kernel(device: torch.device) -> AbstractContextManager:
    """A context within which open_clip's own blocks choose a kernel as `attend` does.

    Args:
        device: where they compute.
    """
    # The text tower runs through open_clip; its blocks too when they are computed again for the gradient.
    plain = device.type == "cpu" and torch.is_grad_enabled()
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v.

    Args:
        q, k, v: (..., n, d), heads among the leading dimensions.
        mask: added to the logits (..., n, n); None adds nothing.

    Returns:
        (..., n, d).
    """
    # On a CPU the fused kernel's backward pass is slow, so gradients take the plain one.
    if v.device.type == "cpu" and torch.is_grad_enabled():
        logits = similarity(q, k)
        return (logits if mask is None else logits + mask).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, mask)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Scaled inner products of all pairs: (B, heads, N, d) twice -> (B, heads, N, N)."""
    # The vectors are scaled, not the products: N d numbers in place of N^2.
    return (a * a.shape[-1] ** -0.5) @ b.transpose(-1, -2)


def standard_block(block: ResidualBlock, tokens: Tensor) -> Tensor:
    """The block as CLIP trained it: (B, N, W) -> (B, N, W)."""
    return feed_forward(block, _added(tokens, project_out(block, attend(*project_qkv(block, tokens)))))
