"""The stem: EfficientNet-Lite0's own features, frozen, at any size, in a checkpoint that carries them."""

from __future__ import annotations

import copy
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from torch import Tensor

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip import save_clip
from infoclip_lite.clip.loading import build_clip
from infoclip_lite.clip.memory import remembered_features
from infoclip_lite.clip.stem import MEAN, STD, Stem, lite0_weights

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}
CONFIG = {
    "model": MODEL,
    "stem": {"directions": 24},
    "mean": [MEAN] * 3,
    "std": [STD] * 3,
    "name": "stemmed",
    "read_out": ["value"],
}


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trunk() -> Stem:
    stem = Stem(32, directions=24)
    stem.fill(lite0_weights())
    return stem


@pytest.fixture
def stemmed() -> DenseCLIP:
    torch.manual_seed(0)
    model = build_clip(MODEL, CONFIG["stem"])
    model.visual.conv1.fill(lite0_weights())
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    return DenseCLIP(model, tokenizer, mean=CONFIG["mean"], std=CONFIG["std"], name="stemmed").eval()


def timm_lite0() -> torch.nn.Module:
    peer = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    given, own = list(lite0_weights().values()), peer.state_dict()
    pairs = zip(own.items(), given, strict=False)
    peer.load_state_dict({name: value for (name, like), value in pairs if value.shape == like.shape})
    return peer


@pytest.mark.parametrize("size", [(32, 48), (56, 40), (24, 24)])
def test_features_equal_timms_efficientnet_lite0(trunk: Stem, size: tuple[int, int]) -> None:
    """Odd grids too: TensorFlow pads those on both sides, even ones on one."""
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
    with torch.inference_mode():
        peer = timm_lite0()
        x = peer.bn1(peer.conv_stem(large))
        middle = None
        for number, stage in enumerate(peer.blocks):
            x = stage(x)
            middle = x if number == 4 else middle
        head = peer.bn2(peer.conv_head(x))
        main = torch.linalg.svd(lite0_weights()["_fc.weight"].double(), full_matrices=False)[2][:24].float()
        features = trunk.features(images)
    torch.testing.assert_close(features.middle, middle, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features.deep, torch.einsum("dc,bchw->bdhw", main, head), rtol=1e-3, atol=2e-3)


def test_standardised_features_have_no_mean_and_unit_deviation(pictures: Tensor) -> None:
    stem = Stem(32, directions=24)
    stem.fill(lite0_weights())
    stem.standardise(pictures)
    for values in stem.features(pictures):
        assert values.mean((0, 2, 3)).abs().max() < 1e-3
        torch.testing.assert_close(values.std((0, 2, 3)), torch.ones(values.shape[1]), rtol=1e-2, atol=1e-2)


def test_deep_features_lie_on_the_grid_of_the_patches(trunk: Stem, pictures: Tensor) -> None:
    joined = trunk.join(trunk.features(pictures))
    assert joined.shape == (6, 112 + 24, 4, 6) and trunk(pictures).shape == (6, 32, 4, 6)


def test_only_the_projection_can_be_trained(stemmed: DenseCLIP, pictures: Tensor) -> None:
    stem = stemmed.visual.conv1
    assert [name for name, _ in stem.named_parameters()] == ["proj.weight"]
    stemmed.encode_image(pictures).sum().backward()
    assert stem.proj.weight.grad.abs().sum() > 0
    assert not any(buffer.requires_grad for buffer in stem.buffers())


def test_any_size_has_a_grid_of_patches_of_eight_pixels(stemmed: DenseCLIP) -> None:
    assert stemmed.patch_size == 8 and stemmed.width == 32
    for height, width in ((32, 32), (8, 8), (50, 61)):
        dense = stemmed.encode_dense(torch.rand(1, 3, height, width), "value")
        assert dense.shape[2:] == (-(-height // 8), -(-width // 8))


def test_half_precision_computes_the_same_up_to_rounding(stemmed: DenseCLIP, pictures: Tensor) -> None:
    full = stemmed.encode_image(pictures)
    half = stemmed.bfloat16().encode_image(pictures)
    assert torch.nn.functional.cosine_similarity(full, half).min() > 0.98


def test_a_checkpoint_carries_the_stem(stemmed: DenseCLIP, pictures: Tensor, tmp_path: Path) -> None:
    save_clip(stemmed, tmp_path / "clip.safetensors", CONFIG)
    loaded = load_clip(str(tmp_path / "clip.safetensors"))
    cosines = torch.nn.functional.cosine_similarity(
        loaded.encode_image(pictures), stemmed.encode_image(pictures)
    )
    assert cosines.min() > 0.999, "weights are kept in half precision"


def test_a_checkpoint_without_its_stem_is_refused(stemmed: DenseCLIP, tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    save_clip(stemmed, path, {**CONFIG, "stem": None})
    with pytest.raises(ValueError, match="of another architecture"):
        load_clip(str(path))


def test_weights_that_are_missing_or_of_another_shape_are_named() -> None:
    weights = lite0_weights()
    stem = Stem(32, directions=24)
    with pytest.raises(ValueError, match="lack '_conv_head.weight'"):
        stem.fill({name: value for name, value in weights.items() if name != "_conv_head.weight"})
    with pytest.raises(ValueError, match="of another shape"):
        stem.fill({**weights, "_blocks.3._depthwise_conv.weight": torch.zeros(7, 1, 3, 3)})


def test_a_stem_of_other_patches_than_the_config_is_refused() -> None:
    with pytest.raises(ValueError, match="patches of 4 pixels, the model's config says 8"):
        build_clip(MODEL, {"enlarge": 4})
    with pytest.raises(ValueError, match="expected a divisor of 16"):
        Stem(32, enlarge=3)


def test_a_stem_exports_to_onnx(trunk: Stem, pictures: Tensor, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.onnx.export(trunk, (pictures,), str(tmp_path / "stem.onnx"), dynamo=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "stem.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: pictures.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), trunk(pictures).detach(), rtol=1e-3, atol=1e-3)


def looked(stem: Stem, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the trunk looks at from now on, batch by batch."""
    batches: list[int] = []
    look = Stem.look
    monkeypatch.setattr(Stem, "look", lambda own, images: (batches.append(len(images)), look(own, images))[1])
    return batches


def test_a_trunk_that_remembers_looks_once_and_says_the_same(
    trunk: Stem, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = trunk.features(pictures)
    batches = looked(trunk, monkeypatch)
    with remembered_features():
        for model in (trunk, copy.deepcopy(trunk), trunk):
            for got, want in zip(model.features(pictures), wanted, strict=True):
                assert torch.equal(got, want)
        trunk.features(pictures[:3])
    trunk.features(pictures)
    assert batches == [6, 3, 6], "one batch, another one, and afterwards as before"


def test_what_differs_is_not_mixed_up_in_memory(
    trunk: Stem, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, tuned = copy.deepcopy(trunk), copy.deepcopy(trunk)
    other.standardise(pictures)
    tuned.thaw()
    batches = looked(trunk, monkeypatch)
    with remembered_features():
        plain = trunk.features(pictures)
        assert not torch.equal(other.features(pictures).deep, plain.deep)
        with torch.autocast("cpu", torch.bfloat16):
            assert trunk.features(pictures).deep.dtype == torch.bfloat16
        tuned.features(pictures).deep.sum().backward()
        trunk.features(pictures.view(6, 3, 48, 32))  # the same bytes, of another shape
    assert len(batches) == 5 and tuned.first.weight.grad is not None


def test_what_an_evaluation_remembers_can_be_learnt_from(stemmed: DenseCLIP, pictures: Tensor) -> None:
    with remembered_features():
        with torch.inference_mode():
            stemmed.encode_image(pictures)
        stemmed.encode_image(pictures).sum().backward()
    assert stemmed.visual.conv1.proj.weight.grad.abs().sum() > 0


def test_a_full_memory_keeps_what_it_has(
    trunk: Stem, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(each.nbytes for each in trunk.features(pictures))
    batches = looked(trunk, monkeypatch)
    with remembered_features(limit=size):
        for images in (pictures, pictures + 1, pictures, pictures + 1):
            trunk.features(images)
    assert len(batches) == 3, "the second batch found no room"
