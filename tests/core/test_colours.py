"""Colours of words: one a word, whatever stands beside it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from infoclip_lite.core.colours import UNLABELLED, word_colours
from infoclip_lite.datasets import Collage

SHOWN = sorted({*Collage("test").names, *Collage("val").names})


def colour_of(word: str, *others: str) -> tuple[int, ...]:
    return tuple(word_colours([*others, word])[-1].tolist())


@pytest.mark.parametrize("word", ["chair", "grass", "guitar"])
def test_a_word_with_a_place_has_one_colour_whatever_stands_beside_it(word: str) -> None:
    alone = colour_of(word)
    beside = [each for each in SHOWN if each != word]
    assert colour_of(word, "zebra", "tower") == alone == colour_of(word, *beside)
    assert colour_of("zebra") == colour_of("zebra", word)


def test_of_synonyms_the_first_counts_and_case_does_not() -> None:
    assert colour_of("Cow|ox") == colour_of("cow") != colour_of("ox")


@pytest.mark.parametrize("count", [0, 1, 60, 847])
def test_no_two_words_of_a_list_are_alike(count: int) -> None:
    names = [f"word {i}" for i in range(count)]
    for each in (names, [*names, *SHOWN]):
        colours = word_colours(each)
        assert colours.shape == (len(each), 3) and colours.dtype == np.uint8
        assert len({tuple(colour) for colour in colours.tolist()} | {UNLABELLED}) == len(each) + 1


def test_words_of_collage_can_be_told_apart() -> None:
    """All have places of their own, so that none moves for another."""
    colours = word_colours(SHOWN).astype(float)
    for word, colour in zip(SHOWN, colours, strict=True):
        assert colour_of(word) == tuple(colour)
    assert min(np.abs(a - b).max() for a, b in combinations(colours, 2)) > 8


def test_a_word_that_finds_its_place_taken_moves_and_no_other_does() -> None:
    fixed = {word: colour_of(word) for word in SHOWN}
    words = [f"word {i}" for i in range(12)]
    moved = dict(zip([*words, *SHOWN], map(tuple, word_colours([*words, *SHOWN]).tolist()), strict=True))
    assert {word: moved[word] for word in SHOWN} == fixed
    assert any(moved[word] != colour_of(word) for word in words)
