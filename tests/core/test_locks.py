"""A folder is one process's at a time, and nobody's after a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from infoclip_lite.core.locks import LOCK, held

fcntl = pytest.importorskip("fcntl", reason="nothing is held on Windows")
_HOLDS = """
import signal, sys
from pathlib import Path
from infoclip_lite.core.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""
Keeper = Callable[[Path], AbstractContextManager[subprocess.Popen]]


@pytest.fixture
def keeper() -> Keeper:
    """Another process that holds a folder as long as the block lasts."""

    @contextmanager
    def kept(folder: Path) -> Iterator[subprocess.Popen]:
        command = [sys.executable, "-c", _HOLDS, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout is not None and child.stdout.readline() == "held\n"
                yield child
            finally:
                child.kill()

    return kept


def test_the_second_process_is_refused_and_told_who_is_there(tmp_path: Path, keeper: Keeper) -> None:
    with keeper(tmp_path / "run") as child:
        said = rf"run is in use by process {child.pid} of .*; expected a folder of its own"
        with pytest.raises(BlockingIOError, match=said), held(tmp_path / "run"):
            pass
        with held(tmp_path / "another"):
            pass


def test_a_killed_process_lets_go(tmp_path: Path, keeper: Keeper) -> None:
    with keeper(tmp_path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        with held(tmp_path):
            assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert os.listdir(tmp_path) == [LOCK] and (tmp_path / LOCK).read_text() == ""


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path):
        pass


def test_where_nothing_can_be_written_nothing_is_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with held(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuses)
    with held(tmp_path):
        pass
