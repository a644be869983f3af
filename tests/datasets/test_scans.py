"""Scans: a made scene whose projection is known, ScanNet's own files, and every way in which they are bad."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scans import (
    BOX,
    COLOUR,
    FOCAL_COLOUR,
    NAMES,
    POINTS,
    pose_at,
    write_cloud,
    write_ply,
    write_scannet,
    write_scans,
    write_scene,
)

from infoclip_lite.datasets.points import CLOUDS, ScanNet, Scans, build_clouds, check_scene
from infoclip_lite.datasets.points.ply import read_vertices
from infoclip_lite.datasets.points.scans import SCANNET, SCANNET_UNSEEN

SIZE = 48  # half of the colour pictures


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of one scene, to be damaged."""
    write_scans(tmp_path, scenes=1)
    return tmp_path


# The right numbers


def test_points_fall_where_they_were_put(root: Path) -> None:
    scene = check_scene(Scans("train", root=root, size=SIZE)[0], len(NAMES))
    assert scene.views.shape == (3, 3, SIZE, 64) and scene.pixels.shape == (3, 4, 2)
    # By hand: u = f x / y + cx, v = f (1 - z) / y + cy in the file, and half of that in the reduced picture.
    x, y, z, _ = POINTS[0]
    assert y == BOX
    for view, camera in enumerate((0.0, 0.0, 0.2)):
        u = FOCAL_COLOUR * (x - camera) / y + COLOUR[1] / 2
        v = FOCAL_COLOUR * (1.0 - z) / y + COLOUR[0] / 2
        assert scene.pixels[view, 0].tolist() == pytest.approx([u / 2, v / 2], abs=1e-3)
    assert scene.pixels[:, 3].isnan().all(), "behind the camera"


def test_who_is_seen_is_what_the_depth_maps_say(root: Path) -> None:
    scene = Scans("train", root=root, size=SIZE)[0]
    # The box's front is seen, the wall beside it too, the wall behind it is hidden, and so is what is behind.
    assert scene.visible.tolist() == [[True, True, False, False]] * 3


def test_a_point_outside_the_colour_picture_is_not_seen_though_its_depth_is(own: Path) -> None:
    # 100 pixels a metre: the colour picture ends at 0.64 of the depth, the depth map at 0.67.
    write_cloud(own / "room0", [(0.65 * 3.0, 3.0, 1.0, 0), (0.60 * 3.0, 3.0, 1.0, 0)])
    assert Scans("train", root=own)[0].visible[0].tolist() == [False, True]


def test_clouds_stand_upright_on_their_floor(root: Path) -> None:
    scene = Scans("train", root=root)[0]
    heights = [point[2] for point in POINTS]
    floor = np.quantile(heights, 0.01)
    assert scene.points[:, 1].tolist() == pytest.approx([h - floor for h in heights], abs=1e-5)
    stored = torch.tensor([point[:3] for point in POINTS])
    # Turned and moved, not mirrored: distances are kept and so is the handedness.
    assert torch.allclose(torch.cdist(scene.points, scene.points), torch.cdist(stored, stored), atol=1e-5)
    sides = [each[1:] - each[:1] for each in (scene.points, stored)]
    assert torch.linalg.det(sides[0]).sign() == torch.linalg.det(sides[1]).sign() != 0


def test_colours_labels_and_pictures_are_those_of_the_files(root: Path) -> None:
    data = Scans("train", root=root, unseen=["lamp"])
    scene = data[-1]
    assert scene.labels.tolist() == [1, 0, 0, 2] and torch.equal(scene.colours, torch.full((4, 3), 51 / 255))
    left, right = scene.views.chunk(2, dim=3)
    assert left.mean() < 0.2 < 0.8 < right.mean()
    assert (data.names, data.unseen) == (tuple(NAMES), (2,))
    assert data.class_groups == {"seen": (0, 1), "unseen": (2,)}


def test_some_points_are_drawn_the_same_ones_each_time(own: Path) -> None:
    many = [(0.01 * i - 0.3, BOX, 1.0, i % 3) for i in range(60)]
    write_cloud(own / "room0", many)
    scene = Scans("train", root=own, points=20)[0]
    assert len(scene.points) == 20 and torch.equal(scene.points, Scans("val", root=own, points=20)[0].points)
    places = [round(float(x) / 0.01 + 30) for x in scene.points[:, 0]]
    assert places == sorted(set(places)) and scene.labels.tolist() == [place % 3 for place in places]
    assert len(Scans("train", root=own, points=None)[0].points) == 60


def test_frames_are_taken_evenly_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    places = [0.01 * frame for frame in range(12)]
    write_scene(tmp_path / "room0", places=places)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    (tmp_path / "train.txt").write_text("room0")
    scene = Scans("train", root=tmp_path, frames=3, size=COLOUR[0])[0]
    # Frame 10 comes after frame 9: the last camera is the one farthest to the right.
    moved = (scene.pixels[0, 0, 0] - scene.pixels[:, 0, 0]) * BOX / FOCAL_COLOUR
    assert moved.tolist() == pytest.approx([0.0, places[6], places[11]], abs=1e-3)


def test_a_pose_that_is_not_finite_is_left_out_and_counted(own: Path) -> None:
    np.savetxt(own / "room0" / "pose" / "1.txt", np.full((4, 4), -np.inf), fmt="%f")
    data = Scans("train", root=own)
    scene = data[0]
    assert len(scene.views) == 2 and data.skipped == {"room0": 1}
    assert scene.visible[:, 0].all() and scene.pixels[1, 0, 0] < scene.pixels[0, 0, 0]


def test_a_cloud_of_one_point_and_a_camera_that_sees_nothing_are_no_errors(own: Path) -> None:
    write_cloud(own / "room0", POINTS[:1])
    np.savetxt(own / "room0" / "pose" / "1.txt", pose_at(50.0), fmt="%f")
    scene = check_scene(Scans("train", root=own)[0], len(NAMES))
    assert scene.points.shape == (1, 3) and scene.visible.tolist() == [[True], [False], [True]]


def test_two_data_sets_are_told_apart(root: Path) -> None:
    said = [Scans("train", root=root, **kw).describe() for kw in ({}, {"frames": 2}, {"unseen": ["lamp"]})]
    assert len({str(each) for each in said}) == 3
    assert said[0] == Scans("train", root=root).describe()


# What cannot be read


def put(path: str, content: bytes) -> Callable[[Path], None]:
    return lambda scene: (scene / path).write_bytes(content)


def cloud(**parts: np.ndarray) -> Callable[[Path], None]:
    return lambda scene: write_cloud(scene, POINTS, **parts)


def pose(matrix: np.ndarray, frames: int = 3) -> Callable[[Path], None]:
    def write(scene: Path) -> None:
        for frame in range(frames):
            np.savetxt(scene / "pose" / f"{frame}.txt", matrix, fmt="%f")

    return write


def smaller(path: str) -> Callable[[Path], None]:
    def write(scene: Path) -> None:
        with Image.open(scene / path) as picture:
            picture.load()
        picture.resize((40, 30)).save(scene / path)

    return write


def grey(scene: Path) -> None:
    Image.fromarray(np.zeros((60, 80), dtype=np.uint8)).save(scene / "depth" / "0.png")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cloud(label=np.zeros(3, np.uint8)), r"got labels \(3,\) of uint8 for 4 points; .*same scan"),
        (
            cloud(label=np.array([0, 1, 9, 255], np.uint8)),
            "got labels 9; expected labels of names.txt, or 255",
        ),
        (cloud(label=np.zeros(4)), r"got labels \(4,\) of float64.*integers"),
        (cloud(rgb=np.zeros((4, 3))), r"got rgb \(4, 3\) of float64; expected \(4, 3\) uint8"),
        (cloud(xyz=np.array([[0, 2, np.nan]] * 4)), "got 4 of 4 points with NaN"),
        (cloud(xyz=np.zeros((0, 3))), "N at least 1"),
        (put("points.npz", b"no archive"), "points.npz cannot be read .*expected arrays xyz, rgb and label"),
        (put("color/1.jpg", b"no picture"), "1.jpg cannot be decoded"),
        (put("depth/1.png", b"no picture"), "1.png cannot be decoded"),
        (grey, "0.png is of mode L; expected grey of 16 bits, millimetres"),
        (smaller("color/1.jpg"), r"got pictures of \[\(40, 30\), \(128, 96\)\] pixels; .*of one size"),
        (smaller("depth/1.png"), r"got depth maps of \[\(30, 40\), \(60, 80\)\] pixels"),
        (put("pose/1.txt", b"1 2 3\n4 5 6\n"), "1.txt has 2 x 3 numbers; expected 4 x 4"),
        (put("pose/1.txt", b"one two"), "1.txt is no matrix"),
        (pose(np.full((4, 4), np.nan)), "none of 3 poses is finite; .*leave the scene out"),
        (pose(np.zeros((4, 4))), "0.txt holds no rotation; expected rows of a camera-to-world"),
        (
            put("intrinsic/intrinsic_color.txt", b"0 0 0\n0 0 0\n0 0 1"),
            "focal lengths 0.0 and 0.0; .*above 0",
        ),
        (pose(pose_at(50.0)), "none of 3 cameras sees any of 4 points; .*poses camera to world"),
    ],
)
def test_what_cannot_be_a_scene_is_said_with_its_name(
    own: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(own / "room0")
    with pytest.raises(ValueError, match=f"^room0: .*{message}"):
        Scans("train", root=own)[0]


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "room0/depth/1.png",
            r"1 of 3 frames of .*room0 have no depth, such as color/1.jpg; .*depth/1.png: export",
        ),
        ("room0/pose/2.txt", "have no pose, such as color/2.jpg; expected pose/2.txt"),
        ("names.txt", "no .*names.txt; expected a text file"),
        ("train.txt", "no .*train.txt; expected a text file with one scene a line"),
    ],
)
def test_a_file_that_is_missing_is_said_before_anything_is_read(own: Path, lost: str, message: str) -> None:
    (own / lost).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        Scans("train", root=own)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("points.npz", "no .*points.npz; expected xyz, rgb and label"),
        ("intrinsic/intrinsic_depth.txt", "no .*intrinsic_depth.txt"),
    ],
)
def test_a_part_of_a_scene_that_is_missing_is_said(own: Path, lost: str, message: str) -> None:
    (own / "room0" / lost).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        Scans("train", root=own)[0]


@pytest.mark.parametrize("lost", ["color/1.jpg", "depth/1.png"])
def test_a_picture_that_went_since_it_was_listed_is_no_damaged_one(own: Path, lost: str) -> None:
    data = Scans("train", root=own)
    (own / "room0" / lost).unlink()
    with pytest.raises(FileNotFoundError, match=lost):
        data[0]


def test_lists_and_options_that_cannot_be_are_refused(own: Path) -> None:
    with pytest.raises(ValueError, match="root is None; expected the folder"):
        Scans("train")
    with pytest.raises(ValueError, match="unseen names 'lmap'.*did you mean 'lamp'"):
        Scans("train", root=own, unseen=["lmap"])
    with pytest.raises(ValueError, match=r"unseen is the text 'lamp'; expected a list .*\['lamp'\]"):
        Scans("train", root=own, unseen="lamp")
    assert Scans("train", root=own, unseen=["lamp", "lamp"]).unseen == (2,)
    for option in ("frames", "points", "size"):
        with pytest.raises(ValueError, match=f"{option}=0.*expected at least 1"):
            Scans("train", root=own, **{option: 0})
    (own / "train.txt").write_text("room0\nroom7\n")
    with pytest.raises(FileNotFoundError, match="1 of 2 scenes of .*such as room7; expected the folder"):
        Scans("train", root=own)
    (own / "train.txt").write_text("room0\nroom0\n")
    with pytest.raises(ValueError, match="2 scenes, 1 of them different; expected .*each once"):
        Scans("train", root=own)
    (own / "val.txt").write_text("")
    with pytest.raises(ValueError, match="0 scenes"):
        Scans("val", root=own)
    (own / "train.txt").write_text("room0\n")
    with pytest.raises(IndexError, match="scene 1 of 1"):
        Scans("train", root=own)[1]


# ScanNet


@pytest.mark.parametrize("names", ["1\tlamp\n2\tlamp", "0\twall\n255\tbox"])
def test_a_name_stands_for_one_label_and_255_for_none(own: Path, names: str) -> None:
    """Else points of an unseen class would be learnt from under its other label."""
    (own / "names.txt").write_text(names)
    with pytest.raises(ValueError, match="expected 255 classes at most, each name once, and no label 255"):
        Scans("train", root=own)


def test_scannets_own_files_are_read(tmp_path: Path) -> None:
    data = ScanNet("train", root=write_scannet(tmp_path, labels=(3, 1, 13, 14)))
    assert len(data) == 3 and len(ScanNet("val", root=tmp_path)) == 1
    scene = check_scene(data[0], len(data.names))
    # cabinet, wall, blinds (no class of the benchmark), desk
    assert [data.names[i] if i != data.ignore else "" for i in scene.labels] == [
        "cabinet",
        "wall",
        "",
        "desk",
    ]
    other = Scans("train", root=write_scans(tmp_path / "own"))[0]
    assert torch.equal(scene.points, other.points) and torch.equal(scene.colours, other.colours)


def test_sixteen_classes_are_seen_and_four_are_not(tmp_path: Path) -> None:
    data = ScanNet("train", root=write_scannet(tmp_path))
    assert data.names == tuple(SCANNET.values()) and len(data.class_groups["seen"]) == 16
    assert (
        {data.names[i] for i in data.unseen} == set(SCANNET_UNSEEN) == {"desk", "bookshelf", "sofa", "toilet"}
    )
    assert set(data.class_groups["seen"]) | set(data.class_groups["unseen"]) == set(range(20))


def test_meshes_and_labels_of_two_versions_are_refused(tmp_path: Path) -> None:
    write_scannet(tmp_path)
    name = "scene0000_00"
    path = tmp_path / "scannet" / "scans" / name / f"{name}_vh_clean_2.labels.ply"
    write_ply(path, {"label": ("ushort", np.ones(3, np.uint16))})
    with pytest.raises(ValueError, match=rf"{name}: got labels \(3,\) of uint16 for 4 points"):
        ScanNet("train", root=tmp_path)[0]
    write_ply(path, {"label": ("ushort", np.full(4, 1163, np.uint16))})
    with pytest.raises(ValueError, match="got labels 1163; expected NYU40 labels, 0 .. 40"):
        ScanNet("train", root=tmp_path)[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no .*labels.ply; expected a PLY file with label"):
        ScanNet("train", root=tmp_path)[0]


def test_a_recipe_names_them(root: Path) -> None:
    assert len(build_clouds({"name": "scans", "root": str(root), "frames": 2}, "val")) == 1
    assert set(CLOUDS) == {"points", "scans", "scannet"}
    with pytest.raises(
        ValueError, match="unknown key 'frame' in data set of points 'scans'; did you mean 'frames'"
    ):
        build_clouds({"name": "scans", "root": str(root), "frame": 2}, "val")
    with pytest.raises(FileNotFoundError, match=re.escape("scannetv2_train.txt")):
        build_clouds({"name": "scannet", "root": str(root)}, "train")


# PLY


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_vertices_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    x, label = np.array([1.5, -2.0], np.float32), np.array([7, 300], np.uint16)
    write_ply(tmp_path / "a.ply", {"x": ("float", x), "label": ("ushort", label)}, form)
    assert read_vertices(tmp_path / "a.ply", ("label",)).tolist() == [[7], [300]]
    assert read_vertices(tmp_path / "a.ply", ("label", "x")).tolist() == [[7, 1.5], [300, -2.0]]


HEAD = b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plx\n", "does not begin with ply"),
        (HEAD, "ends in its header"),
        (HEAD + b"end_header\n" + bytes(4), "ends after 1 vertices; expected 2"),
        (HEAD + b"end_header\n" + bytes(5), "is damaged .*expected 2 whole vertices"),
        (
            HEAD.replace(b"float x", b"float y") + b"end_header\n" + bytes(8),
            "2 vertices with y; expected .*with x",
        ),
        (HEAD.replace(b"binary_little_endian", b"zip") + b"end_header\n", "format zip"),
        (
            HEAD.replace(b"float x", b"list uchar int x") + b"end_header\n",
            "one number a property of a vertex",
        ),
        (HEAD.replace(b"float x", b"x") + b"end_header\n", "one number a property of a vertex"),
        (HEAD.replace(b" float x", b"") + b"end_header\n", "one number a property of a vertex"),
        (
            HEAD.replace(b"vertex 2", b"vertex 99999999999999") + b"end_header\n" + bytes(8),
            "after 2 vertices",
        ),
        (
            b"ply\nformat ascii 1.0\nelement face 1\nend_header\n",
            "begins with face; expected its vertices first",
        ),
        (HEAD.replace(b"binary_little_endian", b"ascii") + b"end_header\none\ntwo\n", "is damaged"),
    ],
)
def test_what_is_no_ply_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.ply .*{message}"):
        read_vertices(tmp_path / "a.ply", ("x",))
