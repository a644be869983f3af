"""Point clouds with the RGB-D frames that they were scanned from: a folder of one's own, and ScanNet's.

root/train.txt, val.txt              one scene a line
root/names.txt                       one class name a line, label 0 first; or LABEL<tab>NAME
root/SCENE/points.npz                xyz (N, 3) metres, z points up; rgb (N, 3) uint8; label (N,) integers
root/SCENE/color/FRAME.jpg           or .png, all of one size
root/SCENE/depth/FRAME.png           16 bits: millimetres along the camera's axis, 0 where unmeasured
root/SCENE/pose/FRAME.txt            4 x 4 camera to world, metres; not finite where tracking was lost
root/SCENE/intrinsic/intrinsic_color.txt, intrinsic_depth.txt     3 x 3 or 4 x 4, pixels of these files

Names, units and axes are those of ScanNet's exporter, SensReader/python/reader.py [C], whose output path is
the scene's folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.clouds import check_points
from ...core.labels import IGNORE
from ..base import fingerprint
from ..fetching.files import data_root
from ..folder import read_names, unseen_ids
from ..image import from_pil
from ..listing import SUFFIXES, read_lines
from ..pictures import decoded
from .cameras import inside_picture, project, sees
from .clouds import PointScene
from .ply import read_vertices

# ScanNet's benchmark: NYU40 labels of its 20 classes [C: evaluate_semantic_label.py]; others do not count.
SCANNET = {
    1: "wall",
    2: "floor",
    3: "cabinet",
    4: "bed",
    5: "chair",
    6: "sofa",
    7: "table",
    8: "door",
    9: "window",
    10: "bookshelf",
    11: "picture",
    12: "counter",
    14: "desk",
    16: "curtain",
    24: "refrigerator",
    28: "shower curtain",
    33: "toilet",
    34: "sink",
    36: "bathtub",
    39: "otherfurniture",
}
_NYU40 = range(41)
# 3DGenZ's zero-shot benchmark on ScanNet (2108.06230), whose other 16 classes are seen [C: E3DPC-GZSL's
# eval.py, which goes on from its code; the names of its numbers in 3DGenZ's train.py].
SCANNET_UNSEEN = ("desk", "bookshelf", "sofa", "toilet")

# What is taken of a scene unless somebody says otherwise [O]: pictures, points, shorter side in pixels.
FRAMES, POINTS, SIZE = 8, 8192, 336
# Share of a cloud's points that may lie below the floor [O]: a scanner measures some, through mirrors.
_BELOW = 0.01
_EXPORT = "export colours, depth, poses and intrinsics together"


class Scans:
    """Scanned scenes, each with a coloured cloud, its labels, and RGB-D frames; see the module for the files.

    Scenes are read when they are asked for. A frame whose pose is not finite has no camera and is left out;
    `skipped` counts such frames. A camera that sees no point is no error, unless none sees any.

    Args:
        split: a file of this name, with the suffix .txt, says which scenes.
        root: the folder.
        unseen: names of the classes whose points must not be learnt from.
        frames: so many pictures of a scene, evenly from its first to its last.
        points: so many points of a scene, the same ones each time; None takes all.
        size: shorter side of the pictures in pixels, to which they are resized.

    Attributes:
        names: the class names, in the order of the labels' ids.
        unseen: their class ids.
        class_groups: ids of the "seen" and "unseen" classes.
        ignore: the label of points that do not count.
        scenes: their names.
        skipped: scene -> frames without a finite pose, of the scenes that were read.

    Raises:
        FileNotFoundError: no such list, names or scene, or a colour frame without depth or pose; says which.
        ValueError: an unseen name that is none of the names, a scene listed twice, or numbers out of range.
            On reading: parts that do not belong together, damaged files, points that are not finite, and a
            scene that no camera sees; says which.
    """

    ignore = IGNORE
    in_memory = False

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        unseen: Sequence[str] = (),
        frames: int = FRAMES,
        points: int | None = POINTS,
        size: int = SIZE,
    ) -> None:
        if root is None:
            raise ValueError("root is None; expected the folder of the scans")
        check_taken(frames, points, size)
        self.split, self.frames, self.points, self.size = split, frames, points, size
        self.root = Path(root).expanduser()
        classes = self._classes()
        self.names = tuple(classes.values())
        if len(set(self.names)) < len(self.names) or IGNORE in classes or len(classes) > IGNORE:
            raise ValueError(
                f"got {len(classes)} classes of {len(set(self.names))} names, labels up to {max(classes)}; "
                f"expected {IGNORE} classes at most, each name once, and no label {IGNORE}: it does not count"
            )
        self.labels = {label: i for i, label in enumerate(classes)}
        self.unseen = unseen_ids(unseen, self.names)
        seen = tuple(i for i in range(len(self.names)) if i not in self.unseen)
        self.class_groups = {"seen": seen, "unseen": self.unseen}
        self.scenes = self._listed()
        self.pictures = [_paired(self._folder(scene)) for scene in self.scenes]
        self.skipped: dict[str, int] = {}
        # Of the scenes that were read: to choose a few of a thousand frames all poses are looked at.
        self._taken: dict[str, tuple[list[str], Tensor]] = {}

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> PointScene:
        if not -len(self) <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        scene = self.scenes[index]
        try:
            return self._read(scene, self.pictures[index])
        except ValueError as error:
            raise ValueError(f"{scene}: {error}") from error

    def describe(self) -> dict[str, object]:
        """What tells two data sets apart; JSON can hold it."""
        return {
            "kind": type(self).__name__,
            "split": self.split,
            "items": len(self),
            "scenes": fingerprint([self.scenes, self.names, self.unseen]),
            "taken": [self.frames, self.points, self.size],
        }

    # What ScanNet has under other names

    def _classes(self) -> dict[int, str]:
        """Class names by label."""
        return read_names(self.root / "names.txt")

    def _list(self) -> Path:
        """The list of the split's scenes."""
        return self.root / f"{self.split}.txt"

    def _folder(self, scene: str) -> Path:
        return self.root / scene

    def _cloud(self, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """xyz, rgb and label of a scene, as they are stored."""
        path = folder / "points.npz"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}; expected xyz, rgb and label, as numpy.savez writes them")
        try:
            with np.load(path, allow_pickle=False) as file:
                return file["xyz"], file["rgb"], file["label"]
        except Exception as error:  # NumPy raises a dozen kinds for broken files
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {error}); expected arrays xyz, rgb and label"
            ) from error

    def _ids(self, labels: np.ndarray) -> np.ndarray:
        """Class ids of labels."""
        return _looked_up(labels, self.labels, (IGNORE,), "labels of names.txt, or 255 where nothing counts")

    # Reading

    def _listed(self) -> list[str]:
        lines = read_lines(self._list(), "one scene a line")
        scenes = [line.strip() for line in lines if line.strip()]
        if not scenes or len(set(scenes)) < len(scenes):
            got = f"{len(scenes)} scenes, {len(set(scenes))} of them different"
            raise ValueError(f"{self._list()} has {got}; expected one scene a line, each once")
        absent = [scene for scene in scenes if not self._folder(scene).is_dir()]
        if absent:
            raise FileNotFoundError(
                f"{len(absent)} of {len(scenes)} scenes of {self._list()} are not there, such as "
                f"{absent[0]}; expected the folder {self._folder(absent[0])}"
            )
        return scenes

    def _read(self, scene: str, pictures: dict[str, str]) -> PointScene:
        folder = self._folder(scene)
        points, colours, labels = self._sampled(scene, *self._cloud(folder))
        if scene not in self._taken:
            self._taken[scene] = self._cameras(scene, folder, list(pictures))
        stems, poses = self._taken[scene]
        views, stored = self._views([folder / "color" / pictures[stem] for stem in stems])
        maps = _alike([_depth(folder / "depth" / f"{stem}.png") for stem in stems], "depth maps")
        size = (views.shape[2], views.shape[3])
        # From the files' pixels to those of the reduced pictures; the first one's middle stays (0.5, 0.5).
        reduced = torch.tensor([[size[1] / stored[1]], [size[0] / stored[0]], [1.0]])
        pixels, far = project(points, _intrinsics(folder, "color") * reduced, poses)
        on_depth, _ = project(points, _intrinsics(folder, "depth"), poses)
        visible = sees(on_depth, far, maps) & inside_picture(pixels, size)
        if not visible.any():
            raise ValueError(
                f"none of {len(poses)} cameras sees any of {len(points)} points; expected one that does: are "
                "poses camera to world, points and poses in metres, depth in millimetres?"
            )
        return PointScene(_upright(points), colours, labels, views, pixels, visible)

    def _sampled(
        self, scene: str, xyz: np.ndarray, rgb: np.ndarray, label: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Some points, their colours in [0, 1] and their class ids."""
        points = torch.from_numpy(np.asarray(xyz, np.float32))
        check_points(points)
        count = len(points)
        if rgb.shape != (count, 3) or rgb.dtype != np.uint8:
            raise ValueError(f"got rgb {rgb.shape} of {rgb.dtype}; expected ({count}, 3) uint8, one a point")
        if label.shape != (count,) or not np.issubdtype(label.dtype, np.integer):
            raise ValueError(
                f"got labels {label.shape} of {label.dtype} for {count} points; expected ({count},) "
                "integers: are points and labels of the same scan?"
            )
        ids = self._ids(label)
        if self.points is not None and self.points < count:
            # A pure function of the scene: two runs, and training and test, look at the same points.
            chosen = np.random.default_rng(list(scene.encode())).permutation(count)[: self.points]
            chosen.sort()
            points, rgb, ids = points[chosen], rgb[chosen], ids[chosen]
        return points, torch.from_numpy(rgb).float() / 255, torch.from_numpy(ids)

    def _cameras(self, scene: str, folder: Path, stems: list[str]) -> tuple[list[str], Tensor]:
        """The frames that are taken, and their poses (V, 4, 4)."""
        poses = [_matrix(folder / "pose" / f"{stem}.txt", ((4, 4),)) for stem in stems]
        there = [i for i, pose in enumerate(poses) if np.isfinite(pose).all()]
        self.skipped[scene] = len(stems) - len(there)
        if not there:
            raise ValueError(
                f"none of {len(stems)} poses is finite; expected one: leave the scene out of the list"
            )
        count = min(self.frames, len(there))
        taken = [there[i] for i in np.linspace(0, len(there) - 1, count).round().astype(int)]
        for i in taken:
            turn = poses[i][:3, :3]
            if np.abs(turn @ turn.T - np.eye(3)).max() > 0.01:
                path = folder / "pose" / f"{stems[i]}.txt"
                raise ValueError(f"{path} holds no rotation; expected rows of a camera-to-world matrix")
        return [stems[i] for i in taken], torch.from_numpy(np.stack([poses[i] for i in taken]))

    def _views(self, paths: Sequence[Path]) -> tuple[Tensor, tuple[int, int]]:
        """Pictures (V, 3, H, W), reduced, and the size (height, width) of the files."""
        pictures = [decoded(_whole, str(path)) for path in paths]
        sizes = {picture.size for picture in pictures}
        if len(sizes) > 1:
            raise ValueError(f"got pictures of {sorted(sizes)} pixels; expected all of a scene of one size")
        width, height = pictures[0].size
        scale = self.size / min(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        reduced = [picture.convert("RGB").resize(size, Image.Resampling.BILINEAR) for picture in pictures]
        # Not turned by an EXIF tag: the intrinsics are of the pixels as they are stored.
        return torch.stack([from_pil(picture, upright=False) for picture in reduced]), (height, width)


class ScanNet(Scans):
    """ScanNet in its own files: 20 classes, of which 16 are seen, as 3DGenZ divides them.

    Below `root` are scannet/scannetv2_train.txt and scannetv2_val.txt (1,201 and 312 scenes), and in
    scannet/scans/SCENE the clouds SCENE_vh_clean_2.ply and SCENE_vh_clean_2.labels.ply as they are published,
    beside the exported color, depth, pose and intrinsic. It is had by agreement with its authors alone.

    Args:
        split: "train" or "val".
        root: folder of the data sets; None is the place of all, see `build_dataset`.
        frames, points, size: as for `Scans`.

    Raises:
        FileNotFoundError, ValueError: as `Scans`.
    """

    def __init__(
        self,
        split: str,
        *,
        root: str | Path | None = None,
        frames: int = FRAMES,
        points: int | None = POINTS,
        size: int = SIZE,
    ) -> None:
        folder = data_root(root) / "scannet"
        super().__init__(split, root=folder, unseen=SCANNET_UNSEEN, frames=frames, points=points, size=size)

    def _classes(self) -> dict[int, str]:
        return SCANNET

    def _list(self) -> Path:
        return self.root / f"scannetv2_{self.split}.txt"

    def _folder(self, scene: str) -> Path:
        return self.root / "scans" / scene

    def _cloud(self, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mesh = folder / f"{folder.name}_vh_clean_2.ply"
        xyz, rgb = read_vertices(mesh, ("x", "y", "z")), read_vertices(mesh, ("red", "green", "blue"))
        return xyz, rgb, read_vertices(folder / f"{folder.name}_vh_clean_2.labels.ply", ("label",))[:, 0]

    def _ids(self, labels: np.ndarray) -> np.ndarray:
        others = [label for label in _NYU40 if label not in SCANNET]
        return _looked_up(labels, self.labels, others, "NYU40 labels, 0 .. 40")


def check_taken(frames: int, points: int | None, size: int) -> None:
    """What is taken of a scene.

    Args:
        frames, points, size: as for `Scans`.

    Raises:
        ValueError: a number below 1, or what is no number.
    """
    taken = (frames, size, *(() if points is None else (points,)))
    if not all(isinstance(count, int) and count >= 1 for count in taken):
        raise ValueError(f"got frames={frames}, points={points} and size={size}; expected at least 1 of each")


def _paired(folder: Path) -> dict[str, str]:
    """The file of each colour frame by its stem, in order; each has a depth map and a pose."""
    there: dict[str, set[str]] = {}
    for part in ("color", "depth", "pose"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"no folder {folder / part}; expected one: {_EXPORT}")
        there[part] = {file for file in os.listdir(folder / part) if not file.startswith(".")}
    pictures = {Path(file).stem: file for file in there["color"] if file.lower().endswith(SUFFIXES)}
    if not pictures:
        raise FileNotFoundError(f"no picture in {folder / 'color'}; expected one at least: {_EXPORT}")
    # The exporter writes numbers without zeros before them: 9 comes before 10.
    stems = sorted(pictures, key=lambda stem: (len(stem), stem))
    for part, suffix in (("depth", ".png"), ("pose", ".txt")):
        absent = [stem for stem in stems if f"{stem}{suffix}" not in there[part]]
        if absent:
            raise FileNotFoundError(
                f"{len(absent)} of {len(stems)} frames of {folder} have no {part}, such as "
                f"color/{pictures[absent[0]]}; expected {part}/{absent[0]}{suffix}: {_EXPORT}"
            )
    return {stem: pictures[stem] for stem in stems}


def _looked_up(labels: np.ndarray, ids: dict[int, int], others: Sequence[int], expected: str) -> np.ndarray:
    """Class ids (N,) of labels (N,); IGNORE for the `others`."""
    found, places = np.unique(labels, return_inverse=True)
    known = {**dict.fromkeys(others, IGNORE), **ids}
    strange = [int(label) for label in found if int(label) not in known]
    if strange:
        raise ValueError(f"got labels {', '.join(map(str, strange[:5]))}; expected {expected}")
    return np.array([known[int(label)] for label in found], dtype=np.int64)[places.reshape(-1)]


def _matrix(path: Path, shapes: Sequence[tuple[int, int]]) -> np.ndarray:
    """A matrix of numbers in a text file, float32."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected one: {_EXPORT}")
    expected = " or ".join(f"{rows} x {columns}" for rows, columns in shapes)
    try:
        found = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} is no matrix ({error}); expected {expected} numbers") from error
    if found.shape not in shapes:
        raise ValueError(f"{path} has {found.shape[0]} x {found.shape[1]} numbers; expected {expected}")
    return found


def _intrinsics(folder: Path, camera: str) -> Tensor:
    path = folder / "intrinsic" / f"intrinsic_{camera}.txt"
    found = _matrix(path, ((3, 3), (4, 4)))[:3, :3]
    if not np.isfinite(found).all() or found[0, 0] <= 0 or found[1, 1] <= 0:
        raise ValueError(f"{path} has focal lengths {found[0, 0]} and {found[1, 1]}; expected pixels above 0")
    return torch.from_numpy(found)


def _whole(path: str) -> Image.Image:
    """A picture, read to its end."""
    with Image.open(path) as file:
        return file.copy()


def _depth(path: Path) -> Tensor:
    """(H, W) metres."""
    picture = decoded(_whole, str(path))
    if not picture.mode.startswith("I"):
        raise ValueError(f"{path} is of mode {picture.mode}; expected grey of 16 bits, millimetres")
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 1000)


def _alike(maps: list[Tensor], what: str) -> Tensor:
    sizes = {tuple(each.shape) for each in maps}
    if len(sizes) > 1:
        raise ValueError(f"got {what} of {sorted(sizes)} pixels; expected all of a scene of one size")
    return torch.stack(maps)


def _upright(points: Tensor) -> Tensor:
    """Points whose z points up as this package has them: y up, and the floor at 0."""
    x, y, z = points.unbind(1)
    floor = float(np.quantile(z.numpy(), _BELOW))
    return torch.stack([x, z - floor, -y], 1)
