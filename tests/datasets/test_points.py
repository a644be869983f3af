"""Points: cameras, what ships and under which licences, scenes of one's own, and how the pack is made."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from clouds import COUNT, SIDE, VIEWS, Changed, write_pack

from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets.collage.building.licences import GROUPS
from infoclip_lite.datasets.collage.building.materials import Material
from infoclip_lite.datasets.collage.building.mesh import Mesh
from infoclip_lite.datasets.collage.building.selection import read_selection
from infoclip_lite.datasets.collage.words import dev_nouns, manifest, seen_nouns, unseen_nouns
from infoclip_lite.datasets.points import SPLITS, Points, back_project, check_scene, project, sees
from infoclip_lite.datasets.points.building import build as building
from infoclip_lite.datasets.points.building.frames import NOTHING, floor, intrinsics, joined, moved, shoot
from infoclip_lite.datasets.points.building.layout import (
    GROUP,
    NOUNS,
    SIDES,
    STUFF,
    Viewer,
    models,
    plan,
    pose_of,
    stretch,
)

PACK = data_dir() / "points"
MANIFEST = json.loads((PACK / "manifest.json").read_text())
SELECTION = read_selection(data_dir() / "collage" / "selection.json")
WORKS = list(MANIFEST["works"].values())
CAMERA = torch.from_numpy(intrinsics(SIDE))
POSE = torch.from_numpy(pose_of(Viewer(30.0, 25.0, 3.0)))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("points"))


# What ships


def test_the_pack_is_small_and_every_hash_is_right() -> None:
    assert sum(path.stat().st_size for path in PACK.iterdir()) <= 4 * 2**20
    assert building.verify(PACK) == sum(len(Points(split)) for split in SPLITS)
    assert {path.name for path in PACK.iterdir()} == {*MANIFEST["files"], "manifest.json", "CREDITS.md"}


def test_every_model_and_floor_is_credited_and_no_licences_meet_that_must_not() -> None:
    text = (PACK / "CREDITS.md").read_text()
    for work in WORKS:
        assert work["licence"] in GROUPS[GROUP] and "SA" not in work["licence"], work["source"]
        assert work["author"] in text and work["licence"] in text
    used = {number for split in SPLITS for scene in MANIFEST["scenes"][split] for number in scene}
    assert used == set(range(len(WORKS)))


def test_the_nouns_have_the_roles_that_they_have_in_collage() -> None:
    assert set(NOUNS["seen"]) <= set(seen_nouns()) and set(NOUNS["dev-unseen"]) <= set(dev_nouns())
    assert set(NOUNS["unseen"]) <= set(unseen_nouns()) and MANIFEST["nouns"] == {
        role: list(nouns) for role, nouns in NOUNS.items()
    }


def test_val_and_test_show_models_that_train_does_not_have() -> None:
    shown = {
        split: {
            WORKS[n]["source"] for scene in MANIFEST["scenes"][split] for n in scene if "noun" in WORKS[n]
        }
        for split in SPLITS
    }
    assert not shown["train"] & (shown["val"] | shown["test"])
    known = {item["source"] for items in models(SELECTION, "train").values() for item in items}
    assert shown["test-known"] <= known
    floors = {
        split: {WORKS[n]["source"] for scene in MANIFEST["scenes"][split] for n in scene[-1:]}
        for split in SPLITS
    }
    assert not floors["test"] & floors["train"]


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_show_the_nouns_of_their_split_and_every_point_is_seen(split: str) -> None:
    data = Points(split)
    allowed = {data.names.index(noun) for role in SIDES[split] for noun in NOUNS[role]}
    allowed |= set(data.class_groups["stuff"])
    met: set[int] = set()
    for index in range(len(data)):
        scene = check_scene(data[index], len(data.names))
        met |= set(scene.labels.unique().tolist())
        assert scene.visible.any(0).all() and scene.points.isfinite().all()
    assert met <= allowed
    # Whatever is counted apart is there to count.
    assert {i for group in data.class_groups.values() for i in group} == met


def test_a_point_has_the_colour_of_the_pixel_that_it_falls_on() -> None:
    data = Points("train", length=3)
    for index in range(3):
        scene = data[index]
        column, row = scene.pixels.floor().long().unbind(-1)
        found = [
            (scene.views[v][:, row[v, own], column[v, own]].T - scene.colours[own]).abs().median()
            for v, own in enumerate(scene.visible)
        ]
        assert max(found) < 0.08, "median over the points that a camera sees, after WebP"


def test_scenes_are_credited_one_by_one() -> None:
    data = Points("test")
    works = data.works(0)
    assert "stuff" in works[-1] and all("noun" in work for work in works[:-1])
    said = {work["noun"] for work in works[:-1]} | {works[-1]["stuff"]}
    assert {data.names[i] for i in data[0].labels.unique().tolist()} <= said


# Cameras


def test_what_is_projected_comes_back() -> None:
    depth = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0)).double() + 1
    points = back_project(depth, CAMERA, POSE)
    pixels, found = project(points.reshape(-1, 3), CAMERA, POSE[None])
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    assert torch.allclose(found[0].view(SIDE, SIDE), depth)
    assert torch.allclose(pixels[0].view(SIDE, SIDE, 2), torch.stack([x, y], -1).double(), atol=1e-6)


def test_the_camera_looks_at_the_middle_with_up_upwards() -> None:
    points = torch.tensor([[0.0, 0.35, 0.0], [0.0, 0.8, 0.0]]).double()
    (middle, above), depth = project(points, CAMERA, POSE[None])[0][0], project(points, CAMERA, POSE[None])[1]
    assert middle.tolist() == pytest.approx([SIDE / 2, SIDE / 2]) and depth[0, 0] == pytest.approx(3.0)
    assert above[1] < middle[1], "y goes down in the picture"


def test_what_is_hidden_outside_behind_or_not_measured_is_not_seen() -> None:
    eye, ahead = POSE[:3, 3], POSE[:3, 2]
    points = torch.stack([eye + ahead * d for d in (1.0, 2.0, -1.0)] + [eye + ahead + POSE[:3, 0] * 9])
    pixels, depth = project(points, CAMERA, POSE[None])
    wall = torch.full((1, SIDE, SIDE), 1.0).double()
    assert sees(pixels, depth, wall)[0].tolist() == [True, False, False, False]
    assert pixels[0, 2].isnan().all()
    assert not sees(pixels, depth, wall * 0).any(), "0 is no measurement"


def test_a_camera_that_looks_elsewhere_sees_nothing_and_is_no_error() -> None:
    away = POSE.clone()
    away[:3, :3] = away[:3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0])).double()
    pixels, depth = project(torch.rand(5, 3).double(), CAMERA, torch.stack([POSE, away]))
    seen = sees(pixels, depth, torch.full((2, SIDE, SIDE), 9.0).double())
    assert seen[0].any() and not seen[1].any()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(0, 3), r"got points \(0, 3\).*N at least 1"),
        (torch.zeros(3), r"got points \(3,\)"),
        (torch.zeros(2, 3, dtype=torch.long), "int64; expected .N, 3. floats"),
        (torch.tensor([[0.0, math.nan, 0.0], [0.0, 0.0, 1.0]]), r"got 1 of 2 points with NaN.*keep points\["),
        (torch.tensor([[math.inf, 0.0, 0.0]]), "got 1 of 1 points with NaN or infinite"),
    ],
)
def test_what_is_no_cloud_is_refused(points: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        project(points, CAMERA.float(), POSE[None].float())


def test_cameras_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for one camera poses\[None\]"):
        project(torch.zeros(1, 3), CAMERA.float(), POSE.float())
    with pytest.raises(ValueError, match="of the same V cameras"):
        sees(torch.zeros(2, 5, 2), torch.zeros(2, 5), torch.zeros(1, 4, 4))


# Scenes


def test_a_scene_has_its_shapes(pack: Path) -> None:
    scene = Points("val", folder=pack)[-1]
    shapes = [tuple(part.shape) for part in scene]
    assert shapes == [
        (COUNT, 3),
        (COUNT, 3),
        (COUNT,),
        (VIEWS, 3, SIDE, SIDE),
        (VIEWS, COUNT, 2),
        (VIEWS, COUNT),
    ]
    assert scene.views.min() >= 0 and scene.views.max() <= 1


def test_each_view_is_its_own_part_of_the_sheet(pack: Path) -> None:
    data = Points("val", folder=pack)
    sheet = torch.from_numpy(data.views).permute(2, 0, 1) / 255
    assert torch.allclose(data[2].views[0], sheet[:, 2 * SIDE : 3 * SIDE, :SIDE])


def test_groups_are_those_of_the_split(pack: Path) -> None:
    found = {split: Points(split, folder=pack).class_groups["unseen"] for split in SPLITS}
    assert found == {"train": (2, 3), "val": (2,), "test": (3,), "test-known": (3,)}
    assert Points("val", folder=pack).unseen == (2, 3)


def test_what_the_pack_does_not_have_is_refused(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split 'tests'; expected one of train"):
        Points("tests", folder=pack)
    with pytest.raises(ValueError, match=r"length is 9; expected 1 .. 4"):
        Points("val", folder=pack, length=9)
    with pytest.raises(IndexError, match="scene 4 of 4"):
        Points("val", folder=pack)[4]
    with pytest.raises(FileNotFoundError, match="data rebuild points"):
        Points("val", folder=tmp_path)


def test_a_damaged_pack_is_said(tmp_path: Path) -> None:
    write_pack(tmp_path)
    (tmp_path / "val.npz").write_bytes((tmp_path / "val.npz").read_bytes()[:500])
    with pytest.raises(ValueError, match="val.* cannot be read .*data verify points"):
        Points("val", folder=tmp_path)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"labels": torch.full((COUNT,), 5)}, r"got labels 5; expected 0 .. 4, or 255"),
        ({"labels": torch.full((COUNT,), -1)}, "got labels -1"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"got labels \(3,\).* for 40 points"),
        ({"colours": torch.zeros(1, 3)}, r"got colours \(1, 3\); expected \(40, 3\)"),
        ({"visible": torch.zeros(1, COUNT, dtype=torch.bool)}, "got visible"),
        ({"points": torch.full((COUNT, 3), math.nan)}, "got 40 of 40 points with NaN"),
    ],
)
def test_a_scene_of_ones_own_is_looked_at(pack: Path, parts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_scene(Changed(Points("val", folder=pack), **parts)[0], 5)


def test_a_label_to_ignore_and_a_blind_camera_are_no_errors(pack: Path) -> None:
    parts = {"labels": torch.full((COUNT,), 255), "visible": torch.zeros(VIEWS, COUNT, dtype=torch.bool)}
    scene = Changed(Points("val", folder=pack), **parts)[0]
    assert check_scene(scene, 5) is scene


# How it is made


def test_a_plan_is_a_pure_function_and_things_keep_apart() -> None:
    sizes = defaultdict(lambda: (0.6, 0.8, 0.6))
    textures = manifest()["textures"]
    for index in range(20):
        first, again = (plan("test", index, SELECTION, textures, sizes) for _ in range(2))
        assert first == again and first.things and len(first.viewers) == 3
        gaps = [
            math.hypot(a.x - b.x, a.z - b.z)
            for i, a in enumerate(first.things)
            for b in first.things[i + 1 :]
        ]
        assert min(gaps, default=9.0) > 0.6
        assert {thing.noun for thing in first.things} <= {*NOUNS["seen"], *NOUNS["unseen"]}
        assert first.ground["split"] == "test" and first.floor in STUFF
    assert plan("test", 0, SELECTION, textures, sizes) != plan("test", 1, SELECTION, textures, sizes)


def test_a_role_that_is_another_in_collage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NOUNS, "seen", ("desk",))
    with pytest.raises(ValueError, match="desk: got role 'unseen' and .*expected 'seen'"):
        models(SELECTION, "train")


def test_large_and_small_models_are_brought_to_a_size_that_can_be_seen() -> None:
    assert stretch((400.0, 100.0, 200.0)) == pytest.approx((1.9, 0.475, 0.95))
    assert stretch((100.0, 80.0, 60.0)) == pytest.approx((1.0, 0.8, 0.6))


def box(opacity: float = 1.0) -> Mesh:
    """A square wall, one metre wide and high, that faces +z."""
    corners = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0.5, 1, 0], [-0.5, 1, 0]], dtype=float)[
        [[0, 1, 2], [0, 2, 3]]
    ]
    normals = np.broadcast_to([0.0, 0.0, 1.0], corners.shape)
    look = Material(np.array([0.8, 0.1, 0.1]), opacity=opacity)
    return Mesh(corners, np.zeros((2, 3, 2)), normals, np.zeros(2, dtype=np.int64), [look], "")


def frame_of(*walls: Mesh):  # noqa: ANN201
    tracing = pytest.importorskip("infoclip_lite.datasets.collage.building.tracer")
    pytest.importorskip("embreex")
    every, owner = joined([*walls, floor(np.ones((4, 4, 4), dtype=np.float32))])
    pose = pose_of(Viewer(0.0, 0.0, 3.0))
    labels = [*range(len(walls)), 9]
    return shoot(tracing.Tracer(every), owner, labels, intrinsics(SIDE), pose, SIDE, 0.0)


def test_depth_and_labels_are_those_of_the_nearest_thing() -> None:
    frame = frame_of(moved(box(), 0.0, 1.0, 0.0), moved(box(), 0.0, -1.0, 0.0))
    middle = SIDE // 2
    assert frame.labels[middle, middle] == 0 and frame.depth[middle, middle] == pytest.approx(2.0, abs=1e-3)
    assert frame.labels[0, 0] == NOTHING and frame.depth[0, 0] == 0
    assert frame.labels[-1, 0] == 9, "the floor"
    red, green, _ = frame.colour[middle, middle].astype(int)
    assert red > 2 * green


def test_glass_shows_what_stands_behind_it() -> None:
    frame = frame_of(moved(box(0.1), 0.0, 1.0, 0.0), moved(box(), 0.0, -1.0, 0.0))
    middle = SIDE // 2
    assert frame.labels[middle, middle] == 1 and frame.depth[middle, middle] == pytest.approx(4.0, abs=1e-3)


def test_a_wall_that_is_turned_is_seen_from_its_edge() -> None:
    assert (frame_of(moved(box(), 0.0, 0.0, math.pi / 2)).labels == 0).sum() <= 2 * SIDE


def test_a_changed_file_is_found_out(tmp_path: Path) -> None:
    for path in PACK.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "val.npz").write_bytes(b"other")
    with pytest.raises(ValueError, match="val.npz: got SHA-256 .*changed or damaged"):
        building.verify(tmp_path)
    (tmp_path / "val.npz").unlink()
    with pytest.raises(FileNotFoundError, match="data rebuild points"):
        building.verify(tmp_path)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"embreex.*infoclip-lite\[pack\]"):
        building.build(tmp_path)
    assert list(tmp_path.iterdir()) == []
