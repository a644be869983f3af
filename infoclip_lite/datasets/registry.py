"""Every data set by name: one line in a table for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.lookup import call, find, split_section
from .base import SegmentationDataset, Segmented, Trainable
from .collage import Collage
from .fetching.files import data_root
from .folder import Folder
from .official.ade20k import ade20k_150, ade20k_847
from .official.coco_stuff import OFFICIAL as _COCO
from .official.coco_stuff import coco_stuff
from .official.pascal_context import pascal_context
from .official.voc import pascal_voc

if TYPE_CHECKING:
    from .crops import TrainingCrops

_WHAT = "data set"
_CROPPING = (
    "size",
    "skip_corrupt",
    "category",
    "colour",
)  # what a section says of training crops, not of the pictures
_CROP_SIZE = 96  # pixels, Collage's own default: a recipe that changes its data set alone keeps its size


@dataclass(frozen=True)
class Entry:
    """A data set of pictures in files, of any size: it is tested on as it is, and learnt from in crops.

    Attributes:
        build: (root, split, options) -> the split.
        source: what `infoclip-lite data download` calls its files; None where there is nothing to download.
        official: number of pictures in each split, where that is known.
        counted: where those numbers are from, and how sure that is; another number is a warning, no error.
        owned: a user's own files: there is no place where they would be looked for, so a root must be said.
    """

    build: Callable[..., Segmented]
    source: str | None = None
    official: Mapping[str, int] = field(default_factory=dict)
    counted: str = ""
    owned: bool = False

    def open(self, name: str, split: str, options: Mapping[str, object]) -> Segmented:
        """A split.

        Args:
            name: of the data set, for messages.
            split: which.
            options: of the data set, and "root".
        """
        # Only a user knows where a user's files are; the official ones have one place for all.
        rest = dict(options)
        root = rest.pop("root", None)
        if not isinstance(root, str | Path) and (self.owned or root is not None):
            raise ValueError(f"root of {_WHAT} {name!r} is {root!r}; expected a folder")
        found = call(self.build, (data_root(root), split), rest, f"{_WHAT} {name!r}")
        if isinstance(found, SegmentationDataset):
            found.known_as = name
        return found

    def held_out(self, name: str, split: str, options: Mapping[str, object], length: int) -> Segmented:
        """What a training is watched on: every picture there is; how crops are made plays no part."""
        _refuse_seen(name, options)
        rest = {key: options[key] for key in options if key not in (*_CROPPING, "seen")}
        return self.open(name, split, rest)

    def training(self, name: str, options: Mapping[str, object], seed: int, length: int) -> Trainable:
        """What a training learns from: crops, of which there is no end."""
        # The same options as for the test: what is learnt from and what is tested on have the same classes.
        return crops(self.held_out(name, "train", options, length), options, seed, name)


@dataclass(frozen=True)
class Rendered(Entry):
    """A data set that draws its items by number, all of one size and as many as it is asked for.

    It ships and needs no root.

    Attributes:
        build: (split, seed=..., length=..., options) -> the split.
    """

    def open(self, name: str, split: str, options: Mapping[str, object]) -> Segmented:
        """A split; a root is no matter, it ships."""
        rest = {key: options[key] for key in options if key != "root"}
        return call(self.build, (split,), rest, f"{_WHAT} {name!r}")

    def held_out(self, name: str, split: str, options: Mapping[str, object], length: int) -> Segmented:
        """What a training is watched on: `length` scenes."""
        return self.open(name, split, _numbered(name, options, length=length))

    def training(self, name: str, options: Mapping[str, object], seed: int, length: int) -> Trainable:
        """What a training learns from: `length` scenes."""
        # Seeds of trainings begin at 1000: scenes of small seeds, which are looked at, were not learnt from.
        data = self.open(name, "train", _numbered(name, options, seed=1000 + seed, length=length))
        if not isinstance(data, Trainable):
            expected = "one that a training can go through without end"
            raise ValueError(f"{_WHAT} {name!r} has no `place`; expected {expected}")
        return data


_VOC = {"train": 10582, "val": 1449}
_VOC_COUNTED = "[N] READMEs that follow mmsegmentation (trainaug, val); VOC's and SBD's own lists decide"
_CONTEXT = {"train": 4998, "val": 5105}
_CONTEXT_COUNTED = "val [C] VOC 2010's val.txt; train from memory; the list in the archive decides"
_COCO_COUNTED = "[P] nightrome/cocostuff, README.md: 118K and 5K; to the last one [N]"
_ADE_COUNTED = "[N] READMEs that fetch the archive; the list in it decides"
_FULL_COUNTED = "from memory of the release; its index decides"
DATASETS: dict[str, Entry] = {
    "collage": Rendered(Collage),
    "folder": Entry(Folder, owned=True),
    "coco_stuff": Entry(coco_stuff, "coco_stuff", _COCO, _COCO_COUNTED),
    "coco_stuff_zss": Entry(partial(coco_stuff, zero_shot=True), "coco_stuff", _COCO, _COCO_COUNTED),
    "voc_zss": Entry(partial(pascal_voc, zero_shot=True), "voc", _VOC, _VOC_COUNTED),
    "pas20": Entry(pascal_voc, "voc", _VOC, _VOC_COUNTED),
    "pas20b": Entry(partial(pascal_voc, background=True), "voc", _VOC, _VOC_COUNTED),
    "pc59": Entry(pascal_context, "pascal_context", _CONTEXT, _CONTEXT_COUNTED),
    "pc60": Entry(partial(pascal_context, classes=60), "pascal_context", _CONTEXT, _CONTEXT_COUNTED),
    "pc459": Entry(partial(pascal_context, classes=459), "pascal_context", _CONTEXT, _CONTEXT_COUNTED),
    "a150": Entry(ade20k_150, "ade20k", {"train": 20210, "val": 2000}, _ADE_COUNTED),
    "a847": Entry(ade20k_847, "ade20k_full", {"train": 25574, "val": 2000}, _FULL_COUNTED),
}


def downloadable() -> dict[str, Entry]:
    """The data sets that are to be downloaded, each with its `source`."""
    return {name: entry for name, entry in DATASETS.items() if entry.source is not None}


def build_data(section: Mapping[str, object], split: str) -> Segmented:
    """A split of the data set that a section describes.

    Args:
        section: {"name": one of `DATASETS`, **options}: "root" of data sets in files, `size`, `length`,
            `seed` ... of Collage.
        split: "train" or "val"; Collage also has "test" and "test-known".

    Raises:
        ValueError: no such data set, option or split; the nearest is named.
        FileNotFoundError: the files are missing, or not all of them are there; says how to get them.

    >>> build_data({"name": "collage", "size": 48, "length": 3}, "test")[0].image.shape
    torch.Size([3, 48, 48])
    """
    name, options = split_section(section, _WHAT)
    return find(DATASETS, name, _WHAT).open(name, split, options)


def build_dataset(name: str, split: str, root: str | Path | None = None, **options: object) -> Segmented:
    """A split of a data set by its name.

    Args:
        name: one of `DATASETS`: collage, folder (of one's own, see `Folder`), coco_stuff (171 classes),
            coco_stuff_zss (156/15), voc_zss (15/5), pas20, pas20b, pc59, pc60, pc459, a150,
            a847.
        split: "train" or "val"; Collage also has "test" and "test-known".
        root: folder of the data sets; None is $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data. Collage
            ships and needs none.
        options: of the data set, such as `synonyms=True` (encode synonyms too) or Collage's `size`.

    Raises:
        ValueError: no such data set, option or split; the nearest is named.
        FileNotFoundError: the files are missing, or not all of them are there; says how to get them.
    """
    return build_data({"name": name, "root": root, **options}, split)


def training_data(
    section: Mapping[str, object],
    *,
    seed: int,
    length: int,
    data: Segmented | None = None,
) -> Trainable:
    """What a training learns from: item i is the same in every run, process and worker.

    Rendered scenes (Collage) are drawn for the training; pictures in files are cut into crops without end,
    see `TrainingCrops`. A training takes `data[data.place(i)]` as its i-th item.

    Args:
        section: {"name": one of `DATASETS`, **options}, those of the data set and, for pictures, of their
            crops: `size`, the side in pixels (96 by default), `skip_corrupt`, `category` and `colour`.
        seed: another seed, other scenes, or other crops in another order.
        length: number of scenes; crops have no end.
        data: a data set of one's own in place of the one that the section names; it is cut into crops as the
            section says, unless it is `Trainable` itself.

    Raises:
        ValueError: no such data set or option (the nearest is named), or `seen` for a data set that says
            itself what is unseen.
        FileNotFoundError: files are missing; says how to get them.
    """
    name, options = split_section(section, _WHAT)
    # What has items of one size is taken as it is: its owner has decided how they are cut.
    if isinstance(data, Trainable):
        return data
    if data is not None:
        return crops(data, options, seed, type(data).__name__)
    return find(DATASETS, name, _WHAT).training(name, options, seed, length)


def held_out_data(section: Mapping[str, object], split: str, length: int) -> Segmented:
    """What a training is watched on.

    Args:
        section: the one that `training_data` got; what it says of crops plays no part.
        split: which.
        length: number of scenes, of rendered ones; pictures in files are as many as there are.

    Raises:
        ValueError, FileNotFoundError: as `build_data`.
    """
    name, options = split_section(section, _WHAT)
    return find(DATASETS, name, _WHAT).held_out(name, split, options, length)


def crops(data: Segmented, options: Mapping[str, object], seed: int, name: str) -> TrainingCrops:
    """Training crops of a data set.

    Args:
        data: the pictures.
        options: a section's; those that are not about crops are passed over.
        seed: of the crops and their order.
        name: of the data set, for messages.

    Raises:
        ValueError: an option out of range, or `seen`.
    """
    from .crops import TrainingCrops  # here: it loads torch, which a list of data sets does without

    _refuse_seen(name, options)
    chosen = {"size": _CROP_SIZE, **{key: options[key] for key in _CROPPING if key in options}, "seed": seed}
    return call(TrainingCrops, (data,), chosen, f"training crops of {name!r}")


def _refuse_seen(name: str, options: Mapping[str, object]) -> None:
    """Refuse `seen`, which Collage alone is asked; None asks nothing."""
    # Not passed over: no number would show that a training learnt from classes that it was to leave out.
    if options.get("seen") is not None:
        raise ValueError(
            f"got seen={options['seen']!r} with data={name!r}; expected none: "
            "a data set of pictures says itself what is unseen "
            "(coco_stuff_zss, voc_zss, `unseen` of a folder)"
        )


def _numbered(name: str, options: Mapping[str, object], **numbers: int) -> dict[str, object]:
    """Options with what the training says of seed and length."""
    # Two places to say one thing would disagree one day: the recipe's own keys are the place.
    twice = [key for key in ("seed", "length") if key in options]
    if twice:
        got = f"{', '.join(twice)} in {_WHAT} {name!r}"
        raise ValueError(f"got {got}; expected none: seed, steps and scenes of a recipe say it")
    return {**options, **numbers}
