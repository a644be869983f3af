"""Words that a user types: synonyms, blanks, repetitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoclip_lite.clip.templates import (
    CATSEG_TEMPLATES,
    COLLAGE_TEMPLATES,
    IMAGENET_TEMPLATES,
    SIMPLE_TEMPLATES,
)
from infoclip_lite.core.words import check_names, synonyms_of

words = st.text("abcdefgh ", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(words, min_size=1, max_size=6, unique=True))
def test_distinct_words_pass_stripped_and_in_order(names: list[str]) -> None:
    assert check_names([f"  {name}\t" for name in names]) == names


@given(st.lists(words, min_size=1, max_size=5, unique=True), st.sampled_from(["|", ",", " | ", ", ", "||"]))
def test_synonyms_are_split_and_kept_in_order(group: list[str], joint: str) -> None:
    assert synonyms_of(joint.join(group)) == group


@given(st.lists(words, min_size=1, max_size=5, unique=True), st.data())
def test_a_repeated_word_is_named_whatever_its_case(names: list[str], data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(names))
    with pytest.raises(ValueError, match="more than once"):
        check_names([*names, twice.upper()])


@pytest.mark.parametrize("names", [["ox|cow", "cow"], ["cow|cow"], ["grass", "sky, grass"]])
def test_a_word_in_two_classes_is_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="one class only"):
        check_names(names)


@pytest.mark.parametrize("names", [["cow", ""], ["cow", "  "], ["|"], [", ,"]])
def test_blank_words_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="blank"):
        check_names(names)


@pytest.mark.parametrize("names", [[], ()])
def test_no_words_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="no words"):
        check_names(names)


def test_a_string_is_no_list_and_the_hint_shows_the_list() -> None:
    with pytest.raises(ValueError, match=r"\['cow', 'grass'\]"):
        check_names("cow, grass")


def test_templates_have_one_place_for_the_word() -> None:
    assert len(IMAGENET_TEMPLATES) == 80
    for template in (*IMAGENET_TEMPLATES, *COLLAGE_TEMPLATES, *CATSEG_TEMPLATES, *SIMPLE_TEMPLATES):
        assert template.count("{}") == 1 and "lion" in template.format("lion")
