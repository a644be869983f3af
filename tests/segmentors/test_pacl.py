"""PACL: an embedder beside a frozen CLIP, and a pooling that every sentence does anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from masks import pictures

from infoclip_lite import DenseCLIP
from infoclip_lite.segmentors import PACL
from infoclip_lite.segmentors.pacl import text_pooled_cosines

MakeTiny = Callable[..., DenseCLIP]
NAMES = ["cow", "grass", "sky"]


def pacl(clip: DenseCLIP) -> PACL:
    torch.manual_seed(0)
    return PACL(clip).eval()


def test_patches_are_a_linear_map_and_one_bent_one_of_what_ln_post_gives(tiny: DenseCLIP) -> None:
    segmentor = pacl(tiny)
    images = pictures(2, 3, 24, 32)
    with torch.no_grad():
        encoded = segmentor.encode(images)
        tokens = tiny.visual.ln_post(tiny.hidden_states(images)[-1])[:, 1:]
        w, (first, _, second) = segmentor.straight, segmentor.bent
        hidden = (tokens @ first.weight.T + first.bias).clamp(min=0)
        wanted = tokens @ w.weight.T + w.bias + hidden @ second.weight.T + second.bias
        assert torch.allclose(encoded.dense.flatten(2).mT, wanted, atol=1e-4)
        text = segmentor.encode_text(NAMES)
        logits = segmentor.decode(encoded, text)
        cosines = F.normalize(wanted, dim=-1) @ text.T
    assert logits.shape == (2, 3, 3, 4)
    assert torch.allclose(logits.flatten(2).mT, tiny.logit_scale * cosines, atol=1e-3)
    assert {name.split(".")[0] for name, p in segmentor.named_parameters() if p.requires_grad} == {
        "straight",
        "bent",
    }


@pytest.mark.parametrize("sharpness", [1.0, 7.0])
def test_every_pair_of_picture_and_sentence_has_its_own_pooling(sharpness: float) -> None:
    generator = torch.Generator().manual_seed(0)
    patches = 3 * torch.randn(2, 5, 4, generator=generator)
    text = F.normalize(torch.randn(3, 4, generator=generator), dim=-1)
    got = text_pooled_cosines(patches, text, sharpness)
    for b in range(2):
        for j in range(3):
            s = [float(e @ text[j] / e.norm()) for e in patches[b]]
            powers = [math.exp(sharpness * each) for each in s]
            v = sum(power / sum(powers) * e for power, e in zip(powers, patches[b], strict=True))
            assert float(got[b, j]) == pytest.approx(float(v @ text[j] / v.norm()), abs=1e-5)


def test_patches_of_no_length_give_no_nan() -> None:
    patches = torch.zeros(1, 2, 4, requires_grad=True)
    got = text_pooled_cosines(patches, F.normalize(torch.ones(1, 4), dim=-1))
    got.sum().backward()
    assert got.item() == 0 and patches.grad is not None and patches.grad.isfinite().all()


def test_wrong_options_and_words_say_what_was_expected(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="hidden is 0; expected 1 or more"):
        PACL(tiny, hidden=0)
    segmentor = pacl(tiny)
    with pytest.raises(ValueError, match=r"expected \(C, 32\)"):
        segmentor.decode(segmentor.encode(pictures(1, 3, 16, 16)), torch.zeros(2, 8))
