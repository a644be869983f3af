"""How surfaces of a Wavefront model look: what its material files say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Material(NamedTuple):
    """How a surface looks.

    Attributes:
        colour: (3,) diffuse colour in sRGB, 0 to 1; it tints nothing where there is a picture.
        specular: strength of the mirrored sky, 0 to 1.
        opacity: 1 for a solid, less for glass.
        picture: (H, W, 4) float32 in [0, 1] with alpha, or None.
    """

    colour: np.ndarray
    specular: float = 0.0
    opacity: float = 1.0
    picture: np.ndarray | None = None


def read_materials(libraries: list[Path]) -> dict[str, Material]:
    """The looks that material files define, by name; what is not there is passed over."""
    looks: dict[str, Material] = {}
    for library in libraries:
        if not library.exists():
            continue
        name = ""
        for line in library.read_text("latin-1").splitlines():
            key, _, rest = line.strip().partition(" ")
            rest = rest.strip()
            if key == "newmtl":
                name = rest
                looks[name] = Material(np.full(3, 0.8))
            elif not name:
                continue
            elif key == "Kd":
                looks[name] = looks[name]._replace(colour=np.array([float(x) for x in rest.split()[:3]]))
            elif key == "Ks":
                looks[name] = looks[name]._replace(
                    specular=min(1.0, float(np.mean([float(x) for x in rest.split()[:3]])))
                )
            elif key == "d":
                looks[name] = looks[name]._replace(opacity=float(rest.split()[-1]))
            elif key == "map_Kd" and (library.parent / rest).exists():
                with Image.open(library.parent / rest) as picture:
                    array = np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255
                looks[name] = looks[name]._replace(picture=array)
    return looks
