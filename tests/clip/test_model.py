"""DenseCLIP: equal to open_clip where both are defined, any size, any precision, clear about what it cannot
do.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import fields

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from open_clip.model import CLIP, CLIPVisionCfg, CustomTextCLIP, resize_pos_embed
from torch import Tensor

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import all_nouns, stuff

MakeTiny = Callable[..., DenseCLIP]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def theirs(clip: DenseCLIP, images: Tensor) -> Tensor:
    """open_clip's own global embedding of images in [0, 1]."""
    return F.normalize(clip.model.encode_image((images - clip.mean) / clip.std), dim=-1)


def wrapped(model: torch.nn.Module) -> DenseCLIP:
    return DenseCLIP(
        model.eval(), open_clip.SimpleTokenizer(context_length=32), mean=(0.5,) * 3, std=(0.25,) * 3
    )


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14"])
def test_vanilla_cls_equals_open_clip(name: str) -> None:
    clip = load_clip(name).requires_grad_(False)
    for seed, parameter in enumerate(clip.visual.parameters()):
        if parameter.ndim == 1:  # gains and biases start at one and zero, which would hide a missing one
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    images = noise(1, 3, 224, 224)
    got, wanted = clip.encode_image(images), theirs(clip, images)
    spread = clip.encode_image(noise(1, 3, 224, 224, seed=1)) - got
    del clip
    gc.collect()
    assert torch.allclose(got, wanted, atol=1e-5) and got.dtype == torch.float32
    assert spread.abs().max() > 1e-3, "the embedding must depend on the image"


@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"ls_init_value": 0.5},
        {"no_ln_pre": True},
        {"final_ln_after_pool": True},
        {"pos_embed_type": "sin_cos_2d"},
        {"block_type": "custom"},
        {"patch_dropout": 0.5},
        {"qk_norm": True},
        {"scaled_cosine_attn": True},
        {"scale_heads": True},
        {"scale_attn_inner": True},
        {"scale_attn": True},
        {"scale_fc": True},
    ],
    ids=lambda v: next(iter(v), "plain"),
)
def test_variants_of_the_tower_are_right_or_refused(make_tiny: MakeTiny, vision: dict) -> None:
    if not vision.keys() <= {field.name for field in fields(CLIPVisionCfg)}:
        pytest.skip("this open_clip has no such variant")
    images = noise(2, 3, 32, 32)
    try:
        clip = make_tiny(**vision).requires_grad_(False)
    except ValueError as error:
        assert "expected open_clip's ViT" in str(error) and len(vision) == 1
        return
    assert torch.allclose(clip.encode_image(images), theirs(clip, images), atol=1e-5)


def test_vanilla_patches_equal_open_clips_tokens(make_tiny: MakeTiny) -> None:
    clip, images = make_tiny().requires_grad_(False), noise(2, 3, 32, 32)
    clip.visual.output_tokens = True
    _, tokens = clip.visual((images - clip.mean) / clip.std)
    wanted = F.normalize(tokens @ clip.visual.proj, dim=-1).transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(clip.encode_dense(images, "vanilla"), wanted, atol=1e-5)


def test_quick_gelu_reaches_the_read_outs() -> None:
    torch.manual_seed(0)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    }
    text = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    gelu, quick = CLIP(**config, text_cfg=text), CLIP(**config, text_cfg=text, quick_gelu=True)
    quick.load_state_dict(gelu.state_dict())
    images = noise(1, 3, 16, 16)
    for variant, differs in (("vanilla", True), ("cls_value", True), ("sclip", True), ("value", False)):
        distance = (
            (wrapped(gelu).encode_dense(images, variant) - wrapped(quick).encode_dense(images, variant))
            .abs()
            .max()
        )
        assert (distance > 1e-6) == differs, variant


def test_a_model_with_a_separate_text_tower_works() -> None:
    torch.manual_seed(0)
    text = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    vision = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    clip = wrapped(CustomTextCLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)).requires_grad_(False)
    images = noise(1, 3, 16, 16)
    assert torch.allclose(clip.encode_image(images), theirs(clip, images), atol=1e-5)
    assert clip.encode_text(["cow"]).shape == (1, 16) and len(clip.text_blocks) == 1


@pytest.mark.parametrize(
    "vision",
    [
        {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "pool_type": "avg"},
        {
            "image_size": 32,
            "layers": 1,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
        },
        {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16},
        {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg"},
        {"image_size": 32, "timm_model_name": "resnet10t", "timm_pool": "avg"},
    ],
    ids=["mean pooled", "attention pooled", "resnet", "timm vit", "timm resnet"],
)
def test_towers_without_a_cls_token_are_refused(vision: dict) -> None:
    text = {"context_length": 32, "vocab_size": 100, "width": 16, "heads": 1, "layers": 1}
    model = CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    with pytest.raises(
        ValueError, match="the image tower is .*expected open_clip's ViT pooled by its CLS token"
    ):
        wrapped(model)


def test_something_that_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="expected open_clip's ViT"):
        wrapped(torch.nn.Linear(2, 2))


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(list(READ_OUTS)))
def test_any_size_gives_the_grid_rounded_up(tiny: DenseCLIP, height: int, width: int, variant: str) -> None:
    dense = tiny.encode_dense(noise(1, 3, height, width), variant)
    assert dense.shape == (1, 32, -(-height // 8), -(-width // 8)) and dense.dtype == torch.float32
    assert torch.allclose(dense.norm(dim=1), torch.ones(dense.shape[2:]), atol=1e-5)


def test_larger_pictures_equal_open_clip_with_its_own_resized_positions(make_tiny: MakeTiny) -> None:
    clip, large = make_tiny().requires_grad_(False), make_tiny(image_size=64).requires_grad_(False)
    state = clip.model.state_dict()
    resize_pos_embed(state, large.model, antialias=False)
    large.model.load_state_dict(state)
    images = noise(2, 3, 64, 64)
    assert torch.allclose(clip.encode_image(images), theirs(large, images), atol=1e-5)


def test_positions_by_factor_are_those_of_sclip_and_its_kin(make_tiny: MakeTiny) -> None:
    """Scale factors of (n + 0.1) / trained, bicubic; at the trained grid nothing is done."""
    clip = make_tiny()
    clip.positions = "factor"
    position = clip.visual.positional_embedding
    square = position[1:].T.reshape(1, -1, 4, 4)
    square = F.interpolate(square, scale_factor=(5.1 / 4, 7.1 / 4), mode="bicubic")
    nothing = torch.zeros(1, clip.width, 5, 7)
    cls = clip.visual.class_embedding + position[0]
    wanted = clip.visual.ln_pre(torch.cat([cls[None], square[0].flatten(1).T])[None])
    assert torch.allclose(clip.enter(nothing), wanted, atol=1e-5)
    trained = torch.zeros(1, clip.width, 4, 4)
    by_factor = clip.enter(trained)
    clip.positions = "size"
    assert torch.equal(by_factor, clip.enter(trained))
    assert not torch.allclose(clip.enter(nothing), wanted, atol=1e-3)


def test_positions_follow_rows_and_columns(make_tiny: MakeTiny) -> None:
    clip = make_tiny(no_ln_pre=True).requires_grad_(False)
    clip.visual.conv1.weight.zero_()
    place = clip.visual.positional_embedding
    place[1:, 0] = torch.arange(4.0).repeat_interleave(4)
    place[1:, 1] = torch.arange(4.0).repeat(4)
    tokens, grid = clip.embed(noise(1, 3, 16, 64))
    rows, columns = tokens[0, 1:, 0].view(grid), tokens[0, 1:, 1].view(grid)
    assert grid == (2, 8)
    assert torch.allclose(rows, rows[:, :1].expand(2, 8), atol=1e-5) and (rows[1] > rows[0] + 1).all()
    assert torch.allclose(columns, columns[:1].expand(2, 8), atol=1e-5) and (columns.diff(dim=1) > 0).all()
    assert torch.allclose(tokens[0, 0], clip.visual.class_embedding + place[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", READ_OUTS)
def test_half_precision_is_near_and_gives_float32(
    make_tiny: MakeTiny, dtype: torch.dtype, variant: str
) -> None:
    images = noise(2, 3, 48, 32)
    full, half = make_tiny().requires_grad_(False), make_tiny().requires_grad_(False).to(dtype)
    atol = 0.01 if dtype == torch.float16 else 0.06
    for picture in (images, images.to(dtype)):
        got = half.encode_dense(picture, variant)
        assert got.dtype == torch.float32 and torch.allclose(
            got, full.encode_dense(images, variant), atol=atol
        )
    assert torch.allclose(half.encode_image(images), full.encode_image(images), atol=atol)
    text = half.encode_text(["cow", "grass"])
    assert text.dtype == torch.float32 and torch.allclose(text, full.encode_text(["cow", "grass"]), atol=atol)


@pytest.mark.parametrize("variant", READ_OUTS)
def test_autocast_is_near(tiny: DenseCLIP, variant: str) -> None:
    images = noise(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        got = tiny.encode_dense(images, variant)
    assert got.dtype == torch.float32 and torch.allclose(got, tiny.encode_dense(images, variant), atol=0.06)


@pytest.mark.parametrize("variant", READ_OUTS)
def test_gradients_reach_pixels_weights_and_words(make_tiny: MakeTiny, variant: str) -> None:
    clip, images = make_tiny(), noise(1, 3, 32, 48).requires_grad_(True)
    dense = clip.encode_dense(images, variant)
    (dense.flatten(2)[0, :, :2] * clip.encode_text(["cow", "grass"]).T).sum().backward()
    last = clip.blocks[-1].attn.in_proj_weight.grad
    for gradient in (
        images.grad,
        clip.visual.conv1.weight.grad,
        last[-48:],
        clip.text_blocks[0].attn.in_proj_weight.grad,
    ):
        assert gradient.isfinite().all() and gradient.abs().max() > 0
    moved = "".join(name for name, third in zip("qkv", last.split(48), strict=True) if third.abs().max() > 0)
    values_alone = ("value", "cls_value", "maskclip")
    reads = {
        "clearclip": "qv",
        "naclip": "kv",
        "vanilla": "qkv",
        "sclip": "qkv",
        **dict.fromkeys(values_alone, "v"),
    }
    assert moved == reads.get(variant, moved) and "v" in moved


def test_results_are_the_same_with_and_without_gradients(tiny: DenseCLIP) -> None:
    images = noise(2, 3, 32, 32)
    with torch.no_grad():
        image, text = tiny.encode_image(images), tiny.encode_text(["cow"])
    with torch.enable_grad():
        assert torch.allclose(tiny.encode_image(images), image, atol=1e-6)
        assert torch.allclose(tiny.encode_text(["cow"]), text, atol=1e-6)


def test_pictures_of_a_batch_do_not_mix(tiny: DenseCLIP) -> None:
    images = noise(3, 3, 32, 32)
    for variant in READ_OUTS:
        alone = torch.cat([tiny.encode_dense(one[None], variant) for one in images])
        assert torch.allclose(tiny.encode_dense(images, variant), alone, atol=1e-5)


def test_hidden_states_start_at_the_embedding_and_end_at_the_last_block(tiny: DenseCLIP) -> None:
    images = noise(1, 3, 32, 32)
    states = tiny.hidden_states(images)
    assert len(states) == 3 and all(s.shape == (1, 17, 48) for s in states)
    assert torch.equal(states[0], tiny.embed(images)[0])
    assert torch.allclose(tiny.project(states[-1][:, 0]), tiny.encode_image(images))


@pytest.mark.parametrize("variant", READ_OUTS)
def test_dense_states_are_what_the_dense_embeddings_are_made_of(tiny: DenseCLIP, variant: str) -> None:
    images = noise(2, 3, 40, 24)
    tower = tiny.tower(images)
    features, states, grid = tiny.read(tower, variant), tower.states, tower.grid
    assert features.shape == (2, 15, 32) and features.dtype == torch.float32 and grid == (5, 3)
    assert torch.equal(
        F.normalize(features, dim=-1).mT.reshape(2, 32, 5, 3), tiny.encode_dense(images, variant)
    )
    assert (features.norm(dim=-1) - 1).abs().min() > 1e-3, "before they are scaled to unit length"
    deeper = tiny.hidden_states(images)
    assert len(states) == 2 == len(deeper) - 1 and all(
        torch.equal(a, b) for a, b in zip(states, deeper, strict=False)
    )


def test_dense_states_refuse_an_unknown_read_out(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="unknown read-out 'klip'"):
        tiny.read(tiny.tower(noise(1, 3, 32, 32)), "klip")


def test_keeping_a_share_of_the_patches_keeps_their_places(tiny: DenseCLIP) -> None:
    images = noise(2, 3, 32, 32)
    full, grid = tiny.embed(images)
    half, same_grid = tiny.embed(images, 0.5, torch.Generator().manual_seed(1))
    again, _ = tiny.embed(images, 0.5, torch.Generator().manual_seed(1))
    other, _ = tiny.embed(images, 0.5, torch.Generator().manual_seed(2))
    assert half.shape == (2, 9, 48) and grid == same_grid == (4, 4)
    assert torch.equal(half, again) and not torch.equal(half, other)
    assert torch.allclose(half[:, 0], full[:, 0])
    found = (half[:, 1:, None] - full[:, None, 1:]).abs().amax(-1) < 1e-6
    assert (found.sum(2) == 1).all() and (found.sum(1) <= 1).all() and not torch.equal(found[0], found[1])


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 32, 32),
        torch.zeros(1, 1, 32, 32),
        torch.zeros(1, 32, 32, 3),
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
    ],
    ids=["no batch", "one channel", "channels last", "bytes"],
)
def test_images_of_another_shape_or_type_are_refused(tiny: DenseCLIP, images: Tensor) -> None:
    for encode in (tiny.encode_image, tiny.encode_dense, tiny.hidden_states):
        with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\) floats"):
            encode(images)


def test_an_unknown_read_out_names_those_there_are(tiny: DenseCLIP) -> None:
    with pytest.raises(
        ValueError,
        match=r"^unknown read-out 'xxx'; expected one of vanilla, value, cls_value, sclip, clearclip, naclip",
    ):
        tiny.encode_dense(noise(1, 3, 32, 32), "xxx")
    with pytest.raises(ValueError, match=r"^unknown read-out 'sclop'; did you mean 'sclip'\?$"):
        tiny.encode_dense(noise(1, 3, 32, 32), "sclop")


def test_prompts_equal_open_clips_own_text_embedding(tiny: DenseCLIP) -> None:
    prompts = ["a photo of a cow", "a lion on grass"]
    ids = open_clip.SimpleTokenizer(context_length=32)(prompts)
    assert torch.allclose(
        tiny.encode_prompts(prompts), F.normalize(tiny.model.encode_text(ids), dim=-1), atol=1e-6
    )


def test_words_are_averaged_over_templates_and_synonyms(tiny: DenseCLIP) -> None:
    got = tiny.encode_text(["ox|cow, calf", "grass"], ("a {}", "the {}"))
    first = F.normalize(
        tiny.encode_prompts(["a ox", "the ox", "a cow", "the cow", "a calf", "the calf"]).mean(0), dim=0
    )
    second = F.normalize(tiny.encode_prompts(["a grass", "the grass"]).mean(0), dim=0)
    assert torch.allclose(got, torch.stack([first, second]), atol=1e-6)
    assert torch.allclose(got.norm(dim=1), torch.ones(2), atol=1e-6)


def test_templates_can_be_kept_apart(tiny: DenseCLIP) -> None:
    names, templates = ["ox|cow", "grass"], ("a {}", "the {}", "some {}")
    apart = tiny.encode_text(names, templates, ensemble="none")
    assert apart.shape == (2, 3, 32) and torch.allclose(apart.norm(dim=-1), torch.ones(2, 3), atol=1e-6)
    for i, template in enumerate(templates):
        assert torch.allclose(apart[:, i], tiny.encode_text(names, (template,)), atol=1e-6), (
            "each synonyms' mean in its own template"
        )
    plain = tiny.encode_text(["grass"], templates, ensemble="none")
    assert torch.allclose(
        F.normalize(plain.mean(1), dim=-1), tiny.encode_text(["grass"], templates), atol=1e-6
    )
    assert tiny.encode_text(["grass"], ("a {}",), ensemble="none").shape == (1, 1, 32)


def test_order_of_synonyms_does_not_matter(tiny: DenseCLIP) -> None:
    assert torch.allclose(tiny.encode_text(["ox|cow"]), tiny.encode_text(["cow, ox"]), atol=1e-6)


def test_without_synonyms_a_name_is_taken_as_written(tiny: DenseCLIP) -> None:
    got = tiny.encode_text(["ox, cow"], ("a {}",), synonyms="none")
    assert torch.allclose(got, tiny.encode_prompts(["a ox, cow"]), atol=1e-6)


def test_default_templates_are_the_models_own(tiny: DenseCLIP) -> None:
    assert torch.equal(tiny.encode_text(["cow"]), tiny.encode_text(["cow"], tiny.templates))
    assert not torch.allclose(tiny.encode_text(["cow"]), tiny.encode_text(["cow"], ("{}",)), atol=1e-4)


@pytest.mark.parametrize(
    ("names", "templates", "hint"),
    [
        ([], None, "no words"),
        (["cow", " "], None, "blank"),
        (["cow", "Cow"], None, "more than once"),
        ("cow", None, "list of words"),
        (["cow"], (), "at least one"),
        (["cow"], ("a photo",), "where the word goes"),
        (["cow"], "a {}", "where the word goes"),
        (["cow " * 40], None, r"tokens long; tiny reads at most 32"),
    ],
)
def test_words_that_cannot_be_used_are_refused(
    tiny: DenseCLIP, names: list[str], templates: tuple, hint: str
) -> None:
    with pytest.raises(ValueError, match=hint):
        tiny.encode_text(names, templates)


def test_the_longest_phrase_that_fits_is_read_whole(tiny: DenseCLIP) -> None:
    ids = tiny.tokenize([" ".join(["cow"] * 30)])
    assert (ids != 0).all() and ids.shape == (1, 32)
    with pytest.raises(ValueError, match="33 tokens long"):
        tiny.tokenize(["cow", " ".join(["cow"] * 31)])


def test_what_fills_up_a_sentence_is_not_computed(make_tiny: Callable[..., DenseCLIP]) -> None:
    clip, prompts = make_tiny(), ["a cow", "a photo of a cow on grass in front of a red barn"]
    cut, whole = clip.tokenize(prompts), clip.tokenizer(prompts)
    assert cut.shape[1] < whole.shape[1] == 32 and (whole[:, cut.shape[1] :] == 0).all()
    assert (cut[1] != 0).all(), "no longer than the longest"
    gradients = []
    for ids in (cut, whole):
        clip.zero_grad()
        embedding = clip.encode_tokens(ids)
        (embedding * torch.arange(32.0)).sum().backward()
        gradients.append([embedding.detach(), *(p.grad for p in clip.parameters() if p.grad is not None)])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for got, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_text_tower_that_looks_ahead_gets_whole_sentences(make_tiny: Callable[..., DenseCLIP]) -> None:
    """Where the mean of all tokens is the sentence, what fills it up counts."""
    clip = make_tiny()
    clip.model.text_pool_type = "last"
    assert clip.tokenize(["a cow"]).shape == (1, 32)


def test_braces_in_a_word_are_letters(tiny: DenseCLIP) -> None:
    assert tiny.encode_text(["{cow}", "{0}"]).isfinite().all()


def test_words_never_seen_in_pretraining_are_told(mini: DenseCLIP) -> None:
    known = set(mini.known_tokens.tolist())
    # A word that may be learnt one day is no good example: the first of these that this model lacks.
    words = ("helicopter", "parliament", "quark")
    word = next(word for word in words if int(mini.tokenizer([word])[0, 1]) not in known)
    with pytest.warns(UserWarning, match=f"never learnt.*{word}"):
        mini.encode_text(["cow", word])


def test_every_word_and_caption_of_collage_is_known(mini: DenseCLIP) -> None:
    scenes = Collage("test", 16, length=300, classes=[*all_nouns(), *stuff()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mini.tokenize([scene.caption for scene in scenes])
        mini.tokenize(
            [template.format(word) for word in (*all_nouns(), *stuff()) for template in mini.templates]
        )


def test_what_a_model_says_about_itself(tiny: DenseCLIP) -> None:
    assert (tiny.patch_size, tiny.width, tiny.embed_dim, tiny.device.type) == (8, 48, 32, "cpu")
    assert len(tiny.blocks) == len(tiny.text_blocks) == 2
    assert tiny.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same(make_tiny: MakeTiny) -> None:
    images = noise(2, 3, 48, 32)
    cpu, gpu = make_tiny().requires_grad_(False), make_tiny().requires_grad_(False).cuda()
    for variant in READ_OUTS:
        assert torch.allclose(
            gpu.encode_dense(images.cuda(), variant).cpu(), cpu.encode_dense(images, variant), atol=1e-3
        )


def test_both_embeddings_come_from_one_pass(mini: DenseCLIP) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image, dense = mini.encode_both(images, ("cls_value", "sclip"))
        apart = [mini.encode_dense(images, name) for name in ("cls_value", "sclip")]
        assert torch.equal(image, mini.encode_image(images))
    torch.testing.assert_close(dense, F.normalize(apart[0] + apart[1], dim=1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("read_outs", [(), ("value", "sharp")])
def test_both_embeddings_need_read_outs_that_exist(mini: DenseCLIP, read_outs: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected one (or more )?of vanilla"):
        mini.encode_both(torch.rand(1, 3, 64, 64), read_outs)


def test_an_unknown_way_to_join_words_is_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match='got synonyms=\'meen\'; expected "mean" or "none"'):
        tiny.encode_text(["cow"], synonyms="meen")
    with pytest.raises(ValueError, match='got ensemble=\'all\'; expected "mean" or "none"'):
        tiny.encode_text(["cow"], ensemble="all")


def test_no_sentences_are_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="got no sentences"):
        tiny.encode_prompts([])


def test_the_warning_of_unknown_words_points_at_the_caller(mini: DenseCLIP) -> None:
    known = set(mini.known_tokens.tolist())
    word = next(w for w in ("parliament", "quark") if int(mini.tokenizer([w])[0, 1]) not in known)
    with pytest.warns(UserWarning) as told:
        mini.encode_text([word])
    assert told[0].filename == __file__
