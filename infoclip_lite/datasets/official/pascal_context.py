"""PASCAL Context: every pixel of VOC 2010 labelled, 459 kinds; the 59 frequent ones are a test of their own.

PC-60 is PC-59 with all else as a class, background.

    root/VOCdevkit/VOC2010/{JPEGImages,ImageSets/Main}     VOCtrainval_03-May-2010.tar
    root/VOCdevkit/VOC2010/trainval/*.mat                  trainval.tar.gz (labels 1..459, key LabelMap)
    root/VOCdevkit/VOC2010/labels.txt                      the names, "1: accordion"

The papers' PC-59 comes from another file of the same annotation (trainval_merged.json) with one validation
picture fewer (5,104); taking the 59 classes by name from the .mat files is our reading [I].
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...core.labels import IGNORE, IGNORE_MANY
from ..fetching.files import check_files, missing, read_list, split_of
from ..pictures import Pictures, lookup_table
from .classes import class_table

_OFFICIAL_NAME = {"diningtable": "table"}  # the one of the 59 that labels.txt calls otherwise


def pascal_context(
    root: Path,
    split: str,
    *,
    classes: int = 59,
    synonyms: bool = False,
    listed: str | None = None,
) -> Pictures:
    """PASCAL Context: 4,998 pictures of train, 5,105 of val.

    Args:
        root: folder of the data sets.
        split: "train" or "val", those of VOC 2010.
        classes: 59, all else ignored; 60, all else background; or 459.
        synonyms: encode synonyms beside the names that the papers encode; there are none for the 459.
        listed: file below VOCdevkit/VOC2010 with other pictures, one a line, such as CAT-Seg's
            pascalcontext_val.txt, whose 5,104 lack one of val.

    Raises:
        FileNotFoundError: files are missing; says which, and how to get them.
        ValueError: unknown split, another number of classes, or a labels.txt that lacks names.
    """
    if classes not in (59, 60, 459):
        raise ValueError(f"got {classes} classes; expected 59, 60 or 459")
    voc = root / "VOCdevkit" / "VOC2010"
    usual = f"ImageSets/Main/{split_of(split)}.txt"
    stems = read_list(voc / (listed or usual), "pascal_context", root)
    files = [(f"{voc}/JPEGImages/{stem}.jpg", f"{voc}/trainval/{stem}.mat") for stem in stems]
    check_files(files, "pascal_context", root)
    ids = read_context_names(voc / "labels.txt", root)
    # 459 classes and 255: the label that does not count must be a larger one.
    if classes == 459:
        labels = {label: i for i, label in enumerate(ids.values())}
        lookup = lookup_table(labels, [0], IGNORE_MANY, 460)
        return Pictures(files, list(ids), lookup, split=split, ignore=IGNORE_MANY, read=read_context_labels)
    table = class_table("pc59")
    names, words = list(table.names), list(table.synonyms if synonyms else table.words)
    labels = {ids[_OFFICIAL_NAME.get(name, name)]: i for i, name in enumerate(names)}
    rest = sorted({0, *ids.values()} - set(labels))
    if classes == 60:
        labels |= dict.fromkeys(rest, len(names))
        names, words, rest = [*names, "background"], [*words, "background"], []
    lookup = lookup_table(labels, rest, IGNORE, 460)
    return Pictures(files, names, lookup, split=split, words=words, read=read_context_labels)


def read_context_names(path: Path, root: Path) -> dict[str, int]:
    """The 459 names of labels.txt with their labels, in order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it does not number 459 names from 1.
    """
    if not path.is_file():
        raise missing(f"no {path}", "pascal_context", root)
    found = re.findall(r"^\s*(\d+)\s*:\s*(\S.*?)\s*$", path.read_text(encoding="utf-8"), re.MULTILINE)
    names = {name: int(label) for label, name in found if label != "0"}
    if sorted(names.values()) != list(range(1, 460)):
        expected = "459 lines such as '1: accordion', the official labels.txt"
        raise ValueError(f"{path} numbers {len(names)} names; expected {expected}")
    return dict(sorted(names.items(), key=lambda item: item[1]))


def read_context_labels(path: str) -> np.ndarray:
    """(H, W) integers of a .mat file's LabelMap."""
    import scipy.io  # here: it takes long to load, and a list of data sets needs none of it

    return scipy.io.loadmat(path, variable_names=["LabelMap"])["LabelMap"].astype(np.int64)
