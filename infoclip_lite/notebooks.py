"""Execute and check the notebooks."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .paths import whole_file


def execute(paths: Sequence[Path]) -> dict[str, float]:
    """Run notebooks from top to bottom and store them with their outputs; seconds for each.

    Raises:
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
        with whole_file(path) as scratch:
            nbformat.write(notebook, scratch)
    return seconds


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
