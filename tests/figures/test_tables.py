"""Tables are the same on every run, on light and on dark pages, and say no more than was measured."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.tables import MISSING, table

ROWS = [
    {"estimator": "a < b & c", "n": 1000, "error": -0.0004},
    {"estimator": "club", "n": 20, "error": 1.236},
]


def test_two_runs_store_the_same_text() -> None:
    first, second = table(ROWS), table([dict(row) for row in ROWS])
    assert first._repr_html_() == second._repr_html_() and repr(first) == repr(second)
    assert "0x" not in repr(first), "no address of an object"
    assert "id=" not in first._repr_html_(), "no generated id"


def test_colours_are_left_to_the_page() -> None:
    text = table(ROWS, caption="nats")._repr_html_()
    assert not re.search(r"colou?r|background|#[0-9a-f]{3}|<style", text, re.IGNORECASE)
    assert '<table class="dataframe">' in text, "the class that themes style for light and dark pages"


def test_words_are_escaped_and_stand_left_while_numbers_stand_right() -> None:
    text = table(ROWS)._repr_html_()
    assert '<td style="text-align: left">a &lt; b &amp; c</td>' in text
    assert '<td style="text-align: right">1000</td>' in text
    assert '<th scope="col" style="text-align: right">n</th>' in text


def test_numbers_are_rounded_and_zero_has_no_sign() -> None:
    plain = table(ROWS)
    assert [row[2] for row in plain.rows] == ["0.00", "1.24"]
    assert [row[2] for row in table(ROWS, digits={"error": 1}, signed=["error"]).rows] == ["0.0", "+1.2"]
    assert [row[1] for row in plain.rows] == ["1000", "20"], "whole numbers stay whole"
    assert table([{"a": np.float32(0.5), "b": np.int64(3)}], digits=1).rows == [["0.5", "3"]]
    assert table([{"change": 3}, {"change": 0}], signed=["change"]).rows == [["+3"], ["0"]]


def test_an_interval_is_its_mean_and_half_its_width() -> None:
    made = table([{"error": Interval(0.5, 0.25)}, {"error": Interval(-0.5, 0.1)}], signed=["error"])
    assert [row[0] for row in made.rows] == ["+0.50 ± 0.25", "-0.50 ± 0.10"]
    assert made.right == [True]


def test_what_was_not_measured_is_a_dash() -> None:
    made = table([{"ms": None}, {"ms": math.nan}, {"ms": 2.0}])
    assert [row[0] for row in made.rows] == [MISSING, MISSING, "2.00"]
    assert made.right == [True], "a gap does not make a column of numbers one of words"


def test_a_terminal_sees_the_same_rows() -> None:
    lines = repr(table(ROWS, caption="nats")).splitlines()
    assert lines[0] == "nats" and len(lines) == 2 + len(ROWS)
    assert lines[2].split() == ["a", "<", "b", "&", "c", "1000", "0.00"]
    assert len({len(line) for line in lines[1:]}) == 1, "the last column ends at one edge"


@pytest.mark.parametrize(
    ("rows", "options", "hint"),
    [
        ([], {}, "at least one row"),
        ([{"a": 1}, {"b": 1}], {}, "the same columns"),
        ([{"a": 1}], {"digits": {"b": 1}}, r"\['b'\]"),
        ([{"a": 1}], {"signed": ["b"]}, r"\['b'\]"),
    ],
)
def test_rows_that_make_no_table_are_refused(rows: list, options: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        table(rows, **options)
