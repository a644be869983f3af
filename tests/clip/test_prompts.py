"""Learnt prompts: the sentence they stand for, a gradient to the vectors alone, and what has no room."""

from __future__ import annotations

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.prompts import LearnedPrompt


def test_vectors_that_are_a_sentences_own_give_that_sentence(tiny: DenseCLIP) -> None:
    prompt = LearnedPrompt(tiny, 4, ".")
    ids = tiny.tokenize(["a photo of a cow."])[0]
    with torch.no_grad():
        prompt.vectors.copy_(tiny.model.token_embedding.weight[ids[1:5]])
        got = prompt(tiny, ["cow", "dining table"])
    expected = tiny.encode_prompts(["a photo of a cow.", "a photo of a dining table."])
    assert torch.allclose(got, expected, atol=1e-6), "names of unequal length in one call"


def test_only_the_vectors_learn(tiny: DenseCLIP) -> None:
    prompt = LearnedPrompt(tiny, 2)
    assert [name for name, _ in prompt.named_parameters()] == ["vectors"]
    prompt(tiny, ["cow", "sky"])[:, 0].sum().backward()
    assert prompt.vectors.grad is not None and (prompt.vectors.grad != 0).any(1).all()
    assert all(p.grad is None for p in tiny.parameters())


def test_what_has_no_room_is_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match=r"a prompt of 30 vectors; expected 1 \.\. 29"):
        LearnedPrompt(tiny, 30)
    with pytest.raises(ValueError, match="expected a shorter prompt or shorter names"):
        LearnedPrompt(tiny, 29)(tiny, ["dining table"])
    with pytest.raises(ValueError, match="got no sentences"):
        LearnedPrompt(tiny, 2)(tiny, [])


def test_another_text_tower_is_refused(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny.model, "text_pool_type", "eos")
    with pytest.raises(ValueError, match="another text tower than CLIP's; expected one that ends"):
        LearnedPrompt(tiny, 2)
