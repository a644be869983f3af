"""What is known of every official file before it is fetched, and where each number is from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from ..registry import DATASETS
from .download import SOURCES, datasets_of, source_of

UNKNOWN = "unknown: the first download prints it"
_ABOUT, _WIDTH = 33, 110


class Fact(NamedTuple):
    """One thing that is known, or not.

    Attributes:
        about: a file, or a data set and its split.
        what: "address", "bytes", "digest" or "pictures".
        value: in words.
        origin: where it stands: [P] the publisher, [C] code that was read, [N] a third party's note, or
            memory.
    """

    about: str
    what: str
    value: str
    origin: str


def facts(name: str) -> Iterator[Fact]:
    """Of a source: address, size and digest of its files, then the number of pictures of its data sets.

    Args:
        name: of `SOURCES`, or a data set of `DATASETS` that comes from one.

    Raises:
        ValueError: no such data set.
    """
    source = SOURCES[source_of(name)]
    for archive in source.archives:
        for url in archive.urls or ("none",):
            yield Fact(archive.name, "address", url, source.addresses)
        size = UNKNOWN if archive.size is None else f"{archive.size:,}"
        yield Fact(archive.name, "bytes", size, archive.size_from or "nobody says it")
        yield Fact(
            archive.name,
            "digest",
            archive.digest or UNKNOWN,
            source.digests if archive.digest else "none is published",
        )
    for dataset in datasets_of(name):
        entry = DATASETS[dataset]
        for split, count in entry.official.items():
            yield Fact(f"{dataset} {split}", "pictures", f"{count:,}", entry.counted)


def table(name: str | None = None) -> str:
    """The facts of one source, or of all, in columns.

    Raises:
        ValueError: no such data set.
    """
    lines: list[str] = []
    for source in SOURCES if name is None else [name]:
        lines += [source, *_rows(source), ""]
    return "\n".join(lines[:-1])


def _rows(name: str) -> Iterator[str]:
    """A source's facts, and the origin below: addresses are long."""
    every = list(facts(name))
    for fact, following in zip(every, [*every[1:], None], strict=True):
        yield f"  {fact.about:<{_ABOUT}}{fact.what:<10}{fact.value}"
        # What several lines have in common is said once, below the last of them.
        if following is None or following.origin != fact.origin:
            margin = " " * (2 + _ABOUT)
            yield from textwrap.wrap(fact.origin, _WIDTH, initial_indent=margin, subsequent_indent=margin)
