"""Views of textured models with exact alpha, as a camera at some height would take them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from .light import look, unit
from .mesh import Mesh
from .tracer import Tracer

SIDE = 160
_SAMPLES = 3  # rays a pixel, along each side


class View(NamedTuple):
    """Where the viewer stands.

    Attributes:
        azimuth: degrees round the model; 0 looks at its front, positive goes to the viewer's right.
        elevation: degrees above the horizon.
        sun: degrees of the sun's azimuth relative to the viewer.
        distance: of the viewer, in largest half-diagonals of the model.
    """

    azimuth: float
    elevation: float
    sun: float = -40.0
    distance: float = 3.2


def placed(mesh: Mesh, size: tuple[float, float, float], rotation: np.ndarray | None = None) -> Mesh:
    """The mesh turned upright, stretched to width, height and depth, standing on y = 0 at the origin."""
    corners, normals = mesh.corners, mesh.normals
    if rotation is not None:
        corners, normals = corners @ rotation.T, normals @ rotation.T
    low, high = corners.min((0, 1)), corners.max((0, 1))
    scale = np.asarray(size) / np.maximum(high - low, 1e-9)
    corners = (corners - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * scale
    normals = normals / scale
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return mesh._replace(corners=corners, normals=normals)


def render(mesh: Mesh, view: View, side: int = SIDE) -> Image.Image:
    """One view, cropped to what is visible, longest side `side`.

    Args:
        mesh: standing on y = 0 (see `placed`).
        view: the viewer.
        side: pixels of the longer side.

    Returns:
        RGBA, not premultiplied.

    Raises:
        ModuleNotFoundError: embreex is not installed.
        ValueError: nothing of the model can be seen.
    """
    tracer = Tracer(mesh)
    turn = _turned(view)
    eye, rays = _camera(mesh, view, turn, side * _SAMPLES)
    light = direction(view.azimuth + view.sun, 48.0)
    colour, alpha = look(tracer, eye, rays.reshape(-1, 3), light)
    height, width = rays.shape[:2]
    rgba = np.concatenate([colour, alpha[:, None]], 1).reshape(height, width, 4)
    rgba = rgba[: height // _SAMPLES * _SAMPLES, : width // _SAMPLES * _SAMPLES]
    rgba = rgba.reshape(height // _SAMPLES, _SAMPLES, width // _SAMPLES, _SAMPLES, 4).mean((1, 3))
    if not (rgba[..., 3] > 0.5).any():
        raise ValueError(
            f"nothing of the model can be seen from {view}; expected a solid surface in front of the viewer"
        )
    straight = rgba[..., :3] / np.maximum(rgba[..., 3:], 1e-6)
    encoded = np.concatenate([developed(straight), rgba[..., 3:]], -1)
    picture = Image.fromarray((encoded * 255 + 0.5).clip(0, 255).astype(np.uint8), "RGBA")
    return picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())


def _camera(mesh: Mesh, view: View, turn: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Eye (3,) and rays (H, W, 3) whose grid just holds the model, longer side `side`."""
    points = mesh.corners.reshape(-1, 3)
    centre = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points.max(0) - points.min(0))) / 2
    eye = centre + turn[2] * view.distance * radius
    seen = (points - eye) @ turn.T
    flat = seen[:, :2] / -seen[:, 2:]
    low, high = flat.min(0), flat.max(0)
    pixel = float((high - low).max()) / side
    width, height = (max(_SAMPLES, math.ceil(extent / pixel / _SAMPLES) * _SAMPLES) for extent in high - low)
    x = low[0] + (np.arange(width) + 0.5) * pixel
    y = high[1] - (np.arange(height) + 0.5) * pixel
    grid = np.stack(np.broadcast_arrays(x[None, :, None], y[:, None, None], -1.0), -1)[..., 0, :]
    return eye, unit(grid @ turn)


def _turned(view: View) -> np.ndarray:
    """Rows: the viewer's right, up and backwards axes in the model's space."""
    back = direction(view.azimuth, view.elevation)
    right = unit(np.cross([0.0, 1.0, 0.0], back))
    return np.stack([right, np.cross(back, right), back])


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector (3,) towards a place on the sky, in degrees; azimuth 0 lies in front of a model."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])


def developed(linear: np.ndarray) -> np.ndarray:
    """Light (..., 3) as a picture's sRGB in [0, 1]."""
    return _to_srgb(_film(linear))


def _film(linear: np.ndarray) -> np.ndarray:
    """Compresses highlights as a camera does; 0.18 stays about 0.18."""
    return np.clip(linear * (1 + linear / 3) / (1 + linear), 0, 1)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
