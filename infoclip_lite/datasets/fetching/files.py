"""Where the files of official data sets are, and what is said when they are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path


def data_root(root: str | Path | None = None) -> Path:
    """Where data sets live: `root`, else $INFOCLIP_LITE_DATA, else ~/.cache/infoclip_lite/data."""
    # One place for all official sets, shared by all clones and environments of a user.
    chosen = root or os.environ.get("INFOCLIP_LITE_DATA") or Path.home() / ".cache" / "infoclip_lite" / "data"
    return Path(chosen).expanduser()


def missing(what: str, source: str, root: Path) -> FileNotFoundError:
    """The error of a data set that is not there, or not whole.

    Args:
        what: is missing.
        source: what the command that gets it calls it.
        root: folder of the data sets.
    """
    # The command as it must be typed: with a root only where there is another than usual.
    at = "" if root == data_root() else f" --root {root}"
    return FileNotFoundError(f"{what}; get it with `infoclip-lite data download {source}{at}`")


def read_list(path: Path, source: str, root: Path) -> list[str]:
    """First word of every line of an official list of pictures."""
    if not path.is_file():
        raise missing(f"no {path}", source, root)
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def check_files(files: Sequence[tuple[str, str]], source: str, root: Path) -> None:
    """Every file of a split is there.

    Raises:
        FileNotFoundError: how many are missing, and one of them.
    """
    listing = lru_cache(maxsize=None)(_listing)  # one look at each folder, not one at each of 200,000 files
    every = [os.path.split(path) for pair in files for path in pair]
    absent = [os.path.join(folder, name) for folder, name in every if name not in listing(folder)]
    if absent:
        raise missing(f"{len(absent)} of {len(every)} files are missing, such as {absent[0]}", source, root)
    if not files:
        raise missing(f"no pictures in {root}", source, root)


def _listing(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def split_of(split: str) -> str:
    """The split, if there is such a one.

    Raises:
        ValueError: neither "train" nor "val".
    """
    if split not in ("train", "val"):
        raise ValueError(f"unknown split {split!r}; expected 'train', or 'val', on which the papers report")
    return split
