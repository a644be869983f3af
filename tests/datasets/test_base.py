"""What every data set has, in the words of its protocols."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import real_data
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from infoclip_lite.datasets import (
    Captioned,
    Collage,
    Folder,
    Item,
    Sample,
    SegmentationDataset,
    Segmented,
    Trainable,
    TrainingCrops,
    build_dataset,
    caption_words,
    captioned_items,
    check_segmented,
)
from infoclip_lite.datasets.collage import all_nouns

pytestmark = pytest.mark.filterwarnings("ignore:.*the official .* split has")


class Two(SegmentationDataset):
    """A data set of one's own, as short as it can be."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < 2:
            raise IndexError(index)
        return Sample(torch.zeros(3, 20, 30), torch.full((20, 30), index), f"{index}.png")


COCO = "coco-stuff/{}/val2017"
OWN = {
    "images": COCO.format("images"),
    "labels": COCO.format("annotations"),
    "names": [f"class {i}" for i in range(182)],
}
MAKERS: dict[str, Callable[[Path], Segmented]] = {
    "Collage": lambda root: Collage("val", 32, length=3),
    "Pictures": lambda root: build_dataset("coco_stuff_zss", "val", root),
    "Folder": lambda root: Folder(root, **OWN),
    "TrainingCrops": lambda root: TrainingCrops(build_dataset("coco_stuff_zss", "val", root), 16),
    "SegmentationDataset": lambda root: Two(["cow", "grass"]),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    real_data.write_coco(folder)
    return folder


@pytest.mark.parametrize("kind", MAKERS)
def test_every_data_set_is_segmented(root: Path, kind: str) -> None:
    dataset = MAKERS[kind](root)
    assert isinstance(dataset, Segmented) and check_segmented(dataset) is dataset
    assert len(dataset.words) == len(dataset.owners) and set(dataset.unseen) <= set(range(len(dataset.names)))
    item = dataset[0]
    assert isinstance(item, Item) and item[0] is item.image and item[1] is item.mask
    assert item.image.shape[1:] == item.mask.shape and item.mask.dtype == torch.int64
    assert set(item.mask.unique().tolist()) <= {*range(len(dataset.names)), dataset.ignore}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_description_can_be_stored_and_tells_classes_and_lengths_apart(root: Path, kind: str) -> None:
    dataset = MAKERS[kind](root)
    said = dataset.describe()
    assert json.loads(json.dumps(said)) == said == MAKERS[kind](root).describe()
    assert said["items"] == len(dataset) and said["ignore"] == 255


def test_descriptions_differ_where_data_sets_differ(root: Path) -> None:
    pictures = [
        build_dataset(name, split, root)
        for name in ("coco_stuff", "coco_stuff_zss")
        for split in ("train", "val")
    ]
    scenes = [
        Collage("val"),
        Collage("test"),
        Collage("val", 48),
        Collage("val", seed=1),
        Collage("val", seen=["chair"]),
        Collage("val", length=9),
        Collage("val", objects=(2, 3)),
        Collage("val", scale=(0.3, 0.7)),
        Collage("val", classes=["chair", "grass"]),
    ]
    crops = [TrainingCrops(pictures[i], 16 + j, seed=k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    own = [
        Two(["cow", "grass"]),
        Two(["grass", "cow"]),
        Two(["cow", "grass"], unseen=[1]),
        Two(["cow", "grass"], ignore=7),
    ]
    said = [json.dumps(dataset.describe()) for dataset in (*pictures, *scenes, *crops, *own)]
    assert len(set(said)) == len(said)


def test_files_of_another_name_are_another_data_set(root: Path, tmp_path: Path) -> None:
    real_data.write_coco(tmp_path)
    assert (
        build_dataset("coco_stuff", "val", tmp_path).describe()
        != build_dataset("coco_stuff", "val", root).describe()
    )


def test_what_can_be_trained_on_has_a_place_for_every_number(root: Path) -> None:
    scenes, crops = MAKERS["Collage"](root), MAKERS["TrainingCrops"](root)
    assert isinstance(scenes, Trainable) and [scenes.place(i) for i in (0, 2, 3, 10)] == [0, 2, 0, 1]
    assert isinstance(crops, Trainable) and [crops.place(i) for i in (0, 2, 3, 10)] == [0, 2, 3, 10]
    assert not isinstance(MAKERS["Pictures"](root), Trainable)


def test_defaults_of_a_data_set_of_ones_own() -> None:
    dataset = Two(["cow", "grass"])
    assert (dataset.words, dataset.owners, dataset.unseen) == (("cow", "grass"), (0, 1), ())
    assert (dataset.ignore, dataset.split) == (255, "")
    assert Two([f"class {i}" for i in range(254)]).ignore == 255
    assert Two([f"class {i}" for i in range(255)]).ignore == 65535
    assert len(list(dataset)) == 2
    assert [batch[1].shape for batch in DataLoader(dataset, batch_size=2)] == [(2, 20, 30)]


def test_crops_of_more_than_254_classes_fill_up_with_65535() -> None:
    crops = TrainingCrops(Two([f"class {i}" for i in range(300)]), 32, shorter=(16,), colour=False)
    crop = crops[0]
    assert crops.ignore == 65535 and (crop.mask[16:] == 65535).all() and (crop.mask[:16] != 65535).any()


def test_what_a_data_set_lacks_is_named() -> None:
    class Plain:
        names, unseen = ("cow",), ()

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return torch.zeros(3, 8, 8), torch.zeros(8, 8).long()

    with pytest.raises(
        ValueError, match="got a Plain without ignore, words, owners, split, describe; .*SegmentationDataset"
    ):
        check_segmented(Plain())
    with pytest.raises(ValueError, match="got a list without names"):
        check_segmented([1])


def test_captions_are_found_where_there_are_some(root: Path) -> None:
    scenes = Collage("val", 32, length=3)
    taken = captioned_items(scenes, 2)
    assert (
        len(taken) == 2
        and all(isinstance(item, Captioned) for item in taken)
        and taken[1].caption == scenes[1].caption
    )
    assert len(captioned_items(scenes, 9)) == 3 and captioned_items(scenes, 0) == []
    assert captioned_items(MAKERS["Pictures"](root), 2) == []


def test_one_picture_tells_that_there_are_no_captions() -> None:
    class Counted(Two):
        read = 0

        def __getitem__(self, index: int) -> Sample:
            self.read += 1
            return super().__getitem__(index)

    dataset = Counted(["cow", "grass"])
    assert captioned_items(dataset, 2) == [] and dataset.read == 1


def test_words_of_captions_that_are_no_classes(root: Path) -> None:
    scenes = Collage("val", 32)
    assert caption_words(scenes) == tuple(noun for noun in all_nouns() if noun not in scenes.names)
    with pytest.raises(ValueError, match="anchors from the captions of Pictures; expected none"):
        caption_words(MAKERS["Pictures"](root))
