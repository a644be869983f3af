"""infoclip-lite notebooks: executed, checked, made into a course with slides; and the capstone, judged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def notebooks_command(
    action: Annotated[Literal["run", "check", "student", "slides", "judge"], tyro.conf.Positional],
    file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None,
    files: tuple[Path, ...] = (),
    out: Path = Path("coursework"),
    repository: str | None = None,
    seeds: int = 3,
    seed: int | None = None,
    folder: Path | None = None,
) -> None:
    """Execute the notebooks, check that a new run gives the stored outputs, write a course's versions
    and slides, or judge a recipe of your own.

    Args:
        action: run (they are stored with their outputs), check, student (versions without solutions, and
            an instructor's key), slides (HTML that needs no network, and PDF where Chromium, Chrome or Edge
            is installed), or judge (train a recipe and the best cheap rival at equal cost, and compare
            them on scenes that are drawn now).
        file: for judge, the recipe: a YAML file that begins with base: mini/plain-few.
        files: some of the notebooks; all of notebooks/ by default.
        out: the folder that gets student/ and key/, or slides/.
        repository: OWNER/NAME on GitHub. For run, Colab and Binder badges and a first cell that installs the
            package are put in; for student, links to the docs lead there.
        seeds: for judge, how many pairs of trainings.
        seed: for judge, the first seed, to repeat a judgement; one is drawn by default.
        folder: for judge, where finished trainings are kept, runs/judge/NAME by default; the same command
            goes on from there.
    """
    if action == "judge":
        _judge(file, seeds, seed, folder)
        return
    if file is not None:
        raise ValueError(f"got {action} {file}; expected --files {file}: only judge takes a recipe")
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

        for path in write_coursework(paths, out, repository):
            print(path)
        return
    if action == "slides":
        _slides(paths, out)
        return
    from ..course.notebooks import execute

    for name, seconds in execute(paths, repository).items():
        print(f"{name:<48}{seconds:>7.1f} s")


def _slides(paths: list[Path], out: Path) -> None:
    from ..course.printing import find_browser, print_pdf
    from ..course.slides import write_slides

    browser = find_browser()
    for page in write_slides(paths, out):
        print(page)
        if browser:
            print(print_pdf(page, page.with_suffix(".pdf"), browser))
    if not browser:
        print("no PDF: Chromium, Chrome or Edge is not installed; any browser prints an HTML file of slides")


def _judge(file: Path | None, seeds: int, seed: int | None, folder: Path | None) -> None:
    if file is None:
        raise ValueError(
            "got no recipe; expected notebooks judge FILE, a YAML file: base: mini/plain-few ..."
        )
    from ..studies.capstone import judge_recipe

    print(judge_recipe(file, seeds=seeds, seed=seed, folder=folder, progress=True))
