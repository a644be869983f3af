"""Pictures of two sides that look too much alike: variants of one mesh, two photographs of one thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

_SIDE = 16


class Twin(NamedTuple):
    """Two pictures of one noun on different sides, and how alike they are (cosine, 1 is equal)."""

    first: str
    second: str
    cosine: float


def embed(picture: Image.Image) -> np.ndarray:
    """(2, D) unit vectors of a cut-out and its mirror image: shape and colours on a 16 x 16 grid."""
    square = Image.new("RGBA", (max(picture.size),) * 2)
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    small = (
        np.asarray(square.convert("RGBa").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
        / 255
    )
    small[..., 3] *= 2  # the outline says as much as three colours
    both = np.stack([small, small[:, ::-1]]).reshape(2, -1)
    both = both - both.mean(1, keepdims=True)
    return both / np.linalg.norm(both, axis=1, keepdims=True)


def twins(target: Path, least: float = 0.95) -> list[Twin]:
    """Pairs of one noun, on two sides, whose cosine (mirrored or not) is at least `least`, most alike first.

    Raises:
        FileNotFoundError: the pack has no manifest.
    """
    manifest = target / "manifest.json"
    if not manifest.exists():
        raise FileNotFoundError(f"no {manifest}; expected a pack, build it with `infoclip-lite data rebuild`")
    found = []
    by_noun: dict[str, list[dict]] = {}
    for record in json.loads(manifest.read_text())["pictures"]:
        by_noun.setdefault(record["noun"], []).append(record)
    for records in by_noun.values():
        vectors = []
        for record in records:
            with Image.open(target / record["file"]) as file:
                vectors.append(embed(file.convert("RGBA")))
        stacked = np.stack(vectors)
        alike = np.maximum(stacked[:, 0] @ stacked[:, 0].T, stacked[:, 0] @ stacked[:, 1].T)
        for i, j in zip(*np.nonzero(np.triu(alike >= least, 1)), strict=True):
            if records[i]["split"] != records[j]["split"]:
                found.append(Twin(records[i]["file"], records[j]["file"], float(alike[i, j])))
    return sorted(found, key=lambda twin: -twin.cosine)
