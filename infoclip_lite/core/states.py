"""States of a training that survive anything: written whole, checked by a hash, the one before kept."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import torch

from .files import whole_file

# What torch.save takes and torch.load(weights_only=True) gives back: tensors, numbers, texts, lists and dicts
# of them. The loop that wrote it knows what is in it.
State: TypeAlias = dict[str, Any]

STATE, PREVIOUS = "state.pt", "previous.pt"
_DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file


def write_state(folder: Path, state: State, *, last: bool = False) -> None:
    """Write folder/state.pt; what stood there becomes previous.pt, or goes if this is the last of the run.

    A process that is killed at any moment in here leaves at least one good state behind.

    Args:
        folder: made if it is not there.
        state: tensors, numbers, texts, lists and dicts of them.
        last: whether the run is finished.

    Raises:
        OSError: no room, or a folder that cannot be written; said before the old state is touched.
    """
    buffer = io.BytesIO()  # a full disk is then an OSError of write, not torch.save's RuntimeError
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path, previous = folder / STATE, folder / PREVIOUS
    for left_over in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
        left_over.unlink(missing_ok=True)
    with whole_file(path) as scratch:
        # Asked for beforehand, so that the message can say how much is missing.
        free = shutil.disk_usage(folder).free
        if free < len(payload) + _DIGEST:
            needed = f"{len(payload) / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"
            raise OSError(errno.ENOSPC, needed, str(path))
        with open(scratch, "wb") as handle:
            handle.write(payload)
            handle.write(hashlib.sha256(payload).digest())
            handle.flush()
            os.fsync(handle.fileno())
        # Only now does the old state move: until here a failure leaves it in its place.
        if path.exists() and not last:
            os.replace(path, previous)
    if last:
        # A finished run is read, never gone on with: half the disk space is worth more than a second copy.
        previous.unlink(missing_ok=True)


def read_state(folder: Path) -> State | None:
    """The newest good state of a folder, None if there is none; a damaged one is warned of and passed over.

    Raises:
        ValueError: there are states, and all of them are damaged.
    """
    damaged: list[Path] = []
    for path in (folder / STATE, folder / PREVIOUS):
        if not path.exists():
            continue
        content = path.read_bytes()
        payload, digest = content[:-_DIGEST], content[-_DIGEST:]
        # The hash is looked at before torch.load: half a pickle can be read without an error, and be wrong.
        if hashlib.sha256(payload).digest() == digest:
            if damaged:
                warnings.warn(f"{damaged[0]} is damaged; going on from {path.name}", stacklevel=2)
            return torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
        damaged.append(path)
    if damaged:
        raise ValueError(
            f"{', '.join(map(str, damaged))} cannot be read: truncated or damaged (hash differs); "
            f"expected what `train` wrote: delete {'it' if len(damaged) == 1 else 'them'} to begin again"
        )
    return None
