"""Contrastive pretraining: CLIP's loss, true matches, captions alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.training.loop import fit
from infoclip_lite.training.pretraining import (
    CaptionedScenes,
    Pretraining,
    Stage,
    caption_tokens,
    caption_words,
    contrastive_loss,
)

STAGE = Stage(steps=3, size=32, keep=1.0, objects=(1, 3), scale=(0.3, 0.8), close_ups=0.3)
seeds = st.integers(0, 10_000)


def unit(seed: int, count: int = 6, width: int = 8) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


@given(seeds, st.floats(1, 100))
def test_loss_equals_clips_own_when_each_caption_fits_one_image(seed: int, scale: float) -> None:
    image, text, temperature = unit(seed), unit(seed + 1), torch.tensor(scale)
    ours = contrastive_loss(image, text, torch.eye(6, dtype=torch.bool), temperature)
    assert torch.allclose(ours, ClipLoss()(image, text, temperature), rtol=1e-4, atol=1e-5)


@given(seeds)
def test_order_of_a_batch_does_not_matter(seed: int) -> None:
    image, text, scale = unit(seed), unit(seed + 1), torch.tensor(10.0)
    matches = torch.eye(6, dtype=torch.bool) | (
        torch.rand(6, 6, generator=torch.Generator().manual_seed(seed)) < 0.2
    )
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed + 2))
    shuffled = contrastive_loss(image[order], text[order], matches[order][:, order], scale)
    assert torch.allclose(shuffled, contrastive_loss(image, text, matches, scale), atol=1e-5)


def test_several_true_captions_share_the_target() -> None:
    """Two equal images with two equal captions: the best they can do is one bit of doubt, and that is no
    error.
    """
    same = unit(0, 1).expand(2, -1)
    both = torch.ones(2, 2, dtype=torch.bool)
    assert contrastive_loss(same, same, both, torch.tensor(50.0)).item() == pytest.approx(
        torch.tensor(2.0).log().item()
    )
    spread = same.clone().requires_grad_(True)
    contrastive_loss(spread, same, both, torch.tensor(50.0)).backward()
    assert spread.grad.abs().max() < 1e-5, "true captions must not be pushed away"
    spread.grad = None
    contrastive_loss(
        spread,
        F.normalize(same + 0.1 * unit(1, 2), dim=1),
        torch.eye(2, dtype=torch.bool),
        torch.tensor(50.0),
    ).backward()
    assert spread.grad.abs().max() > 1e-3


def test_each_image_and_each_caption_weighs_the_same_however_many_matches_it_has() -> None:
    image, text, scale = unit(5, 3), unit(6, 3), torch.tensor(10.0)
    matches = torch.tensor([[True, True, True], [False, True, False], [False, False, True]])
    logits = scale * image @ text.T
    by_image = [-logits[i].log_softmax(0)[matches[i]].mean() for i in range(3)]
    by_text = [-logits[:, j].log_softmax(0)[matches[:, j]].mean() for j in range(3)]
    wanted = (torch.stack(by_image).mean() + torch.stack(by_text).mean()) / 2
    assert torch.allclose(contrastive_loss(image, text, matches, scale), wanted, atol=1e-5)


def test_right_pairs_lower_the_loss() -> None:
    text, matches, scale = unit(3), torch.eye(6, dtype=torch.bool), torch.tensor(20.0)
    assert contrastive_loss(text, text, matches, scale) < contrastive_loss(
        text.roll(1, 0), text, matches, scale
    )


def words(hot: Tensor) -> set[str]:
    return {caption_words()[i] for i in hot.nonzero().flatten().tolist()}


def test_captions_are_true_of_their_scene_and_name_what_they_say() -> None:
    scenes = CaptionedScenes(STAGE, seed=3)
    partial = 0
    for index in range(60):
        canvas, present, named, caption = scenes[index]
        assert canvas.shape == (32, 32, 3) and canvas.dtype == torch.uint8
        assert named.any() and words(named) <= words(present)
        assert all(word in caption for word in words(named))
        partial += words(named) < words(present)
    assert 10 < partial < 50, "about half of the captions name a part only"


def test_captioned_scenes_depend_on_seed_and_index_alone() -> None:
    for index in (0, 5, 7):
        first, second, other = (CaptionedScenes(STAGE, seed=seed)[index] for seed in (3, 3, 4))
        assert torch.equal(first[0], second[0]) and first[3] == second[3]
        assert not torch.equal(first[0], other[0])


def test_words_outside_the_vocabulary_are_learnt_too() -> None:
    from infoclip_lite.datasets import Collage

    scenes = CaptionedScenes(STAGE, seed=0)
    seen = set().union(*(words(scenes[i][1]) for i in range(300)))
    assert seen & set(Collage("train").names) and seen - set(Collage("train").names)


def test_every_caption_is_made_of_known_tokens() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    known = caption_tokens(tokenizer)
    assert torch.equal(known, known.unique()) and len(known) < 1000
    scenes = CaptionedScenes(STAGE, seed=11)
    ids = tokenizer([scenes[i][3] for i in range(200)])
    assert torch.isin(ids, known).all()
    assert (ids[:, -1] == 0).all(), "no caption is cut off by the context"


def small(make_tiny: Callable[..., DenseCLIP], stages: list[Stage], batch: int = 4) -> Pretraining:
    return Pretraining(
        make_tiny(), stages, batch=batch, lr=1e-3, weight_decay=0.1, seed=0, dtype=torch.float32
    )


def test_stages_follow_each_other_and_batches_depend_on_the_step_alone(
    make_tiny: Callable[..., DenseCLIP],
) -> None:
    stages = [Stage(2, 16, 0.5, (1, 2), (0.5, 1.0)), Stage(3, 32, 1.0, (1, 3), (0.3, 0.8))]
    task = small(make_tiny, stages)
    every = list(task.batches(0, 5))
    assert task.steps == 5 and [b[0] for b in every] == [stages[0]] * 2 + [stages[1]] * 3
    assert [tuple(b[1].shape) for b in every] == [(4, 16, 16, 3)] * 2 + [(4, 32, 32, 3)] * 3
    late = list(islice(task.batches(3, 5), 2))
    for a, b in zip(late, every[3:], strict=True):
        assert torch.equal(a[1], b[1]) and list(a[4]) == list(b[4])
    assert len({b[1].float().mean().item() for b in every[2:]}) == 3


def test_a_caption_matches_every_image_that_shows_all_it_names(
    make_tiny: Callable[..., DenseCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    from infoclip_lite.training import pretraining

    seen: list[Tensor] = []

    def watched(image: Tensor, text: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
        seen.append(matches)
        return contrastive_loss(image, text, matches, scale)

    monkeypatch.setattr(pretraining, "contrastive_loss", watched)
    task = small(make_tiny, [STAGE], batch=12)
    batch = next(iter(task.batches(0, 1)))
    task.loss(0, batch)
    wanted = [[words(named) <= words(present) for named in batch[3]] for present in batch[2]]
    assert torch.equal(seen[0], torch.tensor(wanted)) and seen[0].diagonal().all()


def test_gradients_reach_the_float32_weights_from_a_half_precision_pass(
    make_tiny: Callable[..., DenseCLIP],
) -> None:
    full, half = small(make_tiny, [STAGE]), small(make_tiny, [STAGE])
    half.dtype = torch.bfloat16
    batch = next(iter(full.batches(0, 1)))
    gradients = []
    for task in (full, half):
        task.loss(0, batch)["total"].backward()
        weight = task.module.visual.conv1.weight
        assert weight.dtype == weight.grad.dtype == torch.float32
        gradients.append(weight.grad.flatten())
    assert F.cosine_similarity(*gradients, dim=0) > 0.95


def test_loss_is_the_same_twice_and_depends_on_the_step(make_tiny: Callable[..., DenseCLIP]) -> None:
    task = small(make_tiny, [Stage(3, 32, 0.5, (1, 3), (0.3, 0.8))])
    batch = next(iter(task.batches(0, 1)))
    first, again, other = (task.loss(step, batch)["total"] for step in (0, 0, 1))
    assert first == again and first != other, "the patches that are kept are drawn anew each step"


def test_weight_decay_spares_embeddings_gains_and_biases(make_tiny: Callable[..., DenseCLIP]) -> None:
    task = small(make_tiny, [STAGE])
    matrices, others = task.groups()
    assert matrices["weight_decay"] == 0.1 and others["weight_decay"] == 0
    names = {id(p): n for n, p in task.module.named_parameters()}
    plain = {names[id(p)] for p in others["params"]}
    assert {
        "token_embedding.weight",
        "positional_embedding",
        "visual.class_embedding",
        "visual.ln_post.weight",
        "logit_scale",
    } <= plain
    assert "visual.proj" not in plain and len(matrices["params"]) + len(plain) == len(names)


def test_a_few_steps_lower_the_loss(make_tiny: Callable[..., DenseCLIP]) -> None:
    task = small(make_tiny, [Stage(12, 32, 1.0, (1, 1), (0.7, 0.9))], batch=12)
    log = fit(task, steps=12, warmup=2)
    assert sum(r["total"] for r in log[-4:]) < sum(r["total"] for r in log[:4])
    assert log[0]["scale"] == pytest.approx(1 / 0.07, rel=1e-3)
