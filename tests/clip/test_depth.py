"""Blocks by relative depth: in the tower a method was written for they are its own."""

from __future__ import annotations

import pytest

from infoclip_lite.clip.depth import at_depth


@pytest.mark.parametrize("block", range(12))
def test_in_the_tower_it_was_written_for_a_block_is_itself(block: int) -> None:
    assert at_depth(block / 11, 12) == block


@pytest.mark.parametrize(
    ("blocks", "wanted"),
    [(1, (0, 0, 0)), (2, (0, 1, 1)), (4, (1, 2, 3)), (6, (2, 4, 5)), (24, (10, 17, 23))],
)
def test_in_another_tower_it_is_at_the_same_fraction_of_the_way(
    blocks: int, wanted: tuple[int, int, int]
) -> None:
    """5 and 8 of 12 are the first and the last of the four blocks in the middle; 11 is the last."""
    assert tuple(at_depth(block / 11, blocks) for block in (5, 8, 11)) == wanted
    # Nearest of all blocks, each at i / (blocks - 1), and the later of two that are equally near.
    for block in (5, 8, 11):
        distances = [abs(i / max(1, blocks - 1) - block / 11) for i in range(blocks)]
        assert distances[at_depth(block / 11, blocks)] == min(distances)


def test_halves_go_up() -> None:
    assert [at_depth(0.5, blocks) for blocks in (2, 4, 6, 8)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("fraction", "blocks"), [(-0.1, 3), (1.1, 3), (float("nan"), 3), (0.5, 0)])
def test_what_is_nowhere_is_refused(fraction: float, blocks: int) -> None:
    with pytest.raises(ValueError, match=r"expected 0 \.\. 1 of at least one block"):
        at_depth(fraction, blocks)
