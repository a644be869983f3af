"""Pictures and masks below two folders: which belong together, and which are in a split."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..core.lookup import nearest

ALL = "all"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def existing(folder: Path) -> Path:
    """The folder, if there is one.

    Raises:
        FileNotFoundError: there is none.
    """
    if not folder.is_dir():
        hint = "say `images` and `labels`, relative to `root`"
        raise FileNotFoundError(f"no folder {folder}; expected one: {hint}")
    return folder


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a text file, without empty ones at its end.

    Args:
        path: of the file, UTF-8.
        what: how a message calls the lines.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected a text file with {what}")
    # Editors of some systems begin a file with a mark (BOM), which would become part of the first name.
    try:
        return path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 ({error}); expected a text file with {what}") from error


def list_pictures(photos: Path, without: Path | None = None) -> dict[str, str]:
    """Every picture below a folder, by its path without suffix (its stem).

    Args:
        photos: the folder.
        without: a folder in it that is not looked at, such as that of the masks.

    Raises:
        FileNotFoundError: there is none.
        ValueError: two with the same stem.
    """
    pictures: dict[str, str] = {}
    for path in _files(photos, SUFFIXES, without):
        stem = stem_of(path)
        if stem in pictures:  # both would be taught and tested with the mask of one
            got = f"{photos} has {pictures[stem]} and {path}"
            raise ValueError(f"{got}; expected one picture for the mask {stem}.png")
        pictures[stem] = path
    if not pictures:
        raise FileNotFoundError(f"no picture in {photos}; expected files that end in {', '.join(SUFFIXES)}")
    return pictures


def stem_of(path: str) -> str:
    """A path without the suffix of a picture.

    >>> stem_of("train/a.b.jpg"), stem_of("train/a.b")
    ('train/a.b', 'train/a.b')
    """
    name, suffix = os.path.splitext(path)
    return name if suffix.lower() in SUFFIXES else path


def choose(
    pictures: Mapping[str, str],
    split: str,
    photos: Path,
    lists: Mapping[str, Path] | None = None,
    val_fraction: float | None = None,
) -> list[str]:
    """The stems of a split.

    Args:
        pictures: every picture by its stem.
        split: "all", a folder of `photos`, a key of `lists`, or "train" and "val" with `val_fraction`.
        photos: folder of the pictures.
        lists: text file of each split.
        val_fraction: share of "val".

    Raises:
        FileNotFoundError: no such list, a list of pictures that are not there, or a split without pictures.
        ValueError: an unknown split (the nearest is named), a share out of range, lists and a share, or a
            picture listed twice.
    """
    if lists is not None and val_fraction is not None:
        raise ValueError("got lists and val_fraction; expected one of them: both say what is in a split")
    if val_fraction is not None and not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; expected a share above 0 and below 1")
    if split == ALL:
        return list(pictures)
    if lists is not None:
        return _listed(pictures, lists[_one_of(split, list(lists), photos)])
    # The way that was said counts; folders that happen to be there do not add to it.
    if val_fraction is not None:
        wanted = _one_of(split, ["train", "val"], photos) == "val"
        chosen = [stem for stem in pictures if in_validation(stem, val_fraction) == wanted]
    else:
        folders = sorted({stem.split("/")[0] for stem in pictures if "/" in stem})
        begin = f"{_one_of(split, folders, photos)}/"
        chosen = [stem for stem in pictures if stem.startswith(begin)]
    if not chosen:
        got = f"no picture of {photos} is in split {split!r} (val_fraction={val_fraction})"
        raise FileNotFoundError(f"{got}; expected some: choose another share")
    return chosen


def in_validation(stem: str, fraction: float) -> bool:
    """Whether a picture is among the share that is held out: a pure function of its path.

    >>> [in_validation(stem, 0.5) for stem in ("heron/1", "heron/2", "gull/1")]
    [False, True, False]
    """
    # A hash, not a generator: neither the order of the pictures nor their number plays a part.
    drawn = int(hashlib.sha256(stem.encode()).hexdigest()[:8], 16) / 16**8
    return drawn < fraction


def _files(folder: Path, suffixes: Sequence[str], without: Path | None = None) -> Iterator[str]:
    """Paths below a folder of the files with one of the suffixes, sorted; hidden ones are left out."""
    # Sorted: the order of a listing differs between disks, and the index of a picture must not.
    # Hidden ones: systems leave their own files beside pictures, some of them with the same suffix.
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(place, f) != without)
        for file in sorted(files):
            if not file.startswith(".") and file.lower().endswith(tuple(suffixes)):
                yield Path(place, file).relative_to(folder).as_posix()


def _one_of(split: str, known: Sequence[str], photos: Path) -> str:
    if split in known:
        return split
    ways = f"splits are folders of {photos}, files named in `lists`, or drawn with `val_fraction`"
    raise ValueError(f"unknown split {split!r}; {nearest(split, [*known, ALL])} ({ways})")


def _listed(pictures: Mapping[str, str], path: Path) -> list[str]:
    listed = [stem_of(line.strip()) for line in read_lines(path, "one picture a line") if line.strip()]
    unknown = [stem for stem in listed if stem not in pictures]
    if unknown:
        what = f"{len(unknown)} of {len(listed)} pictures that are not there, such as {unknown[0]}"
        raise FileNotFoundError(f"{path} names {what}; expected paths below the folder of the pictures")
    if not listed:
        raise FileNotFoundError(f"{path} names no picture; expected one a line")
    most, times = Counter(listed).most_common(1)[0]
    if times > 1:  # it would count twice in every number
        raise ValueError(f"{path} names {most} {times} times; expected every picture once")
    return listed


def pair_up(
    photos: Path,
    masks: Path,
    pictures: Mapping[str, str],
    chosen: Sequence[str],
) -> list[tuple[str, str]]:
    """(picture, mask) of the chosen pictures; a warning names masks that no picture has.

    Args:
        photos: folder of the pictures.
        masks: folder of the masks.
        pictures: every picture by its stem.
        chosen: stems.

    Raises:
        FileNotFoundError: a picture without mask.
    """
    # PNG alone: JPEG mixes the labels of neighbouring pixels.
    there = {stem_of(path): path for path in _files(masks, (".png",))}
    absent = [stem for stem in chosen if stem not in there]
    if absent:
        other = [path for path in _files(masks, SUFFIXES) if stem_of(path) == absent[0] and masks != photos]
        hint = f"; {other[0]} is no PNG" if other else ""
        got = f"{len(absent)} of {len(chosen)} pictures have no mask, such as {photos / pictures[absent[0]]}"
        raise FileNotFoundError(f"{got}; expected {masks / absent[0]}.png{hint}")
    # No error: a mask alone takes nothing from what is learnt or measured; but it may be a slip of a name.
    alone = sorted(path for stem, path in there.items() if stem not in pictures)
    if alone:
        warnings.warn(f"{len(alone)} masks have no picture, such as {masks / alone[0]}", stacklevel=4)
    return [(str(photos / pictures[stem]), str(masks / there[stem])) for stem in chosen]
