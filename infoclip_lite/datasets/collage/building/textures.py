"""Grounds to paste on: crops of photographs, seamless pictures, and a few that are synthesised here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

SIDE = 256


def texture(
    picture: Image.Image, box: list[float] | None = None, tint: list[int] | None = None
) -> Image.Image:
    """A crop, shorter side SIDE at most and longer side at most three times as long.

    Args:
        picture: any mode.
        box: left, top, right, bottom as fractions of the picture; None takes it whole.
        tint: colour that a grey picture is given, its mean brightness kept.

    Raises:
        ValueError: a box that is no part of the picture.
    """
    picture = picture.convert("RGB")
    if box is not None:
        left, top, right, bottom = box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"got box {box}, expected fractions left < right and top < bottom in [0, 1]")
        size = picture.size
        picture = picture.crop(
            (round(left * size[0]), round(top * size[1]), round(right * size[0]), round(bottom * size[1]))
        )
    if tint is not None:
        grey = np.asarray(picture.convert("L"), dtype=np.float64)[..., None]
        picture = Image.fromarray(np.clip(grey / grey.mean() * np.asarray(tint), 0, 255).astype(np.uint8))
    short = min(picture.size)
    width, height = (min(side, 3 * short) for side in picture.size)
    picture = picture.crop((0, 0, width, height))
    scale = min(1.0, SIDE / short)
    return picture.resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS
    )


def synthesised(name: str) -> Image.Image:
    """A texture by name and number, "brick-2": another number is another pattern.

    Raises:
        ValueError: unknown name.
    """
    kind, _, number = name.partition("-")
    if kind not in _RECIPES or not number.isdigit():
        raise ValueError(
            f"got texture {name!r}, expected one of {', '.join(_RECIPES)} with a number, as in brick-1"
        )
    return _RECIPES[kind](np.random.Generator(np.random.PCG64([int(number), len(kind)])))


def _noise(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Smooth noise (SIDE, SIDE) with zero mean and unit deviation."""
    white = Image.fromarray((rng.random((SIDE, SIDE)) * 255).astype(np.uint8))
    field = np.asarray(white.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64)
    return (field - field.mean()) / (field.std() + 1e-9)


def _tint(field: np.ndarray, colour: np.ndarray, contrast: float) -> Image.Image:
    rgb = colour * (1 + contrast * field[..., None])
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def _colour(rng: np.random.Generator, low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(low) + rng.random() * (np.asarray(high) - np.asarray(low))


def _sand(rng: np.random.Generator) -> Image.Image:
    ripple = np.sin(np.arange(SIDE)[:, None] / rng.uniform(4, 9) + 1.5 * _noise(rng, 20))
    return _tint(0.5 * ripple + 0.7 * _noise(rng, 0.7), _colour(rng, (196, 160, 104), (226, 204, 160)), 0.07)


def _snow(rng: np.random.Generator) -> Image.Image:
    field = rng.uniform(0.4, 1) * _noise(rng, rng.uniform(8, 20)) + rng.uniform(0.2, 0.5) * _noise(rng, 0.8)
    return _tint(field, _colour(rng, (216, 226, 242), (244, 246, 250)), 0.05)


def _water(rng: np.random.Generator) -> Image.Image:
    waves = np.sin(np.arange(SIDE)[:, None] / rng.uniform(3, 6) + 2.5 * _noise(rng, 12)) + 0.6 * _noise(
        rng, 3
    )
    return _tint(waves, _colour(rng, (30, 92, 128), (70, 130, 140)), 0.16)


def _wall(
    rng: np.random.Generator, rows: int, aspect: float, shift: float, colour: np.ndarray, spread: float
) -> Image.Image:
    """Rectangles in rows with mortar between them, each of its own shade."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE * rows
    row = np.floor(y).astype(int)
    across = x / aspect + shift * (row % 2)
    column = np.floor(across).astype(int)
    shade = rng.normal(0, spread, (rows + 1, rows + 2))[row, column % (rows + 2)]
    edge = np.minimum.reduce(
        [y - row, 1 + row - y, aspect * (across - column), aspect * (1 + column - across)]
    )
    joint = np.clip((0.07 - edge) / 0.03, 0, 1)[..., None]
    face = np.asarray(
        _tint(shade + 0.06 * _noise(rng, 0.8) + 0.05 * _noise(rng, 5), colour, 1.0), dtype=np.float64
    )
    mortar = np.asarray(_tint(_noise(rng, 1), np.array([176, 170, 160]), 0.05), dtype=np.float64)
    return Image.fromarray((face * (1 - joint) + mortar * joint).astype(np.uint8))


def _brick(rng: np.random.Generator) -> Image.Image:
    return _wall(rng, int(rng.integers(9, 14)), 2.6, 0.5, _colour(rng, (138, 62, 44), (176, 98, 70)), 0.13)


def _tiles(rng: np.random.Generator) -> Image.Image:
    return _wall(rng, int(rng.integers(5, 9)), 1.0, 0.0, _colour(rng, (86, 120, 150), (222, 214, 196)), 0.05)


_RECIPES: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "sand": _sand,
    "snow": _snow,
    "water": _water,
    "brick": _brick,
    "tiles": _tiles,
}
