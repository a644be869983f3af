"""GEM against its formula with loops over blocks, heads and pairs of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts.gem import gem
from infoclip_lite.clip.tower import TowerPass


def attention(rows: list[Tensor], sharpness: float) -> list[Tensor]:
    """For each row, the weights with which it looks at all."""
    unit = [row / row.norm() for row in rows]
    return [torch.stack([torch.dot(a, b) * sharpness for b in unit]).softmax(0) for a in unit]


def naive(block: nn.Module, tokens: Tensor) -> Tensor:
    """What self-self attention adds to one picture's tokens (1 + N, W)."""
    inner = block.ln_1(tokens)
    size = tokens.shape[1] // block.attn.num_heads
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    q, k, v = (F.linear(inner, w, b) for w, b in zip(weights, biases, strict=True))
    sharpness = float(torch.stack([row.norm() for row in inner]).mean()) / math.sqrt(size)
    mixed = torch.zeros_like(tokens)
    for head in range(block.attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        for x in (q, k, v):
            rows = list(x[:, part])
            unit = torch.stack([row / row.norm() for row in rows])
            gathered = [w @ unit for w in attention(rows, sharpness)]
            mixed[:, part] += torch.stack([w @ v[:, part] for w in attention(gathered, sharpness)]) / 3
    return block.ls_1(F.linear(mixed, block.attn.out_proj.weight, block.attn.out_proj.bias))


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_gem_adds_self_self_attention_of_the_last_blocks(
    make_tiny: Callable[..., DenseCLIP], depth: int
) -> None:
    clip = make_tiny(layers=3).requires_grad_(False)
    tokens = torch.randn(2, 1 + 6, 48, generator=torch.Generator().manual_seed(0))
    states = [tokens]
    for block in clip.blocks[:-1]:
        states.append(standard_block(block, states[-1]))
    first = max(0, 3 - (depth - 1))  # GEM counts from 1
    wanted = states[first].clone()
    for index in range(first, 3):
        wanted += torch.stack([naive(clip.blocks[index], one) for one in states[index]])
    got = gem(TowerPass(tokens, (2, 3), clip.blocks), depth=depth)
    assert torch.allclose(got, wanted[:, 1:], atol=1e-4)


@pytest.mark.parametrize(("layers", "taken"), [(1, 1), (2, 1), (6, 3), (12, 6), (24, 6)])
def test_six_blocks_are_taken_or_the_same_part_of_a_shallower_tower(
    make_tiny: Callable[..., DenseCLIP], layers: int, taken: int
) -> None:
    clip = make_tiny(layers=layers).requires_grad_(False)
    tokens = torch.randn(1, 1 + 6, 48, generator=torch.Generator().manual_seed(2))
    tower = TowerPass(tokens, (2, 3), clip.blocks)
    assert torch.equal(gem(tower), gem(tower, depth=taken + 1))


def test_equal_tokens_stay_equal(tiny: DenseCLIP) -> None:
    tokens = torch.randn(1, 1, 48, generator=torch.Generator().manual_seed(1)).expand(1, 7, 48)
    got = gem(TowerPass(tokens, (2, 3), tiny.blocks))
    assert torch.allclose(got, got[:, :1].expand_as(got), atol=1e-5)
