"""Keyword arguments that a recipe gives, looked at before they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any, TypeVar

_T = TypeVar("_T")


def build(kind: Callable[..., _T], needed: Sequence[Any], options: dict[str, Any], what: str) -> _T:
    """Call `kind` with what it needs and the options of a recipe.

    Args:
        kind: a class or function whose options are keyword-only.
        needed: its positional arguments.
        options: of the recipe.
        what: how a message calls it, such as "objective 'kl'".

    Raises:
        ValueError: an unknown option (the nearest is named), a value of another type, or what `kind` refuses.
    """
    known = [p.name for p in signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ValueError(f"unknown key {key!r} in {what}; expected {f'{near[0]!r}?' if near else ', '.join(known)}")
    try:
        return kind(*needed, **options)
    except TypeError as error:
        raise ValueError(f"{what} cannot be built from {options} ({error}); expected numbers where numbers belong") from error
