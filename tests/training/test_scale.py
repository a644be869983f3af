"""Full scale on small trees: batches divided over passes and processes, real data sets, and what must stop
before a GPU day is spent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import real_data
import torch
import yaml
from resume import assert_same_run, stopped
from torch import Tensor

from infoclip_lite import evaluate, train
from infoclip_lite.cli import evaluate_command
from infoclip_lite.core.processes import default_device
from infoclip_lite.core.states import read_state
from infoclip_lite.datasets import Collage, build_dataset
from infoclip_lite.training import run as training
from infoclip_lite.training.finetuning import FineTuning

SMALL = {
    "task": "finetune",
    "name": "small",
    "steps": 4,
    "data": {"name": "collage", "size": 32},
    "batch": 4,
    "optimizer": {"warmup": 1, "lr": 1.0e-3},
    "machine": {"dtype": "float32"},
}


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {**SMALL, "clip": {"name": str(tiny_checkpoint)}}


def weights(run: training.Run) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in run.model.state_dict().items()}


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of any weight."""
    return max((a[key].double() - b[key].double()).abs().max().item() for key in a)


@pytest.mark.parametrize(
    "loss", [{"name": "cross_entropy"}, {"name": "bce"}, {"name": "bce", "ignored": "zero"}]
)
def test_a_batch_in_two_passes_gives_the_gradients_of_one(
    recipe: dict, loss: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures have unequal numbers of labelled pixels: a mean of means would not do. SGD: Adam would hide a
    wrong scale.
    """
    monkeypatch.setattr(torch.optim, "AdamW", plain_sgd)
    recipe |= {"loss": loss}
    cow, fast = {"seen": ["cow"]}, {"lr": 0.1}
    whole, divided = (
        train(recipe, data=cow, optimizer=fast, machine={"accumulate": n}, progress=False) for n in (1, 2)
    )
    assert whole.log[0]["total"] == pytest.approx(divided.log[0]["total"], rel=1e-5)
    still = train(recipe, data=cow, optimizer={"lr": 0.0}, progress=False)
    moved = distance(weights(whole), weights(still))
    assert distance(weights(whole), weights(divided)) < 1e-3 * moved


def plain_sgd(groups: list[dict], **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": g["params"], "lr": g["lr"], "peak": g["peak"]} for g in groups])


@pytest.mark.parametrize(("batch", "accumulate"), [(4, 3), (3, 2), (4, 0)])
def test_a_batch_that_does_not_divide_is_refused(recipe: dict, batch: int, accumulate: int) -> None:
    with pytest.raises(
        ValueError, match=rf"batch of {batch} scenes, accumulate={accumulate}.*divides evenly"
    ):
        train(recipe, batch=batch, machine={"accumulate": accumulate}, progress=False)


SCRIPT = """
import json, sys
import torch
torch.set_num_threads(1)
kept = ("params", "lr", "peak")
torch.optim.AdamW = lambda groups, **_: torch.optim.SGD([{k: g[k] for k in kept} for g in groups])
from infoclip_lite import train
run = train(json.loads(sys.argv[1]), folder=sys.argv[2], progress=False)
"""


def launch(recipe: dict, folder: Path, processes: int) -> subprocess.CompletedProcess:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
    ]
    command = [*torchrun, str(script), json.dumps(recipe), str(folder)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_two_processes_train_what_one_trains(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same global batch, an objective too: its terms are means over pictures' patches, so that shares of
    a batch add up.
    """
    monkeypatch.setattr(torch.optim, "AdamW", plain_sgd)
    recipe |= {
        "data": {"name": "collage", "size": 32, "seen": ["cow", "sheep"]},
        "optimizer": {"warmup": 1, "lr": 0.1},
        "evaluation": {"at": [4], "scenes": 5},
        "objective": {"name": "feature"},
    }
    done = launch(recipe, tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = train(recipe, folder=tmp_path / "one", progress=False), read_state(tmp_path / "two")
    single = read_state(tmp_path / "one")
    assert two is not None and single is not None and two["step"] == 4
    moved = distance(
        weights(one), weights(train(recipe, optimizer={"lr": 0.0}, evaluation={"at": []}, progress=False))
    )
    assert distance(two["module"], single["module"]) < 1e-3 * moved
    for here, there in zip(one.log, two["log"], strict=True):
        assert here.keys() == there.keys()
        assert all(
            here[key] == pytest.approx(there[key], rel=1e-3) for key in ("total", "task") if key in here
        )
    assert one.evaluations()[0]["pAcc"] == pytest.approx(two["log"][-1]["pAcc"], abs=0.01)
    again = launch(recipe, tmp_path / "two", 2)
    assert again.returncode == 0, "a finished run is read"


def test_pretraining_in_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "world", lambda: 2)
    with pytest.raises(ValueError, match="got 2 processes for 'collage-mini'; expected one"):
        train("mini/pretrain")


def test_a_process_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert default_device() == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(
        ValueError, match="process 3 of this machine has no GPU: there are 2.*nproc-per-node 2"
    ):
        default_device()


def real(root: Path, workers: int = 0) -> dict[str, Any]:
    """Sections of a recipe that learns from VOC."""
    data = {"name": "voc_zss", "root": str(root), "size": 32}
    return {"data": data, "machine": {"dtype": "float32", "workers": workers}}


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    real_data.write_voc(root)
    return root


@pytest.mark.filterwarnings("ignore:.*the official .* split has")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_real_data_set_trains_evaluates_and_goes_on(
    recipe: dict, voc: Path, tmp_path: Path, workers: int
) -> None:
    recipe |= real(voc, workers) | {"evaluation": {"at": [4], "scenes": 2}}
    whole = train(recipe, progress=False)
    assert whole.evaluations()[0]["mIoU"] >= 0 and whole.log[0]["total"] > 0
    with stopped(FineTuning, 3):
        train(recipe, folder=tmp_path, progress=False, save_every=2)
    resumed = train(recipe, machine={"workers": 0}, folder=tmp_path, progress=False)
    assert_same_run(resumed, whole)


@pytest.mark.filterwarnings("ignore:.*official .* split has", "ignore:skipped")
@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pictures_are_counted_whoever_read_them(recipe: dict, tmp_path: Path, workers: int) -> None:
    real_data.write_voc(tmp_path)
    picture = next((tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages").glob("2007_000032.jpg"))
    picture.write_bytes(picture.read_bytes()[:100])
    recipe |= real(tmp_path, workers)
    with pytest.raises(ValueError, match=r"2007_000032\.jpg cannot be decoded.*skip_corrupt=True"):
        train(recipe, progress=False)
    with pytest.warns(UserWarning, match="stood in for 1 damaged files, .* for .*2007_000032.jpg"):
        run = train(recipe, data={"skip_corrupt": True}, progress=False)
    pictures = len(build_dataset("voc_zss", "train", tmp_path))
    assert list(run.skipped.values()) == [
        4 * 4 // pictures
    ]  # 4 steps of 4 crops: every picture once an epoch


def test_a_missing_data_set_is_said_before_any_weights_are_asked_for(
    tmp_path: Path, offline: list[str]
) -> None:
    with pytest.raises(FileNotFoundError, match="infoclip-lite data download"):
        train("paper/infoclip-vitb16", data={"root": str(tmp_path)}, progress=False)
    assert offline == []


def test_what_only_collage_has_is_refused(recipe: dict, voc: Path) -> None:
    with pytest.raises(ValueError, match="a data set of pictures says itself what is unseen"):
        train(recipe | real(voc), data={"seen": ["cow"]}, progress=False)
    with pytest.raises(ValueError, match="the data set has no captions"):
        train(recipe | real(voc), anchors="captions", progress=False)


@pytest.mark.filterwarnings("ignore:.*official .* split has", "ignore:.*never learnt")
def test_the_command_evaluates_a_run_on_a_real_data_set_and_goes_on(
    recipe: dict, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "small.yaml", tmp_path / "report.json"
    path.write_text(yaml.safe_dump({**recipe, "steps": 2}))
    common = {"dataset": "pas20", "root": voc, "recipe": str(path), "folder": tmp_path / "run", "out": out}
    for _ in range(2):
        evaluate_command(**common)
    report = json.loads(out.read_text())
    assert (
        report["details"]["split"] == "val"
        and len(report["per_class"]) == 20
        and report["details"]["protocol"]["name"] == "whole"
    )
    assert "| class |" in out.with_suffix(".md").read_text()
    assert "mIoU" in capsys.readouterr().out
    with pytest.raises(ValueError, match="another evaluation"):
        evaluate_command(**{**common, "protocol": "zero-shot"})


def test_the_command_takes_collage_as_the_recipe_has_it(recipe: dict, tmp_path: Path) -> None:
    path, out = tmp_path / "small.yaml", tmp_path / "report.json"
    path.write_text(
        yaml.safe_dump({**recipe, "steps": 1, "data": {"name": "collage", "size": 32, "seen": ["cow"]}})
    )
    evaluate_command(recipe=str(path), folder=tmp_path / "run", limit=3, out=out)
    run = train(path, folder=tmp_path / "run", progress=False)
    assert (
        json.loads(out.read_text())["metrics"]["pAcc"]
        == evaluate(run, Collage("test", 32, length=3, seen=["cow"])).metrics["pAcc"]
    )
