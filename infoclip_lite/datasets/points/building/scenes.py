"""One scene after another: models stood on a floor, taken by three RGB-D cameras, and sampled as points."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ....core.files import data_dir
from ...collage.building.catalogue import furniture
from ...collage.building.mesh import Mesh, read_mesh
from ...collage.building.renders import placed
from ...collage.building.tracer import Tracer
from ...collage.building.workshop import Work
from ...collage.words import manifest
from ..cameras import back_project, project, sees
from .frames import NOTHING, Frame, floor, intrinsics, joined, moved, shoot
from .layout import Plan, models, plan, pose_of, stretch

SIDE = 128  # pixels of a view: sixteen patches of collage-mini
POINTS = 1024  # of a scene, as in PointNet's own experiments [P: 1612.00593, 5.1]
_FLOOR_SHARE = 1 / 3  # of the points, at most: floors would be two thirds, and say little
_REACH = 2.1  # metres from the middle of the floor to the farthest point that is kept
_PICTURE = 512  # longest side of a model's texture: a view has 128 pixels, and hundreds of models fit memory


class Built(NamedTuple):
    """A scene as the pack keeps it.

    Attributes:
        points: (N, 3) float16 metres.
        colours: (N, 3) uint8.
        labels: (N,) uint8 class ids.
        seen_by: (N,) uint8; bit v says that camera v sees the point.
        poses: (V, 4, 4) float32 camera to world.
        views: (V, H, W, 3) uint8.
        records: what the scene is made of, for its credits: entries of Collage's selection and manifest.
    """

    points: np.ndarray
    colours: np.ndarray
    labels: np.ndarray
    seen_by: np.ndarray
    poses: np.ndarray
    views: np.ndarray
    records: list[Mapping[str, Any]]


class Studio:
    """Where scenes are built; every model is read once.

    Args:
        work: packages, fetched and unpacked when first needed.
        names: of the classes, in the order of their ids.
    """

    def __init__(self, work: Work, names: tuple[str, ...]) -> None:
        self.work, self.names = work, names
        self.mesh = lru_cache(maxsize=None)(self._mesh)
        # Collage's own pictures of floors, so that only the package of models is fetched.
        self.textures: Sequence[Mapping[str, Any]] = manifest()["textures"]
        self.sizes: dict[str, tuple[float, float, float]] = {}

    def scene(self, split: str, index: int) -> Built:
        """Scene `index` of a split."""
        for items in models(self.work.selection, split).values():
            for item in items:
                if item["source"] not in self.sizes:
                    size = furniture(self.work.locate(item["source"])).size
                    self.sizes[item["source"]] = stretch(size)
        arranged = plan(split, index, self.work.selection, self.textures, self.sizes)
        poses = np.stack([pose_of(viewer) for viewer in arranged.viewers])
        frames = self._frames(arranged, poses)
        digest = hashlib.sha256(f"{split}/{index}".encode()).digest()
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
        return _sampled(frames, poses, self.names.index(arranged.floor), rng)._replace(
            records=[*({**thing.item, "noun": thing.noun} for thing in arranged.things), arranged.ground]
        )

    def _frames(self, arranged: Plan, poses: np.ndarray) -> list[Frame]:
        meshes = [
            moved(self.mesh(each.item["source"]), each.x, each.z, each.turn) for each in arranged.things
        ]
        every, owner = joined([*meshes, floor(self._ground(arranged.ground))])
        words = [*(thing.noun for thing in arranged.things), arranged.floor]
        labels = [self.names.index(word) for word in words]
        tracer, camera = Tracer(every), intrinsics(SIDE)
        return [shoot(tracer, owner, labels, camera, pose, SIDE, arranged.sun) for pose in poses]

    def _mesh(self, source: str) -> Mesh:
        path = self.work.locate(source)
        mesh = placed(read_mesh(path), self.sizes[source], furniture(path).rotation)
        return mesh._replace(
            materials=[
                look if look.picture is None else look._replace(picture=_smaller(look.picture))
                for look in mesh.materials
            ]
        )

    def _ground(self, record: Mapping[str, Any]) -> np.ndarray:
        with Image.open(data_dir() / "collage" / record["file"]) as picture:
            return np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255


def scenes(work: Work, names: tuple[str, ...], counts: Mapping[str, int]) -> Iterator[tuple[str, Built]]:
    """(split, scene) of all splits, one after another; `counts` says how many of each."""
    studio = Studio(work, names)
    for split, count in counts.items():
        for index in range(count):
            yield split, studio.scene(split, index)


def _smaller(picture: np.ndarray) -> np.ndarray:
    step = -(-max(picture.shape[:2]) // _PICTURE)
    return picture[::step, ::step].copy()


def _sampled(frames: list[Frame], poses: np.ndarray, ground: int, rng: np.random.Generator) -> Built:
    """Points drawn from the pixels of all cameras, and by which cameras each is seen."""
    camera = torch.from_numpy(intrinsics(SIDE))
    maps = torch.from_numpy(np.stack([frame.depth for frame in frames])).double()
    shown = [
        back_project(depth, camera, torch.from_numpy(pose)).numpy()
        for depth, pose in zip(maps, poses, strict=True)
    ]
    place = np.stack(shown).reshape(-1, 3)
    colour = np.stack([frame.colour for frame in frames]).reshape(-1, 3)
    label = np.stack([frame.labels for frame in frames]).reshape(-1)
    near = (label != NOTHING) & (np.hypot(place[:, 0], place[:, 2]) < _REACH)
    chosen = _drawn(label, near, ground, rng)
    # Rounded before cameras are asked, so that what is kept is what was tested.
    points = place[chosen].astype(np.float16)
    pixels, depth = project(torch.from_numpy(points).double(), camera, torch.from_numpy(poses))
    seen = sees(pixels, depth, maps).numpy()
    bits = (seen * (1 << np.arange(len(poses)))[:, None]).sum(0).astype(np.uint8)
    views = np.stack([frame.colour for frame in frames])
    return Built(points, colour[chosen], label[chosen], bits, poses.astype(np.float32), views, [])


def _drawn(label: np.ndarray, near: np.ndarray, ground: int, rng: np.random.Generator) -> np.ndarray:
    """Places of POINTS pixels: of the floor a third at most, where the things have enough."""
    of_floor, of_things = (np.flatnonzero(near & (label == ground)), np.flatnonzero(near & (label != ground)))
    count = min(len(of_things), POINTS - round(POINTS * _FLOOR_SHARE))
    # Each noun has as good a chance as another: a stool would drown beside a bed.
    chance = 1 / np.bincount(label[of_things], minlength=256)[label[of_things]]
    things = rng.choice(of_things, count, replace=False, p=chance / chance.sum())
    floor_points = rng.choice(of_floor, POINTS - count, replace=False)
    return rng.permutation(np.concatenate([things, floor_points]))
