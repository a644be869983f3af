"""From a section of a recipe to a data set: what is tested on, what is learnt from."""

from __future__ import annotations

from pathlib import Path

import pytest
import real_data
import torch

from infoclip_lite.datasets import (
    Collage,
    TrainingCrops,
    build_data,
    build_dataset,
    held_out_data,
    training_data,
)
from infoclip_lite.datasets.collage import SPLITS, stuff
from infoclip_lite.datasets.registry import DATASETS, Entry, downloadable

pytestmark = pytest.mark.filterwarnings("ignore:.*the official .* split has")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    real_data.write_coco(folder)
    real_data.write_voc(folder)
    return folder


def same(one: object, other: object, count: int = 4) -> bool:
    pairs = [(one[i], other[i]) for i in range(count)]
    return all(torch.equal(a.image, b.image) and torch.equal(a.mask, b.mask) for a, b in pairs)


def test_a_section_is_a_name_and_options(root: Path) -> None:
    scenes = build_data({"name": "collage", "size": 32, "seed": 5, "classes": ["cow", "grass"]}, "test")
    assert same(scenes, Collage("test", 32, ["cow", "grass"], 5)) and scenes.names == ("cow", "grass")
    voc = build_data({"name": "voc_zss", "root": root, "synonyms": True}, "val")
    assert voc.describe() == build_dataset("voc_zss", "val", root, synonyms=True).describe()
    assert build_data({"name": "voc_zss", "root": str(root)}, "val").describe() != voc.describe()


def test_scenes_to_learn_from_are_seeded_apart_from_those_to_look_at() -> None:
    section = {"name": "collage", "size": 32, "seen": ["cow", "truck"]}
    data = training_data(section, seed=2, length=40)
    assert same(data, Collage("train", 32, seed=1002, length=40, seen=["cow", "truck"])) and len(data) == 40
    assert {name for i, name in enumerate(data.names) if i not in data.unseen} == {"cow", "truck", *stuff()}
    section["seen"] = ["cow", "truck", "chair"]
    held_out, data = held_out_data(section, "val", 7), training_data(section, seed=2, length=40)
    assert (
        same(held_out, Collage("val", 32, seen=section["seen"]))
        and len(held_out) == 7
        and held_out.unseen == data.unseen
    )


def test_every_split_of_collage_is_built_by_its_name() -> None:
    for split in SPLITS:
        scenes = build_dataset("collage", split, size=32, length=3)
        assert scenes.split == split and same(scenes, Collage(split, 32, length=3), 3)
        # Documented where a split is asked for: a name that went is told to no one.
        assert f'"{split}"' in str(build_dataset.__doc__) and f'"{split}"' in str(build_data.__doc__)
    with pytest.raises(
        ValueError, match="unknown split 'test-new'; expected one of train, val, test, test-known"
    ):
        build_dataset("collage", "test-new")


def test_pictures_to_learn_from_are_cropped_and_those_to_test_on_are_whole(root: Path) -> None:
    section = {"name": "coco_stuff_zss", "size": 16, "root": root, "skip_corrupt": True, "colour": False}
    crops = training_data(section, seed=3, length=5)
    expected = TrainingCrops(build_dataset("coco_stuff_zss", "train", root), 16, seed=3, colour=False)
    assert same(crops, expected, 9) and crops.skip_corrupt and crops.unseen == expected.unseen
    held_out = held_out_data(section, "val", 5)
    assert held_out.describe() == build_dataset("coco_stuff_zss", "val", root).describe()
    assert training_data({"name": "pas20", "root": root, "seen": None}, seed=0, length=1)[0].image.shape == (
        3,
        96,
        96,
    )


def test_a_data_set_of_ones_own_takes_the_place_of_the_named_one(root: Path) -> None:
    pictures = build_dataset("pas20", "train", root)
    section = {"name": "collage", "size": 16, "objects": [1, 2]}
    assert same(training_data(section, seed=1, length=3, data=pictures), TrainingCrops(pictures, 16, seed=1))
    scenes = Collage("train", 32)
    assert training_data(section, seed=1, length=3, data=scenes) is scenes


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "colage"}, "unknown data set 'colage'; did you mean 'collage'"),
        ({"size": 3}, "expected name"),
        ({"name": "collage", "sizes": 32}, "unknown key 'sizes' in data set 'collage'; did you mean 'size'"),
        ({"name": "collage", "size": "large"}, "data set 'collage' cannot be built from .*large"),
        ({"name": "collage", "seed": 3}, "got seed in data set 'collage'"),
        ({"name": "collage", "length": 3}, "got length in data set 'collage'"),
        (
            {"name": "coco_stuff", "seen": ["cow"]},
            r"got seen=\['cow'\] with data='coco_stuff'; expected none: .*says itself",
        ),
        ({"name": "coco_stuff", "synonym": True}, "did you mean 'synonyms'"),
        ({"name": "coco_stuff", "root": 3}, "root of data set 'coco_stuff' is 3; expected a folder"),
    ],
)
def test_wrong_sections_are_refused_with_a_hint(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        training_data(section, seed=0, length=4)
    with pytest.raises(ValueError, match=said):
        held_out_data(section, "val", 4)


def test_wrong_crops_are_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="a crop of 16 pixels or more"):
        training_data({"name": "pas20", "root": root, "size": 8}, seed=0, length=4)
    with pytest.raises(ValueError, match="training crops of 'pas20' cannot be built"):
        training_data({"name": "pas20", "root": root, "size": "large"}, seed=0, length=4)
    with pytest.raises(ValueError, match="says itself what is unseen"):
        training_data(
            {"name": "collage", "seen": ["cow"]}, seed=0, length=4, data=build_dataset("pas20", "val", root)
        )


def test_a_new_data_set_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voc = DATASETS["voc_zss"].build
    monkeypatch.setitem(
        DATASETS, "mine", Entry(lambda root, split, *, synonyms=False: voc(root, split, synonyms=synonyms))
    )
    section = {"name": "mine", "root": root, "size": 16}
    assert held_out_data(section, "val", 1).names[0] == "aeroplane"
    assert training_data(section, seed=0, length=1)[0].mask.shape == (16, 16)
    assert "mine" not in downloadable() and "collage" not in downloadable()
