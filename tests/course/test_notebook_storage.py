"""Storing notebooks: pictures are made small, everything else is kept."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from infoclip_lite.course.notebooks import _smaller


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
