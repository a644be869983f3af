"""The linear start: a ViT that is the best linear map, with a CLS that is the mean of its patches."""

from __future__ import annotations

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.blocks import project_out, project_qkv
from infoclip_lite.clip.loading import build_clip
from infoclip_lite.clip.stem import MEAN, STD, StemFeatures, lite0_weights
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.training.contrast import local_loss
from infoclip_lite.training.linear_start import start_linearly
from infoclip_lite.training.pool import Pool, build_pool, pack_words, stem_examples

MODEL = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


def beginning() -> DenseCLIP:
    torch.manual_seed(0)
    model = build_clip(MODEL, {"directions": 24})
    model.visual.conv1.fill(lite0_weights())
    model.visual.conv1.standardise(stem_examples(32, 0, 20))
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    return DenseCLIP(model, tokenizer, mean=[MEAN] * 3, std=[STD] * 3, name="beginning").eval()


@pytest.fixture(scope="module")
def words() -> Tensor:
    return F.normalize(torch.randn(len(pack_words()), 48, generator=torch.Generator().manual_seed(1)), dim=1)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return build_pool(beginning().visual.conv1, tmp_path_factory.mktemp("pool"), 120, size=32)


@pytest.fixture(scope="module")
def started(pool: Pool, words: Tensor) -> DenseCLIP:
    clip = beginning()
    start_linearly(clip, pool, words)
    return clip


def embedded(clip: DenseCLIP, pool: Pool) -> Tensor:
    stem = clip.visual.conv1
    joined = stem.join(StemFeatures(*(pool.inputs[key].float() for key in ("middle", "deep"))))
    with torch.no_grad():
        tokens = clip.enter(stem.proj(joined))
        for block in clip.blocks:
            tokens = clip.block(block, tokens)
        return clip.project(tokens[:, 0])


def test_pictures_lie_near_the_words_that_they_show_before_any_step(
    started: DenseCLIP, pool: Pool, words: Tensor
) -> None:
    """And a random tower's do not: the margin is between words that are shown and words that are not."""

    def margin(clip: DenseCLIP) -> float:
        cosines = embedded(clip, pool) @ words.T
        return float(cosines[pool.present].mean() - cosines[~pool.present].mean())

    assert margin(started) > 0.15 > 0.05 > margin(beginning())


def test_steps_of_the_local_loss_bring_patches_nearer_to_their_words(
    started: DenseCLIP, pool: Pool, words: Tensor
) -> None:
    regressed = beginning()
    start_linearly(regressed, pool, words, steps=0)

    def loss(clip: DenseCLIP) -> float:
        stem = clip.visual.conv1
        joined = stem.join(StemFeatures(*(pool.inputs[key].float() for key in ("middle", "deep"))))
        with torch.no_grad():
            tower = TowerPass(clip.enter(stem.proj(joined)), (4, 4), clip.blocks)
            patches = F.normalize(clip.read(tower, "value"), dim=-1)
        shown = pool.present.any(0)
        return float(local_loss(patches, words[shown], pool.present[:, shown], torch.tensor(20.0))["total"])

    assert loss(started) < 0.9 * loss(regressed)


def test_blocks_before_the_last_leave_tokens_alone(started: DenseCLIP) -> None:
    tokens = torch.randn(2, 17, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(started.block(started.blocks[0], tokens), tokens)


def test_the_value_read_out_is_the_map_patch_by_patch(started: DenseCLIP) -> None:
    """What a patch says depends on that patch alone, up to the norms of its own token."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    tower = started.tower(images)
    found = started.read(tower, "value")
    tokens = started.blocks[-1].ln_1(tower.entering[:, 1:])
    wanted = F.layer_norm(tokens, (64,)) @ started.visual.proj
    torch.testing.assert_close(F.normalize(found, dim=-1), F.normalize(wanted, dim=-1), rtol=1e-3, atol=1e-3)


def test_cls_is_nearly_the_mean_of_its_patches(started: DenseCLIP) -> None:
    """Nearly: attention is not quite even, so that it has a gradient."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        tower = started.tower(images)
        values = project_out(tower.last, project_qkv(tower.last, tower.entering)[2])
        mean = started.project(values[:, 1:].mean(1))
        cosines = (started.encode_image(images) * mean).sum(1)
    assert 0.95 < cosines.min() < 0.99999
    started.encode_image(images)[:, 0].sum().backward()
    gradient = started.blocks[-1].attn.in_proj_weight.grad
    queries, keys, _ = gradient.chunk(3)
    started.zero_grad(set_to_none=True)
    assert queries.abs().max() > 0 and keys.abs().max() > 0


def test_cls_itself_says_nothing(started: DenseCLIP) -> None:
    assert (started.visual.class_embedding @ started.visual.proj).norm() < 1e-4


def test_the_same_twice(started: DenseCLIP, pool: Pool, words: Tensor) -> None:
    again = beginning()
    start_linearly(again, pool, words)
    for (name, one), other in zip(
        started.model.state_dict().items(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_a_tower_without_a_stem_and_a_rank_that_does_not_fit_are_refused(pool: Pool, words: Tensor) -> None:
    clip = beginning()
    with pytest.raises(ValueError, match="expected 1 .. 48"):
        start_linearly(clip, pool, words, rank=49)
    clip.model.visual.conv1 = torch.nn.Conv2d(3, 64, 8, 8)
    with pytest.raises(ValueError, match="has no stem"):
        start_linearly(clip, pool, words)
