"""GEM (2312.00878): a second path through the last blocks, on which tokens look at what resembles them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import ResidualBlock, project_out, project_qkv
from ..depth import at_depth
from ..tower import TowerPass

BLOCKS = 6  # the last ones, whatever the model [S]
FIRST = 6 / 11  # where they begin in the twelve of ViT-B/16


def gem(tower: TowerPass, *, depth: int | None = None) -> Tensor:
    """The tokens that enter the last six blocks, plus what self-self attention gives in each [S].

    The path has residuals and no feed-forward layer; its attention sees the tokens of the ordinary path.

    Args:
        tower: the pass.
        depth: GEM's name for one more than the number of blocks, if others are wanted; at most all there are.
            By default they are six, 7 as GEM counts [S], and of a tower with fewer than twelve blocks those
            at the same relative depth [O].

    Returns:
        (B, N, W) tokens of the patches.
    """
    blocks = len(tower.blocks)
    # A small tower's first blocks make tokens out of colours: on them self-self attention would find colours.
    first = max(blocks - BLOCKS, at_depth(FIRST, blocks)) if depth is None else max(0, blocks - (depth - 1))
    path = tower.states[first]
    for block, tokens in zip(tower.blocks[first:], tower.states[first:], strict=True):
        path = path + _self_self(block, tokens)
    return path[:, 1:]


def self_attention(block: ResidualBlock, tokens: Tensor) -> Tensor:
    """v-v, k-k and q-q attention, one iteration of each.

    Args:
        block: of the tower.
        tokens: (B, 1 + N, W) that enter it.

    Returns:
        (3, B, heads, 1 + N, 1 + N), rows sum to one.
    """
    q, k, v = project_qkv(block, tokens)
    # Unit vectors attend below, so the sharpness is theirs no more. It follows the picture instead:
    # the mean length of the tokens, on the usual scale of attention [S].
    length = block.ln_1(tokens).norm(dim=-1).mean(-1)
    sharpness = length[:, None, None, None] * v.shape[-1] ** -0.5
    return torch.stack([_alike(x, sharpness) for x in (v, k, q)])


def _self_self(block: ResidualBlock, tokens: Tensor) -> Tensor:
    """The mean of what the three attentions make of the values (B, 1 + N, W)."""
    values = project_qkv(block, tokens)[2]
    return project_out(block, (self_attention(block, tokens) @ values).mean(0))


def _alike(x: Tensor, sharpness: Tensor) -> Tensor:
    """Who resembles whom (B, heads, n, n), after each was replaced by the mean of those that resemble it."""
    unit = F.normalize(x, dim=-1)
    gathered = F.normalize(_attention(unit, sharpness) @ unit, dim=-1)
    return _attention(gathered, sharpness)


def _attention(unit: Tensor, sharpness: Tensor) -> Tensor:
    return (unit @ unit.mT * sharpness).softmax(-1)
