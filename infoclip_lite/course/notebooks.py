"""Execute, stamp and check the notebooks."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageChops, ImageStat

from ..core.files import whole_file
from .links import RELEASE, checked

if TYPE_CHECKING:
    from nbformat import NotebookNode

SETUP = """\
try:
    import infoclip_lite  # noqa: F401
except ImportError:  # Colab or another bare machine: a few minutes, once
    %pip install --quiet "infoclip-lite[notebooks,chimera] @ git+https://github.com/{repository}@{release}"\
"""
# What nbval replaces before it compares: numbers of seconds, which differ from run to run.
SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
_COLOURS = (32, 64, 256)  # of a palette, fewest first
_SEEN = 1.5  # levels of 255, the mean over a figure
_LONGEST = 600  # seconds a cell may take; the slowest takes some forty
_BADGES = re.compile(r"\n*^\[!\[Open in Colab\].*$", re.MULTILINE)
_TIME = re.compile(r"(\*\*Time\*\*: )(.*?)( to run)")
# "arXiv 2103.00020" or "arXiv physics/0004057", where it is no link yet.
_ARXIV = re.compile(r"(?<!\[)\barXiv (\d{4}\.\d{4,5}|[a-z-]+/\d{7})\b")
_NAVIGATION = re.compile(r"\n*^\*\*Chapters\*\*: .*$", re.MULTILINE)
_CAPTION = re.compile(r"^\*(Figure: .*?)\*$", re.DOTALL | re.MULTILINE)


def execute(paths: Sequence[Path], repository: str | None = None) -> dict[str, float]:
    """Run notebooks from top to bottom and store them with outputs, measured time and alt texts.

    Args:
        paths: of the notebooks.
        repository: OWNER/NAME on GitHub for Colab and Binder; None leaves badges and setup alone.

    Returns:
        Seconds that each took, by the file's name.

    Raises:
        ValueError: a repository that is not OWNER/NAME, or a header that has no place for the time.
        ImportError: the `notebooks` extra is not installed.
        nbclient.exceptions.CellExecutionError: a cell failed; the file is left as it was.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        raise ImportError(
            "executing notebooks needs nbclient; install with `pip install -e .[notebooks,test]`"
        ) from error
    seconds = {}
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if repository is not None:
            stamp_launch(notebook, path.name, repository)
        started = time.perf_counter()
        NotebookClient(
            notebook,
            timeout=_LONGEST,
            kernel_name="python3",
            # One output where a cell printed twice: how a stream is cut depends on the machine's speed.
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
        seconds[path.name] = round(time.perf_counter() - started, 1)
        _tidy(notebook)
        stamp_time(notebook, seconds[path.name])
        stamp_alt_texts(notebook)
        stamp_links(notebook, path)
        with whole_file(path) as scratch:
            nbformat.write(notebook, scratch)
    return seconds


def _tidy(notebook: NotebookNode) -> None:
    """Take out what differs from run to run or only makes the file large."""
    # The state of widgets is large, and useless without a kernel; each has a still figure beside it.
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = _smaller(output["data"]["image/png"])


def stamp_launch(notebook: NotebookNode, name: str, repository: str) -> None:
    """Put the badges under the title's question, and the cell that installs the package first among the code.

    Args:
        notebook: as nbformat reads it; its first cell is the title.
        name: of its file.
        repository: OWNER/NAME on GitHub, where this release is tagged.

    Raises:
        ValueError: a repository that is not OWNER/NAME.
    """
    checked(repository)
    title = notebook.cells[0]
    # Title, question, badges, the rest: who opens the page on GitHub sees the question first.
    paragraphs = _BADGES.sub("", title.source).split("\n\n", 2)
    paragraphs.insert(2, _badges(name, repository))
    title.source = "\n\n".join(paragraphs)
    _stamp_setup(notebook, SETUP.format(repository=repository, release=RELEASE))


def _badges(name: str, repository: str) -> str:
    colab = f"https://colab.research.google.com/github/{repository}/blob/{RELEASE}/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{repository}/{RELEASE}?labpath=notebooks%2F{name}"
    drawn = "https://colab.research.google.com/assets/colab-badge.svg", "https://mybinder.org/badge_logo.svg"
    return f"[![Open in Colab]({drawn[0]})]({colab}) [![Launch on Binder]({drawn[1]})]({binder})"


def _stamp_setup(notebook: NotebookNode, source: str) -> None:
    from nbformat.v4 import new_code_cell

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # A notebook that was stamped before keeps its cell, so that numbers of cells stay.
    if code and "setup" in code[0].metadata.get("tags", []):
        code[0].source = source
        return
    cell = new_code_cell(source, metadata={"tags": ["setup"]})
    cell["id"] = "setup"  # a random one would change the file at every stamping
    notebook.cells.insert(1, cell)


def stamp_time(notebook: NotebookNode, seconds: float) -> None:
    """Write the measured time into the header's "**Time**: ... to run".

    Args:
        notebook: as nbformat reads it; its first cell is the title.
        seconds: that it took.

    Raises:
        ValueError: a header without that phrase.
    """
    title = notebook.cells[0]
    # To five seconds: finer would promise what the next machine does not keep, and change at every run.
    rounded = max(5, 5 * round(seconds / 5))
    measured = f"{rounded} seconds" if rounded < 90 else f"{rounded / 60:.1f} minutes".replace(".0", "")
    title.source, found = _TIME.subn(rf"\g<1>{measured}\g<3>", title.source, count=1)
    if not found:
        raise ValueError(
            "the first cell has no '**Time**: ... to run'; expected it, so that the measured time has a place"
        )


def stamp_alt_texts(notebook: NotebookNode) -> None:
    """Give every picture the caption below it, "*Figure: ...*", as the text for those who cannot see it.

    Args:
        notebook: as nbformat reads it; pictures without a caption below them get an empty text.
    """
    caption = ""
    # Backwards: a caption stands below its picture.
    for cell in reversed(notebook.cells):
        if cell.cell_type == "markdown":
            found = _CAPTION.search(cell.source)
            caption = " ".join(found.group(1).split()) if found else caption
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    output.setdefault("metadata", {}).setdefault(kind, {})["alt"] = caption


def stamp_links(notebook: NotebookNode, path: Path) -> None:
    """Link every arXiv number, and the chapters before and after at the top and at the end.

    Args:
        notebook: as nbformat reads it; its first cell is the title.
        path: of its file, beside which the other chapters are.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", cell.source)
    line = navigation(path)
    for cell in (notebook.cells[0], notebook.cells[-1]):
        cell.source = _NAVIGATION.sub("", cell.source) + (f"\n\n{line}" if line else "")


def navigation(path: Path) -> str:
    """The line that leads to the chapters before and after this one; empty where there is no other.

    Args:
        path: of a notebook, whose name begins with its number as those beside it do.
    """
    chapters = sorted(path.parent.glob("[0-9][0-9]_*.ipynb"))
    place = chapters.index(path) if path in chapters else len(chapters)
    before, after = chapters[max(0, place - 1) : place], chapters[place + 1 : place + 2]
    links = [f"← [{_title(each)}]({each.name})" for each in before]
    links += [f"[{_title(each)}]({each.name}) →" for each in after]
    return f"**Chapters**: {' · '.join(links)}" if links else ""


def _title(path: Path) -> str:
    import nbformat

    return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")


def _smaller(png: str) -> str:
    """A PNG in base64 with a palette, of no more colours than the figure needs.

    As it was where that gains nothing.
    """
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        whole = picture.convert("RGB")
    # Lines on white lose nothing that an eye could see; photographs do, and keep more.
    for colours in _COLOURS:
        fewer = whole.quantize(colours, kmeans=2)
        lost = ImageStat.Stat(ImageChops.difference(whole, fewer.convert("RGB"))).mean
        if max(lost) < _SEEN:
            break
    buffer = io.BytesIO()
    fewer.save(buffer, format="PNG", optimize=True)
    small = base64.b64encode(buffer.getvalue()).decode()
    return small if len(small) < len(png) else png


def check(paths: Sequence[Path]) -> int:
    """Strict nbval: run every cell again and compare its output with the stored one; two notebooks at a time.

    Args:
        paths: of the notebooks.

    Returns:
        The highest exit status of pytest, 0 if every output is the same.
    """
    options = [
        "--nbval",  # strict: every output is compared, not only those of marked cells
        "--nbval-current-env",
        f"--nbval-cell-timeout={_LONGEST}",
        f"--nbval-sanitize-with={SANITIZE}",
        "-o",
        "addopts=",  # the project's own options are for its tests
    ]
    cores = os.cpu_count() or 1
    at_once = min(2, cores)
    # Two that take all cores each are several times slower than one.
    environment = {"OMP_NUM_THREADS": str(cores // at_once), **os.environ}

    def run(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", *options, str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    worst = 0
    with ThreadPoolExecutor(at_once) as pool:
        for ran in pool.map(run, paths):
            print(ran.stdout + ran.stderr, end="", flush=True)  # one report after the other, in order
            worst = max(worst, ran.returncode)
    return worst
