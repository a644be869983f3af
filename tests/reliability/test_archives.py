"""Archives that are damaged or hostile: unpacked or refused, and never a file outside the folder."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from reliability.damage import damaged
from reliability.tally import Tally

from infoclip_lite.datasets.fetching.unpack import unpack

FILES = {"a.txt": b"a" * 40, "folder/b.txt": b"b" * 4000, "folder/deeper/c.bin": bytes(range(256))}


def sound() -> list[bytes]:
    """The same files as .zip (stored and packed), .tar and .tar.gz."""
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
        found.append(file.getvalue())
    for mode in ("w", "w:gz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:
            for name, content in FILES.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        found.append(file.getvalue())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@given(damaged(sound()))
def test_damaged_archives_are_unpacked_or_refused(tally: Tally, place: Path, content: bytes) -> None:
    shutil.rmtree(place / "root", ignore_errors=True)
    (place / "archive").write_bytes(content)
    count = tally.tried("damaged archives", lambda: unpack(place / "archive", place / "root"))
    assert sorted(os.listdir(place)) in (["archive"], ["archive", "root"])
    left = [path for path in (place / "root").rglob("*") if path.is_file()] if count is not None else []
    assert count is None or count == len(left)
    assert not list((place / "root").glob(".unpacking*"))
