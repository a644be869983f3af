"""Trainings as maps: each shows what the segmentor says at its step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infoclip_lite import train
from infoclip_lite.datasets import held_out_data
from infoclip_lite.studies.degradation_frames import unpack
from infoclip_lite.studies.training_maps import KEYS, TRAININGS, telling, training_maps

SMALL = {"steps": 2, "batch": 2, "data": {"size": 32}, "evaluation": {"at": [0, 2], "scenes": 4}}
SMALL["machine"] = {"dtype": "float32"}  # maps of one scene alone, and of several at once


def test_maps_are_the_trainings_own(tmp_path: Path) -> None:
    repaired = {"repaired": {"objective": {"name": "feature", "weight": 1.0}}}
    report = training_maps(trainings={"plain": {}, **repaired}, scenes=2, out=tmp_path / "maps.json", **SMALL)
    assert list(report["trainings"]) == ["plain", "repaired"] and report["measured"] == 4
    run = train("mini/plain-few", progress=False, **SMALL)
    frames = report["trainings"]["plain"]["frames"]
    for frame, record in zip(frames, run.evaluations(), strict=True):
        assert [frame[key] for key in KEYS] == [round(record[key], 4) for key in KEYS]
    data = held_out_data(run.recipe.data, "val", length=60)
    scene, model = data[report["scenes"][1]], run.model
    logits = model.decode(model.encode(scene.image[None]), model.encode_text(data.names))[0].numpy()
    maps = unpack(frames[-1]["maps"]).astype(float) / 255 * (report["high"] - report["low"]) + report["low"]
    step = (report["high"] - report["low"]) / 255
    assert np.abs(maps[len(data.names) :] - logits).max() < step, "the second scene, after the last step"
    assert report["words"][1] == sorted(set(scene.mask.unique().tolist()))
    assert unpack(report["images"]).shape == (2, 32, 32, 3)


def test_scenes_show_a_learnt_and_an_unseen_noun() -> None:
    data = held_out_data({"name": "collage", "size": 32}, "val", length=30)
    groups = data.class_groups
    for index in telling(data, 3):
        present = set(data[index].mask.unique().tolist())
        assert present & set(groups["seen"]) and present & set(groups["unseen"])
    with pytest.raises(ValueError, match="expected 1000"):
        telling(data, 1000)


def test_the_repair_is_the_recipes_own_objective() -> None:
    from infoclip_lite.training.recipe import load_finetuning

    repair, recipe = TRAININGS["repaired"], load_finetuning("mini/infoclip")
    given = load_finetuning("mini/plain-few", **repair)
    assert given.objective == recipe.objective and given.anchors == recipe.anchors
