"""Unpacking packages and the archives of pictures inside them, whole or not at all."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

from .sources import Package

_ZLIB, _FOLDER, _ZSTD = 1, 2, 4  # flags of an entry in a Qt resource file


def unpack(package: Package, archive: Path, folder: Path) -> Path:
    """Unpack a checked package (and the archives of pictures in it) into `folder`/name, whole or not at all.

    Members of an archive "x.zip" lie afterwards in a folder "x.zip!" beside it.

    Raises:
        FileNotFoundError: there is no dpkg-deb.
    """
    target = folder / package.name.replace("/", "+")
    if target.exists():
        return target
    scratch = target.with_name(f".{target.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    if package.kind == "deb":
        _unpack_deb(archive, scratch)
    elif package.kind == "pypi":
        zipfile.ZipFile(archive).extractall(scratch)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
    for inner in (path for path in scratch.rglob("*") if path.suffix in (".sh3f", ".jar", ".rcc")):
        if inner.suffix == ".rcc":
            unpack_qt(inner.read_bytes(), inner.with_name(f"{inner.name}!"))
        else:
            zipfile.ZipFile(inner).extractall(inner.with_name(f"{inner.name}!"))
    scratch.rename(target)
    return target


def _unpack_deb(archive: Path, folder: Path) -> None:
    try:
        subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], check=True, capture_output=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no dpkg-deb to unpack {archive.name}; expected Debian's tool (package dpkg, on any system)"
        ) from error


def unpack_qt(raw: bytes, target: Path) -> None:
    """Write the files of a Qt binary resource collection; those under zstd are left out (no picture is)."""
    version, tree, data, names = struct.unpack(">IIII", raw[4:20])
    size = 22 if version >= 2 else 14

    def walk(index: int, folder: Path) -> None:
        at = tree + index * size
        name_at, flags = struct.unpack(">IH", raw[at : at + 6])
        if index:
            start = names + name_at
            (length,) = struct.unpack(">H", raw[start : start + 2])
            folder = folder / raw[start + 6 : start + 6 + 2 * length].decode("utf-16-be")
        if flags & _FOLDER:
            count, first = struct.unpack(">II", raw[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child, folder)
        elif not flags & _ZSTD:
            start = data + struct.unpack(">I", raw[at + 10 : at + 14])[0]
            (length,) = struct.unpack(">I", raw[start : start + 4])
            content = raw[start + 4 : start + 4 + length]
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.write_bytes(zlib.decompress(content[4:]) if flags & _ZLIB else content)

    walk(0, target)
