"""The table of protocols: every value with its source, all of one or of all, on a data set or everywhere."""

from __future__ import annotations

import pytest

from infoclip_lite.cli import main
from infoclip_lite.clip.refinements import Pamr
from infoclip_lite.commands.protocols import shown
from infoclip_lite.evaluation.published import PUBLISHED, value_names


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["protocols", *arguments])
    return capsys.readouterr().out


def test_every_value_of_every_protocol_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys)
    for name in PUBLISHED:
        assert f"\n{name}: " in f"\n{out}"
    for value in value_names():
        assert out.count(f"\n  {value} ") >= len(PUBLISHED), value
    assert max(map(len, out.splitlines())) <= 110


def test_on_a_data_set_its_own_numbers_take_the_place_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = said(capsys, "sclip", "--dataset", "coco_stuff")
    assert "sclip on coco_stuff: " in out and "traffic light: trafficlight" in out
    (line,) = [line for line in out.splitlines() if line.startswith("  shorter ")]
    assert line.split()[1] == "448" and "[C] configs/cfg_coco_stuff164k.py" in line


def test_names_that_are_none_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, hint in ((["scilp"], "'sclip'"), (["sclip", "--dataset", "pas2"], "'pas20'")):
        with pytest.raises(SystemExit) as leaving:
            main(["protocols", *arguments])
        assert leaving.value.code == 2 and f"did you mean {hint}" in capsys.readouterr().err


def test_values_are_shown_in_words() -> None:
    assert shown("threshold", 0.0) == "-" and shown("threshold", 0.1) == "0.1"
    assert shown("templates", None) == "the model's own" and shown("whole", False) == "no"
    assert shown("refine", Pamr(iterations=3)) == "pamr: iterations 3, dilations (8, 16)"
