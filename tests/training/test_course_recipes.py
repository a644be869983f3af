"""The profile in between: from the archives of VOC to a report, on a small tree and with random weights."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import real_data
import torch
from conftest import MakeTiny
from fake_devices import fake_machine
from torch.utils.flop_counter import FlopCounterMode

from infoclip_lite import evaluate, train
from infoclip_lite.cli import data_command
from infoclip_lite.commands.train import run_folder
from infoclip_lite.datasets import build_dataset
from infoclip_lite.datasets.fetching.download import SOURCES
from infoclip_lite.segmentors import ChimeraSeg
from infoclip_lite.training import build
from infoclip_lite.training.dry_run import Estimate
from infoclip_lite.training.recipe import FineTuneRecipe, list_recipes, load_finetuning
from infoclip_lite.training.stand_in import stand_in

CHAPTER = Path(__file__).parents[2] / "notebooks" / "15_from_mini_to_paper.ipynb"
COURSE = [name for name in list_recipes() if name.startswith("course/")]
pytestmark = pytest.mark.filterwarnings("ignore:.*never learnt", "ignore:.*official .* split has")


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC and SBD, unpacked by the command from archives that lie there already."""
    root, made = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("made")
    real_data.write_voc(made)
    source = SOURCES["voc"]
    (root / "archives").mkdir()
    for archive, folder in zip(source.archives, ("VOCdevkit", "benchmark_RELEASE"), strict=True):
        kind = "tar" if archive.name.endswith(".tar") else "gztar"
        packed = shutil.make_archive(str(made / folder), kind, made, folder)
        shutil.move(packed, root / "archives" / archive.name)
    # Their digests are not those of the real ones.
    small = replace(source, archives=tuple(replace(each, digest="") for each in source.archives))
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(SOURCES, "voc", small)
        data_command("download", "voc", root=root)
    return root


@pytest.fixture
def random_weights(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """As deep as the recipes' models, so that their heads fit, and very thin."""

    def load(name: str, *_: object) -> object:
        return make_tiny(layers=12, patch_size=32 if "-B-32" in name else 16, image_size=64)

    monkeypatch.setattr(build, "load_clip", load)


# The two that have an ImageNet body are built like the papers' own, and tested with them.
@pytest.mark.parametrize("name", ["course/degradation-b16", "course/infoclip-b32"])
@pytest.mark.usefixtures("random_weights")
def test_a_recipe_goes_from_pictures_to_a_report(name: str, voc: Path, tmp_path: Path) -> None:
    data, machine = {"root": str(voc), "size": 64}, {"dtype": "float32", "workers": 0}
    at = {"at": [2], "scenes": 1}
    run = train(
        name, data=data, machine=machine, evaluation=at, steps=2, batch=2, folder=tmp_path, progress=False
    )
    assert len(run.evaluations()) == 1
    dataset = build_dataset("voc_zss", "val", voc)
    evaluate(run, dataset, protocol="zero-shot").to_json(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert {"mIoU_seen", "mIoU_unseen", "hIoU"} <= set(told["metrics"])


@pytest.mark.usefixtures("random_weights")
def test_masks_of_ones_own_need_a_root_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("ground\nthing\n")
    for number in range(10):
        real_data.photo(tmp_path / "images" / f"{number}.jpg")
        real_data.grey_png(tmp_path / "masks" / f"{number}.png", real_data.labels([0, 1]))
    with pytest.raises(ValueError, match="root of data set 'folder' is None; expected a folder"):
        train("course/folder", progress=False)
    small = {"root": str(tmp_path), "size": 64}
    machine = {"dtype": "float32", "workers": 0}
    run = train(
        "course/folder", data=small, machine=machine, evaluation={"at": []}, steps=1, batch=2, progress=False
    )
    assert run.log[0]["total"] > 0


def test_the_chapters_trainings_say_in_a_line_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """The masks of VOC are there and a card is, SBD and the network are not."""
    told = {"catseg": FileNotFoundError("no SBD; get it"), "infoclip": ConnectionError("no network")}

    def fails(name: str, **_: object) -> None:
        raise told[name.removeprefix("course/").removesuffix("-b32")]

    card = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    guard, trainings = (
        next(source for source in sources if part in source)
        for part in ("def where_it_is", 'for name in ("course/')
    )
    names = {"train": fails, "torch": card, "os": os, "Path": Path}
    exec(guard, found := {**names, "build_dataset": lambda *_: "VOC"})
    exec(trainings, found)
    said = capsys.readouterr().out.splitlines()
    assert said == ["course/catseg-b32: no SBD; get it", "course/infoclip-b32: no network"]


# The two whose steps have most operations; nothing is computed, so that they can be counted in seconds.
@pytest.mark.parametrize("name", ["course/infoclip-b16", "course/chimera-b16"])
def test_a_course_recipe_takes_an_hour_of_a_small_card_by_the_estimate(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChimeraSeg, "prepare", lambda *_: None)
    recipe, noise, _ = stand_in(load_finetuning(name))
    task = build.build_task(recipe, data=noise)[0]
    with fake_machine(), FlopCounterMode(display=False) as counter:
        images = torch.rand(recipe.batch, 3, *noise.size)
        labels = torch.zeros(recipe.batch, *noise.size, dtype=torch.long)
        task.loss(0, (images, labels))["total"].backward()
    tflop = counter.get_total_flops() / 1e12
    found = Estimate("CPU", 0, 0, 0.0, 0.0, None, 0, 0.0, 0, recipe.steps, 0, 0, tflop=tflop)
    assert tflop > 1 and found.card_seconds < 3600


@pytest.mark.parametrize("name", COURSE)
def test_a_course_recipe_shares_its_folder_of_runs_with_no_other(name: str) -> None:
    assert [other for other in list_recipes() if run_folder(other) == run_folder(name)] == [name]


@pytest.mark.parametrize("name", COURSE)
def test_course_recipes_have_openai_weights_and_an_evaluation_of_minutes(name: str) -> None:
    recipe = load_finetuning(name)
    assert isinstance(recipe, FineTuneRecipe) and recipe.clip.pretrained == "openai"
    assert recipe.name == name.removeprefix("course/") and recipe.evaluation.scenes <= 100
    assert recipe.data["name"] in ("voc_zss", "folder") and recipe.machine.dtype == "auto"
