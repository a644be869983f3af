"""What rays meet: a mesh in a ray tracer (embreex, of the optional extra "pack")."""

from __future__ import annotations

from typing import Any

import numpy as np

from .mesh import Mesh


class Tracer:
    """A mesh in the ray tracer's own structure.

    Args:
        mesh: the triangles.

    Raises:
        ModuleNotFoundError: embreex is not installed.
    """

    def __init__(self, mesh: Mesh) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.mesh = mesh
        self.reach = float(np.abs(mesh.corners).max())
        self.scene: Any = EmbreeScene()
        TriangleMesh(self.scene, np.ascontiguousarray(mesh.corners / self.reach, dtype=np.float32))

    def first(self, origins: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What rays meet first: triangle (N,) or -1, barycentric (N, 3), distance (N,)."""
        start = np.ascontiguousarray(origins / self.reach, dtype=np.float32)
        met = self.scene.run(
            start, np.ascontiguousarray(rays, dtype=np.float32), query="INTERSECT", output=True
        )
        u, v = met["u"].astype(np.float64), met["v"].astype(np.float64)
        return (
            met["primID"].astype(np.int64),
            np.stack([1 - u - v, u, v], 1),
            met["tfar"].astype(np.float64) * self.reach,
        )

    def blocked(self, origins: np.ndarray, rays: np.ndarray) -> np.ndarray:
        """Whether anything lies on each ray (N,)."""
        return self.first(origins, rays)[0] >= 0
