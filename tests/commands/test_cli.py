"""The command line: a table of commands, mistakes in one line, and nothing that a notebook could not call."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

from infoclip_lite import cli
from infoclip_lite.cli import COMMANDS, main
from infoclip_lite.commands import data, doctor
from infoclip_lite.commands.segment import notice
from infoclip_lite.commands.train import run_folder
from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import all_nouns, stuff
from infoclip_lite.datasets.collage.building.verify import verify

PACK = data_dir() / "collage"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    status = 0
    try:
        main(arguments)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    return status, *capsys.readouterr()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_that_names_its_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, name, "--help")
    options = [key for key in inspect.signature(COMMANDS[name]).parameters if key != "action"]
    assert status == 0 and f"usage: infoclip-lite {name}" in out
    assert [
        key for key in options if f"--{key.replace('_', '-')}" not in out and key.upper() not in out
    ] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    explained = inspect.getdoc(COMMANDS[name]) or ""
    assert [
        key for key in inspect.signature(COMMANDS[name]).parameters if f"    {key}: " not in explained
    ] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stands_in_the_file_of_its_name(name: str) -> None:
    assert COMMANDS[name] is getattr(import_module(f"infoclip_lite.commands.{name}"), f"{name}_command")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("segment", "nope.png", "--names", "cow"), "no picture nope.png"),
        (("segment", __file__, "--names", "cow"), "is not a picture"),
        (("train", "mini/plian"), "no recipe 'mini/plian'"),
        (("benchmark", "sped"), "unknown benchmark 'sped'; did you mean 'speed'?"),
        (("benchmark", "repair", "--part", "3/2"), "part is '3/2'; expected K/N"),
        (("benchmark", "speed", "--seeds", "3"), "benchmark 'speed' takes no --seeds"),
        (("benchmark", "predictors", "--part", "1/2"), "benchmark 'predictors' takes no --part"),
        (("evaluate", "--gammas", "1,x"), "gammas is '1,x'; expected numbers"),
        (("evaluate", "--dataset", "pas2"), "unknown data set 'pas2'; did you mean 'pas20'?"),
        (("evaluate", "--weights", "model.pth"), "got weights without a recipe"),
        (("evaluate", "--read-outs", "vlaue"), "did you mean 'value'?"),
        (("data", "download", "vco"), "'voc'"),
        (("data", "sheet", "--words", "unicorn"), "the pack has no pictures of unicorn"),
        (("data", "rebuild", "--words", "chiar"), "no 'chiar'; did you mean 'chair'?"),
        (("data", "rebuild", "voc"), "got rebuild voc"),
        (("notebooks", "check", "--files", "nope.ipynb"), "no notebook nope.ipynb"),
        (("notebooks", "check", "nope.ipynb"), "only judge takes a recipe"),
        (("notebooks", "judge"), "got no recipe"),
        (("notebooks", "judge", "mini/plian"), "no recipe 'mini/plian'"),
        (("notebooks", "judge", "mini/map"), "learns from 6400 labelled scenes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2 and err.startswith("infoclip-lite: ") and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("x"), FileNotFoundError("x"), MemoryError("x"), torch.OutOfMemoryError("x")]
)
def test_what_a_user_can_mend_has_no_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(cli, "COMMANDS", {"doctor": fails, "demo": fails})
    assert run(capsys, "doctor")[::2] == (2, "infoclip-lite: x\n")


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise KeyError("ours")

    monkeypatch.setattr(cli, "COMMANDS", {"doctor": fails, "demo": fails})
    with pytest.raises(KeyError, match="ours"):
        main(["doctor"])


def test_an_unknown_option_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "data", "list", "--rot", "x")
    assert status == 2 and "--root" in err


def test_data_list_names_what_ships_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "data", "list", "--root", str(tmp_path))
    scenes = Collage("test")
    assert status == 0 and f"{len(scenes.names)} classes, {len(scenes.unseen)} of them unseen nouns" in out
    assert f"{len(list((PACK / 'cutouts').iterdir()))} cut-outs of " in out
    assert "mini/plain" in out and "ceiling" in out and str(tmp_path) in out and "missing" in out


@pytest.mark.parametrize("name", [(), ("collage",)])
def test_data_verify_looks_at_every_hash(name: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "data", "verify", *name)
    assert status == 0 and f"{len(list(PACK.rglob('*.webp')))} pictures" in out and "every hash right" in out


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pack that the command takes for the one that ships."""
    monkeypatch.setattr(data, "data_dir", lambda: tmp_path)
    return Path(shutil.copytree(PACK, tmp_path / "collage"))


def test_data_rebuild_says_how_many_pictures_changed(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    selection = json.loads((pack / "selection.json").read_text())
    drawn = [item for item in selection["textures"]["sand"] if item["source"].startswith("synthesised:")]
    gone = len(selection["textures"]["sand"]) - len(drawn)
    selection["textures"]["sand"] = drawn
    (pack / "selection.json").write_text(json.dumps(selection))
    status, out, _ = run(capsys, "data", "rebuild", "--words", "sand")
    assert status == 0 and "every hash right" in out and f"{gone} gone" in out
    status, out, _ = run(capsys, "data", "rebuild", "--words", "sand")
    assert status == 0 and "0 new or changed, 0 gone" in out


def test_data_rebuild_names_the_package_that_cannot_be_had(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    options = ("--words", "sky", "--packages", str(tmp_path / "debs"), "--cache", str(tmp_path / "cache"))
    status, _, err = run(capsys, "data", "rebuild", *options)
    assert status == 2 and "cannot be had" in err and "by hand" in err and err.count("\n") == 1
    assert verify(pack) == len(list(PACK.rglob("*.webp"))) and not list((tmp_path / "debs").iterdir())


def test_data_sheet_writes_every_picture_of_the_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(capsys, "data", "sheet", "--out", str(tmp_path), "--words", "dining table", "snow")
    assert status == 0 and out.split() == [str(tmp_path / "sheet-01.png")]
    with Image.open(tmp_path / "sheet-01.png") as sheet:
        assert sheet.size[0] == 14 * 112


def test_doctor_finds_a_damaged_pack(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "data_dir", lambda: pack.parent)
    assert doctor.doctor()["collage"].endswith("pictures, every hash right")
    next((pack / "cutouts").iterdir()).write_bytes(b"x")
    assert doctor.doctor()["collage"].startswith("damaged: ")


def test_doctor_says_what_works(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert {"python", "torch", "device", "bfloat16", "collage", "collage-mini"} <= {
        line.split()[0] for line in out.splitlines()
    }


def test_segment_prints_fractions_and_writes_the_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "photo.png")
    where = str(tmp_path / "overlay.png")
    options = ("--out", where, "--read-outs", "value,cls_value", "--background", "sky")
    status, out, _ = run(capsys, "segment", str(tmp_path / "photo.png"), "--names", "cow, grass", *options)
    assert status == 0 and Image.open(where).size[0] >= 384
    assert [line.split()[0] for line in out.splitlines()[:2]] in (["cow", "grass"], ["grass", "cow"])
    assert f"picture: {where}" in out and "collage-mini was trained on collages" in out


def test_segment_takes_its_words_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "photo.png")
    (tmp_path / "words.txt").write_text("sky, wall\ncow, ox\ngrass\n")
    where = ("--words", str(tmp_path / "words.txt"), "--out", str(tmp_path / "o.png"))
    status, out, _ = run(capsys, "segment", str(tmp_path / "photo.png"), *where, "--background-first")
    assert status == 0 and {line[:24].strip() for line in out.splitlines()[:2]} == {"cow, ox", "grass"}
    status, out, _ = run(capsys, "segment", str(tmp_path / "photo.png"), *where)
    assert status == 0 and len({line[:24].strip() for line in out.splitlines()[:3]}) == 3


def test_segment_labels_every_picture_of_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    for name, colour in (("a.png", "green"), ("deeper/b.jpg", "blue")):
        Image.new("RGB", (64, 48), colour).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    where = tmp_path / "photos" / "masks"  # inside: masks of the first call are no pictures of the second
    for _ in range(2):
        options = ("--names", "grass, sky", "--threshold", "0.5", "--out", str(where))
        status, out, _ = run(capsys, "segment", str(tmp_path / "photos"), *options)
        assert status == 0 and "masks of 2 pictures" in out and "broken.jpg is not a picture" in out
    told = json.loads((where / "segments.json").read_text())
    assert told["names"] == ["grass", "sky"] and set(told["pictures"]) == {"a.png", "deeper/b.jpg"}
    assert list(told["unreadable"]) == ["broken.jpg"]
    for name, row in told["pictures"].items():
        with Image.open(where / row["mask"]) as mask:
            assert mask.mode == "P" and list(mask.size[::-1]) == row["size"] == [48, 64], name
            labels = np.asarray(mask)
        assert set(np.unique(labels).tolist()) <= {0, 1, 255}
        assert row["fractions"]["sky"] == pytest.approx((labels == 1).mean())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "got neither names nor words; expected one of them"),
        (("--names", "cow", "--words", "words.txt"), "got names and words; expected one of them"),
        (("--names", "cow", "--background-first"), "got --background-first with --names"),
        (("--words", "nope.txt"), "no nope.txt; expected a text file with one class a line"),
    ],
)
def test_segment_wants_words_from_one_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    # Said before a model is loaded.
    monkeypatch.setattr("infoclip_lite.clip.load_clip", None)
    status, _, err = run(capsys, "segment", "photo.png", *arguments)
    assert status == 2 and said in err and "Traceback" not in err


def test_words_that_collage_does_not_have_are_named_and_a_model_that_knows_more() -> None:
    known = len(all_nouns()) + len(stuff())
    said = notice(["cow|ox", "grass", "zyzzyva"])
    assert f"knows the {known} words" in said and "Not among them: ox, zyzzyva. " in said
    assert "--model ViT-B-16-quickgelu --pretrained openai" in said
    assert "Not among" not in notice(["cow", "Grass"])


def test_words_that_a_model_does_not_know_are_notes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "photo.png")
    arguments = (str(tmp_path / "photo.png"), "--names", "zyzzyva, grass", "--out", str(tmp_path / "o.png"))
    status, _, err = run(capsys, "segment", *arguments)
    assert status == 0 and err.startswith("note: ") and "zyzzyva" in err


def test_runs_are_kept_by_the_name_of_the_recipe() -> None:
    assert (
        run_folder("mini/infoclip", 3) == Path("runs/infoclip/3") == run_folder("elsewhere/infoclip.yaml", 3)
    )


def test_the_module_is_the_command() -> None:
    """`torchrun -m infoclip_lite.cli` starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "infoclip_lite.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert "usage: infoclip-lite" in done.stdout and all(name in done.stdout for name in COMMANDS)


def test_help_can_be_asked_for_as_the_site_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="infoclip-lite", args=["benchmark", "--help"])
    assert "degradation_map: rates, steps and what is tuned (--seeds, --part)" in " ".join(
        capsys.readouterr().out.split()
    )
