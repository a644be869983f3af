"""Loading: any open_clip ViT, checkpoints that carry their config, and what can be wrong with either."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.model import CLIP

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip import read_card, save_clip
from infoclip_lite.clip.stem import Stem
from infoclip_lite.clip.templates import COLLAGE_TEMPLATES, IMAGENET_TEMPLATES
from infoclip_lite.core.files import data_dir

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model name that open_clip knows for the length of a test, and its QuickGELU twin."""
    configs = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(configs, "ViT-small", SMALL)
    monkeypatch.setitem(configs, "ViT-small-quickgelu", {**SMALL, "quick_gelu": True})
    return "ViT-small"


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return CLIP(**SMALL).state_dict()


def test_collage_mini_is_the_default_and_in_evaluation_mode(mini: DenseCLIP) -> None:
    default = load_clip()
    assert default.name == "collage-mini" and not default.training and default.templates == COLLAGE_TEMPLATES
    assert all(
        torch.equal(a, b)
        for a, b in zip(default.model.state_dict().values(), mini.model.state_dict().values(), strict=True)
    )


def test_collage_mini_is_a_vit_of_six_blocks_or_more_behind_a_frozen_stem(mini: DenseCLIP) -> None:
    stem = mini.visual.conv1
    assert isinstance(stem, Stem) and len(mini.blocks) >= 6
    assert (mini.patch_size, mini.width) == (stem.kernel_size[0], stem.out_channels)
    assert all(buffer.isfinite().all() and buffer.any() for buffer in stem.buffers())


def test_collage_mini_has_its_own_weights_only() -> None:
    with pytest.raises(ValueError) as error:
        load_clip("collage-mini", pretrained="openai")
    assert "unknown model" not in str(error.value), (
        "collage-mini is a known model: the message must speak of its weights"
    )


def test_an_open_clip_model_without_weights_is_random(small: str) -> None:
    clip = load_clip(small)
    assert clip.name == small and clip.templates == IMAGENET_TEMPLATES and not clip.training
    assert clip.mean.flatten().tolist() == pytest.approx(list(open_clip.OPENAI_DATASET_MEAN))
    assert clip.std.flatten().tolist() == pytest.approx(list(open_clip.OPENAI_DATASET_STD))


@pytest.mark.parametrize(
    ("name", "near"),
    [("ViT-B-61", "ViT-B-16"), ("colage-mini", "collage-mini"), ("vit-b-16-quickgelu", "ViT-B-16-quickgelu")],
)
def test_an_unknown_model_names_the_nearest(name: str, near: str, offline: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"unknown model '{name}'.*did you mean .*{near}"):
        load_clip(name)
    assert not offline


def test_an_unknown_tag_lists_those_there_are(offline: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"unknown tag 'laion2b' for ViT-B-32; expected one of .*laion2b_s34b_b79k"
    ):
        load_clip("ViT-B-32", pretrained="laion2b")
    assert not offline


@pytest.mark.parametrize(
    ("name", "tag", "right"),
    [
        ("ViT-B-16", "openai", "ViT-B-16-quickgelu"),
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("ViT-L-14", "openai", "ViT-L-14-quickgelu"),
        ("ViT-B-16", "metaclip_400m", "ViT-B-16-quickgelu"),
        ("ViT-B-16-quickgelu", "laion2b_s34b_b88k", "ViT-B-16"),
    ],
)
def test_a_quickgelu_mismatch_of_a_tag_is_told_before_any_download(
    name: str, tag: str, right: str, offline: list[str]
) -> None:
    wrong_pair = rf"use '{right}'|unknown tag '{tag}'"  # open_clip may not list the pair at all
    with pytest.raises(ValueError, match=wrong_pair):
        load_clip(name, pretrained=tag)
    assert not offline


@pytest.mark.parametrize(
    ("name", "tag"), [("ViT-B-16-quickgelu", "openai"), ("ViT-B-32", "laion2b_s34b_b79k")]
)
def test_no_network_is_said_with_a_way_out(name: str, tag: str, offline: list[str]) -> None:
    with pytest.raises(ConnectionError, match=rf"{name}/{tag}.*Network is unreachable.*collage-mini"):
        load_clip(name, pretrained=tag)
    assert offline == [name]


def test_a_folder_named_like_a_tag_does_not_hide_the_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    (tmp_path / "openai").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConnectionError):
        load_clip("ViT-B-16-quickgelu", pretrained="openai")


def test_a_missing_checkpoint_is_named(tmp_path: Path, small: str) -> None:
    for name, pretrained in (
        (str(tmp_path / "no.safetensors"), None),
        (small, tmp_path / "no.pt"),
        (small, str(tmp_path / "no.safetensors")),
    ):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint .*no\."):
            load_clip(name, pretrained)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("wrapping", ["plain", "state_dict", "module"])
def test_plain_weights_load_exactly(
    tmp_path: Path, small: str, weights: dict, ending: str, wrapping: str
) -> None:
    path = tmp_path / f"w.{ending}"
    if ending == "safetensors":
        safetensors.torch.save_file(weights, path)
    else:
        named = {f"module.{k}": v for k, v in weights.items()} if wrapping == "module" else weights
        torch.save({"epoch": 3, "state_dict": named} if wrapping != "plain" else named, path)
    clip = load_clip(small, path, quick_gelu=False)
    assert all(torch.equal(v, weights[k]) for k, v in clip.model.state_dict().items())


def test_a_file_that_does_not_say_its_activation_asks_for_it(
    tmp_path: Path, small: str, weights: dict
) -> None:
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"quick_gelu=True"):
        load_clip(small, tmp_path / "w.pt")


def test_a_quickgelu_mismatch_of_a_file_is_an_error(tmp_path: Path, small: str, weights: dict) -> None:
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"trained with QuickGELU and ViT-small computes GELU.*'ViT-small-quickgelu'"
    ):
        load_clip(small, tmp_path / "w.pt", quick_gelu=True)
    with pytest.raises(
        ValueError, match=r"trained with GELU and ViT-small-quickgelu computes QuickGELU.*'ViT-small'"
    ):
        load_clip(f"{small}-quickgelu", tmp_path / "w.pt", quick_gelu=False)
    assert load_clip(f"{small}-quickgelu", tmp_path / "w.pt", quick_gelu=True).name.startswith(
        "ViT-small-quickgelu/"
    )


def test_openais_torchscript_archives_are_known_to_be_quickgelu(
    tmp_path: Path, small: str, weights: dict
) -> None:
    class Archive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for key, value in weights.items():
                self.register_buffer(key.replace(".", "_"), value)
            self.register_buffer("input_resolution", torch.tensor(16))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Archive()).save(str(tmp_path / "ViT-B-32.pt"))
        with pytest.raises(ValueError, match="QuickGELU.*ViT-small-quickgelu"):
            load_clip(small, tmp_path / "ViT-B-32.pt")
        with pytest.raises(ValueError, match="another architecture"):
            load_clip(f"{small}-quickgelu", tmp_path / "ViT-B-32.pt")


def test_weights_of_another_architecture_are_counted(tmp_path: Path, small: str, weights: dict) -> None:
    weights.pop("visual.proj")
    weights["visual.class_embedding"] = torch.zeros(33)
    weights["decoder.weight"] = torch.zeros(2)
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(
        ValueError,
        match=r"another architecture: 1 tensors of another shape, 1 missing, 1 unexpected "
        r".*class_embedding is \(33,\), expected \(32,\)",
    ):
        load_clip(small, tmp_path / "w.pt", quick_gelu=False)


def test_collage_minis_weights_do_not_fit_another_model(small: str, tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="another architecture"):
        load_clip(small, tiny_checkpoint)


@pytest.mark.parametrize(
    "content",
    [[1, 2], torch.zeros(3), {"epoch": 3, "model": {"a": torch.zeros(1)}}],
    ids=["list", "tensor", "nested"],
)
def test_a_file_with_something_else_than_weights_is_refused(
    tmp_path: Path, small: str, content: object
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt"):
        load_clip(small, tmp_path / "w.pt", quick_gelu=False)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated_checkpoints_are_refused(
    tmp_path: Path, small: str, weights: dict, tiny_checkpoint: Path, share: float
) -> None:
    torch.save(weights, tmp_path / "w.pt")
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    (tmp_path / "own.safetensors").write_bytes(tiny_checkpoint.read_bytes())
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"own\.safetensors cannot be read.*truncated"):
        load_clip(str(tmp_path / "own.safetensors"))
    for name in ("w.pt", "w.safetensors"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read.*truncated"):
            load_clip(small, tmp_path / name, quick_gelu=False)


def test_text_files_are_refused(tmp_path: Path, small: str) -> None:
    for name in ("a.safetensors", "a.pt", "a.bin"):
        (tmp_path / name).write_text("These are not the weights you are looking for.\n" * 20)
        with pytest.raises(ValueError, match="another kind of file"):
            load_clip(small, tmp_path / name, quick_gelu=False)
    with pytest.raises(ValueError, match="another kind of file"):
        load_clip(str(tmp_path / "a.safetensors"))


def test_pickles_that_run_code_are_refused(tmp_path: Path, small: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"weights": Trap()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        load_clip(small, tmp_path / "w.pt", quick_gelu=False)
    assert not (tmp_path / "ran").exists()


def test_plain_safetensors_alone_ask_for_their_architecture(tmp_path: Path, weights: dict) -> None:
    safetensors.torch.save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="carries no infoclip-lite config.*pretrained="):
        load_clip(str(tmp_path / "w.safetensors"))


def test_a_saved_model_comes_back_in_half_precision(
    tmp_path: Path, make_tiny: Callable[..., DenseCLIP], tiny_config: dict
) -> None:
    clip, path = make_tiny(), tmp_path / "folder" / "all.safetensors"
    save_clip(clip, path, tiny_config, card={"dense": {"value": 0.4}})
    back = load_clip(str(path))
    assert back.name == "tiny" and back.known_tokens is None and read_card(path) == {"dense": {"value": 0.4}}
    assert back.read_outs == ("value", "cls_value")
    assert torch.equal(back.mean, clip.mean) and torch.equal(back.std, clip.std)
    state = clip.model.state_dict()
    for key, value in back.model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, state[key].half().float()), key


def test_a_checkpoint_of_the_first_format_is_refused_with_what_to_do(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "old.safetensors"
    with safetensors.safe_open(tiny_checkpoint, framework="pt") as file:
        metadata = {**file.metadata(), "format": "infoclip-lite-clip-1"}
    safetensors.torch.save_file(safetensors.torch.load_file(tiny_checkpoint), path, metadata)
    for read in (load_clip, lambda name: read_card(Path(name))):
        with pytest.raises(
            ValueError, match=r"old\.safetensors is a checkpoint of the first format.*infoclip-lite pretrain"
        ):
            read(str(path))


def test_known_words_alone_are_stored_and_come_back(
    tiny_checkpoint: Path, make_tiny: Callable[..., DenseCLIP]
) -> None:
    clip, back = make_tiny(), load_clip(str(tiny_checkpoint))
    assert tiny_checkpoint.stat().st_size < 1_000_000, "49,408 embeddings must not be stored"
    table, stored = back.model.token_embedding.weight, clip.model.token_embedding.weight
    known = back.known_tokens
    assert torch.equal(table[known], stored[known].half().float())
    assert (
        table.shape == stored.shape
        and not table[[i for i in range(500) if i not in set(known.tolist())]].any()
    )
    assert torch.allclose(
        back.encode_text(["cow", "road sign"]), clip.encode_text(["cow", "road sign"]), atol=0.02
    )


def test_saving_what_was_loaded_loses_nothing(
    tiny_checkpoint: Path, tmp_path: Path, tiny_config: dict
) -> None:
    save_clip(load_clip(str(tiny_checkpoint)), tmp_path / "again.safetensors", tiny_config)
    first, second = (
        safetensors.torch.load_file(path) for path in (tiny_checkpoint, tmp_path / "again.safetensors")
    )
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_unknown_words_warn_once_loaded(tiny_checkpoint: Path) -> None:
    clip = load_clip(str(tiny_checkpoint))
    with pytest.warns(UserWarning, match="tiny never learnt"):
        clip.encode_text(["helicopter"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_text(["cow", "trash can", "grass"])


def test_a_full_disk_leaves_the_old_checkpoint(
    tiny: DenseCLIP, tmp_path: Path, tiny_config: dict, full_disk: Callable
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=r"cannot write .*a\.safetensors"), full_disk():
        save_clip(tiny, path, tiny_config)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.safetensors"]


def test_shipped_checkpoint_is_small_enough() -> None:
    assert (data_dir() / "checkpoints" / "collage-mini.safetensors").stat().st_size <= 24 * 2**20


@pytest.mark.parametrize("option", [{"pretrained": "openai"}, {"quick_gelu": True}])
def test_a_checkpoint_of_ours_takes_no_word_on_its_weights(tiny_checkpoint: Path, option: dict) -> None:
    with pytest.raises(ValueError, match="carries its weights and says how they compute"):
        load_clip(str(tiny_checkpoint), **option)


def test_weights_that_are_not_finite_are_not_written(
    make_tiny: Callable[..., DenseCLIP], tmp_path: Path, tiny_config: dict
) -> None:
    clip = make_tiny()
    with torch.no_grad():
        clip.visual.proj[0, 0] = 1e6  # finite, but not in half precision
    with pytest.raises(ValueError, match=r"visual\.proj is not finite in half precision"):
        save_clip(clip, tmp_path / "clip.safetensors", tiny_config)
    assert not list(tmp_path.iterdir())
