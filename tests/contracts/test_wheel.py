"""What is installed has everything it needs, and segments without the source tree."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import infoclip_lite
from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets import Collage
from infoclip_lite.training.recipe import list_recipes

scene = Collage("test")[0]
labels = infoclip_lite.segment(scene.image, scene.nouns).labels
print(data_dir(), labels.shape, "mini/plain" in list_recipes())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True)
    return next(target.glob("*.whl"))


def test_recipes_data_and_checkpoints_travel_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [p for p in (ROOT / "data").rglob("*") if p.is_file()]
    assert len(shipped) > 290
    assert {f"infoclip_lite/_data/{p.relative_to(ROOT / 'data')}" for p in shipped} <= names


def test_every_licence_and_who_made_the_pictures_travel_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition(".dist-info/licenses/")[2] for name in names} >= {
        "LICENSE",
        "data/collage/LICENSE",
    }
    collage = {name.removeprefix("infoclip_lite/_data/collage/") for name in names}
    assert {"CREDITS.md", "manifest.json", "photographs.json", "selection.json"} <= collage


def test_everything_beside_the_code_travels_in_the_wheel(wheel: Path) -> None:
    """Recipes, tables of classes, what nbval replaces: whatever the package reads beside its modules."""
    names = set(zipfile.ZipFile(wheel).namelist())
    package = [p for p in (ROOT / "infoclip_lite").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    beside = {str(p.relative_to(ROOT)) for p in package if p.suffix != ".py"}
    assert {Path(name).suffix for name in beside} >= {".yaml", ".txt", ".cfg"}
    assert beside <= names


def test_the_unpacked_wheel_segments_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(tmp_path / "infoclip_lite" / "_data"), "(96,", "96)", "True"]
