"""Words that a user types: synonyms of one class, and a check that a model can tell the classes apart."""

from __future__ import annotations

import re
from collections.abc import Sequence


def split_list(text: str) -> list[str]:
    """The parts of a list typed on a command line, separated by commas; nothing for a blank text.

    >>> split_list("ox|cow, grass"), split_list(" ")
    (['ox|cow', 'grass'], [])
    """
    return [part.strip() for part in text.split(",")] if text.strip() else []


def synonyms_of(name: str) -> list[str]:
    """The words of one class.

    >>> synonyms_of("ox|cow, cattle")
    ['ox', 'cow', 'cattle']
    """
    # Class tables of the field separate synonyms by commas; a bar can be typed inside a list of names.
    return [word.strip() for word in re.split(r"[|,]", name) if word.strip()]


def check_names(names: Sequence[str]) -> list[str]:
    """The names, stripped, if a model can tell them apart.

    Args:
        names: one for each class, "ox|cow" for synonyms.

    Raises:
        ValueError: none, a blank one, one that is there twice, or a single string where a list belongs.

    >>> check_names([" cow", "grass"])
    ['cow', 'grass']
    """
    # A string is a sequence of strings too: "cow" would pass as the three classes c, o and w.
    if isinstance(names, str):
        instead = [name.strip() for name in names.split(",")]
        raise ValueError(f"got the string {names!r}; expected a list of words, such as {instead}")
    stripped = [str(name).strip() for name in names]
    if not stripped:
        raise ValueError('got no words; expected at least one, such as ["cow", "grass"]')
    if not all(synonyms_of(name) for name in stripped):
        raise ValueError(f"got a blank word among {stripped}; expected letters in each")
    # Two classes with one word have equal scores everywhere, and the first would silently win.
    words = [word.lower() for name in stripped for word in synonyms_of(name)]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise ValueError(f"got {', '.join(twice)} more than once; expected each word in one class only")
    return stripped
