"""The line above numbers that are being measured again."""

from __future__ import annotations

import pytest

from infoclip_lite.core.reports import list_reports, read_report
from infoclip_lite.figures.again import measured_again

OLD = {"measured_on": "the first collage-mini on the first pack of pictures"}
LINE = "Being measured again: these numbers are of the first collage-mini on the first pack of pictures.\n"


def test_a_report_of_something_else_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    measured_again(OLD, {}, dict(OLD))
    assert capsys.readouterr().out == LINE


def test_a_report_that_was_measured_anew_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measured_again({"environment": {}}, "information")
    assert capsys.readouterr().out == ""


def test_a_report_that_ships_is_asked_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name in list_reports():
        measured_again(name)
        assert bool(capsys.readouterr().out) == ("measured_on" in read_report(name)), name


def test_a_report_that_does_not_ship_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match="no report 'leaderbord'"):
        measured_again("leaderbord")
