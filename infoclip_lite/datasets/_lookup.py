"""From a name to a thing; goes when core/lookup has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import TypeVar

_T = TypeVar("_T")


def nearest(name: object, known: Iterable[object]) -> str:
    """The end of a message about a name that is not known: the one that was perhaps meant, or all there are.

    >>> nearest("vlaue", ["value", "sclip"]), nearest("x", ["value", "sclip"])
    ("did you mean 'value'?", 'expected one of value, sclip')
    """
    names = [str(item) for item in known]
    near = get_close_matches(str(name), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"


def find(table: Mapping[str, _T], name: object, what: str) -> _T:
    """What a table holds under a name.

    Args:
        table: names and things.
        name: what a user wrote; anything that is no known name is refused.
        what: how a message calls such a thing, such as "read-out".

    Raises:
        ValueError: no such name; the nearest is named.

    >>> find({"value": 1, "sclip": 2}, "sclip", "read-out")
    2
    """
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {what} {name!r}; {nearest(name, table)}")
    return table[name]


def split_section(section: Mapping[str, object], what: str) -> tuple[str, dict[str, object]]:
    """The name and the options of a section.

    Raises:
        ValueError: a section without a name.
    """
    options = dict(section)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"got {what} {dict(section)!r}; expected name: one word, and its options")
    return name, options


def call(kind: Callable[..., _T], needed: Sequence[object], options: Mapping[str, object], what: str) -> _T:
    """Call a class or function with what it needs and the options that somebody wrote.

    Args:
        kind: a class or function.
        needed: its first arguments, which are not for a recipe to say.
        options: the others, by name.
        what: how a message calls it, such as "objective 'kl'".

    Raises:
        ValueError: an unknown option (the nearest is named), a value of another type, or what `kind` refuses.
    """
    check_options(kind, options, what, len(needed))
    try:
        return kind(*needed, **options)
    except TypeError as error:
        hint = "expected numbers where numbers belong"
        raise ValueError(f"{what} cannot be built from {dict(options)} ({error}); {hint}") from error


def check_options(kind: Callable[..., object], options: Mapping[str, object], what: str, needed: int = 0) -> None:
    """Every option is one that a class or function has.

    Args:
        kind: the class or function.
        options: by name.
        what: how a message calls it.
        needed: how many of its first arguments are not for a recipe to say.

    Raises:
        ValueError: an unknown option; the nearest is named.
    """
    parameters = list(signature(kind).parameters.values())[needed:]
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for key in options:
        if key not in known:
            hint = nearest(key, known) if known else "expected no option"
            raise ValueError(f"unknown key {key!r} in {what}; {hint}")
