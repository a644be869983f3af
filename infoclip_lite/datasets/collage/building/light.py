"""Light for rendered models: sun with a soft shadow, sky, and what the ground sends back.

A ray tracer finds what each ray meets; everything else is numpy. All random directions come from a fixed
generator, so that a view can be computed again.
"""

from __future__ import annotations

import numpy as np

from .materials import Material
from .mesh import Mesh
from .tracer import Tracer

_BLOCKERS = 4  # rays towards the sky for each point
_LAYERS = 6  # surfaces that one ray may pass
_SUN, _SKY, _GROUND = np.array([1.62, 1.5, 1.32]), np.array([0.62, 0.68, 0.78]), np.array([0.3, 0.27, 0.23])


def look(
    tracer: Tracer, eye: np.ndarray, rays: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What rays from one eye see, through glass and cut-out leaves.

    Args:
        tracer: the scene.
        eye: (3,) where they start.
        rays: (N, 3) unit vectors.
        light: (3,) unit vector towards the sun.

    Returns:
        Linear colour (N, 3), premultiplied, and alpha (N,).
    """
    colour, clear = np.zeros_like(rays), np.ones(len(rays))
    alive, start = np.arange(len(rays)), np.repeat(eye[None], len(rays), 0)
    for _ in range(_LAYERS):
        triangle, weight, distance = tracer.first(start[alive], rays[alive])
        hit = triangle >= 0
        alive, triangle, weight, distance = alive[hit], triangle[hit], weight[hit], distance[hit]
        if not len(alive):
            break
        point = start[alive] + rays[alive] * distance[:, None]
        paint, opacity, gloss = surface(tracer.mesh, triangle, weight)
        share = clear[alive] * opacity
        solid = opacity > 0.02
        colour[alive[solid]] += share[solid, None] * _lit(
            tracer,
            triangle[solid],
            weight[solid],
            point[solid],
            rays[alive[solid]],
            light,
            paint[solid],
            gloss[solid],
        )
        clear[alive] *= 1 - opacity
        start[alive] = point + rays[alive] * (1e-4 * tracer.reach)
        alive = alive[clear[alive] > 0.02]
    return colour, 1 - clear


def surface(
    mesh: Mesh, triangle: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear colour (N, 3), opacity (N,) and gloss (N,) of the points that were met.

    Args:
        mesh: the triangles.
        triangle: (N,) which one was met.
        weight: (N, 3) where, in barycentric coordinates.
    """
    material = mesh.material[triangle]
    uv = (mesh.uv[triangle] * weight[..., None]).sum(1)
    colour, opacity, gloss = np.zeros((len(triangle), 3)), np.ones(len(triangle)), np.zeros(len(triangle))
    for index in np.unique(material):
        look, here = mesh.materials[index], material == index
        texel = _texels(look, uv[here])
        colour[here] = _to_linear(texel[:, :3])
        opacity[here] = texel[:, 3] * np.clip(look.opacity, 0.3, 1)  # real glass would leave nothing to see
        gloss[here] = look.specular
    return colour, opacity, gloss


def _texels(look: Material, uv: np.ndarray) -> np.ndarray:
    if look.picture is None:
        return np.repeat(np.append(np.clip(look.colour, 0.02, 0.92), 1.0)[None], len(uv), 0)
    height, width = look.picture.shape[:2]
    column = ((uv[:, 0] % 1) * width).astype(int).clip(0, width - 1)
    row = ((1 - uv[:, 1] % 1) * height).astype(int).clip(0, height - 1)
    return look.picture[row, column].astype(np.float64)


def _lit(
    tracer: Tracer,
    triangle: np.ndarray,
    weight: np.ndarray,
    point: np.ndarray,
    rays: np.ndarray,
    light: np.ndarray,
    paint: np.ndarray,
    gloss: np.ndarray,
) -> np.ndarray:
    """Light that surfaces send to the viewer (N, 3): sun where it reaches, sky and ground where open."""
    corners = tracer.mesh.corners[triangle]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    flat *= np.where((flat * rays).sum(1, keepdims=True) > 0, -1, 1)
    normal = (tracer.mesh.normals[triangle] * weight[..., None]).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    normal *= np.where((normal * flat).sum(1, keepdims=True) < 0, -1, 1)
    lifted = point + flat * (2e-3 * tracer.reach)
    facing = (normal @ light).clip(0)
    sunny = np.zeros(len(point))
    towards = np.flatnonzero((facing > 0) & (flat @ light > 0))
    rng = np.random.Generator(np.random.PCG64(0))
    soft = light + 0.05 * rng.standard_normal((len(towards), 3))  # the sun is a disc, and hazy: soft edges
    sunny[towards] = ~tracer.blocked(lifted[towards], unit(soft))
    around = np.zeros_like(point)
    for _ in range(_BLOCKERS):
        ray = unit(normal + unit(rng.standard_normal(point.shape)))  # as often as a matt surface needs it
        ray = np.where(
            (ray * flat).sum(1, keepdims=True) < 0, ray - 2 * (ray * flat).sum(1, keepdims=True) * flat, ray
        )
        far = np.where(tracer.blocked(lifted, ray), 0.12, 1.0)[:, None]
        around += far * _surroundings(ray) / _BLOCKERS
    matt = paint * (_SUN * (facing * sunny)[:, None] + around)
    mirrored = rays - 2 * (rays * normal).sum(1, keepdims=True) * normal
    grazing = (1 + (rays * normal).sum(1).clip(-1, 0)) ** 5
    share = (gloss * (0.06 + 0.5 * grazing))[:, None]
    glint = (mirrored @ light).clip(0) ** 60
    return matt * (1 - share) + share * (around + 6 * (glint * sunny)[:, None])


def _surroundings(rays: np.ndarray) -> np.ndarray:
    """Brightness of sky or ground in a direction (N, 3)."""
    up = np.clip(rays[:, 1:2] * 4 + 0.5, 0, 1)
    return up * _SKY + (1 - up) * _GROUND


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
