"""Last-block read-outs of a CLIP ViT, written on the block's weights.

Each variant takes the tokens that enter the last block, (B, 1 + N, W) with CLS first, and returns patch tokens
(B, N, W) that enter ln_post. `block.attn` is never called: its layout and class differ between open_clip versions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


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
