"""Slides for a chapter, as one HTML file that needs no network; `course.printing` makes a PDF of it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from ...core.files import whole_file
from .deck import read_slides

_HERE = Path(__file__).parent
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{slides}
</main>
<nav aria-label="Slides">
<button id="back" aria-label="Back">&#8249;</button>
<output id="place" aria-live="polite"></output>
<button id="on" aria-label="On">&#8250;</button>
</nav>
<p id="keys">&larr; &rarr; move &middot; N notes &middot; S speaker's window &middot;
D dark or light &middot; F whole screen</p>
<script>
{script}
</script>
</body>
</html>
"""


def write_slides(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Write folder/slides/NAME.html for each notebook.

    Args:
        paths: of the notebooks, executed: their figures are those that are stored.
        folder: in which slides/ is made.

    Returns:
        The files that were written.

    Raises:
        ImportError: the `docs` or the `notebooks` extra is not installed.
        ValueError: a notebook whose first cell is no title with a question.
    """
    try:
        import nbformat
    except ImportError as error:
        raise ImportError("slides need nbformat; install with `pip install -e .[notebooks,docs]`") from error
    written = []
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        title = _title(path, notebook["cells"])
        target = folder / "slides" / f"{path.stem}.html"
        with whole_file(target) as scratch:
            scratch.write_text(deck_page(title, read_slides(notebook)), encoding="utf-8")
        written.append(target)
    return written


def deck_page(title: str, slides: Sequence[str]) -> str:
    """A page of slides that loads nothing.

    Args:
        title: of the page, plain text.
        slides: HTML of each, as `read_slides` gives it.
    """
    parts = {name: (_HERE / f"deck.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    return _PAGE.format(
        title=html.escape(title), style=parts["css"], script=parts["js"], slides="\n".join(slides)
    )


def _title(path: Path, cells: Sequence[dict[str, str]]) -> str:
    lines = cells[0]["source"].splitlines() if cells else []
    if len(lines) < 3 or not lines[0].startswith("# ") or not lines[2].startswith("*"):
        raise ValueError(f"{path}: the first cell has no '# title' with a '*question*' below; expected both")
    return lines[0].removeprefix("# ")
