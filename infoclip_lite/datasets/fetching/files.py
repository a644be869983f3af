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


class MissingFiles(FileNotFoundError):
    """A data set that is not there, or not whole.

    Attributes:
        files: those that are missing, as far as somebody looked.
    """

    def __init__(self, said: str, files: Sequence[str] = ()) -> None:
        super().__init__(said)
        self.files = tuple(files)


def missing(what: str, source: str, root: Path, files: Sequence[str] = ()) -> MissingFiles:
    """The error of a data set that is not there, or not whole.

    Args:
        what: is missing.
        source: what the command that gets it calls it.
        root: folder of the data sets.
        files: all that are missing, where they were looked for one by one.
    """
    # An archive that was unpacked once is passed over, unless somebody says that it is wanted again.
    return MissingFiles(f"{what}; get it with `{download_command(source, root, again=bool(files))}`", files)


def download_command(source: str, root: Path, *, again: bool = False) -> str:
    """The command that gets a data set, or mends it, as it must be typed.

    Args:
        source: what the command calls it.
        root: folder of the data sets; said only where it is not the usual one.
        again: unpack what was unpacked before.
    """
    at = "" if root == data_root() else f" --root {root}"
    return f"infoclip-lite data download {source}{at}{' --again' if again else ''}"


def read_list(path: Path, source: str, root: Path) -> list[str]:
    """First word of every line of an official list of pictures."""
    if not path.is_file():
        raise missing(f"no {path}", source, root)
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def check_files(files: Sequence[tuple[str, str]], source: str, root: Path) -> None:
    """Every file of a split is there.

    Raises:
        MissingFiles: how many are missing, and one of them.
    """
    listing = lru_cache(maxsize=None)(_listing)  # one look at each folder, not one at each of 200,000 files
    every = [os.path.split(path) for pair in files for path in pair]
    absent = [os.path.join(folder, name) for folder, name in every if name not in listing(folder)]
    if absent:
        said = f"{len(absent)} of {len(every)} files are missing, such as {absent[0]}"
        raise missing(said, source, root, absent)
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
