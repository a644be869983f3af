"""CLIPer against its formula with loops over blocks, heads and pairs of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.readouts.cliper import clean, cliper
from infoclip_lite.clip.tower import TowerPass


def qkv(block: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Three (n, W) of one picture's tokens (n, W)."""
    weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
    return [F.linear(block.ln_1(tokens), w, b) for w, b in zip(weights, biases, strict=True)]


def looks(block: nn.Module, tokens: Tensor, head: int) -> list[list[float]]:
    """One head's attention as lists of numbers."""
    size = tokens.shape[1] // block.attn.num_heads
    q, k, _ = (x[:, head * size : (head + 1) * size] for x in qkv(block, tokens))
    rows = []
    for a in q:
        powers = [math.exp(float(torch.dot(a, b)) / math.sqrt(size)) for b in k]
        rows.append([power / sum(powers) for power in powers])
    return rows


def cleaned(a: list[list[float]]) -> list[list[float]]:
    n = range(len(a))
    column = [sum(a[i][j] for i in n) for j in n]
    a = [[a[i][j] / column[j] for j in n] for i in n]
    a = [[a[i][j] / sum(a[i]) for j in n] for i in n]
    a = [[(a[i][j] + a[j][i]) / 2 for j in n] for i in n]
    mean = [sum(a[i][j] for i in n) / len(a) for j in n]
    a = [[max(a[i][j] - mean[j], 0.0) for j in n] for i in n]
    return [[a[i][j] / sum(a[i]) for j in n] for i in n]


def naive(blocks: list[nn.Module], states: list[Tensor]) -> Tensor:
    """One picture's tokens before each block, (1 + N, W) each, to its patches (N, W)."""
    last, before = blocks[-1], len(blocks) - 1
    stored = [blocks[i].ln_1(states[i]) for i in range(before)] + [states[-1]]
    size = states[0].shape[1] // last.attn.num_heads
    outs = []
    for tokens in stored:
        v, mixed = qkv(last, tokens)[2], torch.zeros_like(tokens)
        for head in range(last.attn.num_heads):
            maps = [looks(blocks[i], states[i], head) for i in range(before or 1)]  # of one block, its own
            n = range(len(tokens))
            share = cleaned([[sum(one[i][j] for one in maps) for j in n] for i in n])
            part = slice(head * size, (head + 1) * size)
            for i in n:
                mixed[i, part] = sum(share[i][j] * v[j, part] for j in n)
        outs.append(last.ls_1(F.linear(mixed, last.attn.out_proj.weight, last.attn.out_proj.bias)))
    return (sum(outs) / len(outs))[1:]


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_cliper_looks_where_earlier_blocks_look(make_tiny: Callable[..., DenseCLIP], layers: int) -> None:
    clip = make_tiny(layers=layers, ls_init_value=0.5).requires_grad_(False)
    tokens = torch.randn(2, 1 + 6, 48, generator=torch.Generator().manual_seed(0))
    states = [tokens]
    for block in clip.blocks[:-1]:
        states.append(standard_block(block, states[-1]))
    wanted = torch.stack([naive(list(clip.blocks), [state[b] for state in states]) for b in range(2)])
    got = cliper(TowerPass(tokens, (2, 3), clip.blocks))
    assert torch.allclose(got, wanted, atol=1e-4)
    assert wanted.std(1).max() > 1e-2  # patches differ by more than that tolerance


def test_it_is_known_by_its_name(tiny: DenseCLIP) -> None:
    image = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))
    dense = tiny.encode_dense(image, "cliper")
    assert READ_OUTS["cliper"] is cliper and dense.shape == (1, 32, 4, 5)
    assert (dense - tiny.encode_dense(image, "value")).abs().max() > 1e-3


def test_cleaned_weights_are_weights_and_their_source_stays() -> None:
    attention = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(2)).softmax(-1)
    before = attention.clone()
    got = clean(attention)
    assert torch.equal(attention, before)
    assert got.min() >= 0 and torch.allclose(got.sum(-1), torch.ones(2, 3, 7), atol=1e-5)
    assert torch.allclose(clean(5 * attention), got, atol=1e-5)


def test_where_nobody_stands_out_each_looks_at_itself() -> None:
    attention = torch.full((1, 2, 4, 4), 0.25, requires_grad=True)
    got = clean(attention)
    assert torch.equal(got, torch.eye(4).expand(1, 2, 4, 4))
    got.square().sum().backward()
    assert attention.grad is not None and attention.grad.isfinite().all()
