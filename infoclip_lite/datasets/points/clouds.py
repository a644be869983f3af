"""The pack of point clouds as a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.clouds import check_points
from ...core.files import data_dir
from ...core.labels import IGNORE
from ..base import fingerprint
from .cameras import project

SPLITS = ("train", "val", "test", "test-known")


class PointScene(NamedTuple):
    """A scene as points and as pictures.

    Attributes:
        points: (N, 3) float32 metres; y points up, the floor lies at 0.
        colours: (N, 3) float32 in [0, 1].
        labels: (N,) int64 class ids, or the data set's `ignore`.
        views: (V, 3, H, W) float32 in [0, 1], one picture a camera.
        pixels: (V, N, 2) float32 x and y of each point in each picture; NaN behind a camera.
        visible: (V, N) booleans, whether the camera sees the point; nothing hides it.
    """

    points: Tensor
    colours: Tensor
    labels: Tensor
    views: Tensor
    pixels: Tensor
    visible: Tensor


class PointData(Protocol):
    """Point clouds with pictures and labels: all that a training and a measurement ask of them."""

    @property
    def names(self) -> Sequence[str]:
        """The class names, in the order of the labels' ids."""

    @property
    def unseen(self) -> Sequence[int]:
        """Ids of the classes whose points must not be learnt from."""

    @property
    def class_groups(self) -> Mapping[str, Sequence[int]]:
        """Ids of the classes that are reported apart, "seen" and "unseen" among them."""

    @property
    def ignore(self) -> int:
        """The label of points that do not count."""

    @property
    def split(self) -> str:
        """Which part of the data set this is."""

    @property
    def in_memory(self) -> bool:
        """Whether all scenes, and what CLIP says of them, fit into memory: a teacher then looks once."""

    def __len__(self) -> int:
        """Number of scenes."""

    def __getitem__(self, index: int, /) -> PointScene:
        """The scene `index`, from 0 on."""

    def describe(self) -> dict[str, object]:
        """What tells two data sets apart; JSON can hold it."""


class Points:
    """Point clouds of furniture on a floor, each seen by three RGB-D cameras: what ships in data/points.

    Nouns are seen, dev-unseen (for every choice) or unseen (for the end), as in Collage. "train" shows all of
    them, and labels of the ones that are not seen are there to count, never to learn from; "val" shows seen
    and dev-unseen nouns, "test" seen and unseen ones, both with models that "train" does not have;
    "test-known" has new scenes of models of "train".

    Args:
        split: one of SPLITS.
        length: as many scenes, the first ones; None takes all.
        folder: of the pack; None takes the one that ships.

    Attributes:
        names: the class names, in the order of the labels' ids, on every split the same.
        unseen: class ids of the nouns whose points must not be learnt from.
        class_groups: ids of the "seen" and "unseen" nouns that this split shows, and of "stuff". A noun that
            is kept for another split competes as a word but is in no group.
        ignore: the label of points that do not count.

    Raises:
        ValueError: an unknown split, a length that the pack does not have, or a damaged pack.
        FileNotFoundError: there is no pack.
    """

    ignore = IGNORE
    in_memory = True

    def __init__(self, split: str, *, length: int | None = None, folder: Path | None = None) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)}")
        self.folder = folder or data_dir() / "points"
        self.manifest = _manifest(self.folder)
        self.split = split
        nouns: dict[str, list[str]] = self.manifest["nouns"]
        stuff: list[str] = self.manifest["stuff"]
        self.names = (*(noun for role in nouns.values() for noun in role), *stuff)
        self.unseen = self._ids([*nouns["dev-unseen"], *nouns["unseen"]])
        shown = {"train": ("dev-unseen", "unseen"), "val": ("dev-unseen",)}.get(split, ("unseen",))
        self.class_groups = {
            "seen": self._ids(nouns["seen"]),
            "unseen": self._ids([noun for role in shown for noun in nouns[role]]),
            "stuff": self._ids(stuff),
        }
        self.camera = torch.tensor(self.manifest["intrinsics"])
        self.arrays, self.views = _split(self.folder, split)
        there = len(self.arrays["points"])
        if length is not None and not 1 <= length <= there:
            raise ValueError(f"length is {length}; expected 1 .. {there}, the scenes of {split!r}")
        self.length = there if length is None else length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PointScene:
        if not -self.length <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        index %= self.length
        own = {name: torch.from_numpy(array[index]) for name, array in self.arrays.items()}
        points, poses = own["points"].float(), own["poses"].float()
        pixels, _ = project(points, self.camera, poses)
        bits = 1 << torch.arange(len(poses))[:, None]
        side = self.manifest["size"]
        row = torch.from_numpy(self.views[index * side : (index + 1) * side])
        views = row.unflatten(1, (len(poses), side)).permute(1, 3, 0, 2).float() / 255
        visible = (own["seen_by"].long() & bits) > 0
        return PointScene(points, own["colours"].float() / 255, own["labels"].long(), views, pixels, visible)

    def works(self, index: int) -> list[dict[str, Any]]:
        """Whom to credit for a scene: the manifest's records of its models and its floor."""
        every = list(self.manifest["works"].values())
        return [every[number] for number in self.manifest["scenes"][self.split][index]]

    def describe(self) -> dict[str, object]:
        """What tells two data sets apart; JSON can hold it."""
        pack = fingerprint(sorted(self.manifest["files"].items()))
        return {"kind": "Points", "split": self.split, "items": len(self), "pack": pack}

    def _ids(self, names: Sequence[str]) -> tuple[int, ...]:
        return tuple(self.names.index(name) for name in names)


def check_labels(labels: Tensor, count: int, classes: int, ignore: int = IGNORE) -> None:
    """Refuse labels that do not belong to a cloud.

    Args:
        labels: should be (count,) integers.
        count: of the points.
        classes: C.
        ignore: the label that does not count.

    Raises:
        ValueError: another shape, or labels that are neither 0 .. C - 1 nor `ignore`; says which.
    """
    if labels.shape != (count,) or labels.is_floating_point():
        raise ValueError(
            f"got labels {tuple(labels.shape)} of {labels.dtype} for {count} points; expected "
            f"({count},) integers"
        )
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != ignore)].unique().tolist()
    if wrong:
        shown = ", ".join(map(str, wrong[:5]))
        raise ValueError(f"got labels {shown}; expected 0 .. {classes - 1}, or {ignore} to ignore a point")


def check_scene(scene: PointScene, classes: int, ignore: int = IGNORE) -> PointScene:
    """A scene of one's own, if its parts belong together.

    Args:
        scene: to look at; a camera that sees nothing is no error.
        classes: C.
        ignore: the label that does not count.

    Raises:
        ValueError: no points or NaN among them, labels outside the classes, or parts of other lengths.
    """
    check_points(scene.points)
    count, views = len(scene.points), len(scene.views)
    check_labels(scene.labels, count, classes, ignore)
    shapes = {
        "colours": (scene.colours.shape, (count, 3)),
        "pixels": (scene.pixels.shape, (views, count, 2)),
        "visible": (scene.visible.shape, (views, count)),
    }
    for what, (got, expected) in shapes.items():
        if tuple(got) != expected:
            raise ValueError(
                f"got {what} {tuple(got)}; expected {expected}, of {count} points and {views} views"
            )
    return scene


@lru_cache(maxsize=4)
def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}; expected a pack, build it with `infoclip-lite data rebuild points`"
        )
    return json.loads(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def _split(folder: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of a split, and all its views (scenes * side, cameras * side, 3) uint8."""
    # Whatever an editor or a disk did to them: there are too many ways to name each.
    try:
        with np.load(folder / f"{split}.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        with Image.open(folder / f"{split}.webp") as sheet:
            return arrays, np.asarray(sheet.convert("RGB")).copy()
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{folder / split}.* cannot be read ({type(error).__name__}: {error}); expected the pack's "
            "files: check them with `infoclip-lite data verify points`"
        ) from error
