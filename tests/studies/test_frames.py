"""A training as frames: each shows what the segmentor says at its step, with the training's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infoclip_lite import train
from infoclip_lite.datasets import held_out_data
from infoclip_lite.studies.degradation_frames import KEYS, degradation_frames, pack, unpack

SMALL = {"steps": 2, "batch": 2, "data": {"size": 32}, "evaluation": {"at": [0, 2], "scenes": 4}}
SMALL["machine"] = {"dtype": "float32"}  # labels of one scene alone, and of several at once


def test_frames_are_the_trainings_own(tmp_path: Path) -> None:
    report = degradation_frames("mini/plain-few", out=tmp_path / "frames.json", **SMALL)
    run = train("mini/plain-few", progress=False, **SMALL)
    assert [frame["step"] for frame in report["frames"]] == [0, 2]
    for frame, record in zip(report["frames"], run.evaluations(), strict=True):
        assert [frame[key] for key in KEYS] == [round(record[key], 4) for key in KEYS]
    scenes = held_out_data(run.recipe.data, "val", length=4)
    images, truth = unpack(report["images"]), unpack(report["truth"])
    assert images.shape == (3, 32, 32, 3) and (truth == np.stack([scenes[i].mask for i in range(3)])).all()
    said = run.model(scenes[1].image[None], run.model.encode_text(scenes.names))[0].argmax(0).numpy()
    assert (unpack(report["frames"][-1]["labels"])[1] == said).all(), "after the last step"
    assert report["names"] == list(scenes.names) and report["unseen"] == list(scenes.unseen)


def test_a_recipe_that_is_never_looked_at_is_refused() -> None:
    with pytest.raises(ValueError, match="got recipe 'mini/head'; expected one with steps in evaluation.at"):
        degradation_frames("mini/head")
    with pytest.raises(ValueError, match="is a recipe for pretraining"):
        degradation_frames("mini/pretrain")


def test_pictures_survive_packing() -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    assert (unpack(pack(stack)) == stack).all() and (unpack(pack(stack[..., 0])) == stack[..., 0]).all()
    with pytest.raises(ValueError, match="got float64; expected uint8"):
        pack(np.zeros((1, 2, 2)))
