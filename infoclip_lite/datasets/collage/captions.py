"""Sentences that say what a scene shows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .words import stuff

# Plurals and what is not counted take no article.
_BARE = (
    *("binoculars", "grapes", "headphones", "pliers", "scissors", "sunglasses", "trousers", "tweezers"),
    *("wood logs", "bread", "broccoli", "corn", "fire", "garlic", "ginger", "lettuce"),
)


def describe(rng: random.Random, words: Sequence[str]) -> str:
    """A sentence that names every one of `words`, nouns first, in random order and wording."""
    nouns = [article(word) for word in words if word not in stuff()]
    grounds = [word for word in words if word in stuff()]
    nouns.sort(key=lambda _: rng.random())
    grounds.sort(key=lambda _: rng.random())
    opening = ("a photo of ", "a picture of ", "a collage of ", "")[int(rng.random() * 4)]
    joint = (" on ", " in front of ", " with ", " and ")[int(rng.random() * 4)]
    return opening + joint.join(_list(part) for part in (nouns, grounds) if part)


def article(noun: str) -> str:
    """The noun with "a" or "an", if it takes one."""
    if noun in _BARE:
        return noun
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
