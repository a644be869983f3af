"""Refinements: what makes the scores of any read-out or segmentor follow the edges of their picture.

A refinement is a dataclass with a method `refined`. A new one is a file in this folder and a line in the
table.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.lookup import find
from .base import Refinement, Scores
from .pamr import Pamr
from .propagation import Propagation

# What a command calls a refinement.
REFINEMENTS: dict[str, Callable[[], Refinement]] = {"pamr": Pamr, "propagation": Propagation}


def get_refinement(refine: Refinement | str | None) -> Refinement | None:
    """The refinement itself, or the one of a name with its own settings.

    Args:
        refine: a key of REFINEMENTS, a refinement, or None or "none" for none.

    Returns:
        The refinement, or None.

    Raises:
        ValueError: no such refinement; the nearest is named.

    >>> get_refinement("pamr")
    Pamr(name='pamr', iterations=10, dilations=(8, 16))
    """
    if refine is None or refine == "none":
        return None
    if isinstance(refine, Refinement):
        return refine
    return find(REFINEMENTS, refine, "refinement")()


__all__ = ["REFINEMENTS", "Pamr", "Propagation", "Refinement", "Scores", "get_refinement"]
