"""Dense read-outs: what is made of a pass through the image tower so that every patch has an embedding.

A read-out is a function of a `TowerPass` that returns patch tokens (B, N, W), which then go
through ln_post and CLIP's projection. It may look at any block. A new one is a file in this folder
and a line in the table. One whose answer depends on the words has a second function, and a line in the
second table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ...core.lookup import find
from ..tower import TowerPass
from .clearclip import clearclip
from .cliper import cliper, cliper_logits
from .cls_value import cls_value
from .gem import gem
from .maskclip import maskclip
from .naclip import naclip
from .pearl import pearl
from .resclip import resclip, resclip_logits
from .sclip import sclip
from .value import value
from .vanilla import vanilla

ReadOut = Callable[[TowerPass], Tensor]
WordLogits = Callable[[TowerPass, Tensor], Tensor]

# What a recipe calls a read-out.
READ_OUTS: dict[str, ReadOut] = {
    "vanilla": vanilla,
    "value": value,
    "cls_value": cls_value,
    "sclip": sclip,
    "clearclip": clearclip,
    "naclip": naclip,
    "maskclip": maskclip,
    "gem": gem,
    "pearl": pearl,
    "cliper": cliper,
    "resclip": resclip,
}

# Of read-outs that look at words: a pass that knows them, and CLIP's scale, to logits (B, N, C). The
# others' are scaled cosines of what they make of a pass without words, and need no line here.
WORD_LOGITS: dict[str, WordLogits] = {"cliper": cliper_logits, "resclip": resclip_logits}


def get_read_out(name: object) -> ReadOut:
    """The read-out of a name.

    Args:
        name: a key of READ_OUTS.

    Returns:
        (tower) -> (B, N, W).

    Raises:
        ValueError: no such read-out; the nearest is named.
    """
    return find(READ_OUTS, name, "read-out")


def check_read_outs(names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, all of them known, as a tuple.

    Args:
        names: of read-outs.

    Returns:
        The same names.

    Raises:
        ValueError: none at all, or one that is not known.

    >>> check_read_outs("value"), check_read_outs(["value", "sclip"])
    (('value',), ('value', 'sclip'))
    """
    chosen = (names,) if isinstance(names, str) else tuple(names)
    if not chosen:
        raise ValueError(f"got read_outs={names!r}; expected one or more of {', '.join(READ_OUTS)}")
    for name in chosen:
        get_read_out(name)  # a slip is said now, and not at the first picture
    return chosen
