"""PEARL's attention against its formula, one picture and one head at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import orthogonal_procrustes
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.readouts.pearl import pearl, rotation, turned
from infoclip_lite.clip.tower import TowerPass


def newton_schulz(m: Tensor, steps: int) -> Tensor:
    """One head's M (d, d), with an inverse root that is found step by step."""
    square = m.T @ m
    norm = math.sqrt(float(square.square().sum()))
    y, z = square / norm + 1e-6 * torch.eye(len(m)), torch.eye(len(m))
    for _ in range(steps):
        t = (3 * torch.eye(len(m)) - z @ y) / 2
        y, z = y @ t, t @ z
    return m @ z / math.sqrt(norm)


@pytest.mark.parametrize("iterations", [None, 5])
def test_pearl_is_its_formula(make_tiny: Callable[..., DenseCLIP], iterations: int | None) -> None:
    clip = make_tiny().requires_grad_(False)
    block = clip.blocks[-1]
    tokens = torch.randn(2, 1 + 20, 48, generator=torch.Generator().manual_seed(0))
    got = pearl(TowerPass(tokens, (4, 5), [block]), iterations=iterations)
    size = 16
    for one, picture in zip(tokens, got, strict=True):
        inner = block.ln_1(one)
        weights, biases = block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3)
        q, k, v = (F.linear(inner, w, b) for w, b in zip(weights, biases, strict=True))
        mixed = torch.zeros_like(one)
        for head in range(3):
            part = slice(head * size, (head + 1) * size)
            mean_q = sum(q[i, part].norm() * q[i, part] for i in range(1, 21)) / sum(
                q[i, part].norm() for i in range(1, 21)
            )
            mean_k = sum(q[i, part].norm() * k[i, part] for i in range(1, 21)) / sum(
                q[i, part].norm() for i in range(1, 21)
            )
            keys, queries = k[:, part] - mean_k, q[:, part] - mean_q
            if iterations is None:
                turn = torch.from_numpy(orthogonal_procrustes(keys.numpy(), queries.numpy())[0])
            else:
                turn = newton_schulz(keys.T @ queries, iterations)
            logits = q[:, part] @ (k[:, part] @ turn).T / math.sqrt(size) + 0.08 * keys @ keys.T / math.sqrt(
                size
            )
            mixed[:, part] = logits.softmax(-1) @ v[:, part]
        wanted = F.linear(mixed, block.attn.out_proj.weight, block.attn.out_proj.bias)[1:]
        assert torch.allclose(picture, wanted, atol=1e-4)


def test_five_steps_are_the_default_and_shrink_what_hardly_varies_together(
    make_tiny: Callable[..., DenseCLIP],
) -> None:
    generator = torch.Generator().manual_seed(2)
    # Two heads whose keys and queries share one strong direction, and little else.
    source = torch.randn(2, 30, 5, generator=generator) * torch.tensor([1.0, 0.3, 0.1, 0.03, 0.01])
    target = source @ torch.linalg.qr(torch.randn(2, 5, 5, generator=generator)).Q
    got = turned(source, target, 5)
    wanted = torch.stack([newton_schulz(a.T @ b, 5) for a, b in zip(source, target, strict=True)])
    assert torch.allclose(got, wanted, atol=1e-5)
    kept = torch.linalg.svdvals(got)
    assert (kept[:, 0] > 0.99).all() and (kept[:, -1] < 0.1).all(), "not a rotation yet"
    even = torch.randn(2, 30, 5, generator=generator)
    target = even @ torch.linalg.qr(torch.randn(2, 5, 5, generator=generator)).Q
    assert torch.allclose(turned(even, target, 12), rotation(even, target), atol=1e-3), "but on the way"
    block = make_tiny().requires_grad_(False).blocks[-1]
    tower = TowerPass(torch.randn(1, 1 + 20, 48, generator=generator), (4, 5), [block])
    assert torch.equal(pearl(tower), pearl(tower, iterations=5))
    assert (pearl(tower) - pearl(tower, iterations=None)).abs().max() > 1e-4


def test_a_turned_copy_is_turned_back() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(30, 5, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    found = rotation(target @ turn, target)
    assert torch.allclose(found, turn.T, atol=1e-5) and torch.allclose(
        found @ found.T, torch.eye(5), atol=1e-5
    )
