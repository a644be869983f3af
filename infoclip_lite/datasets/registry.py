"""Every data set by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .collage import Collage
from .fetching.files import data_root
from .official.ade20k import ade20k_150, ade20k_847
from .official.coco_stuff import OFFICIAL as _COCO
from .official.coco_stuff import coco_stuff
from .official.pascal_context import pascal_context
from .official.voc import pascal_voc
from .pictures import Pictures


class Entry(NamedTuple):
    """A data set that must be fetched.

    Attributes:
        build: (root, split, synonyms=...) -> `Pictures`.
        source: what `infoclip-lite data download` calls its files.
        official: number of pictures in each split.
    """

    build: Callable[..., Pictures]
    source: str
    official: dict[str, int]


_VOC = {"train": 10582, "val": 1449}
_CONTEXT = {"train": 4998, "val": 5105}
DATASETS: dict[str, Entry] = {
    "coco_stuff": Entry(coco_stuff, "coco_stuff", _COCO),
    "coco_stuff_zss": Entry(partial(coco_stuff, zero_shot=True), "coco_stuff", _COCO),
    "voc_zss": Entry(partial(pascal_voc, zero_shot=True), "voc", _VOC),
    "pas20": Entry(pascal_voc, "voc", _VOC),
    "pas20b": Entry(partial(pascal_voc, background=True), "voc", _VOC),
    "pc59": Entry(pascal_context, "pascal_context", _CONTEXT),
    "pc459": Entry(partial(pascal_context, classes=459), "pascal_context", _CONTEXT),
    "a150": Entry(ade20k_150, "ade20k", {"train": 20210, "val": 2000}),
    "a847": Entry(ade20k_847, "ade20k_full", {"train": 25574, "val": 2000}),
}


def build_dataset(name: str, split: str, root: str | Path | None = None, **options: Any) -> Collage | Pictures:
    """A split of a data set by its name.

    Args:
        name: "collage", or one of `DATASETS`: coco_stuff (171 classes), coco_stuff_zss (156/15), voc_zss (15/5), pas20, pas20b, pc59,
            pc459, a150, a847.
        split: "train" or "val"; Collage also has "test" and "test-new".
        root: folder of the data sets; None is $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data. Collage ships and needs none.
        options: of the data set, such as `synonyms=True` (encode synonyms too) or Collage's `size`.

    Raises:
        ValueError: no such data set (the nearest is named), or no such split.
        FileNotFoundError: the files are missing, or not all of them are there; says how to get them.
    """
    if name == "collage":
        return Collage(split, **options)
    return entry(name).build(data_root(root), split, **options)


def entry(name: str) -> Entry:
    """The entry of a data set.

    Raises:
        ValueError: no such data set; the nearest is named.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, ["collage", *DATASETS], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of collage, {', '.join(DATASETS)}"
        raise ValueError(f"unknown data set {name!r}; {hint}")
    return DATASETS[name]
