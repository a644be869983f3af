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
from infoclip_lite.clip.readouts import READ_OUTS, WORD_LOGITS
from infoclip_lite.clip.readouts.cliper import clean, cliper, cliper_logits
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


def cleaned(a: list[list[float]], rounds: int = 1) -> list[list[float]]:
    n = range(len(a))
    for _ in range(rounds):
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


def naive_logits(
    clip: DenseCLIP, states: list[Tensor], words: Tensor, scale: float, threshold: float
) -> Tensor:
    """One picture's tokens before each block, and words (C, D), to (N, C)."""
    blocks, last = list(clip.blocks), clip.blocks[-1]
    before, heads = len(blocks) - 1, clip.blocks[-1].attn.num_heads
    stored = [blocks[i].ln_1(states[i]) for i in range(before)] + [states[-1]]
    n, size = range(len(states[0])), states[0].shape[1] // heads
    mean = words.sum(0) / len(words)
    rows = [*words, mean / mean.norm()]
    fractions = []
    for layer, tokens in enumerate(stored):
        v, mixed, seen = qkv(last, tokens)[2], torch.zeros_like(tokens), []
        for head in range(heads):
            maps = [looks(blocks[i], states[i], head) for i in range(before)]
            # Every layer divides once more what the one before it has divided.
            share = cleaned([[sum(one[i][j] for one in maps) for j in n] for i in n], layer + 1)
            seen.append(share)
            part = slice(head * size, (head + 1) * size)
            for i in n:
                mixed[i, part] = sum(share[i][j] * v[j, part] for j in n)
        out = last.ls_1(F.linear(mixed, last.attn.out_proj.weight, last.attn.out_proj.bias))[1:]
        joint = clip.visual.ln_post(out) @ clip.visual.proj
        table = []
        for patch in joint:
            powers = [math.exp(scale * float(torch.dot(patch / patch.norm(), row))) for row in rows]
            table.append([power / sum(powers) for power in powers[:-1]])
        fractions.append(table)
    patches, final = range(len(fractions[0])), fractions[-1]
    result = torch.zeros(len(final), len(words))
    for c in range(len(words)):
        largest = max(row[c] for row in final)
        kept = [row[c] if row[c] >= threshold * largest else 0.0 for row in final]
        for j in patches:
            spread = sum(kept[i] * sum(share[i + 1][j + 1] for share in seen) / heads for i in patches)
            result[j, c] = scale * (spread + sum(each[j][c] for each in fractions) / len(fractions))
    return result


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_words_are_compared_with_every_layer_and_with_their_mean(
    make_tiny: Callable[..., DenseCLIP], threshold: float
) -> None:
    clip = make_tiny(layers=3, ls_init_value=0.5).requires_grad_(False)
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(4))
    # Made of patches: with random weights all patches would be nearest to the same sentence.
    patches = clip.encode_dense(images, "cliper").flatten(2).mT.flatten(0, 1)
    words = F.normalize((patches - patches.mean(0))[[0, 3, 7]], dim=-1)
    tower = clip.tower(images, words)
    got = cliper_logits(tower, 20.0, threshold=threshold)
    states = tower.states
    wanted = torch.stack(
        [naive_logits(clip, [s[b] for s in states], words, 20.0, threshold) for b in range(2)]
    )
    assert torch.allclose(got, wanted, atol=2e-3)
    assert wanted.std(1).max() > 0.5  # patches differ by more than that tolerance
    if threshold == 0.2:
        assert torch.equal(WORD_LOGITS["cliper"](tower, torch.tensor(20.0)), got), "and it is the default"


def test_words_are_needed_where_they_are_asked_for(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="got a pass without words"):
        cliper_logits(tiny.tower(torch.rand(1, 3, 16, 16)), 1.0)


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
