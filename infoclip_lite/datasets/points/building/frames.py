"""RGB-D pictures of a scene: what each pixel shows, how far it is, and whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...collage.building.light import look, surface
from ...collage.building.materials import Material
from ...collage.building.mesh import Mesh
from ...collage.building.renders import developed, direction
from ...collage.building.tracer import Tracer

NOTHING = 255  # the label of a pixel that shows neither a model nor the floor near it
_SAMPLES = 2  # rays a pixel, along each side, for its colour
_LAYERS = 6  # surfaces that a ray may pass before it counts as lost
_SOLID = 0.5  # opacity from which on a surface is what a pixel shows
_FLOOR, _TILE = 14.0, 1.6  # metres: side of the floor, and of one repeat of its texture
_BEYOND = np.array([0.62, 0.68, 0.78])  # linear colour of what is beyond the floor


class Frame(NamedTuple):
    """What a camera takes.

    Attributes:
        colour: (H, W, 3) uint8.
        depth: (H, W) float32 metres along the camera's axis, 0 where there is nothing.
        labels: (H, W) uint8, the owner's number, or NOTHING.
    """

    colour: np.ndarray
    depth: np.ndarray
    labels: np.ndarray


def intrinsics(side: int, field: float = 46.0) -> np.ndarray:
    """(3, 3) of a square picture of `side` pixels that shows `field` degrees."""
    focal = side / 2 / np.tan(np.radians(field) / 2)
    return np.array([[focal, 0.0, side / 2], [0.0, focal, side / 2], [0.0, 0.0, 1.0]])


def moved(mesh: Mesh, x: float, z: float, turn: float) -> Mesh:
    """The mesh turned about the vertical and put elsewhere on the floor."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    corners = mesh.corners @ rotation.T + np.array([x, 0.0, z])
    return mesh._replace(corners=corners, normals=mesh.normals @ rotation.T)


def floor(picture: np.ndarray) -> Mesh:
    """A floor at height 0 under a picture that repeats, (H, W, 4) floats in [0, 1]."""
    half = _FLOOR / 2
    square = np.array([[-half, 0.0, -half], [-half, 0.0, half], [half, 0.0, half], [half, 0.0, -half]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    corners = square[faces]
    normals = np.broadcast_to([0.0, 1.0, 0.0], corners.shape)
    look_of = Material(np.full(3, 0.8), picture=picture)
    return Mesh(corners, corners[..., [0, 2]] / _TILE, normals, np.zeros(2, dtype=np.int64), [look_of], "")


def joined(meshes: Sequence[Mesh]) -> tuple[Mesh, np.ndarray]:
    """Several meshes as one, and of each triangle (T,) the number of its mesh."""
    owner = np.repeat(np.arange(len(meshes)), [len(mesh.corners) for mesh in meshes])
    shift = np.cumsum([0, *(len(mesh.materials) for mesh in meshes[:-1])])
    every = Mesh(
        np.concatenate([mesh.corners for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.material + first for mesh, first in zip(meshes, shift, strict=True)]),
        [look_of for mesh in meshes for look_of in mesh.materials],
        "",
    )
    return every, owner


def shoot(
    tracer: Tracer,
    owner: np.ndarray,
    labels: Sequence[int],
    camera: np.ndarray,
    pose: np.ndarray,
    side: int,
    sun: float,
) -> Frame:
    """One RGB-D picture.

    Args:
        tracer: the scene.
        owner: (T,) the number of the thing that each triangle belongs to.
        labels: of the things, by number.
        camera: (3, 3) intrinsics.
        pose: (4, 4) camera to world.
        side: pixels of the square picture.
        sun: degrees of its azimuth.
    """
    fine = _rays(camera, pose, side, _SAMPLES)
    eye = pose[:3, 3]
    colour, alpha = look(tracer, eye, fine.reshape(-1, 3), direction(sun, 52.0))
    linear = colour + (1 - alpha)[:, None] * _BEYOND
    linear = linear.reshape(side, _SAMPLES, side, _SAMPLES, 3).mean((1, 3))
    rays = _rays(camera, pose, side, 1).reshape(-1, 3)
    triangle, distance = first_solid(tracer, eye, rays)
    met = triangle >= 0
    depth = np.where(met, distance * (rays @ pose[:3, 2]), 0.0)
    named = np.full(len(rays), NOTHING, dtype=np.uint8)
    named[met] = np.asarray(labels, dtype=np.uint8)[owner[triangle[met]]]
    picture = (developed(linear) * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return Frame(picture, depth.reshape(side, side).astype(np.float32), named.reshape(side, side))


def first_solid(tracer: Tracer, eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first surface on each ray that is no glass and no hole of a cut-out leaf.

    Args:
        tracer: the scene.
        eye: (3,) where the rays start.
        rays: (N, 3) unit vectors.

    Returns:
        Triangle (N,), -1 where there is none, and distance (N,) from the eye.
    """
    found, far = np.full(len(rays), -1), np.zeros(len(rays))
    alive, gone = np.arange(len(rays)), np.zeros(len(rays))
    for _ in range(_LAYERS):
        triangle, weight, distance = tracer.first(eye + rays[alive] * gone[alive, None], rays[alive])
        hit = triangle >= 0
        alive, triangle, weight, distance = alive[hit], triangle[hit], weight[hit], distance[hit]
        if not len(alive):
            break
        gone[alive] += distance
        solid = surface(tracer.mesh, triangle, weight)[1] >= _SOLID
        found[alive[solid]], far[alive[solid]] = triangle[solid], gone[alive[solid]]
        gone[alive] += 1e-4 * tracer.reach
        alive = alive[~solid]
    return found, far


def _rays(camera: np.ndarray, pose: np.ndarray, side: int, samples: int) -> np.ndarray:
    """(side * samples, side * samples, 3) unit vectors in the world, one a sample."""
    at = (np.arange(side * samples) + 0.5) / samples
    x, y = np.meshgrid(at, at)
    local = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera).T
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    return local @ pose[:3, :3].T
