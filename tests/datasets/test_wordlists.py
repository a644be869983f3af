"""The lists of words: what ships keeps its rule, and the builder's sample does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoclip_lite.datasets.collage import all_nouns
from infoclip_lite.datasets.wordlists import (
    CHECKED,
    Synonym,
    common_nouns,
    definitions,
    distilled_words,
    pack_stuff,
    sample,
    synonyms,
)
from infoclip_lite.datasets.wordnet import WordNet

HELD_OUT = [synonym.word for synonym in synonyms(held_out=True)]
DATABASE = {
    "data.noun": (
        "  1 a licence\n"
        "00000001 05 n 02 bovid 0 Bos 0 001 ~ 00000002 n 0000 | cattle; a remark  \n"
        "00000002 05 n 01 cow 0 002 @ 00000001 n 0000 ~ 00000003 n 0000 | female cattle; more  \n"
        "00000003 05 n 01 heifer 0 001 @ 00000002 n 0000 | young cow  \n"
    ),
    "index.noun": "  1 a licence\ncow n 1 2 @ ~ 1 1 00000002  \nheifer n 1 1 @ 1 0 00000003  \n",
    "cntlist.rev": "cow%1:05:00:: 1 8\ncow%2:37:00:: 1 3\n",
}


def test_nothing_held_out_can_be_distilled() -> None:
    assert 45 < len(set(HELD_OUT)) <= 50, "without those of nouns that have left the pack"
    assert not set(HELD_OUT) & set(distilled_words())
    parts = {part for word in distilled_words() for part in word.split()}
    assert not set(HELD_OUT) & parts
    assert not set(HELD_OUT) & set(definitions())


def test_words_to_be_measured_on_are_new_and_mean_a_noun_of_the_pack() -> None:
    both = [*synonyms(), *synonyms(held_out=True)]
    words = {synonym.word for synonym in both}
    assert 145 < len(words) <= 150 and not words & {*all_nouns(), *pack_stuff(), *CHECKED}
    assert {synonym.noun for synonym in both} <= set(all_nouns())
    assert not any(set(synonym.word.split()) & set(synonym.noun.split()) for synonym in both)


def test_the_pack_is_the_first_of_what_is_distilled_and_nothing_is_there_twice() -> None:
    pack = (*all_nouns(), *pack_stuff())
    assert distilled_words()[: len(pack)] == pack
    assert len(set(distilled_words())) == len(distilled_words()) >= len(common_nouns()) == 4000
    assert set(definitions()) <= set(distilled_words())


def test_a_sample_takes_one_word_of_every_noun_before_another_of_any() -> None:
    piles = {noun: [Synonym(f"{noun}{number}", noun, 1) for number in range(5)] for noun in "abc"}
    drawn = sample(piles, 6, seed=0)
    assert sorted(synonym.noun for synonym in drawn) == list("aabbcc")
    assert drawn == sample(piles, 6, seed=0) != sample(piles, 6, seed=1)
    with pytest.raises(ValueError, match="got 15 candidates; expected at least 16"):
        sample(piles, 16, seed=0)


def test_the_database_is_read_with_its_kinds_words_and_steps(tmp_path: Path) -> None:
    for name, content in DATABASE.items():
        (tmp_path / name).write_text(content)
    database = WordNet(tmp_path)
    assert database.synsets["00000001"] == ("animal", ("bovid", "Bos"), ("00000002",), "cattle")
    assert database.under("00000001", 2) == {"00000001": 0, "00000002": 1, "00000003": 2}
    assert database.sense("cow") == "00000002" and database.sense("yak") is None
    assert database.tagged["cow"] == (8, 3)


def test_a_folder_without_wordnet_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install wordnet-base"):
        WordNet(tmp_path)
