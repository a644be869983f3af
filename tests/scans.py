"""A folder of RGB-D frames for tests: a wall and a box before it, whose places in the pictures are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# Colour pictures are larger than depth maps and of another shape, as ScanNet's are.
COLOUR, DEPTH = (96, 128), (60, 80)  # height, width
FOCAL_COLOUR, FOCAL_DEPTH = 100.0, 60.0
WALL, BOX = 3.0, 2.0  # metres before the first camera
# World axes as ScanNet's: z points up. The camera looks along +y, so that its down is -z and its right +x.
LOOKS = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
NAMES = ["wall", "box", "lamp"]


def pose_at(x: float, height: float = 1.0) -> np.ndarray:
    """(4, 4) camera to world of a camera at (x, 0, height)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = LOOKS, (x, 0.0, height)
    return pose


def intrinsics(focal: float, size: tuple[int, int]) -> np.ndarray:
    """(4, 4), as the exporter writes them."""
    matrix = np.eye(4)
    matrix[0, 0] = matrix[1, 1] = focal
    matrix[:2, 2] = size[1] / 2, size[0] / 2
    return matrix


def depth_map(x: float) -> np.ndarray:
    """(H, W) uint16 millimetres: the wall, and before it the box of |x| < 0.4 from a camera at x."""
    columns = (np.arange(DEPTH[1]) + 0.5 - DEPTH[1] / 2) / FOCAL_DEPTH * BOX + x
    row = np.where(np.abs(columns) < 0.4, BOX, WALL)
    return np.broadcast_to(1000 * row, DEPTH).astype(np.uint16)


# x, y, z in the world, label: the box's front, the wall beside it, the wall behind it, and behind the camera.
POINTS = [(0.1, BOX, 1.2, 1), (1.0, WALL, 1.0, 0), (0.0, WALL, 1.0, 0), (0.0, -1.0, 0.0, 2)]


def write_scene(folder: Path, places: Sequence[float] = (0.0, 0.2), points: list[tuple] = POINTS) -> Path:
    """A scene with a camera at each of the places, and its cloud as points.npz."""
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for frame, x in enumerate(places):
        # Left half dark, right half light: pictures that were mirrored would show.
        pixels = rng.integers(0, 40, (*COLOUR, 3), dtype=np.uint8)
        pixels[:, COLOUR[1] // 2 :] += 200
        Image.fromarray(pixels).save(folder / "color" / f"{frame}.jpg", quality=95)
        Image.fromarray(depth_map(x)).save(folder / "depth" / f"{frame}.png")
        np.savetxt(folder / "pose" / f"{frame}.txt", pose_at(x), fmt="%f")
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", intrinsics(FOCAL_COLOUR, COLOUR), fmt="%f")
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", intrinsics(FOCAL_DEPTH, DEPTH), fmt="%f")
    write_cloud(folder, points)
    return folder


def write_cloud(folder: Path, points: list[tuple], **parts: np.ndarray) -> None:
    """points.npz, with parts replaced."""
    table = np.array(points, dtype=np.float64)
    arrays = {
        "xyz": table[:, :3].astype(np.float32),
        "rgb": np.full((len(table), 3), 51, dtype=np.uint8),
        "label": table[:, 3].astype(np.uint8),
    }
    np.savez(folder / "points.npz", **{**arrays, **parts})


def write_scans(root: Path, scenes: int = 3) -> Path:
    """A folder that `Scans` reads: scenes of the wall and the box, all of them in train, the last in val."""
    for scene in range(scenes):
        write_scene(root / f"room{scene}", places=(0.0, 0.05 * scene, 0.2))
    (root / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    (root / "train.txt").write_text("".join(f"room{scene}\n" for scene in range(scenes)))
    (root / "val.txt").write_text(f"room{scenes - 1}\n")
    return root


def write_ply(
    path: Path, properties: dict[str, tuple[str, np.ndarray]], form: str = "binary_little_endian"
) -> None:
    """Vertices with properties name -> (type, values), and a face that a reader has to pass over."""
    count = len(next(iter(properties.values()))[1])
    lines = ["ply", f"format {form} 1.0", "comment made for a test", f"element vertex {count}"]
    lines += [f"property {kind} {name}" for name, (kind, _) in properties.items()]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    if form == "ascii":
        rows = zip(*(values.tolist() for _, values in properties.values()), strict=True)
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows).encode() + b"3 0 0 0\n"
    else:
        kinds = [(name, values.dtype) for name, (_, values) in properties.items()]
        vertices = np.zeros(count, dtype=kinds)
        for name, (_, values) in properties.items():
            vertices[name] = values
        order = "<" if form == "binary_little_endian" else ">"
        body = vertices.astype(vertices.dtype.newbyteorder(order)).tobytes() + b"\3" + bytes(12)
    path.write_bytes("\n".join(lines).encode() + body)


def write_scannet(root: Path, scenes: int = 3, labels: Sequence[int] = (3, 1, 1, 14)) -> Path:
    """ScanNet's layout below `root`: two lists, meshes as PLY with NYU40 labels, exported frames."""
    folder = root / "scannet"
    names = [f"scene{scene:04d}_00" for scene in range(scenes)]
    for name in names:
        scene = write_scene(folder / "scans" / name)
        (scene / "points.npz").unlink()
        table = np.array(POINTS, dtype=np.float32)
        place = {axis: ("float", table[:, i]) for i, axis in enumerate("xyz")}
        grey = np.full(len(table), 51, dtype=np.uint8)
        colour = dict.fromkeys(("red", "green", "blue", "alpha"), ("uchar", grey))
        write_ply(scene / f"{name}_vh_clean_2.ply", {**place, **colour})
        label = ("ushort", np.array(labels, dtype=np.uint16))
        write_ply(scene / f"{name}_vh_clean_2.labels.ply", {**place, **colour, "label": label})
    (folder / "scannetv2_train.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "scannetv2_val.txt").write_text(f"{names[-1]}\n")
    return root
