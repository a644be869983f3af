"""Storing notebooks: pictures are made small, everything else is kept; and checking them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from infoclip_lite.course.notebooks import _smaller, check


def png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_figure_of_few_colours_is_smaller_and_looks_the_same() -> None:
    pixels = np.full((200, 300, 4), 255, np.uint8)
    pixels[50:150, 100:200, 1] = np.arange(100)[:, None] // 4
    stored = png(pixels)
    small = _smaller(stored)
    assert len(small) < len(stored)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(small))).convert("RGB")).astype(int)
    assert np.abs(back - pixels[..., :3]).max() <= 8


def test_a_picture_that_cannot_be_made_smaller_stays_as_it_is() -> None:
    stored = png(np.zeros((1, 1, 3), np.uint8))
    assert _smaller(stored) == stored


def test_one_notebook_whose_output_differs_is_enough(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written = []
    for name, stored in (("right", "2\n"), ("wrong", "3\n")):
        output = new_output("stream", name="stdout", text=stored)
        cell = new_code_cell("print(1 + 1)", outputs=[output], execution_count=1)
        written.append(tmp_path / f"{name}.ipynb")
        nbformat.write(new_notebook(cells=[cell]), written[-1])
    assert check(written) == 1
    told = capfd.readouterr().out  # one report after the other, in order
    assert re.findall(r"= (\d \w+) in ", told) == ["1 passed", "1 failed"]
