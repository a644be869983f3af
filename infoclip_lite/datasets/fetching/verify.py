"""Are the files of a data set what they should be? Counts, sizes and labels, in a table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from ..base import Segmented
from ..registry import DATASETS, downloadable
from .download import datasets_of
from .files import MissingFiles, data_root

FIRST = 10  # wrong files that are named


class Finding(NamedTuple):
    """What was found of one split.

    Attributes:
        dataset, split: which.
        pictures: how many there are; None if the split cannot be opened.
        official: how many there should be.
        checked: how many were read.
        classes: how many classes were met, of how many.
        ignored: share of pixels that do not count.
        problems: in words; empty if all is well.
    """

    dataset: str
    split: str
    pictures: int | None
    official: int
    checked: int
    classes: str
    ignored: float
    problems: list[str]


def survey(root: str | Path | None = None) -> list[Finding]:
    """What is there of every data set, by counts alone."""
    splits = [(name, split) for name in downloadable() for split in ("train", "val")]
    return [_look(name, split, data_root(root), 0, False) for name, split in splits]


def verify_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    sample: int = 200,
    progress: bool = False,
) -> list[Finding]:
    """Count a data set, and read pictures and labels.

    Do they decode, have the same size, and only labels that exist?

    Args:
        name: a data set of `DATASETS`, or a source (voc), which stands for all that are made of it.
        root: folder of the data sets; see `build_dataset`.
        sample: pictures of each split that are read, spread over it; 0 reads all.
        progress: show bars.

    Raises:
        ValueError: no such data set, or a negative sample.
    """
    if sample < 0:
        raise ValueError(f"sample is {sample}; expected a number of pictures, or 0 for all")
    wanted = [(key, split) for key in datasets_of(name) for split in ("train", "val")]
    return [_look(key, split, data_root(root), sample or 10**9, progress) for key, split in wanted]


def table(findings: list[Finding], problems: bool = True) -> str:
    """The findings in columns; below, where asked for, the first ten files of each split that are wrong."""
    head = f"{'data set':<16}{'split':<7}{'pictures':>9}{'official':>10}"
    lines = [f"{head}{'read':>8}{'classes':>11}{'ignored':>9}"]
    for f in findings:
        count, ignored = (
            "missing" if f.pictures is None else f"{f.pictures:,}",
            f"{f.ignored:.1%}" if f.checked else "-",
        )
        first = f"{f.dataset:<16}{f.split:<7}{count:>9}{f.official:>10,}"
        lines.append(f"{first}{f.checked:>8,}{f.classes:>11}{ignored:>9}")
    if problems:
        for f in findings:
            lines += [f"{f.dataset} {f.split}: {problem}" for problem in f.problems[:FIRST]]
            if len(f.problems) > FIRST:
                lines.append(f"{f.dataset} {f.split}: and {len(f.problems) - FIRST:,} more")
    return "\n".join(lines)


def _look(name: str, split: str, root: Path, sample: int, progress: bool) -> Finding:
    official = DATASETS[name].official[split]
    try:
        dataset = DATASETS[name].open(name, split, {"root": root})
    except (FileNotFoundError, ValueError) as error:
        files = error.files if isinstance(error, MissingFiles) else ()
        problems = [f"no {path}" for path in files] or [str(error)]
        return Finding(name, split, None, official, 0, "-", 0.0, problems)
    problems = [] if len(dataset) == official else [f"{len(dataset):,} pictures; expected {official:,}"]
    count = min(sample, len(dataset))
    # Spread over the split: the files of one archive, or of one interrupted unpacking, lie side by side.
    spread = [i * len(dataset) // count for i in range(count)]
    met, ignored, pixels = _read(dataset, spread, problems, progress)
    classes = f"{len(met)} of {len(dataset.names)}" if count else "-"
    return Finding(name, split, len(dataset), official, count, classes, ignored / max(1, pixels), problems)


def _read(
    dataset: Segmented,
    indices: list[int],
    problems: list[str],
    progress: bool,
) -> tuple[set[int], int, int]:
    """Classes that were met, ignored pixels, all pixels."""
    met: set[int] = set()
    ignored = pixels = 0
    for index in tqdm(indices, disable=not progress, leave=False):
        try:
            mask = dataset[index].mask
        # All of them are looked for: who repairs files wants the whole list.
        except (OSError, ValueError) as error:
            problems.append(str(error))
            continue
        met |= set(mask.unique().tolist()) - {dataset.ignore}
        ignored, pixels = ignored + int((mask == dataset.ignore).sum()), pixels + mask.numel()
    return met, ignored, pixels
