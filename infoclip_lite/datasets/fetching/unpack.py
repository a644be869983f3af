"""Unpack archives that one does not trust: files and folders alone, none outside, and an end to them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

_Archive = zipfile.ZipFile | tarfile.TarFile
_Entry = zipfile.ZipInfo | tarfile.TarInfo


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        bytes: of all files together.
        files: number of entries.
        ratio: of unpacked to packed bytes, from 10 MB on.
    """

    # Wide for every data set here (COCO: 19 GB, 120,000 files), narrow for a bomb: zip packs up to 1000:1.
    bytes: int = 200 * 10**9
    files: int = 1_000_000
    ratio: float = 200.0


LIMITS = Limits()


def unpack(archive: Path, target: Path, limits: Limits = LIMITS) -> int:
    """Unpack a .zip or .tar(.gz) into `target`, over what is there, and return the number of files.

    Everything is looked at before anything is written; files arrive in a scratch folder and are moved to
    their places at the end.

    Raises:
        ValueError: an entry that would leave the folder, a link or device, an encrypted entry, more than the
            limits allow, or an archive that is damaged or of another kind.
        OSError: the disk has not enough free space.
    """
    # On the target's own disk, so that the move at the end copies nothing; a killed process leaves it behind.
    scratch = target / f".unpacking-{archive.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        needed = _check(archive, limits)
        target.mkdir(parents=True, exist_ok=True)
        need_space(target, needed, f"unpack {archive.name}")
        with _opened(archive) as opened:
            for name, _, entry in _entries(opened):
                _write(opened, entry, scratch / name)
        return _move(scratch, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive} is damaged ({error}); delete it and download it again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def need_space(folder: Path, needed: int, what: str) -> None:
    """Whether so many bytes fit on the disk of an existing folder.

    Raises:
        OSError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        got = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free in {folder}"
        raise OSError(errno.ENOSPC, f"cannot {what}: {got}")


def _opened(archive: Path) -> _Archive:
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    try:
        return tarfile.open(archive)
    except tarfile.ReadError as error:
        hint = "delete it and download it again"
        raise ValueError(f"{archive} is neither a .zip nor a .tar(.gz), or is damaged; {hint}") from error


def _check(archive: Path, limits: Limits) -> int:
    """The unpacked size in bytes, every entry looked at."""
    total, packed = 0, archive.stat().st_size
    with _opened(archive) as opened:
        for count, (_, size, _) in enumerate(_entries(opened), 1):
            total += size
            most = min(limits.bytes, max(10**7, limits.ratio * packed))
            if total > most or count > limits.files:
                got = f"more than {most:.3g} bytes or {limits.files} files"
                raise ValueError(f"{archive} would unpack to {got}; it is not what it says")
    return total


def _entries(opened: _Archive) -> Iterator[tuple[str, int, _Entry]]:
    """(path, bytes, entry) of every file."""
    # By hand, for zip and tar alike: `tarfile`'s filter knows tar alone, and neither counts before it writes.
    for entry in opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened:
        if isinstance(entry, zipfile.ZipInfo):
            name, size, folder = entry.filename, entry.file_size, entry.is_dir()
            # The upper half holds the mode on Unix, 0 elsewhere; bit 0 of the flags says "encrypted".
            kind = stat.S_IFMT(entry.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not entry.flag_bits & 1
        else:
            name, size, folder, plain = entry.name, entry.size, entry.isdir(), entry.isreg() or entry.isdir()
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
            hint = "this archive is hostile or damaged, nothing was unpacked"
            raise ValueError(f"an entry {name!r} would leave the folder; {hint}")
        if not plain:
            hint = "expected files and folders only, nothing was unpacked"
            raise ValueError(f"an entry {name!r} is a link, a device or encrypted; {hint}")
        if not folder and path.parts:
            yield str(path), size, entry


def _write(opened: _Archive, entry: _Entry, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source: IO[bytes] | None = None
    if isinstance(opened, zipfile.ZipFile) and isinstance(entry, zipfile.ZipInfo):
        source = opened.open(entry)
    elif isinstance(opened, tarfile.TarFile) and isinstance(entry, tarfile.TarInfo):
        source = opened.extractfile(entry)
    if source is None:
        raise ValueError(f"{path.name} has no content; expected a file")
    with source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 2**20)


def _move(scratch: Path, target: Path) -> int:
    count = 0
    for folder, _, names in os.walk(scratch):
        place = target / Path(folder).relative_to(scratch)
        if names:
            place.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.replace(os.path.join(folder, name), place / name)
        count += len(names)
    return count
