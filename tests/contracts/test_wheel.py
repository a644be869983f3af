import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)], cwd=ROOT, check=True)
    return next(target.glob("*.whl"))


def test_recipes_data_and_checkpoints_travel_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = [p for p in (ROOT / "data").rglob("*") if p.is_file()]
    assert len(shipped) > 290
    assert {f"infoclip_lite/_data/{p.relative_to(ROOT / 'data')}" for p in shipped} <= names
    recipes = list((ROOT / "infoclip_lite" / "recipes").rglob("*.yaml"))
    assert {str(p.relative_to(ROOT)) for p in recipes} <= names


def test_the_unpacked_wheel_segments_without_the_source_tree(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import infoclip_lite, infoclip_lite.paths as p; from infoclip_lite.datasets import Collage; "
        "from infoclip_lite.recipe import list_recipes; scene = Collage('test')[0]; "
        "print(p.data_dir(), infoclip_lite.segment(scene.image, scene.nouns).labels.shape, 'mini/plain' in list_recipes())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(tmp_path / "infoclip_lite" / "_data"), "(96,", "96)", "True"]
