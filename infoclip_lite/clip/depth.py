"""Blocks by relative depth: methods were written for one tower, and name its blocks by number."""

from __future__ import annotations

import math


def at_depth(fraction: float, blocks: int) -> int:
    """The block at a fraction of a tower's depth [O].

    Args:
        fraction: 0 is the first block, 1 the last; block i of the twelve of ViT-B/16 stands at i / 11.
        blocks: how many the tower has.

    Returns:
        Its place, from 0 to `blocks` - 1.

    Raises:
        ValueError: a fraction outside 0 .. 1, or no blocks.

    >>> [at_depth(i / 11, 12) for i in (0, 5, 8, 11)], [at_depth(i / 11, 6) for i in (0, 5, 8, 11)]
    ([0, 5, 8, 11], [0, 2, 4, 5])
    """
    if blocks < 1 or not 0 <= fraction <= 1:
        raise ValueError(f"got fraction={fraction} of {blocks} blocks; expected 0 .. 1 of at least one block")
    # Halves go up, wherever they fall: Python's own `round` would send every second one down.
    return math.floor(fraction * (blocks - 1) + 0.5)
