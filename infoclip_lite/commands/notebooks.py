"""infoclip-lite notebooks: executed, checked, and made into a course."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def notebooks_command(
    action: Annotated[Literal["run", "check", "student"], tyro.conf.Positional],
    files: tuple[Path, ...] = (),
    out: Path = Path("coursework"),
    repository: str | None = None,
) -> None:
    """Execute the notebooks, check that a new run gives the stored outputs, or write a course's versions.

    Args:
        action: run (they are stored with their outputs), check, or student (versions without solutions, and
            an instructor's key).
        files: some of them; all of notebooks/ by default.
        out: for student, the folder that gets student/ and key/.
        repository: for run, OWNER/NAME on GitHub: Colab and Binder badges and a first cell that installs the
            package are put in.
    """
    paths = list(files) or sorted(Path("notebooks").glob("*.ipynb"))
    if not paths:
        raise FileNotFoundError("no notebooks/*.ipynb here; run this in the project's folder or name files")
    absent = [path for path in paths if not path.is_file()]
    if absent:
        raise FileNotFoundError(f"no notebook {absent[0]}; expected .ipynb files")
    if action == "check":
        from ..course.notebooks import check

        sys.exit(check(paths))
    if action == "student":
        from ..course.coursework import write_coursework

        for path in write_coursework(paths, out):
            print(path)
        return
    from ..course.notebooks import execute

    for name, seconds in execute(paths, repository).items():
        print(f"{name:<48}{seconds:>7.1f} s")
