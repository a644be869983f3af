"""CAT-Seg's head: shortcuts equal the plain formulas, places and pictures keep apart, any size, any words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.segmentors import AggregationConfig, CostAggregationSegmentor
from infoclip_lite.segmentors.catseg.model import (
    SIZES,
    ClassAggregation,
    GuidedLinear,
    Up,
    WindowBlock,
    attend_in_windows,
    linear_attention,
)

MakeTiny = Callable[..., DenseCLIP]
SMALL = AggregationConfig(
    hidden=16,
    layers=1,
    heads=2,
    window=2,
    pooling=2,
    text_width=8,
    appearance_width=8,
    guidance_blocks=(0,),
    guidance_channels=(16,),
    guidance_width=(4,),
    decoder_channels=(16,),
    class_tokens=0,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lively(module: nn.Module, seed: int = 1) -> nn.Module:
    """No weight of the head is zero or one, so that one left out changes the result."""
    with torch.no_grad():
        for i, (name, parameter) in enumerate(module.named_parameters()):
            if not name.startswith("clip."):
                parameter.add_(0.1 * normal(*parameter.shape, seed=seed + i))
    return module.eval().requires_grad_(False)


def build(clip: DenseCLIP, **changes: object) -> CostAggregationSegmentor:
    torch.manual_seed(0)
    return lively(CostAggregationSegmentor(clip, size=replace(SMALL, **changes)))


@pytest.fixture(scope="module")
def segmentor(make_tiny: MakeTiny) -> CostAggregationSegmentor:
    return build(make_tiny())


@pytest.fixture(scope="module")
def text(tiny: DenseCLIP) -> Tensor:
    return tiny.encode_text(["cow", "grass", "lion", "sky", "drum", "apple"])


@pytest.mark.parametrize("size", [(32, 32), (48, 32), (16, 64), (33, 47), (9, 70), (5, 3)])
def test_logits_have_the_size_of_the_pictures(
    segmentor: CostAggregationSegmentor, text: Tensor, size: tuple[int, int]
) -> None:
    logits = segmentor(noise(2, 3, *size), text)
    assert logits.shape == (2, 6, *size) and logits.isfinite().all() and logits.std() > 0


@pytest.mark.parametrize("words", [1, 2, 5])
def test_any_number_of_words(segmentor: CostAggregationSegmentor, text: Tensor, words: int) -> None:
    assert segmentor(noise(1, 3, 32, 32), text[:words]).shape == (1, words, 32, 32)


@pytest.mark.parametrize("tokens", [0, 4, 9])
def test_the_order_of_the_words_does_not_matter(make_tiny: MakeTiny, text: Tensor, tokens: int) -> None:
    head, images, order = build(make_tiny(), class_tokens=tokens), noise(2, 3, 32, 32), [3, 0, 5, 1, 4, 2]
    logits = head(images, text)
    assert torch.allclose(head(images, text[order]), logits[:, order], atol=1e-5)
    assert not torch.allclose(logits, logits[:, order], atol=1e-2)


@pytest.mark.parametrize("tokens", [0, 4, 9])
def test_pictures_of_a_batch_do_not_mix(make_tiny: MakeTiny, text: Tensor, tokens: int) -> None:
    head, images = build(make_tiny(), class_tokens=tokens), noise(3, 3, 40, 32)
    alone = torch.cat([head(image[None], text) for image in images])
    assert torch.allclose(head(images, text), alone, atol=1e-5) and not torch.allclose(
        alone[0], alone[1], atol=1e-2
    )


def test_only_the_direction_of_the_text_counts(segmentor: CostAggregationSegmentor, text: Tensor) -> None:
    images = noise(1, 3, 32, 32)
    assert torch.allclose(segmentor(images, 3 * text), segmentor(images, text), atol=1e-5)


def test_the_cost_volume_is_the_cosine_of_patch_and_word(make_tiny: MakeTiny, text: Tensor) -> None:
    head, images = build(make_tiny()), noise(2, 3, 32, 32)
    seen: list[Tensor] = []
    head.aggregator.embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head(images, text)
    dense = head.clip.encode_dense(images, "cls_value")
    wanted = torch.einsum("bdhw,cd->bchw", dense, text)
    assert torch.allclose(seen[0].view(2, 6, 4, 4), wanted, atol=1e-5)


def test_guides_are_outputs_of_the_blocks_that_were_named(make_tiny: MakeTiny) -> None:
    clip = make_tiny(layers=4)
    two = {"guidance_channels": (16, 8), "guidance_width": (4, 4), "decoder_channels": (16, 16)}
    head, images = build(clip, guidance_blocks=(2, 0), **two), noise(1, 3, 40, 32)
    encoded = head.encode(images)
    first, second = encoded.more
    assert encoded.dense.shape == (1, 32, 5, 4)
    states = clip.hidden_states(images)  # the embedding, then the output of each block
    for guide, state, up in ((first, states[3], head.upsample[0]), (second, states[1], head.upsample[1])):
        assert torch.allclose(guide, up(state[:, 1:].mT.reshape(1, 48, 5, 4)), atol=1e-5)
    assert first.shape == (1, 16, 10, 8) and second.shape == (1, 8, 20, 16)
    assert head.decode(head.encode(images), clip.encode_text(["cow", "sky"])).shape == (1, 2, 20, 16)


def test_gradients_reach_every_weight_of_the_head_and_both_towers(make_tiny: MakeTiny) -> None:
    head = build(make_tiny(), class_tokens=4).requires_grad_(True)
    head(noise(2, 3, 32, 32), head.encode_text(["cow", "grass"])).square().mean().backward()
    without = {name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in without if not name.startswith("clip.")}
    assert (
        "clip.model.visual.conv1.weight" not in without and "clip.model.token_embedding.weight" not in without
    )


# Spatial aggregation.


def groups(length: int, side: int, shift: int) -> list[int]:
    """Which window each place belongs to, when windows start at `shift` - `side`, `shift`, ..."""
    return [(place - shift) // side for place in range(length)]


def geometry(height: int, width: int, window: int, shifted: bool) -> tuple[list[int], list[int]]:
    side = min(window, height, width)
    shift = side // 2 if shifted and min(height, width) > window else 0
    return groups(height, side, shift), groups(width, side, shift)


def window_block(window: int, shifted: bool) -> WindowBlock:
    torch.manual_seed(0)
    return lively(WindowBlock(replace(SMALL, window=window), shifted))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_window_attention_is_plain_attention_inside_each_window(
    height: int, width: int, window: int, shifted: bool
) -> None:
    block = window_block(window, shifted)
    x, appearance = normal(1, 2, height, width, 16), normal(1, 1, height, width, 8, seed=1)
    rows, columns = geometry(height, width, window, shifted)
    wanted = x.clone()
    for group in {(r, c) for r in rows for c in columns}:
        places = [(r, c) for r in range(height) for c in range(width) if (rows[r], columns[c]) == group]
        for word in range(2):
            y = torch.stack([block.norm_1(x[0, word, r, c]) for r, c in places])
            pair = torch.cat([y, torch.stack([appearance[0, 0, r, c] for r, c in places])], 1)
            q, k, v = (
                F.linear(pair, block.q.weight, block.q.bias),
                F.linear(pair, block.k.weight, block.k.bias),
                block.v(y),
            )
            heads = []
            for one in (slice(0, 8), slice(8, 16)):
                heads.append((q[:, one] @ k[:, one].T / 8**0.5).softmax(1) @ v[:, one])
            mixed = block.out(torch.cat(heads, 1))
            for i, (r, c) in enumerate(places):
                wanted[0, word, r, c] += mixed[i]
    wanted = wanted + block.mlp(block.norm_2(wanted))
    assert torch.allclose(block(x, appearance), wanted, atol=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "window"), [(6, 6, 3), (4, 8, 2), (5, 7, 3), (7, 5, 4), (3, 9, 4)]
)
def test_a_place_moves_its_own_window_and_nothing_else(
    height: int, width: int, window: int, shifted: bool
) -> None:
    """Neither what the shift brought together nor what was filled in lets a place through."""
    block, x, appearance = (
        window_block(window, shifted),
        normal(1, 1, height, width, 16),
        normal(1, 1, height, width, 8, seed=1),
    )
    rows, columns = geometry(height, width, window, shifted)
    before = block(x, appearance)
    for row, column in ((0, 0), (height - 1, width - 1), (0, width - 1), (height // 2, width // 2)):
        changed = x.clone()
        changed[0, 0, row, column] += 1.0 * normal(16, seed=5)
        moved = (block(changed, appearance) - before).abs().amax(-1)[0, 0] > 1e-6
        wanted = torch.tensor([[r == rows[row] and c == columns[column] for c in columns] for r in rows])
        assert torch.equal(moved, wanted), f"from {row}, {column}"


def test_attention_is_the_same_with_and_without_gradients() -> None:
    block, x, appearance = window_block(3, True), normal(1, 2, 5, 7, 16), normal(1, 1, 5, 7, 8)
    with torch.no_grad():
        fused = block(x, appearance)
    assert torch.allclose(block(x, appearance), fused, atol=1e-5)


def test_guided_linear_is_a_linear_layer_on_the_pair() -> None:
    torch.manual_seed(0)
    layer = GuidedLinear(6 + 3, 5)
    plain = nn.Linear(9, 5)
    plain.load_state_dict(layer.state_dict())
    x, guidance = normal(2, 4, 7, 6), normal(2, 1, 7, 3, seed=1)
    assert torch.allclose(
        layer(x, guidance), plain(torch.cat([x, guidance.expand(2, 4, 7, 3)], -1)), atol=1e-6
    )


@pytest.mark.parametrize("tokens", [6, 64])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_windows_is_its_formula_in_values_and_gradients(tokens: int, masked: bool) -> None:
    q, k, v = (normal(2, 3, 4, 2, tokens, 5, seed=seed).requires_grad_() for seed in range(3))
    mask = torch.where(normal(4, 1, tokens, tokens) > 0, 0.0, -100.0) if masked else None
    logits = q @ k.mT / 5**0.5
    wanted = (logits if mask is None else logits + mask).softmax(-1) @ v
    wanted = wanted.transpose(-2, -3).flatten(-2)
    got = attend_in_windows(q, k, v, mask)
    assert got.shape == (2, 3, 4, tokens, 10) and torch.allclose(got, wanted, atol=1e-5)
    weights = normal(*got.shape, seed=3)
    for one, other in zip(
        *(torch.autograd.grad((o * weights).sum(), (q, k, v)) for o in (got, wanted)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-4)


# Class aggregation.


def test_linear_attention_is_its_formula_with_all_pairs() -> None:
    q, k, v = (2 * normal(2, 5, 3, 4, seed=s) for s in range(3))
    got = linear_attention(q, k, v)
    assert got.shape == (2, 5, 3, 4)
    f = lambda x: torch.where(x > 0, x + 1, x.exp())  # noqa: E731
    for b in range(2):
        for head in range(3):
            weights = f(q[b, :, head]) @ f(k[b, :, head]).T
            wanted = weights / weights.sum(1, keepdim=True) @ v[b, :, head]
            assert torch.allclose(got[b, :, head], wanted, atol=1e-5)


def class_block(tokens: int) -> ClassAggregation:
    torch.manual_seed(0)
    return lively(ClassAggregation(replace(SMALL, class_tokens=tokens)))


def test_too_few_words_are_filled_up_with_the_learnt_token() -> None:
    filled, plain = class_block(6), class_block(0)
    plain.load_state_dict({k: v for k, v in filled.state_dict().items() if not k.startswith("filler")})
    x, words = normal(2, 4, 6, 4, 16), normal(1, 4, 8, seed=1)
    more = (
        torch.cat([x, filled.filler.expand(2, 2, 6, 4, 16)], 1),
        torch.cat([words, filled.filler_word.expand(1, 2, 8)], 1),
    )
    wanted = plain(*more)[:, :4]
    assert torch.allclose(filled(x, words), wanted, atol=1e-5)
    assert not torch.allclose(plain(x, words), wanted, atol=1e-3), "the learnt token takes part"


def test_the_learnt_token_learns_as_if_it_stood_there_many_times() -> None:
    filled, plain = class_block(6).requires_grad_(), class_block(0)
    plain.load_state_dict({k: v for k, v in filled.state_dict().items() if not k.startswith("filler")})
    x, words = normal(2, 4, 6, 4, 16), normal(1, 4, 8, seed=1)
    more = torch.cat([x, filled.filler.expand(2, 2, 6, 4, 16)], 1)
    guides = torch.cat([words, filled.filler_word.expand(1, 2, 8)], 1)
    learnt, weights = (filled.filler, filled.filler_word), normal(*x.shape, seed=2)
    wanted = torch.autograd.grad((plain(more, guides)[:, :4] * weights).sum(), learnt)
    for one, other in zip(
        torch.autograd.grad((filled(x, words) * weights).sum(), learnt), wanted, strict=True
    ):
        assert other.norm() > 0.1 and torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_class_aggregation_mixes_words_and_squares_of_patches_only() -> None:
    block, x, words = class_block(0), normal(1, 3, 4, 4, 16), normal(1, 3, 8, seed=1)
    before = block(x, words) - x
    swapped = x.clone()
    swapped[0, :, 0, 0], swapped[0, :, 1, 1] = x[0, :, 1, 1], x[0, :, 0, 0]  # two patches of one 2 x 2 square
    assert torch.allclose(block(swapped, words) - swapped, before, atol=1e-5)
    swapped[0, :, 0, 0], swapped[0, :, 3, 3] = x[0, :, 3, 3], x[0, :, 0, 0]
    assert not torch.allclose(block(swapped, words) - swapped, before, atol=1e-3)
    other = x.clone()
    other[0, 2] += normal(4, 4, 16, seed=3)
    assert not torch.allclose((block(other, words) - other)[0, 0], before[0, 0], atol=1e-3), (
        "words see each other"
    )


def test_of_too_many_words_those_no_patch_resembles_are_left_out(make_tiny: MakeTiny) -> None:
    head, images, text = (
        build(make_tiny(), class_tokens=3),
        noise(6, 3, 32, 32),
        F.normalize(normal(6, 32), dim=1),
    )
    best = torch.einsum("bdhw,cd->bchw", head.clip.encode_dense(images, "cls_value"), text).amax((2, 3))
    logits = head(images, text)
    chosen = set()
    for i, image in enumerate(images):
        kept = best[i].topk(3).indices.sort().values
        left_out = [c for c in range(6) if c not in kept.tolist()]
        assert torch.allclose(logits[i, left_out], torch.tensor(-100.0))
        assert torch.allclose(logits[i, kept], head(image[None], text[kept])[0], atol=1e-5), (
            "as if only those were asked for"
        )
        chosen.add(tuple(kept.tolist()))
    assert len(chosen) > 1, "each picture chooses for itself"


def test_as_many_words_as_tokens_are_neither_filled_up_nor_left_out(
    make_tiny: MakeTiny, text: Tensor
) -> None:
    images, exact, free = noise(1, 3, 32, 32), build(make_tiny(), class_tokens=6), build(make_tiny())
    free.load_state_dict({k: v for k, v in exact.state_dict().items() if "filler" not in k})
    assert torch.allclose(exact(images, text), free(images, text), atol=1e-5)


def test_guides_and_read_out_come_from_one_pass(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_tiny(layers=4)
    head, run, runs = build(clip, guidance_blocks=(1,)), clip.block, []
    monkeypatch.setattr(clip, "block", lambda block, tokens: (runs.append(block), run(block, tokens))[1])
    head(noise(1, 3, 32, 32), head.encode_text(["cow", "grass"]))
    assert runs == list(clip.blocks[:3]), "the read-out of the last block is none of its own"


# Upsampling.


def test_up_convolves_maps_and_guide_together() -> None:
    torch.manual_seed(0)
    up, x, guide = lively(Up(16, 32, 4)), normal(2 * 3, 16, 5, 4), normal(2, 4, 10, 8, seed=1)
    pair = torch.cat([up.up(x), guide.repeat_interleave(3, 0)], 1)
    y = F.relu(up.norm_1(F.conv2d(pair, up.conv_1.weight, padding=1)))
    wanted = F.relu(up.norm_2(F.conv2d(y, up.conv_2.weight, padding=1)))
    assert up(x, guide).shape == (6, 32, 10, 8) and torch.allclose(up(x, guide), wanted, atol=1e-5)


# Templates.


def test_several_templates_have_a_map_each(make_tiny: MakeTiny) -> None:
    torch.manual_seed(0)
    clip, templates = make_tiny(), ("a photo of a {}", "a {} in the scene")
    head = lively(CostAggregationSegmentor(clip, size=replace(SMALL, templates=2), templates=templates))
    images, text = noise(1, 3, 32, 32), head.encode_text(["cow", "grass", "sky"])
    assert text.shape == (3, 2, 32) and torch.allclose(
        text[:, 1], clip.encode_text(["cow", "grass", "sky"], templates[1:]), atol=1e-6
    )
    logits = head(images, text)
    assert logits.shape == (1, 3, 32, 32) and not torch.allclose(
        head(images, text.flip(1)), logits, atol=1e-3
    )
    head.aggregator.embed.weight.copy_(head.aggregator.embed.weight.flip(1))
    assert torch.allclose(head(images, text.flip(1)), logits, atol=1e-5)


def test_one_template_may_be_written_either_way(segmentor: CostAggregationSegmentor, text: Tensor) -> None:
    images = noise(1, 3, 32, 32)
    assert torch.equal(segmentor(images, text), segmentor(images, text[:, None]))


def test_words_are_put_in_the_heads_own_prompt(make_tiny: MakeTiny) -> None:
    clip = make_tiny()
    head = CostAggregationSegmentor(clip, size=SMALL, templates=("A photo of a {} in the scene",))
    assert torch.allclose(
        head.encode_text(["cow"]), clip.encode_prompts(["A photo of a cow in the scene"]), atol=1e-6
    )
    assert torch.allclose(head.encode_text(["cow"], ("the {}",)), clip.encode_prompts(["the cow"]), atol=1e-6)


# Sizes and errors.


def test_official_sizes_are_those_of_the_config_files() -> None:
    base, large = SIZES["vit_b"], SIZES["vit_l"]
    sizes = (
        base.hidden,
        base.layers,
        base.heads,
        base.window,
        base.pooling,
        base.text_width,
        base.appearance_width,
        base.class_tokens,
    )
    assert sizes == (128, 2, 4, 12, 2, 128, 128, 256)
    assert (base.guidance_channels, base.guidance_width, base.decoder_channels) == (
        (256, 128),
        (32, 16),
        (64, 32),
    )
    assert (base.guidance_blocks, large.guidance_blocks) == ((3, 7), (7, 15)) and large == replace(
        base, guidance_blocks=(7, 15)
    )


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"guidance_width": (4, 4)}, "lists of different lengths; expected one entry for each doubling"),
        ({"decoder_channels": ()}, "lists of different lengths"),
        ({"guidance_blocks": (1,)}, r"guidance_blocks are \(1,\); expected 0 .. 0: the image tower has 2"),
        ({"guidance_blocks": (-1,)}, "guidance_blocks"),
        ({"heads": 3}, "expected hidden a multiple of heads"),
        ({"decoder_channels": (24,)}, "decoder_channels multiples of 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny: DenseCLIP, changes: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        CostAggregationSegmentor(tiny, size=replace(SMALL, **changes))


def test_an_unknown_size_names_those_there_are(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match=r"^unknown size 'giant'; expected one of mini, vit_b, vit_l$"):
        CostAggregationSegmentor(tiny, size="giant")
    with pytest.raises(ValueError, match=r"^unknown size 'vit_bb'; did you mean 'vit_b'\?$"):
        CostAggregationSegmentor(tiny, size="vit_bb")


def test_a_head_for_a_deeper_tower_is_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match=r"guidance_blocks are \(3, 7\).*the image tower has 2"):
        CostAggregationSegmentor(tiny, size="vit_b")


def test_an_unknown_read_out_is_refused(tiny: DenseCLIP, text: Tensor) -> None:
    with pytest.raises(ValueError, match="unknown read-out 'xxx'; expected one of vanilla"):
        CostAggregationSegmentor(tiny, "xxx", SMALL)(noise(1, 3, 32, 32), text)


@pytest.mark.parametrize(
    "shape", [(3, 16), (3, 2, 32), (32,), (3, 1, 16)], ids=["width", "templates", "one vector", "both"]
)
def test_text_of_another_model_is_refused(segmentor: CostAggregationSegmentor, shape: tuple) -> None:
    with pytest.raises(
        ValueError, match=r"got text embeddings .*; expected \(C, 1, 32\) or \(C, 32\): the same CLIP"
    ):
        segmentor(noise(1, 3, 32, 32), torch.ones(shape))


def test_autocast_is_near(segmentor: CostAggregationSegmentor, text: Tensor) -> None:
    images = noise(1, 3, 32, 32)
    wanted = segmentor(images, text)
    with torch.autocast("cpu", torch.bfloat16):
        got = segmentor(images, text)
    assert torch.allclose(got.float(), wanted, atol=0.1 * wanted.std().item() + 0.05)


def test_read_outs_and_templates_are_checked_when_it_is_built(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="unknown read-out 'sclop'"):
        CostAggregationSegmentor(make_tiny(), "sclop", SMALL)
    with pytest.raises(ValueError, match="got 2 templates; expected 1"):
        CostAggregationSegmentor(make_tiny(), size=SMALL, templates=("a {}", "the {}"))


def test_class_aggregation_sees_the_last_row_of_an_odd_grid(make_tiny: MakeTiny) -> None:
    layer = lively(ClassAggregation(SMALL))
    x, words = normal(1, 3, 3, 3, 16), normal(1, 3, 8)
    changed = x.clone()
    changed[0, 1, 2, 2] += normal(16, seed=5)
    assert not torch.allclose(layer(x, words)[0, 0, 2, 2], layer(changed, words)[0, 0, 2, 2], atol=1e-6), (
        "another class hears of it"
    )
