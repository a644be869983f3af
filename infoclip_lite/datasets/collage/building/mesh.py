"""Textured triangle meshes from Wavefront OBJ files, as plain arrays.

Only what furniture catalogues use: positions, texture coordinates, normals, polygons (cut into fans); of the
materials diffuse and specular colour, opacity and a diffuse picture.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .materials import Material, read_materials

_OTHER = "no material"


class Mesh(NamedTuple):
    """Triangles with one row for each of their three corners.

    Attributes:
        corners: (T, 3, 3) positions; y points up, the front looks along +z.
        uv: (T, 3, 2) texture coordinates, 0 where the file has none.
        normals: (T, 3, 3) shading normals; those of the flat triangle where the file has none.
        material: (T,) index into `materials`.
        materials: the looks.
        digest: SHA-256 over the OBJ file, its material files and their pictures.
    """

    corners: np.ndarray
    uv: np.ndarray
    normals: np.ndarray
    material: np.ndarray
    materials: list[Material]
    digest: str


def read_mesh(path: Path) -> Mesh:
    """Read an OBJ file with its materials and pictures.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no triangles, or one that names a vertex (or "vt", "vn") that is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path}; expected an OBJ file of an unpacked catalogue")
    raw = path.read_bytes()
    tables: dict[str, list] = {"v": [], "vt": [], "vn": []}
    libraries: list[Path] = []
    faces, names, index, current = [], {_OTHER: 0}, [], 0
    for line in raw.decode("latin-1").splitlines():
        key, _, rest = line.strip().partition(" ")
        if key in tables:
            tables[key].append([float(number) for number in rest.split()[: 2 if key == "vt" else 3]])
        elif key == "f":
            fan = [_corner(text, tables) for text in rest.split()]
            faces += [(fan[0], fan[k], fan[k + 1]) for k in range(1, len(fan) - 1)]
            index += [current] * max(0, len(fan) - 2)
        elif key == "usemtl":
            current = names.setdefault(rest.strip(), len(names))
        elif key == "mtllib":
            libraries.append(path.parent / rest.strip())
    if not faces:
        raise ValueError(
            f"{path}: got no faces among {len(tables['v'])} vertices; expected lines that start with f"
        )
    looks = read_materials(libraries)
    used = np.asarray(faces, dtype=np.int64)
    corners = _take(tables, "v", used[..., 0], path)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = _take(tables, "vn", used[..., 2], path)
    empty = np.linalg.norm(normals, axis=-1, keepdims=True) < 1e-9
    normals = np.where(empty, flat[:, None], normals)
    return Mesh(
        corners,
        _take(tables, "vt", used[..., 1], path),
        normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12),
        np.asarray(index, dtype=np.int64),
        [looks.get(name, Material(np.full(3, 0.8))) for name in names],
        mesh_digest(path),
    )


def _corner(text: str, tables: dict[str, list]) -> tuple[int, int, int]:
    """The three indices of "v/vt/vn", counted from 0; -1 where one is missing."""
    parts = [int(part) if part else 0 for part in text.split("/")]
    parts += [0] * (3 - len(parts))
    sizes = (len(tables["v"]), len(tables["vt"]), len(tables["vn"]))
    v, t, n = (part - 1 if part >= 0 else size + part for part, size in zip(parts, sizes, strict=True))
    return v, t, n


def _take(tables: dict[str, list], key: str, index: np.ndarray, path: Path) -> np.ndarray:
    """Rows of a table; of "vt" and "vn", zeros where the index is -1 or the table is empty."""
    table, width, optional = tables[key], 2 if key == "vt" else 3, key != "v"
    if optional and not table:
        return np.zeros((*index.shape, width))
    wrong = index[(index < (-1 if optional else 0)) | (index >= len(table))]
    if len(wrong):
        raise ValueError(
            f"{path}: got a face that names {key} {wrong[0] + 1} (the first is 1), expected one of "
            f"{len(table)}; the file is damaged"
        )
    rows = np.array([row + [0.0] * (width - len(row)) for row in table] + [[0.0] * width])
    return rows[index]  # -1 is the row of zeros


def mesh_digest(path: Path) -> str:
    """SHA-256 over an OBJ file, its material files and their pictures, without reading the triangles."""
    raw = path.read_bytes()
    found = hashlib.sha256(raw)
    for name in re.findall(rb"^mtllib ([^\r\n]*)", raw, re.MULTILINE):
        library = name.decode("latin-1").strip()
        if (path.parent / library).exists():
            found.update((path.parent / library).read_bytes())
            text = (path.parent / library).read_text("latin-1")
            for picture in re.findall(r"^\s*map_Kd (.*?)\s*$", text, re.MULTILINE):
                if (path.parent / picture).exists():
                    found.update((path.parent / picture).read_bytes())
    return found.hexdigest()
