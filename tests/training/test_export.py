"""Export: the file gives the model's logits, holds the words, and nothing of CLIP's image tower but what the
head borrowed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.segmentors import ChimeraSeg
from infoclip_lite.training.export import FixedWords, export_onnx

MakeTiny = Callable[..., DenseCLIP]
NAMES = ["cow", "lion|big cat", "apple", "grass"]


def student(make_tiny: MakeTiny) -> ChimeraSeg:
    """Of a random body whose batch norms have seen pictures."""
    clip = make_tiny()
    torch.manual_seed(0)
    segmentor = ChimeraSeg(clip, encoder="tu-mobilenetv3_small_050", weights=None, width=32, pool=2)
    segmentor.prepare(pictures(4))
    for step in range(3):
        segmentor.train().encode(pictures(4, seed=step))
    return segmentor.eval().requires_grad_(False)


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def exported(make_tiny: MakeTiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[ChimeraSeg, Path]:
    pytest.importorskip("onnxscript")
    segmentor, path = student(make_tiny), tmp_path_factory.mktemp("export") / "deep" / "student.onnx"
    assert export_onnx(segmentor, NAMES, path, size=64) == path
    return segmentor, path


@pytest.fixture(scope="module")
def session(exported: tuple[ChimeraSeg, Path]) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(
        str(exported[1]), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_the_file_gives_the_models_logits(
    exported: tuple[ChimeraSeg, Path], session: Any, batch: int
) -> None:
    segmentor, images = exported[0], pictures(batch, seed=7)
    wanted = segmentor(images, segmentor.encode_text(NAMES))
    (got,) = session.run(["logits"], {"images": images.numpy()})
    assert got.shape == (batch, 4, 64, 64)
    assert (torch.from_numpy(got) - wanted).abs().max() < 1e-4 and wanted.std() > 0.1


def test_clips_image_tower_and_text_tower_are_not_in_the_file(exported: tuple[ChimeraSeg, Path]) -> None:
    import onnx

    segmentor, path = exported
    weights = onnx.load(path).graph.initializer
    assert not [w.name for w in weights if ".clip." in w.name and not w.name.endswith("logit_scale")]
    patches, position = (
        tuple(segmentor.clip.visual.conv1.weight.shape),
        tuple(segmentor.clip.visual.positional_embedding.shape),
    )
    assert not {patches, position} & {tuple(w.dims) for w in weights}
    words, statistics = len(NAMES) * 32, sum(b.numel() for b in segmentor.body.buffers())
    needed = sum(segmentor.weights_at_inference().values()) + words + statistics
    stored = sum(torch.Size(w.dims).numel() for w in weights)
    assert 0.9 * needed < stored < needed + 500, "body, head and words, and little else"
    assert sorted(os.listdir(path.parent)) == ["student.onnx"], "the weights are inside, nothing lies beside"


def test_the_words_are_in_the_file(exported: tuple[ChimeraSeg, Path], session: Any) -> None:
    assert json.loads(session.get_modelmeta().custom_metadata_map["names"]) == NAMES


def test_exporting_leaves_the_model_and_the_messages_as_they_were(
    exported: tuple[ChimeraSeg, Path], make_tiny: MakeTiny
) -> None:
    after, before = exported[0].state_dict(), student(make_tiny).state_dict()
    assert (
        all(torch.equal(value, before[key]) for key, value in after.items())
        and logging.root.manager.disable == logging.NOTSET
    )


def test_words_are_fixed_at_the_time_of_export(make_tiny: MakeTiny) -> None:
    segmentor = student(make_tiny)
    fixed, wanted = FixedWords(segmentor, NAMES), segmentor(pictures(1), segmentor.encode_text(NAMES))
    assert not list(set(fixed.parameters()) - set(segmentor.parameters()))
    segmentor.clip.model.token_embedding.weight.zero_()
    assert torch.allclose(fixed(pictures(1)), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "size", "hint"),
    [(NAMES, 60, "multiples of 32"), ([], 64, "names|words"), (["cow", "cow"], 64, "cow")],
)
def test_what_cannot_be_exported_leaves_no_file(
    make_tiny: MakeTiny, tmp_path: Path, names: list[str], size: int, hint: str
) -> None:
    with pytest.raises(ValueError, match=hint):
        export_onnx(student(make_tiny), names, tmp_path / "student.onnx", size=size)
    assert not os.listdir(tmp_path)


def test_a_full_disk_leaves_no_half_file(
    exported: tuple[ChimeraSeg, Path], tmp_path: Path, full_disk: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    program = type("Program", (), {"model_proto": onnx.load(exported[1])})
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: program)
    with pytest.raises(OSError, match=r"cannot write .*student\.onnx"), full_disk():
        export_onnx(exported[0], NAMES, tmp_path / "student.onnx", size=64)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_way_to_get_it(
    make_tiny: MakeTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"needs .*onnx and onnxscript.*{package}.*pip install 'infoclip-lite\[chimera\]'"
    ):
        export_onnx(student(make_tiny), NAMES, tmp_path / "student.onnx", size=64)
    assert not os.listdir(tmp_path)
