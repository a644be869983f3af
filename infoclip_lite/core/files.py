"""Where the files that ship with the package are: data/ beside the source, or _data/ inside a wheel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def data_dir() -> Path:
    """The folder with collage/, checkpoints/ and reports/.

    Raises:
        FileNotFoundError: the package was installed without its data.
    """
    for candidate in (_PACKAGE / "_data", _PACKAGE.parent / "data"):
        if (candidate / "collage" / "manifest.json").exists():
            return candidate
    raise FileNotFoundError(
        f"no data folder beside {_PACKAGE}; expected data/collage/manifest.json: reinstall with `pip install .` in a full clone"
    )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`; rename it onto `path` when the block ends well, delete it when not.

    A reader, or a run that is killed, sees the old file or the new one, never half of either.

    Raises:
        OSError: the folder cannot be made or written, said before anything is touched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise OSError(f"cannot write {path}: {path.parent} is not a folder") from error
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield scratch
        with open(scratch, "rb") as handle:
            os.fsync(handle.fileno())
        os.chmod(scratch, 0o644)  # some writers make their file private
        os.replace(scratch, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; free space or choose another folder") from error
    finally:
        scratch.unlink(missing_ok=True)
