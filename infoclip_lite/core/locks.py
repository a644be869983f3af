"""One process at a time in a folder; the second is told who is there."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".in_use"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder to this process as long as the block lasts.

    A process that is killed lets go of it: the operating system holds the lock, not a file that would stay
    behind. Where locks or files cannot be had (a read-only folder, some network disks, Windows) nothing is
    held.

    Args:
        folder: made if it is not there.

    Raises:
        BlockingIOError: another process holds it; says which.
    """
    file = _opened(folder / LOCK)
    if file is None:
        yield
        return
    with file:
        try:
            # Of the process, not of the open file: a worker that was forked off, and hangs, does not keep it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise BlockingIOError(_refusal(folder, file)) from error
        except OSError:  # a disk that knows no locks
            yield
            return
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} of {platform.node()} ({' '.join(sys.argv)[:200]})")
        file.flush()
        # The file stays, empty: to delete it would let a third process lock another one of its name.
        try:
            yield
        finally:
            with suppress(OSError):
                file.truncate(0)


def _opened(path: Path) -> IO[str] | None:
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    # Whoever is to write into this folder will say so, and better.
    except OSError:
        return None


def _refusal(folder: Path, file: IO[str]) -> str:
    file.seek(0)
    who = file.read().strip() or "another process"
    return (
        f"{folder} is in use by {who}; expected a folder of its own: wait for it, end it, or choose another"
    )
