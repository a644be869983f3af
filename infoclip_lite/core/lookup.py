"""From a name to a thing: the one way in which recipes, commands and users' words are looked up, checked and
built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from inspect import signature
from types import UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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


def build(
    table: Mapping[str, Callable[..., _T]], section: Mapping[str, object], *needed: object, what: str
) -> _T:
    """The thing that a section of a recipe describes.

    Args:
        table: names, and the class or function that makes the thing.
        section: {"name": one of the table, **options}.
        needed: positional arguments, which are not for a recipe to say.
        what: how a message calls such a thing.

    Raises:
        ValueError: no such name, an unknown option (the nearest is named), a value of another type, or what
            the thing refuses.
    """
    name, options = split_section(section, what)
    return call(find(table, name, what), needed, options, f"{what} {name!r}")


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


def check_options(
    kind: Callable[..., object], options: Mapping[str, object], what: str, needed: int = 0
) -> None:
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


def checked(kind: type[_T], values: Mapping[str, object], what: str) -> _T:
    """Build a dataclass from what YAML gave, every key and type looked at first; a dataclass inside it
    likewise.

    Raises:
        ValueError: an unknown key (the nearest is named), a missing one, or a value of another type.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    types = get_type_hints(kind)
    ready: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"unknown key {key!r} in {what}; {nearest(key, known)}")
        wanted = types[key]
        if is_dataclass(wanted) and isinstance(wanted, type):
            ready[key] = _section(wanted, value, key, what)
            continue
        if not _fits(value, wanted):
            hint = (
                " (YAML reads 1e-4 as text: write 1.0e-4)"
                if isinstance(value, str) and wanted is float
                else ""
            )
            given = f"{value!r}, a {type(value).__name__}"
            raise ValueError(f"{key} is {given}; expected {_in_words(wanted)}{hint}")
        ready[key] = value
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in ready]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    return kind(**ready)


def _in_words(wanted: object) -> str:
    """An annotated type as a message says it.

    >>> _in_words(int), _in_words(list[int]), _in_words(Literal["full", "qv"] | None)
    ('int', 'list[int]', "one of 'full', 'qv' or None")
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (UnionType, Union):
        return " or ".join("None" if option is type(None) else _in_words(option) for option in arguments)
    return str(wanted) if arguments else getattr(wanted, "__name__", str(wanted))


def _section(kind: type[_T], value: object, key: str, what: str) -> _T:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{key} is {value!r}, a {type(value).__name__}; expected a section of keys and values"
        )
    return checked(kind, value, f"{key} of {what}")


def _fits(value: object, wanted: object) -> bool:
    """Whether a value that YAML gave is of an annotated type."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is object:
        return True
    if origin in (UnionType, Union):  # Literal[...] | None is the older kind
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(arguments):
            return False
        return all(map(_fits, value, arguments))
    if origin is dict:
        return isinstance(value, dict)
    if wanted in (int, float):
        number = int if wanted is int else int | float
        return isinstance(value, number) and not isinstance(value, bool)  # YAML's true is no number here
    return isinstance(value, wanted)  # type: ignore[arg-type]
