"""Distillation of the text tower: the loss, the sentences, and that a tiny tower learns."""

from __future__ import annotations

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from infoclip_lite.training.distil_text import (
    Teacher,
    distil_text,
    distilled_tokens,
    encode_briefly,
    random_sentences,
    text_distillation_loss,
)

WORDS = ("cow", "ox", "grass", "teapot", "ice cream")
TOKENIZER = open_clip.SimpleTokenizer(context_length=16)


def unit(count: int, width: int = 16, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(WORDS, unit(len(WORDS)), ("cow", "grass"))


@pytest.fixture
def model() -> CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    return CLIP(16, vision, text)


def test_loss_is_zero_where_the_teacher_is_and_larger_elsewhere() -> None:
    right = text_distillation_loss(unit(6), unit(6))
    wrong = text_distillation_loss(unit(6, seed=1), unit(6))
    assert right["total"].abs() < 1e-5
    assert wrong["cosine"] > 0.5 and wrong["relation"] > 0.01


def test_relation_does_not_see_that_the_space_is_turned() -> None:
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2))).Q
    loss = text_distillation_loss(unit(6) @ turn, unit(6))
    assert loss["cosine"] > 0.3
    assert loss["relation"].abs() < 1e-5


def test_weight_of_the_relation_is_that_of_the_total() -> None:
    loss = text_distillation_loss(unit(6, seed=1), unit(6), relation=0.5)
    assert torch.isclose(loss["total"], loss["cosine"] + 0.5 * loss["relation"])


def test_texts_and_targets_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected two \(B, D\)"):
        text_distillation_loss(unit(6), unit(5))


def test_brief_encoding_equals_that_of_open_clip(model: CLIP) -> None:
    ids = TOKENIZER(["a photo of a cow", "a teapot", "a collage of an ice cream with grass"])
    wanted = model.encode_text(ids, normalize=True)
    for parts in (1, 2, 3):
        assert torch.allclose(encode_briefly(model, ids, parts=parts), wanted, atol=1e-5)


def test_every_sentence_names_its_words_and_a_seed_repeats_it(teacher: Teacher) -> None:
    texts, named = random_sentences(teacher, 40, seed=3, lists=0.5)
    assert all(word in text for text, words in zip(texts, named, strict=True) for word in words)
    assert {len(words) for words in named} == {1, 2, 3, 4}
    assert (texts, named) == random_sentences(teacher, 40, seed=3, lists=0.5)
    assert texts != random_sentences(teacher, 40, seed=4, lists=0.5)[0]


def test_tokens_of_every_sentence_are_among_those_distilled(teacher: Teacher) -> None:
    texts, _ = random_sentences(teacher, 200, seed=5, lists=0.5)
    known = distilled_tokens(TOKENIZER, teacher)
    assert torch.isin(TOKENIZER(texts), known).all()


def test_target_of_a_list_lies_between_those_of_its_words(teacher: Teacher) -> None:
    both = teacher.of([["cow", "grass"]])
    alone = teacher.of([["cow"], ["grass"]])
    assert torch.allclose(both @ alone[0], both @ alone[1], atol=1e-6)
    with pytest.raises(ValueError, match="'yak'"):
        teacher.of([["yak"]])


def test_a_tower_learns_the_words_and_leaves_the_rest_of_the_model_alone(
    model: CLIP, teacher: Teacher
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.token_embedding.weight.requires_grad_(False)
    distil_text(model, TOKENIZER, teacher, steps=40, batch=16)
    ids = TOKENIZER([f"a photo of a {word}" for word in WORDS])
    nearest = (encode_briefly(model, ids) @ teacher.targets.T).argmax(1)
    assert nearest.tolist() == list(range(len(WORDS)))
    after = model.state_dict()
    others = [name for name in before if name.startswith(("visual.", "logit_scale"))]
    assert others and all(torch.equal(before[name], after[name]) for name in others)
    unread = torch.ones(49408, dtype=torch.bool)
    unread[distilled_tokens(TOKENIZER, teacher)] = False
    rows = "token_embedding.weight"
    assert torch.equal(before[rows][unread], after[rows][unread])
    assert not model.token_embedding.weight.requires_grad
    assert model.positional_embedding.requires_grad


def test_one_seed_gives_one_tower(teacher: Teacher) -> None:
    towers = []
    for _ in range(2):
        torch.manual_seed(0)
        vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
        tower = CLIP(16, vision, {"context_length": 16, "width": 32, "heads": 2, "layers": 1})
        distil_text(tower, TOKENIZER, teacher, steps=3, seed=1, batch=8)
        towers.append(tower.text_projection)
    assert torch.equal(*towers)


def test_a_teacher_of_other_dimensions_is_refused(model: CLIP) -> None:
    with pytest.raises(ValueError, match="expected 16"):
        distil_text(model, TOKENIZER, Teacher(WORDS, unit(5, 8), ()), steps=1)
