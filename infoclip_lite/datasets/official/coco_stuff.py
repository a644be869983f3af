"""COCO-Stuff: COCO 2017 with 80 things and 91 kinds of stuff, all 171 or zero-shot 156/15.

    root/coco-stuff/images/{train2017,val2017}/*.jpg           train2017.zip, val2017.zip
    root/coco-stuff/annotations/{train2017,val2017}/*.png      stuffthingmaps_trainval2017.zip
    root/coco-stuff/annotations/captions_train2017.json        annotations_trainval2017.zip, if wanted

A PNG says COCO's category id minus one, 0..181, and 255 where nothing is labelled. Eleven categories (street
sign, hat, shoe, ...) were never labelled: their ids are gaps.
"""

from __future__ import annotations

import json
import os
import warnings
from functools import cache, partial
from pathlib import Path

from ...core.labels import IGNORE
from ..fetching.files import check_files, missing, split_of
from ..pictures import Pictures, lookup_table
from .classes import COCO_STUFF_UNSEEN, class_table

OFFICIAL = {"train": 118287, "val": 5000}
# [P] cocodataset.org, "2017 Train/Val annotations [241MB]"; from memory.
_CAPTIONS = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"


def coco_stuff(root: Path, split: str, *, zero_shot: bool = False, synonyms: bool = False) -> Pictures:
    """COCO-Stuff: 118,287 pictures of train, 5,000 of val.

    Args:
        root: folder of the data sets.
        split: "train" or "val".
        zero_shot: marks the 15 unseen classes of the 156/15 split.
        synonyms: encode synonyms beside the names that the papers encode.

    Raises:
        FileNotFoundError: pictures without labels or labels without pictures; says how to get them.
        ValueError: unknown split.
    """
    folder = f"{split_of(split)}2017"
    photos, labels = root / "coco-stuff" / "images" / folder, root / "coco-stuff" / "annotations" / folder
    for place in (photos, labels):
        if not place.is_dir():
            raise missing(f"no folder {place}", "coco_stuff", root)
    every = [name for place in (photos, labels) for name in os.listdir(place)]
    stems = sorted({os.path.splitext(name)[0] for name in every if name.endswith((".jpg", ".png"))})
    files = [(f"{photos}/{stem}.jpg", f"{labels}/{stem}.png") for stem in stems]
    check_files(files, "coco_stuff", root)
    # No error: there is no official list to hold against, and perhaps it is a subset on purpose.
    if len(files) != OFFICIAL[split]:
        warnings.warn(
            f"{photos} has {len(files)} pictures; the official {split} split has {OFFICIAL[split]}",
            stacklevel=2,
        )
    table = class_table("coco_stuff")
    # Some label files carry the eleven ids all the same: such pixels do not count.
    gaps = sorted(set(range(182)) - set(table.labels))
    return Pictures(
        files,
        table.names,
        lookup_table({label: i for i, label in enumerate(table.labels)}, [*gaps, 255], IGNORE),
        split=split,
        unseen=[table.names.index(name) for name in COCO_STUFF_UNSEEN] if zero_shot else (),
        words=table.synonyms if synonyms else table.words,
        captions=partial(captions_of, root / "coco-stuff" / "annotations", folder),
    )


def captions_of(annotations: Path, folder: str, path: str) -> tuple[str, ...]:
    """COCO's captions of one picture, none if it has none; see `read_captions`.

    Args:
        annotations, folder: as for `read_captions`.
        path: of the picture.
    """
    return read_captions(annotations, folder).get(Path(path).name, ())


@cache
def read_captions(annotations: Path, folder: str) -> dict[str, tuple[str, ...]]:
    """COCO's captions, five or so for each picture.

    Args:
        annotations: the folder they are in.
        folder: "train2017" or "val2017".

    Returns:
        From a picture's file name to its sentences, blank ones left out.

    Raises:
        FileNotFoundError: they are not there; says where to get them.
        ValueError: the file is not COCO's.
    """
    path = annotations / f"captions_{folder}.json"
    if not path.is_file():
        hint = f"get {_CAPTIONS} and unpack it in {annotations.parent}"
        raise FileNotFoundError(f"no {path}; {hint}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in told["images"]}
        found: dict[str, list[str]] = {}
        for each in told["annotations"]:
            if sentence := " ".join(each["caption"].split()):
                found.setdefault(names[each["image_id"]], []).append(sentence)
    except (ValueError, KeyError, TypeError) as error:
        expected = f"its images and annotations: get {_CAPTIONS}"
        raise ValueError(f"{path} holds no captions of COCO ({error!r}); expected {expected}") from error
    return {name: tuple(sentences) for name, sentences in found.items()}
