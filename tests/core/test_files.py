"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infoclip_lite.core import files as paths
from infoclip_lite.core.files import data_dir, whole_file


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with whole_file(target) as scratch:
        assert scratch.parent == target.parent and not target.exists()
        scratch.write_text("whole")
    assert target.read_text() == "whole" and os.listdir(target.parent) == ["a.txt"]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, RuntimeError("bug"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_the_old_file_stays_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error if isinstance(error, type) else type(error)), whole_file(target) as scratch:
        scratch.write_text("half of the ne")
        raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_named_with_a_hint(tmp_path: Path, full_disk: Callable) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with (
        full_disk(),
        pytest.raises(OSError, match=r"cannot write .*a\.txt.*free space or choose another folder"),
        whole_file(target) as scratch,
    ):
        scratch.write_text("x" * 100_000)
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_the_kind_of_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match=r"cannot write .*a\.txt"), whole_file(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_read_only_disk_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(error, os.strerror(error), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    entered = False
    with pytest.raises(OSError, match=r"new"), whole_file(tmp_path / "new" / "a.txt"):
        entered = True
    assert not entered


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for target in (tmp_path / "notes.txt" / "a.png", tmp_path / "notes.txt" / "b" / "a.png"):
        with pytest.raises(OSError, match="is not a folder"), whole_file(target):
            pass


def test_a_target_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError, match=r"cannot write .*a\.png"), whole_file(tmp_path / "a.png") as scratch:
        scratch.write_text("x")
    assert os.listdir(tmp_path) == ["a.png"]


def test_data_lie_beside_the_source_or_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (data_dir() / "collage" / "manifest.json").is_file() and (data_dir() / "checkpoints").is_dir()
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "infoclip_lite")
    with pytest.raises(FileNotFoundError, match="reinstall"):
        data_dir()
    manifest = tmp_path / "infoclip_lite" / "_data" / "collage" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert data_dir() == tmp_path / "infoclip_lite" / "_data"
