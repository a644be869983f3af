"""Each read-out of the last block against the plain formula, one image, one head and one patch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import attend, project_out, project_qkv, standard_block
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.readouts.naclip import NEIGHBOURHOOD_STD
from infoclip_lite.clip.tower import TowerPass

NAMES = ("vanilla", "value", "cls_value", "sclip", "clearclip", "naclip")
GRID = (3, 5)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 8 * GRID[0], 8 * GRID[1], generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def with_layer_scale(make_tiny: Callable[..., DenseCLIP]) -> DenseCLIP:
    return make_tiny(1, ls_init_value=0.5).requires_grad_(False)


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.stack([(weight * row).sum(1) + bias for row in x])


def normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(1, keepdim=True) + norm.eps) * norm.weight + norm.bias


def scaled(x: Tensor, scale: nn.Module) -> Tensor:
    return x * scale.gamma if hasattr(scale, "gamma") else x


def naive(block: nn.Module, tokens: Tensor, grid: tuple[int, int], variant: str) -> Tensor:
    """One image's tokens (1 + N, W) to its patches (N, W), with loops over heads and pairs of tokens."""
    attn, width = block.attn, tokens.shape[1]
    weights, biases = attn.in_proj_weight.split(width), attn.in_proj_bias.split(width)
    inner = normalised(tokens, block.ln_1)
    query, key, value = (affine(inner, w, b) for w, b in zip(weights, biases, strict=True))
    size = width // attn.num_heads
    mixed = torch.zeros_like(tokens)
    for head in range(attn.num_heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = query[:, part], key[:, part], value[:, part]
        if variant in ("value", "cls_value"):
            mixed[:, part] = v
            continue
        pairs = {"vanilla": [(q, k)], "sclip": [(q, q), (k, k)], "clearclip": [(q, q)], "naclip": [(k, k)]}[
            variant
        ]
        for a, b in pairs:
            for i in range(len(tokens)):
                logits = torch.stack([torch.dot(a[i], b[j]) / math.sqrt(size) for j in range(len(tokens))])
                if variant == "naclip" and i > 0:
                    for j in range(1, len(tokens)):
                        down, right = (
                            (i - 1) // grid[1] - (j - 1) // grid[1],
                            (i - 1) % grid[1] - (j - 1) % grid[1],
                        )
                        logits[j] += math.exp(-(down**2 + right**2) / (2 * 5.0**2))
                share = logits.exp() / logits.exp().sum()
                mixed[i, part] += sum(share[j] * v[j] for j in range(len(tokens)))
    out = scaled(affine(mixed, attn.out_proj.weight, attn.out_proj.bias), block.ls_1)
    if variant in ("value", "clearclip", "naclip"):
        return out[1:]
    out = out + (tokens[:1] if variant == "cls_value" else tokens)
    hidden = affine(normalised(out, block.ln_2), block.mlp.c_fc.weight, block.mlp.c_fc.bias)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return (out + scaled(affine(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias), block.ls_2))[1:]


def test_the_six_variants_are_there() -> None:
    assert set(NAMES) <= set(READ_OUTS) and NEIGHBOURHOOD_STD == 5.0


@pytest.mark.parametrize("variant", NAMES)
@pytest.mark.parametrize("model", ["tiny", "with_layer_scale"])
def test_variant_equals_the_naive_loop(
    variant: str, model: str, images: Tensor, request: pytest.FixtureRequest
) -> None:
    clip = request.getfixturevalue(model)
    tokens, grid = clip.embed(images)
    assert grid == GRID
    entering = standard_block(clip.blocks[0], tokens)
    got = READ_OUTS[variant](TowerPass(entering, grid, clip.blocks[-1:]))
    wanted = torch.stack([naive(clip.blocks[-1], one, grid, variant) for one in entering])
    assert torch.allclose(got, wanted, atol=2e-5)
    projected = F.normalize(
        F.layer_norm(wanted, (48,), clip.visual.ln_post.weight, clip.visual.ln_post.bias) @ clip.visual.proj,
        dim=-1,
    )
    dense = clip.encode_dense(images, variant)
    assert torch.allclose(dense.flatten(2).transpose(1, 2), projected, atol=1e-5)


def test_variants_differ_from_each_other(tiny: DenseCLIP, images: Tensor) -> None:
    dense = torch.stack([tiny.encode_dense(images, variant) for variant in NAMES])
    distances = (dense[:, None] - dense[None]).abs().amax((2, 3, 4, 5)) + torch.eye(len(NAMES))
    assert distances.min() > 1e-3


@pytest.mark.parametrize("variant", NAMES)
def test_reversing_the_patches_reverses_the_result(variant: str, tiny: DenseCLIP) -> None:
    """No read-out may use the place of a patch otherwise than through distances."""
    tokens = torch.randn(1, 1 + 15, 48, generator=torch.Generator().manual_seed(0))
    back = torch.cat([tokens[:, :1], tokens[:, 1:].flip(1)], 1)
    there, back_again = (READ_OUTS[variant](TowerPass(t, GRID, tiny.blocks[-1:])) for t in (tokens, back))
    assert torch.allclose(back_again.flip(1), there, atol=1e-5)


def test_naclip_prefers_near_patches(make_tiny: Callable[..., DenseCLIP]) -> None:
    """With keys all zero only the neighbourhood decides; one-hot values show the weights."""
    block = make_tiny().requires_grad_(False).blocks[-1]
    block.ln_1 = block.ls_1 = nn.Identity()
    eye = torch.eye(48)
    block.attn.in_proj_weight.copy_(torch.cat([eye, 0 * eye, eye]))
    block.attn.in_proj_bias.zero_()
    block.attn.out_proj.weight.copy_(eye)
    block.attn.out_proj.bias.zero_()
    tokens = torch.eye(13, 48)[None]
    weights = READ_OUTS["naclip"](TowerPass(tokens, (3, 4), [block]))[0, :, :13]
    rows, columns = torch.arange(12) // 4, torch.arange(12) % 4
    squared = (rows[:, None] - rows).square() + (columns[:, None] - columns).square()
    wanted = torch.cat([torch.zeros(12, 1), torch.exp(-squared / 50)], 1).softmax(1)
    assert torch.allclose(weights, wanted, atol=1e-6)
    assert (weights.argmax(1) == torch.arange(1, 13)).all()


class Forbidden(nn.Module):
    """The weights of an attention module without its forward pass."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = attn.in_proj_weight, attn.in_proj_bias
        self.out_proj, self.num_heads = attn.out_proj, attn.num_heads

    def forward(self, *args: object, **kwargs: object) -> Tensor:
        raise AssertionError("block.attn was called")


def test_the_blocks_own_attention_is_never_called(
    make_tiny: Callable[..., DenseCLIP], images: Tensor
) -> None:
    clip = make_tiny().requires_grad_(False)
    before = [
        clip.encode_image(images),
        *clip.hidden_states(images),
        *(clip.encode_dense(images, v) for v in NAMES),
    ]
    for block in clip.blocks:
        block.attn = Forbidden(block.attn)
    with pytest.raises(AssertionError, match="was called"):
        clip.model.encode_image(torch.zeros(1, 3, 32, 32))
    after = [
        clip.encode_image(images),
        *clip.hidden_states(images),
        *(clip.encode_dense(images, v) for v in NAMES),
    ]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_heads_survive_splitting_and_merging(tiny: DenseCLIP) -> None:
    block, tokens = tiny.blocks[0], torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(1))
    q, k, v = project_qkv(block, tokens)
    assert q.shape == k.shape == v.shape == (2, 3, 7, 16)
    merged = torch.cat([v[:, head] for head in range(3)], -1)
    assert torch.allclose(
        project_out(block, v),
        F.linear(merged, block.attn.out_proj.weight, block.attn.out_proj.bias),
        atol=1e-6,
    )


def test_attention_is_the_same_with_and_without_gradients() -> None:
    q, k, v = torch.randn(3, 2, 3, 5, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        fused = attend(q, k, v)
    q.requires_grad_(True)
    assert torch.allclose(attend(q, k, v), fused, atol=1e-6)


def test_standard_block_equals_open_clips_block(tiny: DenseCLIP) -> None:
    tokens = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(4))
    block = tiny.blocks[0]
    theirs = (
        block(tokens)
        if getattr(block.attn, "batch_first", True)
        else block(tokens.transpose(0, 1)).transpose(0, 1)
    )
    assert torch.allclose(standard_block(block, tokens), theirs, atol=1e-5)


@pytest.mark.parametrize("variant", NAMES)
def test_gradients_are_those_of_finite_differences(variant: str, make_tiny: Callable[..., DenseCLIP]) -> None:
    block = make_tiny().double().blocks[-1]
    tokens = torch.randn(
        1, 5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    ).requires_grad_(True)
    direction = torch.randn(1, 4, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    assert torch.autograd.gradcheck(
        lambda t: (READ_OUTS[variant](TowerPass(t, (2, 2), [block])) * direction).sum(),
        tokens,
        fast_mode=True,
        atol=1e-4,
    )
