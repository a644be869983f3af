"""The zero-shot segmentor: read-outs that look at words are told them, in the same pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.clip import readouts
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts import READ_OUTS, WORD_LOGITS
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.segmentors import ZeroShotSegmentor

LAYERS = 4


@pytest.fixture(scope="module")
def deep(make_tiny: Callable[..., DenseCLIP]) -> DenseCLIP:
    return make_tiny(layers=LAYERS).requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def text(deep: DenseCLIP) -> Tensor:
    return deep.encode_text(["cow", "grass", "sky"])


def logits(clip: DenseCLIP, images: Tensor, text: Tensor, *names: str) -> Tensor:
    segmentor = ZeroShotSegmentor(clip, names)
    return segmentor.decode(segmentor.encode(images), text)


def test_every_read_out_that_looks_at_words_is_a_read_out() -> None:
    assert list(WORD_LOGITS) == ["cliper", "resclip"] and set(WORD_LOGITS) <= set(READ_OUTS)


@pytest.mark.parametrize("name", READ_OUTS)
def test_logits_are_scaled_cosines_or_what_the_read_out_makes_of_words(
    name: str, deep: DenseCLIP, images: Tensor, text: Tensor
) -> None:
    got = logits(deep, images, text, name)
    assert got.shape == (2, 3, 3, 5)
    scale = deep.logit_scale
    if name in WORD_LOGITS:
        wanted = WORD_LOGITS[name](deep.tower(images, text), scale)
    else:
        wanted = scale * deep.encode_dense(images, name).flatten(2).mT @ text.T
    assert torch.allclose(got.flatten(2).mT, wanted, atol=1e-4)


@pytest.mark.parametrize("name", WORD_LOGITS)
def test_words_change_the_answer(name: str, deep: DenseCLIP, images: Tensor, text: Tensor) -> None:
    cosines = deep.logit_scale * deep.encode_dense(images, name).flatten(2).mT @ text.T
    assert (logits(deep, images, text, name).flatten(2).mT - cosines).abs().max() > 1e-2


def test_a_blend_is_the_mean_of_both(deep: DenseCLIP, images: Tensor, text: Tensor) -> None:
    each = [logits(deep, images, text, name) for name in ("resclip", "value", "cliper")]
    got = logits(deep, images, text, "resclip", "value", "cliper")
    assert torch.allclose(got, torch.stack(each).mean(0), atol=1e-4)


@pytest.mark.parametrize("names", [("value",), ("resclip",), ("cliper",), ("value", "resclip", "cliper")])
def test_blocks_are_run_once_whoever_looks(
    names: tuple[str, ...],
    deep: DenseCLIP,
    images: Tensor,
    text: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: Counter[int] = Counter()

    def watched(block: nn.Module, tokens: Tensor) -> Tensor:
        runs[id(block)] += 1
        return standard_block(block, tokens)

    monkeypatch.setattr(deep, "block", watched)
    logits(deep, images, text, *names)
    assert sorted(runs.values()) == [1] * (LAYERS - 1)


def test_the_pass_is_kept_for_those_that_look_at_words_alone(deep: DenseCLIP, images: Tensor) -> None:
    assert ZeroShotSegmentor(deep, ("value", "gem")).encode(images).tower is None
    encoded = ZeroShotSegmentor(deep, ("value", "resclip")).encode(images)
    assert encoded.tower is not None and encoded.tower.words is None
    # What an objective looks at knows no words.
    assert torch.allclose(encoded.more[0], deep.encode_dense(images, "resclip"), atol=1e-6)


def test_a_read_out_of_ones_own_may_look_at_words(
    deep: DenseCLIP, images: Tensor, text: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def own(tower: TowerPass, scale: Tensor) -> Tensor:
        return scale * tower.cosines(READ_OUTS["value"](tower)).square()

    monkeypatch.setitem(readouts.READ_OUTS, "squared", READ_OUTS["value"])
    monkeypatch.setitem(readouts.WORD_LOGITS, "squared", own)
    wanted = logits(deep, images, text, "value").square() / deep.logit_scale
    assert torch.allclose(logits(deep, images, text, "squared"), wanted, atol=1e-4)
