"""What a recipe computes, where neither its data nor its weights are: noise and random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..core.labels import IGNORE
from ..core.lookup import check_options, split_section
from ..datasets import Sample, SegmentationDataset
from ..datasets.base import ImageLevel
from ..datasets.official.classes import COCO_STUFF_UNSEEN, VOC_UNSEEN, class_table
from ..datasets.points import CLOUDS, PointScene
from ..datasets.points.scans import FRAMES, POINTS, SCANNET, SCANNET_UNSEEN, SIZE, check_taken
from .recipe import FineTuneRecipe, PointsRecipe

# Which table has the names of a data set in files.
_TABLES: dict[str, str] = {
    "coco_stuff": "coco_stuff",
    "coco_stuff_zss": "coco_stuff",
    "voc_zss": "voc",
    "pas20": "voc",
    "pas20b": "voc",
    "pc59": "pc59",
    "pc60": "pc59",
    "a150": "ade150",
    "a847": "ade847",
}
_UNSEEN = {"coco_stuff_zss": COCO_STUFF_UNSEEN, "voc_zss": VOC_UNSEEN}
_OTHERS = 20  # classes of a data set whose names are not known here
_ROOM = (5.0, 2.5, 5.0)  # metres of a scene of noise; the second is its height
_SIZE = 96  # of crops, where a recipe does not say it
# Of one length and without a noun that a caption would be exchanged for: a batch costs what its longest
# sentence does, and it is to grow with the number of pictures alone.
_SENTENCE = "this is about as long as what people usually say of what they see"


class Noise(SegmentationDataset):
    """Pictures of noise with labels of noise: what they cost is what real ones cost, but for decoding.

    Args:
        names: of the classes.
        size: (height, width) of a picture in pixels.
        unseen: names of classes that must not be learnt from.
    """

    def __init__(self, names: tuple[str, ...], size: tuple[int, int], unseen: tuple[str, ...] = ()) -> None:
        super().__init__(names, split="noise", unseen=[names.index(name) for name in unseen])
        self.size = size

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int, /) -> Sample:
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, *self.size, generator=generator)
        mask = torch.randint(len(self.names), self.size, generator=generator)
        return Sample(image, mask, f"noise {index}")

    def image_level(self, index: int) -> ImageLevel:
        """The picture, a word or two, and a sentence."""
        sample = self[index]
        words = tuple({index % len(self.names), (3 * index + 1) % len(self.names)})
        return ImageLevel(sample.image, words, (_SENTENCE,), sample.path)

    def place(self, number: int) -> int:
        """Another picture for every number, for as long as there are any."""
        return number % len(self)


def stand_in(recipe: FineTuneRecipe) -> tuple[FineTuneRecipe, Noise, Noise]:
    """A recipe that needs no file, what it learns from, and what it is watched on.

    Args:
        recipe: of data in files.

    Returns:
        The recipe with random weights; noise in the crops' size; noise in the size of a photograph.
    """
    names, unseen = _classes(recipe.data)
    side = recipe.data.get("size", _SIZE)
    segmentor = {key: None if key == "weights" else value for key, value in recipe.segmentor.items()}
    clip = replace(recipe.clip, pretrained=None)
    same_size = replace(recipe, clip=clip, segmentor=segmentor, start=None)
    return same_size, Noise(names, (side, side), unseen), Noise(names, (375, 500), unseen)


def _classes(section: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of a data set, as many as it has, and those that are unseen."""
    name = str(section["name"])
    if name in _TABLES:
        return class_table(_TABLES[name]).names, _UNSEEN.get(name, ())
    given = section.get("names")
    names = tuple(map(str, given)) if isinstance(given, list) else tuple(f"thing {i}" for i in range(_OTHERS))
    return names, ()


class PointNoise:
    """Scenes of noise in the size of scanned ones: points on the walls, floor and ceiling of a room.

    Args:
        names: of the classes.
        unseen: names of classes that must not be learnt from.
        frames, points, size: what is taken of a scene; see `datasets.points.Scans`.
    """

    split, ignore, in_memory = "noise", IGNORE, False

    def __init__(
        self, names: tuple[str, ...], unseen: tuple[str, ...], frames: int, points: int, size: int
    ) -> None:
        self.names, self.unseen = names, tuple(names.index(name) for name in unseen)
        seen = tuple(i for i in range(len(names)) if i not in self.unseen)
        self.class_groups = {"seen": seen, "unseen": self.unseen}
        self.taken = (frames, points, size)

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int, /) -> PointScene:
        frames, count, size = self.taken
        generator = torch.Generator().manual_seed(index)
        places = torch.rand(count, 3, generator=generator)
        axis = torch.randint(3, (count, 1), generator=generator)
        points = places.scatter(1, axis, places.gather(1, axis).round()) * torch.tensor(_ROOM)
        width = round(4 / 3 * size)
        return PointScene(
            points,
            torch.rand(count, 3, generator=generator),
            torch.randint(len(self.names), (count,), generator=generator),
            torch.rand(frames, 3, size, width, generator=generator),
            torch.rand(frames, count, 2, generator=generator) * torch.tensor([width, size]),
            torch.rand(frames, count, generator=generator) < 0.5,
        )

    def describe(self) -> dict[str, object]:
        """What JSON can hold."""
        return {"kind": "PointNoise", "items": len(self), "taken": list(self.taken)}


def point_stand_in(recipe: PointsRecipe) -> tuple[PointsRecipe, PointNoise]:
    """A recipe that needs no file, and what it learns from.

    Args:
        recipe: of scans in files.

    Returns:
        The recipe with random weights, and the noise: of ScanNet's names, whatever those in the files are.

    Raises:
        ValueError: its scenes ship, it takes all points of a scene, however many these are, or an option that
            scans do not have.
    """
    section: dict[str, Any] = {"frames": FRAMES, "points": POINTS, "size": SIZE, **recipe.data}
    kind, options = split_section(section, "data set of points")
    if kind not in ("scans", "scannet") or section["points"] is None:
        raise ValueError(
            f"got noise for {recipe.name!r}, of data {recipe.data}; expected scans in files, and a number "
            "of points: what ships needs no noise"
        )
    check_options(CLOUDS[kind], options, f"data set of points {kind!r}", 1)
    check_taken(section["frames"], section["points"], section["size"])
    # The names of one's own scans stand in a file that need not be here.
    names, unseen = tuple(SCANNET.values()), SCANNET_UNSEEN
    noise = PointNoise(names, unseen, section["frames"], section["points"], section["size"])
    return replace(recipe, clip=replace(recipe.clip, pretrained=None)), noise
