"""A data set of one's own: a folder of pictures, a folder of masks, and the names of the classes.

root/images/**/STEM.jpg     .jpg, .jpeg, .png, .webp, .bmp, .tif or .tiff
root/masks/**/STEM.png      palette or grey, 8 or 16 bits, of the picture's size: a class a pixel
root/names.txt              one name a line, label 0 first; or LABEL<tab>NAME
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.labels import IGNORE, IGNORE_MANY, ignore_for
from ..core.lookup import nearest
from ..core.words import check_names, synonyms_of
from .listing import ALL, choose, existing, list_pictures, pair_up, read_lines
from .pictures import Pictures, lookup_table

_LABELS = IGNORE_MANY + 1  # what 16 bits can say


class Folder(Pictures):
    """Pictures, masks and names of one's own.

    A picture and its mask have the same path below their folders, but for the suffix. What is in which split
    is said in one of three ways: folders images/train, images/val (and masks/train, ...); `lists`; or
    `val_fraction`. Where none of them is, there is one split, "all".

    Args:
        root: the folder; the paths below are relative to it.
        split: "all", "train", "val", or what else the folders or lists are called.
        images: folder of the pictures.
        labels: folder of the masks. 255 and 65535 do not count, unless a class has that label.
        names: file of the names, or the names themselves; synonyms are separated by "|".
        unseen: names of the classes whose pixels must not be learnt from.
        ignored: further labels of the masks that do not count, such as 0 where the background has no name.
        lists: split -> text file with one picture a line: its path below `images`, with or without suffix.
        val_fraction: share of the pictures that is "val", the others are "train". It is drawn by a hash of
            the path below `images`: pictures that are added later change no other picture's split.

    Raises:
        FileNotFoundError: no such folder or file, no picture at all, or pictures without a mask.
        ValueError: blank or repeated names or labels, an unseen name that is none of them, an unknown split
            (the nearest is named), or two pictures for one mask. On reading: see `Pictures`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = ALL,
        *,
        images: str | Path = "images",
        labels: str | Path = "masks",
        names: str | Path | Sequence[str] = "names.txt",
        unseen: Sequence[str] = (),
        ignored: Sequence[int] = (),
        lists: Mapping[str, str] | None = None,
        val_fraction: float | None = None,
    ) -> None:
        root = Path(root).expanduser()
        classes = _names(root, names)
        words = check_names(list(classes.values()))
        # As in the official sets: the first synonym is the name in reports and in training.
        plain = [synonyms_of(word)[0] for word in words]
        photos, masks = existing(root / images), existing(root / labels)
        pictures = list_pictures(photos, without=masks)
        chosen = choose(pictures, split, photos, _lists(root, lists), val_fraction)
        origin = "the given names" if not isinstance(names, str | Path) else str(root / names)
        super().__init__(
            pair_up(photos, masks, pictures, chosen),
            plain,
            _lookup(list(classes), ignored, len(plain)),
            split=split,
            unseen=unseen_ids(unseen, plain, words),
            words=words,
            read=read_labels,
            expected=_expected(list(classes), origin),
        )


def read_labels(path: str) -> np.ndarray:
    """(H, W) labels of a palette or grey PNG, as they are stored; of a black and white one 0 and 1."""
    with Image.open(path) as file:
        labels = np.asarray(file)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_names(path: Path) -> dict[int, str]:
    """The names of a file by their labels: one name a line, label 0 first, or LABEL<tab>NAME in every line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a blank line before the last name, a label that is no number of 0 .. 65535, or one that is
            there twice.
    """
    lines = read_lines(path, "one class name a line")
    blank = [number for number, line in enumerate(lines, 1) if not line.strip()]
    if blank:  # it would move the labels of all names below it
        expected = "one class name a line, that of label 0 first"
        raise ValueError(f"{path} is blank in line {blank[0]}; expected {expected}")
    if not any("\t" in line for line in lines):
        return dict(enumerate(line.strip() for line in lines))
    classes: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        label, tab, name = line.partition("\t")
        if not tab or not label.strip().isdecimal() or not 0 <= int(label) < _LABELS:
            expected = "LABEL<tab>NAME as in other lines, 0 .. 65535"
            raise ValueError(f"{path} says {line!r} in line {number}; expected {expected}")
        if int(label) in classes:
            got = f"label {int(label)} twice, the second time in line {number}"
            raise ValueError(f"{path} has {got}; expected it once")
        classes[int(label)] = name.strip()
    return classes


def unseen_ids(unseen: Sequence[str], names: Sequence[str], words: Sequence[str] = ()) -> tuple[int, ...]:
    """The class ids of the names that must not be learnt from, each once.

    Args:
        unseen: what a user wrote.
        names: of the classes.
        words: the same with their synonyms, which may be written too.

    Raises:
        ValueError: a text in place of a list, or a name that is none; the nearest is named.
    """
    if isinstance(unseen, str):  # its letters would be looked for
        raise ValueError(f"unseen is the text {unseen!r}; expected a list of names, such as [{unseen!r}]")
    ids = {word: i for known in (words, names) for i, word in enumerate(known)}
    strange = [name for name in unseen if name not in ids]
    if strange:
        got = f"unseen names {strange[0]!r}, which is none of the {len(names)} classes"
        raise ValueError(f"{got}; {nearest(strange[0], names)}")
    return tuple(dict.fromkeys(ids[name] for name in unseen))


def _names(root: Path, names: str | Path | Sequence[str]) -> dict[int, str]:
    if isinstance(names, str | Path):
        return read_names(root / names)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:  # YAML reads no, on and 1 as something else
        got = f"{wrong[0]!r}, a {type(wrong[0]).__name__}"
        raise ValueError(f"names has {got}; expected texts: put it in quotation marks")
    return dict(enumerate(names))


def _lists(root: Path, lists: Mapping[str, str] | None) -> dict[str, Path] | None:
    if lists is None:
        return None
    if not isinstance(lists, Mapping) or not lists:
        expected = "a text file for each split, such as {train: train.txt, val: val.txt}"
        raise ValueError(f"lists is {lists!r}; expected {expected}")
    return {str(split): root / file for split, file in lists.items()}


def _lookup(labels: Sequence[int], ignored: Sequence[int], classes: int) -> np.ndarray:
    """(65536,) from the labels of masks to class ids."""
    both = sorted(set(labels) & set(ignored))
    if both:
        raise ValueError(f"ignored has {both}, which are labels of classes; expected other labels")
    outside = [label for label in ignored if not 0 <= label < _LABELS]
    if outside:
        raise ValueError(f"ignored has {outside}; expected labels of 0 .. {_LABELS - 1}")
    # A table of all 16-bit labels: files of 8 and of 16 bits may be mixed.
    nothing = {IGNORE, IGNORE_MANY, *ignored} - set(labels)
    ids = {label: i for i, label in enumerate(labels)}
    return lookup_table(ids, sorted(nothing), ignore_for(classes), _LABELS)


def _expected(labels: Sequence[int], origin: str) -> str:
    """Which labels masks may have, in words."""
    nothing = [str(label) for label in (IGNORE, IGNORE_MANY) if label not in labels]
    counts = f"labels of the {len(labels)} names of {origin}, {min(labels)} .. {max(labels)}"
    hint = "add names, or say with `ignored` which labels do not count"
    palette = "of a palette PNG the places in the palette are the labels, not the colours"
    return f"{counts}, or {' or '.join(nothing) or 'none'} where nothing counts: {hint} ({palette})"
