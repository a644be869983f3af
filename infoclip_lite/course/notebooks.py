"""Execute, stamp and check the notebooks."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from ..core.files import whole_file

RELEASE = f"v{version('infoclip-lite')}"  # the tag that badges and the first cell are pinned to
SETUP = """\
try:
    import infoclip_lite  # noqa: F401
except ImportError:  # Colab or another bare machine: a few minutes, once
    %pip install --quiet "infoclip-lite[notebooks,chimera] @ git+https://github.com/{repository}@{release}"\
"""
_BADGES = re.compile(r"\n*^\[!\[Open in Colab\].*$", re.MULTILINE)
_TIME = re.compile(r"(\*\*Time\*\*: )(.*?)( to run)")
_CAPTION = re.compile(r"^\*(Figure: .*?)\*$", re.DOTALL | re.MULTILINE)


def execute(paths: Sequence[Path], repository: str | None = None) -> dict[str, float]:
    """Run notebooks from top to bottom and store them with outputs, measured time and alt texts; seconds for each.

    Args:
        paths: of the notebooks.
        repository: OWNER/NAME on GitHub that Colab and Binder are sent to; None leaves badges and first cell as they are.

    Raises:
        ValueError: a repository that is not OWNER/NAME, or a header that has no place for the time.
        ImportError: the `notebooks` extra is not installed.
        nbclient.exceptions.CellExecutionError: a cell failed; the file is left as it was.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
    except ImportError as error:
        raise ImportError("executing notebooks needs nbclient; install with `pip install -e .[notebooks,test]`") from error
    seconds = {}
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if repository is not None:
            stamp_launch(notebook, path.name, repository)
        started = time.perf_counter()
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", coalesce_streams=True, resources={"metadata": {"path": str(path.parent)}}
        ).execute()
        seconds[path.name] = round(time.perf_counter() - started, 1)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = _smaller(output["data"]["image/png"])
        stamp_time(notebook, seconds[path.name])
        stamp_alt_texts(notebook)
        with whole_file(path) as scratch:
            nbformat.write(notebook, scratch)
    return seconds


def stamp_launch(notebook: Any, name: str, repository: str) -> None:
    """Put the badges under the title's question, and the cell that installs the package where it is missing first among the code.

    Args:
        notebook: as nbformat reads it; its first cell is the title.
        name: of its file.
        repository: OWNER/NAME on GitHub, where this release is tagged.

    Raises:
        ValueError: a repository that is not OWNER/NAME.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"got repository {repository!r}; expected OWNER/NAME, as in its address on GitHub")
    from nbformat.v4 import new_code_cell

    title = notebook.cells[0]
    colab = f"https://colab.research.google.com/github/{repository}/blob/{RELEASE}/notebooks/{name}"
    binder = f"https://mybinder.org/v2/gh/{repository}/{RELEASE}?labpath=notebooks%2F{name}"
    paragraphs = _BADGES.sub("", title.source).split("\n\n", 2)
    pictures = "https://colab.research.google.com/assets/colab-badge.svg", "https://mybinder.org/badge_logo.svg"
    paragraphs.insert(2, f"[![Open in Colab]({pictures[0]})]({colab}) [![Launch on Binder]({pictures[1]})]({binder})")
    title.source = "\n\n".join(paragraphs)
    setup = SETUP.format(repository=repository, release=RELEASE)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code and "setup" in code[0].metadata.get("tags", []):
        code[0].source = setup
    else:
        cell = new_code_cell(setup, metadata={"tags": ["setup"]})
        cell["id"] = "setup"
        notebook.cells.insert(1, cell)


def stamp_time(notebook: Any, seconds: float) -> None:
    """Write the measured time into the header's "**Time**: ... to run".

    Raises:
        ValueError: a header without that phrase.
    """
    title = notebook.cells[0]
    rounded = max(5, 5 * round(seconds / 5))
    measured = f"{rounded} seconds" if rounded < 90 else f"{rounded / 60:.1f} minutes".replace(".0", "")
    title.source, found = _TIME.subn(rf"\g<1>{measured}\g<3>", title.source, count=1)
    if not found:
        raise ValueError("the first cell has no '**Time**: ... to run'; expected it, so that the measured time has a place")


def stamp_alt_texts(notebook: Any) -> None:
    """Give every picture the caption that follows it, "*Figure: ...*", as the text for those who cannot see it."""
    caption = ""
    for cell in reversed(notebook.cells):
        if cell.cell_type == "markdown":
            found = _CAPTION.search(cell.source)
            caption = " ".join(found.group(1).split()) if found else caption
        for output in cell.get("outputs", []):
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    output.setdefault("metadata", {}).setdefault(kind, {})["alt"] = caption


def _smaller(png: str) -> str:
    """A PNG in base64 with a palette of 256 colours, a third of the size for a figure of lines; as it was where that gains nothing."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(256).save(buffer, format="PNG", optimize=True)
    small = base64.b64encode(buffer.getvalue()).decode()
    return small if len(small) < len(png) else png


def check(paths: Sequence[Path]) -> int:
    """Strict nbval: run every cell again and compare its output with the stored one. The exit status of pytest."""
    options = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=600", "-o", "addopts="]
    sanitize = Path(__file__).parent.parent / "tests" / "nbval_sanitize.cfg"
    if sanitize.exists():
        options.append(f"--nbval-sanitize-with={sanitize}")
    return subprocess.run([sys.executable, "-m", "pytest", *options, *map(str, paths)], check=False).returncode
