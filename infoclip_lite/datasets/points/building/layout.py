"""What stands where in a scene, and from where it is seen: a pure function of split and index."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...collage.building.licences import groups_of

# The roles are Collage's: what is unseen there is unseen here. Only nouns that stand on a floor and have
# models on every side that they are needed on.
NOUNS: dict[str, tuple[str, ...]] = {
    "seen": ("chair", "sofa", "bed", "dining table", "cabinet", "lamp", "potted plant"),
    "dev-unseen": ("stool", "lounge chair", "coffee table", "radiator"),
    "unseen": ("armchair", "desk", "bench", "bookcase"),
}
STUFF = ("wood", "tiles", "stone", "fabric")  # floors
# Scenes of each split: what fits into 4 MB, and into one WebP a split, whose longest side is 16383 pixels.
SCENES = {"train": 120, "val": 24, "test": 24, "test-known": 24}
# Which side of the models a split shows, by role; a role that is not named is not shown.
SIDES: dict[str, dict[str, str]] = {
    "train": {"seen": "train", "dev-unseen": "train", "unseen": "train"},
    "val": {"seen": "val", "dev-unseen": "test"},
    "test": {"seen": "test", "unseen": "test"},
    "test-known": {"seen": "train", "unseen": "train"},
}
GROUP = "cc"  # of licences, for the whole pack: CC0, public domain and CC-BY may meet, GPL stays out

_OBJECTS = (3, 4)
_ROOM = 1.15  # metres from the middle to the farthest middle of an object
_SIZE = (0.6, 1.9)  # metres that the longest side is brought to if it is less or more: see `stretch`
_NEAREST = 0.75  # of two radii that two things keep between their middles
VIEWS = 3


class Placed(NamedTuple):
    """A model in a scene.

    Attributes:
        noun: what it is.
        item: its entry in Collage's selection.
        x, z: metres from the middle of the floor.
        turn: radians about the vertical.
    """

    noun: str
    item: Mapping[str, Any]
    x: float
    z: float
    turn: float


class Viewer(NamedTuple):
    """A camera's place: degrees round the room and above the horizon, metres from its middle."""

    azimuth: float
    elevation: float
    distance: float


class Plan(NamedTuple):
    """A scene before anything is rendered: models, the floor's word and entry, cameras, the sun's azimuth."""

    things: list[Placed]
    floor: str
    ground: Mapping[str, Any]
    viewers: list[Viewer]
    sun: float


Sizes = Mapping[str, tuple[float, float, float]]  # of a model's source: width, height, depth in metres


def models(selection: Mapping[str, Any], split: str) -> dict[str, list[Mapping[str, Any]]]:
    """The models of each noun that scenes of a split show.

    Args:
        selection: Collage's.
        split: a key of SCENES.

    Raises:
        ValueError: a noun without a model on the side that this split shows.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for role, side in SIDES[split].items():
        for noun in NOUNS[role]:
            entry = selection["nouns"][noun]
            items = [
                item
                for item in entry["instances"]
                if item["kind"] == "render" and item["split"] == side and GROUP in groups_of(item["licence"])
            ]
            if not items or entry["role"] != role:
                raise ValueError(
                    f"{noun}: got role {entry['role']!r} and {len(items)} models on the side {side}; "
                    f"expected {role!r} and at least 1"
                )
            found[noun] = items
    return found


def grounds(textures: Sequence[Mapping[str, Any]], split: str) -> dict[str, list[Mapping[str, Any]]]:
    """The floors that scenes of a split stand on, by word; new ones in "test".

    Args:
        textures: records of Collage's manifest.
        split: a key of SCENES.
    """
    side = "test" if split == "test" else "train"
    fitting = [item for item in textures if item["split"] == side and GROUP in groups_of(item["licence"])]
    return {word: [item for item in fitting if item["stuff"] == word] for word in STUFF}


def plan(
    split: str,
    index: int,
    selection: Mapping[str, Any],
    textures: Sequence[Mapping[str, Any]],
    sizes: Sizes,
) -> Plan:
    """Scene `index` of a split.

    Args:
        split: a key of SCENES.
        index: from 0 on.
        selection: Collage's.
        textures: records of Collage's manifest.
        sizes: of every model, after `stretch`.
    """
    rng = random.Random(f"points/{split}/{index}")
    choices = models(selection, split)
    things: list[Placed] = []
    for _ in range(rng.choice(_OBJECTS)):
        noun = rng.choice(list(choices))
        item = rng.choice(choices[noun])
        placed = _place(rng, noun, item, things, sizes)
        if placed is not None:
            things.append(placed)
    floors = grounds(textures, split)
    floor = rng.choice(STUFF)
    first = rng.uniform(0, 360)
    # About a third of the circle apart, so that most of what one camera cannot see another can.
    viewers = [
        Viewer(first + 120 * k + rng.uniform(-25, 25), rng.uniform(22, 40), rng.uniform(3.2, 3.8))
        for k in range(VIEWS)
    ]
    return Plan(things, floor, rng.choice(floors[floor]), viewers, rng.uniform(0, 360))


def stretch(size: Sequence[float]) -> tuple[float, float, float]:
    """Metres of a model of `size` centimetres, brought to a longest side of 0.6 to 1.9 m [O].

    A table lamp in its own size would be smaller than a patch of CLIP, and a bunk bed would fill a room.

    >>> stretch((50.0, 100.0, 50.0)), [round(side, 3) for side in stretch((10.0, 20.0, 10.0))]
    ((0.5, 1.0, 0.5), [0.3, 0.6, 0.3])
    """
    longest = max(size) / 100
    scale = min(max(longest, _SIZE[0]), _SIZE[1]) / longest / 100
    width, height, depth = (side * scale for side in size)
    return width, height, depth


def pose_of(viewer: Viewer, height: float = 0.35) -> np.ndarray:
    """(4, 4) camera to world of a viewer that looks at the middle of the room, `height` metres above it."""
    a, e = math.radians(viewer.azimuth), math.radians(viewer.elevation)
    back = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    # Columns: right, down and forwards, the axes of a picture.
    pose[:3, :3] = np.stack([right, -np.cross(back, right), -back], 1)
    pose[:3, 3] = np.array([0.0, height, 0.0]) + viewer.distance * back
    return pose


def _place(
    rng: random.Random, noun: str, item: Mapping[str, Any], things: Sequence[Placed], sizes: Sizes
) -> Placed | None:
    """The model where it stands in no other's way; None if thirty tries find no such place."""
    own = _radius(sizes[item["source"]])
    for _ in range(30):
        distance, angle = _ROOM * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        x, z = distance * math.cos(angle), distance * math.sin(angle)
        clear = all(
            math.hypot(x - other.x, z - other.z) > _NEAREST * (own + _radius(sizes[other.item["source"]]))
            for other in things
        )
        if clear:
            return Placed(noun, item, x, z, rng.uniform(0, 2 * math.pi))
    return None


def _radius(size: tuple[float, float, float]) -> float:
    return math.hypot(size[0], size[2]) / 2
