"""CLIP-ES against its formulas with hooks and loops, and what it says of empty pictures and words."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.clip_es import (
    ClipES,
    attention_between,
    balanced_affinity,
    boxes,
    class_aware,
    mean_field,
    softmax_gradcam,
    words_around,
)
from infoclip_lite.clip.refinements.pamr import affinity
from infoclip_lite.core.labels import IGNORE

MakeTiny = Callable[..., DenseCLIP]
PICTURE = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0))
QUICK = ClipES(iterations=2, dilations=(1, 2))


@pytest.fixture(scope="module")
def clip(make_tiny: MakeTiny) -> DenseCLIP:
    return make_tiny(layers=5).requires_grad_(False)


@pytest.fixture(scope="module")
def text(clip: DenseCLIP) -> Tensor:
    return clip.encode_text(["cow", "grass", "sky", "sea", "land"])


def hooked_cams(clip: DenseCLIP, words: Tensor, around: Tensor) -> Tensor:
    """GradCAM with a hook on the last block's norm, as the authors' tool has it; one word after the other."""
    held: list[Tensor] = []

    def hold(_: object, __: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[-1]

    tokens, grid = clip.embed(PICTURE[None])
    for block in clip.blocks[:-1]:
        tokens = standard_block(block, tokens)
    hook = clip.blocks[-1].ln_1.register_forward_hook(hold)
    cams = []
    for word in range(len(words)):
        out = clip.visual.ln_post(standard_block(clip.blocks[-1], tokens))[0, 1:].mean(0) @ clip.visual.proj
        logits = clip.logit_scale * torch.cat([words, around]) @ (out / out.norm())
        (logits[word].exp() / logits.exp().sum()).backward()
        a, gradient = held[-1][0, 1:].detach(), held[-1].grad[0, 1:]
        weights = [float(gradient[:, channel].sum()) / len(a) for channel in range(a.shape[1])]
        cam = [max(0.0, sum(w * float(x) for w, x in zip(weights, patch, strict=True))) for patch in a]
        # A word that no patch speaks for has none.
        cams.append([(value - min(cam)) / ((max(cam) - min(cam)) or 1.0) for value in cam])
    hook.remove()
    return torch.tensor(cams).unflatten(1, grid)


def test_cams_are_those_of_a_hook_on_the_last_norm(clip: DenseCLIP, text: Tensor) -> None:
    got = softmax_gradcam(clip, clip.tower(PICTURE[None], keep=True), text[:4], text[4:])
    assert got.shape == (4, 3, 4) and not got.requires_grad and (got.amax((1, 2)) > 0.9).sum() >= 1
    assert torch.allclose(got, hooked_cams(clip, text[:4], text[4:]), atol=1e-3)
    assert all(parameter.grad is None for parameter in clip.parameters())


def test_the_background_competes_with_the_words(clip: DenseCLIP, text: Tensor) -> None:
    tower = clip.tower(PICTURE[None], keep=True)
    few, more = (softmax_gradcam(clip, tower, text[:4], around) for around in (text[:0], text[4:]))
    assert not torch.allclose(few, more, atol=1e-3)


def test_the_affinity_is_that_of_the_last_two_thirds_of_the_blocks(clip: DenseCLIP) -> None:
    tower = clip.tower(PICTURE[None], keep=True)
    got = attention_between(clip, tower)
    # Block 4 of twelve stands at 4 / 11, and so block 1 of five.
    mean = sum(tower.attention(index)[0].mean(0)[1:, 1:] for index in (1, 2, 3, 4)) / 4
    assert torch.allclose(got, mean)
    n = range(len(got))
    a = [[float(value) for value in row] for row in got]
    for _ in range(3):
        columns = [sum(a[i][j] for i in n) for j in n]
        a = [[a[i][j] / columns[j] for j in n] for i in n]
        a = [[value / sum(row) for value in row] for row in a]
    a = [[(a[i][j] + a[j][i]) / 2 for j in n] for i in n]
    squared = [[sum(a[i][k] * a[k][j] for k in n) for j in n] for i in n]
    assert torch.allclose(balanced_affinity(got), torch.tensor(squared), atol=1e-6)


def test_a_map_is_spread_from_within_the_boxes_of_its_own_word() -> None:
    generator = torch.Generator().manual_seed(0)
    cams, near = torch.rand(2, 3, 4, generator=generator), torch.rand(12, 12, generator=generator)
    cams[0, :, 2:] = 0.1
    got = class_aware(cams, near, 0.4)
    for cam, spread in zip(cams, got, strict=True):
        inside, flat = boxes(cam > 0.4).flatten(), cam.flatten()
        rows = [sum(float(near[i, j] * inside[j] * flat[j]) for j in range(12)) for i in range(12)]
        wanted = torch.tensor([(r - min(rows)) / (max(rows) - min(rows)) for r in rows])
        assert torch.allclose(spread.flatten(), wanted, atol=1e-5)


def test_every_connected_part_has_its_box_and_touching_corners_connect() -> None:
    inside = torch.tensor(
        [
            [1, 0, 0, 0, 0, 1],
            [0, 1, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 1, 1],
        ]
    ).bool()
    wanted = inside.float()
    wanted[0, 1] = wanted[1, 0] = 1
    assert torch.equal(boxes(inside), wanted)
    assert boxes(torch.zeros(2, 3).bool()).sum() == 0


def test_mean_field_against_loops_over_pixels() -> None:
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1))
    chances = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(2)).softmax(0)
    weights = affinity(image[None], (1,))[0]
    steps = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if (d, r) != (0, 0)]
    field = chances.clone()
    for _ in range(2):
        new = torch.zeros_like(field)
        for row in range(4):
            for column in range(5):
                powers = []
                for c in range(3):
                    heard = sum(
                        float(weights[k, row, column])
                        * float(field[c, min(max(row + d, 0), 3), min(max(column + r, 0), 4)])
                        for k, (d, r) in enumerate(steps)
                    )
                    powers.append(float(chances[c, row, column]) * math.exp(7 * heard))
                new[:, row, column] = torch.tensor([power / sum(powers) for power in powers])
        field = new
    got = mean_field(chances, image, ClipES(iterations=2, dilations=(1,)))
    assert torch.allclose(got, field, atol=1e-5)
    still = mean_field(chances, image, ClipES(weight=0.0, dilations=(1,)))
    assert torch.allclose(still, chances, atol=1e-6)


def test_the_background_is_what_no_word_claims_and_what_is_not_sure_does_not_count(
    clip: DenseCLIP, text: Tensor
) -> None:
    maps = ClipES(weight=0.0).maps(clip, PICTURE, text[:2], text[2:])
    large = F.interpolate(maps.spread[None], (24, 32), mode="bilinear")[0]
    every = torch.cat([large, 1 - large.amax(0, keepdim=True)])
    chances = every / every.sum(0)
    assert torch.allclose(maps.chances, chances, atol=1e-5)
    sure = float(maps.chances.max(0).values.median())
    labels = maps.labels(sure)
    unsure = maps.chances.max(0).values < sure
    assert 0 < unsure.sum() < unsure.numel()
    assert (labels[unsure] == IGNORE).all()
    assert torch.equal(labels[~unsure], chances.argmax(0)[~unsure])


@pytest.mark.parametrize("near", ["attention", "dense"])
def test_a_picture_of_no_word_is_background(clip: DenseCLIP, text: Tensor, near: str) -> None:
    settings = ClipES(near=near, iterations=2, dilations=(1, 2))  # type: ignore[arg-type]
    assert (settings.labels(clip, PICTURE, text[:0], text[2:]) == 0).all()
    one = settings.labels(clip, PICTURE, text[:1], text[2:])
    assert one.shape == (24, 32) and set(one.unique().tolist()) <= {0, 1, IGNORE}


def test_a_word_that_no_patch_speaks_for_has_no_pixels() -> None:
    assert class_aware(torch.zeros(1, 3, 4), torch.rand(12, 12), 0.4).abs().sum() == 0


def test_background_words_may_be_none(clip: DenseCLIP, text: Tensor) -> None:
    labels = QUICK.labels(clip, PICTURE, text[:2], text[:0])
    assert labels.shape == (24, 32)


def test_background_words_are_no_class_however_it_is_written() -> None:
    assert words_around(["Sky|heaven", "road, street"], ("sky", "street", "sea")) == ["sea"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": "atention"}, "did you mean 'attention'"),
        ({"box": 1.5}, "box is 1.5; expected 0"),
        ({"sure": -0.1}, "sure is -0.1; expected 0"),
        ({"weight": -1.0}, "weight is -1.0; expected 0 or more"),
        ({"iterations": 0}, "iterations is 0; expected 1 or more"),
        ({"dilations": ()}, "got no dilations"),
    ],
)
def test_wrong_settings_say_what_was_expected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipES(**options)
