"""infoclip-lite protocols: every value of every published protocol, its source, and how sure it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from ..core.lookup import find

if TYPE_CHECKING:
    from ..evaluation.published import Row

_WIDTH, _NAME, _VALUE = 110, 16, 30  # of a line, and of its first two columns
_TEMPLATES: dict[object, str] = {
    None: "the model's own",
    "imagenet": "CLIP's 80",
    "maskclip": "CLIP's 80, and 5",
}


def protocols_command(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = "all",
    dataset: str | None = None,
) -> None:
    """Protocols: every value, its source, and how sure it is.

    [C] was read in the authors' code, [P] in their paper, [N] in a third party's note; [I] is our reading,
    [O] ours. "-" is a step that is left out.

    Args:
        name: one protocol, such as sclip; all by default.
        dataset: only what holds on this data set, such as pas20; by default what holds wherever a data set
            has no numbers of its own, and then what differs on each.
    """
    from ..datasets.registry import DATASETS
    from ..evaluation.published import PUBLISHED

    if dataset is not None:
        find(DATASETS, dataset, "data set")
    chosen = list(PUBLISHED) if name == "all" else [name]
    for each in chosen:
        find(PUBLISHED, each, "protocol")
        print("\n".join(lines(each, dataset)) + "\n")


def lines(name: str, dataset: str | None = None) -> Iterator[str]:
    """A protocol as a table.

    Args:
        name: of `PUBLISHED`.
        dataset: what holds there; None is what holds everywhere else, and what differs on each.
    """
    from ..evaluation.published import PUBLISHED

    published = PUBLISHED[name]
    yield f"{name}{f' on {dataset}' if dataset else ''}: {published.about}"
    for row in published.rows(dataset or ""):
        yield from _row(row)
    for other in published.on if dataset is None else ():
        yield f"  on {other}"
        for row in published.changes(other):
            yield from _row(row)
    if published.lacking:
        yield from textwrap.wrap(
            f"not here: {published.lacking}", _WIDTH, initial_indent="  ", subsequent_indent="    "
        )


def shown(name: str, value: object) -> str:
    """A value of a protocol, in words.

    >>> shown("window", None), shown("whole", True), shown("words", (("boat", "ship"),))
    ('-', 'yes', 'boat: ship')
    """
    if name == "templates":
        return _TEMPLATES.get(value, str(value))
    if name == "words" and isinstance(value, tuple):
        return "; ".join(f"{each}: {said}" for each, said in value) or "the data set's own"
    if is_dataclass(value) and not isinstance(value, type):  # a refinement
        options = asdict(value)
        return f"{options.pop('name')}: {', '.join(f'{key} {option}' for key, option in options.items())}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # A threshold of 0 is none.
    return "-" if value is None or value == 0 else f"{value:g}" if isinstance(value, float) else str(value)


def _row(row: Row) -> Iterator[str]:
    """Name, value and source; a long value has lines of its own."""
    value, margin = shown(row.name, row.value), " " * (2 + _NAME)
    name = f"  {row.name:<{_NAME}}"
    if len(value) < _VALUE:
        beside = " " * len(margin + " " * _VALUE)
        said = textwrap.wrap(row.source, _WIDTH, initial_indent=beside, subsequent_indent=beside)
        yield f"{name}{value:<{_VALUE}}{said[0].strip()}"
        yield from said[1:]
        return
    yield from textwrap.wrap(value, _WIDTH, initial_indent=name, subsequent_indent=margin)
    yield from textwrap.wrap(row.source, _WIDTH, initial_indent=margin, subsequent_indent=margin)
