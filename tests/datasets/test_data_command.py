"""infoclip-lite data: what belongs to another action is refused, not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoclip_lite.commands import data
from infoclip_lite.commands.data import data_command

HERE = Path("here")


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No action does anything: what is not refused is neither fetched nor rebuilt."""
    for name in ("_show", "_verify", "_verify_collage", "_rebuild", "_points", "_sheets"):
        monkeypatch.setattr(data, name, lambda *_: None)
    monkeypatch.setattr("infoclip_lite.datasets.fetching.download.download", lambda *_, **__: None)


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("list",), {"words": ("chair",)}, "got --words for data list; expected --root"),
        (("list",), {"sample": 0}, "got --sample for data list; expected --root"),
        (("list", "voc"), {}, "got list voc; expected no name"),
        (("download", "voc"), {"cache": HERE}, "got --cache for data download; expected --root or --again"),
        (("verify", "voc"), {"out": HERE}, "got --out for data verify; expected --root or --sample"),
        (("list",), {"again": True}, "got --again for data list; expected --root"),
        (("verify",), {"root": HERE}, "got --root for data verify collage; expected no option"),
        (("verify",), {"sample": 200}, "got --sample for data verify collage; expected no option"),
        (
            ("rebuild",),
            {"out": HERE},
            "got --out for data rebuild; expected --packages or --cache or --words",
        ),
        (("rebuild", "voc"), {}, "got rebuild voc; expected no name"),
        (
            ("rebuild", "points"),
            {"words": ("a",)},
            "got --words for data rebuild points; expected --packages",
        ),
        (("verify", "points"), {"sample": 1}, "got --sample for data verify points; expected no option"),
        (("sheet", "points"), {}, "got sheet points; expected no name"),
        (("sheet",), {"packages": HERE}, "got --packages for data sheet; expected --words or --out"),
        (("sheet", "voc"), {}, "got sheet voc; expected no name"),
    ],
)
def test_what_an_action_does_not_take_is_refused(
    arguments: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        data_command(*arguments, **options)


def test_sheets_go_to_the_folder_sheets_and_real_data_are_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data_command("sheet", words=("snow",))
    assert capsys.readouterr().out.split() == ["sheets/sheet-01.png"]
    sampled: list[int] = []

    def verified(name: str, root: Path | None, *, sample: int, progress: bool) -> list:
        sampled.append(sample)
        return []

    monkeypatch.setattr("infoclip_lite.datasets.fetching.verify.verify_dataset", verified)
    for options in ({}, {"sample": 0}, {"sample": 7}):
        data_command("verify", "voc", root=tmp_path, **options)
    assert sampled == [200, 0, 7]


def test_the_pack_of_points_is_verified_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    data_command("verify", "points")
    assert "scenes in" in capsys.readouterr().out
