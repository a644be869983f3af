"""What importing data sets loads, and what is opened before a picture is asked for."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "torchvision", "scipy", "open_clip")


def run(code: str) -> list[str]:
    """What a new process prints, line by line."""
    show = f"print(*[m for m in {HEAVY} if m in sys.modules])"
    whole = code.replace("SHOW", show)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{whole}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_face_is_lazy_and_complete() -> None:
    code = (
        "import infoclip_lite.datasets as face\n"
        "SHOW\n"
        "print(set(face.__all__) <= set(dir(face)), all(getattr(face, name) for name in face.__all__))\n"
    )
    assert run(code) == ["", "True True"]


def test_names_lists_and_files_are_had_without_torch() -> None:
    code = (
        "from infoclip_lite.datasets import DATASETS, Collage, Folder\n"
        "from infoclip_lite.datasets.collage import all_nouns, stuff\n"
        "from infoclip_lite.datasets.fetching.download import SOURCES\n"
        "from infoclip_lite.datasets.fetching.verify import survey, table\n"
        "from infoclip_lite.datasets.official.classes import class_table\n"
        "print(len(all_nouns()) > len(stuff()) > 0, len(Collage('test').names))\n"
        "print(Collage('val').describe()['items'])\n"
        "print(len(class_table('ade847').words), len(table(survey('/nowhere')).splitlines()) > 20)\n"
        "SHOW\n"
    )
    assert run(code) == ["True 63", "1000", "847 True", ""]


def test_reading_pictures_loads_no_torchvision() -> None:
    code = "from infoclip_lite.datasets import Collage, TrainingCrops\nCollage('val', 32)[0]\nSHOW\n"
    assert run(code) == ["torch"]


def test_pictures_of_the_pack_are_decoded_when_a_scene_shows_them() -> None:
    code = (
        "from PIL import Image\n"
        "opened = []\n"
        "plain = Image.open\n"
        "Image.open = lambda file, *rest: opened.append(str(file)) or plain(file, *rest)\n"
        "from infoclip_lite.datasets import Collage\n"
        "from infoclip_lite.datasets.collage import all_nouns\n"
        "scenes = Collage('val', 32, objects=(2, 2))\n"
        "print(len(all_nouns()) > 100, len(scenes.names), len(opened))\n"
        "scenes[0]\n"
        "few = len(opened)\n"
        "scenes[0]\n"
        "print(3 <= few <= 4, len(opened) == few)\n"
    )
    assert run(code) == ["True 63 0", "True True"]
