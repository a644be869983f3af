"""Contrastive pretraining: CLIP's loss, true matches, captions alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.loss import ClipLoss
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.loading import build_clip
from infoclip_lite.clip.stem import MEAN, STD, lite0_weights
from infoclip_lite.training import pretraining
from infoclip_lite.training.class_teacher import ClassTeacher
from infoclip_lite.training.contrast import contrastive_loss, local_loss
from infoclip_lite.training.distil_text import Teacher
from infoclip_lite.training.loop import fit
from infoclip_lite.training.pool import CaptionedScenes, Pool, build_pool, pack_words, stem_examples
from infoclip_lite.training.pretraining import (
    LOCAL,
    Captions,
    Pretraining,
    Stage,
    TextSection,
    WordTeacher,
    caption_tokens,
    distilled,
    known_tokens,
)

STAGE = Stage(steps=3, keep=1.0)
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


def local_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Four pictures of five patches, six words of which each picture shows two."""
    patches = unit(seed, 20).unflatten(0, (4, 5))
    shown = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1], [1, 0, 0, 0, 0, 1]])
    return patches, unit(seed + 1), shown.bool()


@given(seeds, st.floats(1, 50))
def test_local_loss_is_the_sum_over_patches_and_words_written_out(seed: int, scale: float) -> None:
    patches, text, shown = local_case(seed)
    losses = local_loss(patches, text, shown, torch.tensor(scale))
    explained, pooled = [], torch.zeros(4, 6)
    for i in range(4):
        for patch in patches[i]:
            chances = (scale * text @ patch).softmax(0)
            explained.append(-chances[shown[i]].sum().log())
        for j in range(6):
            fits = scale * patches[i] @ text[j]
            pooled[i, j] = (fits.softmax(0) * fits).sum()
    by_picture = [-pooled[i].log_softmax(0)[shown[i]].mean() for i in range(4)]
    by_word = [-pooled[:, j].log_softmax(0)[shown[:, j]].mean() for j in range(6)]
    found = (torch.stack(by_picture).mean() + torch.stack(by_word).mean()) / 2
    assert torch.allclose(losses["explained"], torch.stack(explained).mean(), atol=1e-4)
    assert torch.allclose(losses["found"], found, rtol=1e-4, atol=1e-4)
    assert torch.allclose(losses["total"], losses["explained"] + losses["found"])


@given(seeds)
def test_where_a_word_is_makes_no_difference_to_the_local_loss(seed: int) -> None:
    patches, text, shown = local_case(seed)
    scale, order = torch.tensor(10.0), torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    moved, still = (local_loss(each, text, shown, scale)["total"] for each in (patches[:, order], patches))
    assert torch.allclose(moved, still, atol=1e-5)


def test_patches_that_show_their_pictures_words_have_nearly_no_local_loss() -> None:
    _, text, shown = local_case(0)
    right = torch.stack([text[row.nonzero().flatten().tolist() * 3][:5] for row in shown])
    scale = torch.tensor(100.0)
    losses = local_loss(right, text, shown, scale)
    assert losses["explained"] < 1e-3
    wrong = local_loss(right.roll(1, 0), text, shown, scale)
    assert wrong["explained"] > 1 and wrong["found"] > losses["found"] + 1
    one = right.clone()
    one[0] = text[0]  # its second word is nowhere to be found
    lost = local_loss(one, text, shown, scale)
    assert lost["explained"] < 1e-3 and lost["found"] > losses["found"] + 1


def words(hot: Tensor) -> set[str]:
    return {pack_words()[i] for i in hot.nonzero().flatten().tolist()}


def visible() -> Tensor:
    """Three words in each of 60 scenes."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(60, len(pack_words()), generator=generator).argsort(1)[:, :3]
    return torch.zeros(60, len(pack_words())).scatter(1, chosen, 1).bool()


def test_captions_are_true_of_their_scene_and_name_what_they_say() -> None:
    present = visible()
    captions, named = Captions(present, seed=3).about(0, range(60))
    shown = [words(row) for row in present]
    assert all(words(row) and words(row) <= scene for row, scene in zip(named[:60], shown, strict=True))
    assert [words(row) for row in named[60:]] == [{word} for word in sorted(set().union(*shown))]
    assert all(word in caption for caption, row in zip(captions, named, strict=True) for word in words(row))
    partial = sum(words(row) < scene for row, scene in zip(named[:60], shown, strict=False))
    assert 10 < partial < 50, "about half of the captions name a part only"


def test_captions_of_a_step_are_the_same_twice_and_others_at_another_step() -> None:
    first, again, later = (Captions(visible(), seed=3).about(step, range(60))[0] for step in (4, 4, 5))
    assert first == again != later


def test_every_caption_is_made_of_known_tokens() -> None:
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    known = caption_tokens(tokenizer)
    assert torch.equal(known, known.unique()) and len(known) < 2000
    ids = tokenizer(Captions(visible(), seed=11).about(0, range(60))[0])
    assert torch.isin(ids, known).all()
    assert (ids[:, -1] == 0).all(), "no caption is cut off by the context"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return build_pool(None, tmp_path_factory.mktemp("pool"), 48, size=32)


MakeSmall = Callable[..., Pretraining]


@pytest.fixture
def small(make_tiny: Callable[..., DenseCLIP], pool: Pool) -> MakeSmall:
    def make(stages: list[Stage], batch: int = 4) -> Pretraining:
        options = {"local": 0.5, "lr": 1e-3, "weight_decay": 0.1, "seed": 0, "dtype": torch.float32}
        return Pretraining(make_tiny(), pool, stages, batch=batch, **options)

    return make


def test_local_loss_is_of_its_read_out_and_of_words_alone(
    small: MakeSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def watched(patches: Tensor, text: Tensor, shown: Tensor, scale: Tensor) -> dict[str, Tensor]:
        seen.append((patches, text, shown))
        return local_loss(patches, text, shown, scale)

    monkeypatch.setattr(pretraining, "local_loss", watched)
    task, without = small([STAGE], batch=12), small([STAGE], batch=12)
    without.local = 0.0
    batch = next(iter(task.batches(0, 1)))
    losses, plain = task.loss(0, batch), without.loss(0, batch)
    inputs, present, named, sentences = batch
    patches, text, shown = seen[0]
    wanted = task.clip.encode_dense(inputs["pixels"].float() / 255, LOCAL).flatten(2).mT
    assert len(seen) == 1 and torch.allclose(patches, wanted, atol=1e-4)
    assert torch.allclose(text, task.clip.encode_prompts(sentences[12:]), atol=1e-4)
    assert torch.equal(shown, present.bool()[:, named[12:].argmax(1)])
    parts = losses["explained"] + losses["found"]
    assert torch.allclose(losses["total"], plain["total"] + 0.5 * parts, rtol=1e-4)


def test_stages_follow_each_other(small: MakeSmall) -> None:
    task = small([Stage(2, 0.5), Stage(3, 1.0)])
    assert task.steps == 5 and [task._keep(step) for step in range(5)] == [0.5, 0.5, 1.0, 1.0, 1.0]


def test_batches_depend_on_the_step_alone(small: MakeSmall) -> None:
    task = small([Stage(5, 1.0)])
    every = list(task.batches(0, 5))
    for a, b in zip(islice(task.batches(3, 5), 2), every[3:], strict=True):
        assert torch.equal(a[0]["pixels"], b[0]["pixels"]) and a[3] == b[3]
    assert len({b[0]["pixels"].float().mean().item() for b in every}) == 5


def test_every_epoch_shows_each_scene_once_in_another_order(small: MakeSmall) -> None:
    task = small([Stage(8, 1.0)], batch=12)
    rows = torch.stack([task._rows(step) for step in range(8)]).view(2, 48)
    assert torch.equal(rows.sort().values, torch.arange(48).expand(2, -1))
    assert not torch.equal(rows[0], rows[1])


def test_a_caption_matches_every_image_that_shows_all_it_names(
    small: MakeSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watched(image: Tensor, text: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
        seen.append(matches)
        return contrastive_loss(image, text, matches, scale)

    monkeypatch.setattr(pretraining, "contrastive_loss", watched)
    task = small([STAGE], batch=12)
    batch = next(iter(task.batches(0, 1)))
    task.loss(0, batch)
    _, present, named, _ = batch
    wanted = [[words(caption) <= words(scene) for caption in named] for scene in present]
    assert torch.equal(seen[0], torch.tensor(wanted)) and seen[0].diagonal().all()


def test_gradients_reach_the_float32_weights_from_a_half_precision_pass(small: MakeSmall) -> None:
    full, half = small([STAGE]), small([STAGE])
    half.dtype = torch.bfloat16
    batch = next(iter(full.batches(0, 1)))
    gradients = []
    for task in (full, half):
        task.loss(0, batch)["total"].backward()
        weight = task.module.visual.conv1.weight
        assert weight.dtype == weight.grad.dtype == torch.float32
        gradients.append(weight.grad.flatten())
    assert F.cosine_similarity(*gradients, dim=0) > 0.95


def test_loss_is_the_same_twice_and_depends_on_the_step(small: MakeSmall) -> None:
    task = small([Stage(3, 0.5)])
    batch = next(iter(task.batches(0, 1)))
    first, again, other = (task.loss(step, batch)["total"] for step in (0, 0, 1))
    assert first == again and first != other, "the patches that are kept are drawn anew each step"


def test_weight_decay_spares_embeddings_gains_and_biases(small: MakeSmall) -> None:
    task = small([STAGE])
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


def test_a_few_steps_lower_the_loss(small: MakeSmall) -> None:
    task = small([Stage(12, 1.0)], batch=12)
    log = fit(task, steps=12, warmup=2)
    assert sum(r["total"] for r in log[-4:]) < sum(r["total"] for r in log[:4])
    assert log[0]["scale"] == pytest.approx(1 / 0.07, rel=1e-3)


def test_channels_are_dropped_of_whole_scenes_and_pixels_never(small: MakeSmall) -> None:
    task = small([STAGE])
    task.channel_dropout = 0.5
    generator = torch.Generator().manual_seed(0)
    features = torch.ones(4, 40, 3, 3)
    dropped = task._dropped(features, generator)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}, "what is kept makes up for what is not"
    assert (dropped.amax((2, 3)) == dropped.amin((2, 3))).all(), "a channel goes in the whole scene"
    assert len({tuple(row.tolist()) for row in dropped[:, :, 0, 0]}) == 4, "other channels in every scene"
    pixels = torch.ones(2, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(task._dropped(pixels, generator), pixels)


@pytest.fixture
def teacher() -> Teacher:
    names = pack_words()
    targets = F.normalize(torch.randn(len(names), 24, generator=torch.Generator().manual_seed(0)), dim=1)
    return Teacher(names, targets, names[:5])


def test_words_are_held_beside_contrast(small: MakeSmall, teacher: Teacher) -> None:
    alone, held = small([STAGE]), small([STAGE])
    dim = held.clip.embed_dim
    targets = F.normalize(teacher.targets.repeat(1, 1 + dim // 24)[:, :dim], dim=1)
    section = TextSection(steps=1, weight=0.5, sentences=6)
    held.teacher = WordTeacher(Teacher(teacher.words, targets, teacher.captioned), section)
    batch = next(iter(alone.batches(0, 1)))
    without, terms = alone.loss(0, batch), held.loss(0, batch)
    assert terms["total"].item() == pytest.approx((without["total"] + 0.5 * terms["text"]).item(), abs=1e-4)
    assert "text" not in without and terms["text"] > 0


def test_a_tower_that_was_distilled_is_taken_from_the_folder(
    make_tiny: Callable[..., DenseCLIP], teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, again, other = make_tiny(), make_tiny(), make_tiny()
    dim = clip.embed_dim
    fitting = Teacher(
        teacher.words, F.normalize(teacher.targets.repeat(1, 9)[:, :dim], dim=1), teacher.captioned
    )
    monkeypatch.setattr(Teacher, "from_encoder", classmethod(lambda cls, dim: fitting))
    section = TextSection(steps=2)
    before = clip.model.text_projection.detach().clone()
    distilled(clip, section, tmp_path, seed=0)
    assert not torch.equal(clip.model.text_projection, before)
    monkeypatch.setattr(pretraining, "distil_text", None)
    distilled(again, section, tmp_path, seed=0)
    assert torch.equal(again.model.text_projection, clip.model.text_projection)
    with pytest.raises(TypeError):
        distilled(other, TextSection(steps=3), tmp_path, seed=0)  # other steps: another tower


def test_another_seed_or_teacher_is_another_tower(
    make_tiny: Callable[..., DenseCLIP], teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dim = make_tiny().embed_dim
    targets = F.normalize(teacher.targets.repeat(1, 9)[:, :dim], dim=1)
    for told, seed in ((targets, 0), (targets, 1), (targets.flip(0), 0)):
        fitting = Teacher(teacher.words, told, teacher.captioned)
        monkeypatch.setattr(Teacher, "from_encoder", classmethod(lambda cls, dim, fitting=fitting: fitting))
        distilled(make_tiny(), TextSection(steps=1), tmp_path, seed=seed)
    assert len(list(tmp_path.glob("text-*.safetensors"))) == 3


STEMMED = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def stemmed(tmp_path_factory: pytest.TempPathFactory) -> Pretraining:
    """A tower behind a stem, its pool, and the stem's classifier as a teacher."""
    torch.manual_seed(0)
    model = build_clip(STEMMED, {"directions": 20})
    stem = model.visual.conv1
    stem.fill(lite0_weights())
    stem.standardise(stem_examples(32, 0, 20))
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    clip = DenseCLIP(model, tokenizer, mean=[MEAN] * 3, std=[STD] * 3, name="stemmed")
    pool = build_pool(stem, tmp_path_factory.mktemp("features"), 12, size=32)
    names = F.normalize(torch.randn(1000, 24, generator=torch.Generator().manual_seed(2)), dim=1)
    options = {"lr": 1e-3, "weight_decay": 0.1, "seed": 0, "dtype": torch.float32}
    classes = ClassTeacher.of_stem(stem, lite0_weights(), names)
    return Pretraining(
        clip, pool, [STAGE], batch=12, local=0.5, classes=classes, class_weight=0.25, **options
    )


def test_features_of_the_pool_give_what_pixels_give(
    stemmed: Pretraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(image: Tensor, text: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
        seen.append((image, text))
        return contrastive_loss(image, text, matches, scale)

    monkeypatch.setattr(pretraining, "contrastive_loss", watched)
    stemmed.loss(0, next(iter(stemmed.batches(0, 1))))
    pixels = torch.stack([CaptionedScenes(32, 0).render(row)[0] for row in stemmed._rows(0).tolist()])
    wanted = stemmed.clip.encode_image(pixels.float() / 255)
    # The pool is kept in half precision and was computed in bfloat16.
    assert (seen[0][0] * wanted).sum(1).min() > 0.99


def test_classes_are_told_from_whole_features_at_their_weight(stemmed: Pretraining) -> None:
    batch = next(iter(stemmed.batches(0, 1)))
    stemmed.channel_dropout = 0.5
    told = stemmed.loss(0, batch)
    teacher, stemmed.classes = stemmed.classes, None
    untold = stemmed.loss(0, batch)
    stemmed.classes, stemmed.channel_dropout = teacher, 0.0
    assert torch.allclose(told["total"], untold["total"] + 0.25 * told["classes"], rtol=1e-5)


def test_what_the_classifier_is_asked_is_not_dropped(
    stemmed: Pretraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(
        ClassTeacher, "loss", lambda self, image, deep, scale: asked.append(deep) or image.sum() * 0
    )
    batch = next(iter(stemmed.batches(0, 1)))
    stemmed.channel_dropout = 0.5
    stemmed.loss(0, batch)
    stemmed.channel_dropout = 0.0
    assert torch.equal(asked[0], batch[0]["deep"].float())


def test_known_tokens_are_those_of_captions_and_of_what_was_distilled(
    make_tiny: Callable[..., DenseCLIP],
) -> None:
    clip = make_tiny()
    alone = known_tokens(clip, None)
    taught = Teacher(("helicopter",), torch.ones(1, clip.embed_dim), ())
    both = known_tokens(clip, WordTeacher(taught, TextSection(steps=1)))
    word = clip.tokenizer(["helicopter"])[0, 1]
    assert word in both and word not in alone and torch.isin(alone, both).all()
