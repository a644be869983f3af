"""Where the files that ship with the package are, and how a file is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The folder with collage/, checkpoints/ and reports/: _data/ inside a wheel, data/ beside the source.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    # The wheel's copy first: a stray data/ folder beside an installed package is somebody else's.
    for candidate in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        # Looked for by a file in it, since an interrupted installation leaves empty folders.
        if (candidate / "collage" / "manifest.json").exists():
            return candidate
    raise FileNotFoundError(
        f"no data folder beside {_PACKAGE}; expected data/collage/manifest.json: reinstall with `pip "
        "install .` in a full clone"
    )


def packaged_file(module: str, path: str, install: str) -> Path:
    """A file that another package carries; the package is found and not imported.

    Args:
        module: of the package.
        path: in its folder.
        install: the command that brings it, for the message.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        name = module.replace("_", "-")
        raise FileNotFoundError(
            f"no ImageNet weights: the package {name} is not installed; expected `{install}`"
        )
    return Path(found.submodule_search_locations[0]) / path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`; rename it onto `path` when the block ends well, delete it when not.

    A reader, or a run that is killed, sees the old file or the new one, never half of either.

    Args:
        path: the file; its folder is made if it is not there.

    Raises:
        OSError: the folder cannot be made or written, said before anything is touched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OSError(f"cannot write {path}: {path.parent} is not a folder") from error
    # In the same folder, because a rename is atomic within one file system only; with the process's number,
    # because two processes may write the same file at once.
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        # On the disk before it gets its name: else a power cut could leave the new name with no content.
        # For writing too: Windows refuses to flush what was opened for reading alone.
        with open(scratch, "rb+") as handle:
            os.fsync(handle.fileno())
        os.chmod(scratch, 0o644)  # some writers make their file private
        os.replace(scratch, path)
    except OSError as error:
        raise OSError(
            error.errno, f"cannot write {path}: {error.strerror}; free space or choose another folder"
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
