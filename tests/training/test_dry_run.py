"""The dry run: it does one of everything, adds up right, and keeps nothing."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.cli import train_command
from infoclip_lite.training import dry_run as module
from infoclip_lite.training.build import build_task
from infoclip_lite.training.dry_run import CPU_STEPS, STEPS, Estimate, counted, dry_run
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.recipe import load_finetuning, load_recipe
from infoclip_lite.training.stand_in import stand_in

SMALL: dict[str, Any] = {"start": None, "machine": {"dtype": "float32"}, "data": {"size": 64}, "batch": 4}


def test_one_of_everything() -> None:
    found = dry_run(
        "mini/infoclip", save_every=50, steps=120, evaluation={"at": [0, 120], "scenes": 30}, **SMALL
    )
    task = build_task(load_recipe("mini/infoclip", **SMALL))[0]
    trained = sum(p.numel() for p in (*task.trained, *task.heads))
    assert (found.parameters, found.trained) == (sum(p.numel() for p in task.module.parameters()), trained)
    assert (found.steps, found.pictures, found.saves) == (120, 60, 3)
    assert (
        0 < found.waiting < found.step
        and found.picture is not None
        and found.picture > 0
        and found.saving > 0
    )
    assert (
        found.state > 4 * found.parameters + 8 * found.trained
    )  # weights, and two moments of those that learn
    assert found.memory > 2**28 and found.preparing > 0


def test_pretraining_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the sentence encoder, which few have installed, and the linear start, which takes half a minute.
    found = dry_run("mini/pretrain", batch=8, text=None, classes=0.0, linear_start=False)
    assert (
        found.picture is None
        and found.pictures == 0
        and found.steps == sum(s["steps"] for s in load_recipe("mini/pretrain").stages)
    )


def test_the_sum_is_right_and_so_are_the_words() -> None:
    one = Estimate("GPU", 10**6, 10**5, 0.5, 0.2, 2.0, 2**20, 3.0, 2**30, steps=7200, pictures=100, saves=10)
    assert one.seconds == 7200 * 0.5 + 100 * 2.0 + 10 * 3.0
    text = str(one)
    assert (
        "1 h 04 min for 7200 steps" in text
        and "1.00 GiB" in text
        and "raise `machine.workers`" in text
        and "2 MiB (two states)" in text
    )
    quick = dataclasses.replace(one, steps=100, pictures=0, picture=None, waiting=0.01)
    assert "80 seconds" in str(quick) and "workers" not in str(quick) and "evaluation  none" in str(quick)
    assert min(STEPS, CPU_STEPS) > 1
    late = dataclasses.replace(one, preparing=1800.0)
    assert late.seconds == one.seconds + 1800 and "1800.0 s before the first step" in str(late)


def test_it_says_what_a_card_would_need_and_that_nobody_measured_it() -> None:
    one = Estimate("CPU", 10**9, 10**8, 0.5, 0.0, None, 2**20, 3.0, 2**30, steps=1000, pictures=0, saves=10)
    here = dataclasses.replace(one, tflop=16.25, kept=10**9, room=2**34, free=2**20)
    assert here.card_seconds == pytest.approx(1000) and here.card_memory == 4 * 10**9 + 12 * 10**8 + 10**9
    text = str(here)
    assert "1.00 GiB of 16.0 at most" in text and "1 MiB free: too little" in text
    assert "about 17 minutes of steps, 6.2 GB (an estimate: 16.25 TFLOP a step" in text
    assert "nobody measured it" in text and "starved" in text
    slow = dataclasses.replace(here, half=False, kept=10**10)
    assert slow.card_seconds > 8 * here.card_seconds and "too much, raise `machine.accumulate`" in str(slow)


def test_noise_takes_the_place_of_data_and_weights_that_are_not_here(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    recipe: dict[str, Any] = {
        "task": "finetune",
        "name": "small",
        "steps": 3,
        "clip": {"name": str(tiny_checkpoint)},
        "data": {"name": "voc_zss", "root": str(tmp_path), "size": 32},
        "batch": 2,
        "machine": {"dtype": "float32"},
        "evaluation": {"at": [3], "scenes": 7},
    }
    found = dry_run(recipe, noise=True, folder=tmp_path / "not" / "yet")
    assert found.noise and not found.starved and "not known: noise is drawn" in str(found)
    assert found.tflop > 0 and found.kept > 0 and found.free is not None and found.free > 0
    assert found.picture is not None and (found.steps, found.pictures) == (3, 7)
    assert not list(tmp_path.iterdir())
    _, learnt, watched = stand_in(load_finetuning(recipe))
    assert len(learnt.names) == 20 and len(learnt.unseen) == 5 and learnt[0].image.shape == (3, 32, 32)
    assert watched[0].image.shape == (3, 375, 500)


def test_noise_is_for_dry_runs_of_fine_tunings() -> None:
    with pytest.raises(ValueError, match="got --noise without --dry-run"):
        train_command("mini/catseg", noise=True)
    with pytest.raises(ValueError, match="a pretraining; expected none"):
        dry_run("mini/pretrain", noise=True)


def test_the_command_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train_command("mini/catseg", dry_run=True)
    assert "for 120 steps" in capsys.readouterr().out and not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="infoclip-lite data download coco_stuff"):
        train_command("paper/catseg-vitb16", dry_run=True, root=tmp_path)


def test_a_step_of_few_pictures_says_what_one_of_all_takes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(tiny_checkpoint)},
        "data": {"name": "voc_zss", "root": str(tmp_path), "size": 32},
        "tune": "full",
        "machine": {"dtype": "float32"},
        "batch": 12,
        "steps": 3,
    }
    loaded = load_finetuning(recipe)
    small, drawn, _ = stand_in(loaded)
    tflop, kept = counted(build_task(small, data=drawn)[0])  # with all twelve pictures
    found = dry_run(recipe, noise=True)
    assert (found.batch, found.few) == (12, 1)
    assert "steps of 1 and 2 pictures say what one of 12 takes" in str(found)
    assert found.tflop == pytest.approx(tflop, rel=1e-6)
    # Of one picture alone a tensor that is the same for all need not be copied for each.
    assert found.kept == pytest.approx(kept, rel=0.02)
    # Words are encoded once a step, however many pictures: twelve are not twelve times one.
    assert (
        found.tflop < 0.99 * 12 * counted(build_task(dataclasses.replace(small, batch=1), data=drawn)[0])[0]
    )
    parted = dry_run({**recipe, "machine": {"dtype": "float32", "accumulate": 3}}, noise=True)
    whole = stand_in(load_finetuning({**recipe, "machine": {"dtype": "float32", "accumulate": 3}}))[0]
    tflop, kept = counted(build_task(whole, data=drawn)[0])
    assert parted.tflop == pytest.approx(tflop, rel=1e-6) and parted.kept == pytest.approx(kept, rel=0.02)
    # Pictures are the samples of this one: two at least.
    compared = dry_run({**recipe, "objective": {"name": "infoclip", "axis": "batch"}}, noise=True)
    assert compared.few == 2 and "steps of 2 and 3 pictures" in str(compared)
    assert compared.teacher == found.parameters and found.teacher == 0
    weights = compared.parameters + compared.teacher
    assert compared.memory == 4 * weights + 12 * compared.trained + compared.kept


def test_its_state_is_that_of_a_step_that_is_taken_and_seconds_grow_as_operations_do(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe: dict[str, Any] = {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(tiny_checkpoint)},
        "data": {"name": "voc_zss", "root": str(tmp_path), "size": 32},
        "tune": "full",
        "machine": {"dtype": "float32", "accumulate": 2},
        "batch": 24,
        "steps": 3,
    }

    def slowly(task: FineTuning, part: object) -> int:
        time.sleep(0.1)
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(module, "counted", lambda task: (1 + 2 * task.batch, 10 + 100 * task.batch))
        patch.setattr(module, "_there_and_back", slowly)
        told = dry_run(recipe, noise=True)
    # Two passes of twelve pictures; one picture took three operations and a tenth of a second.
    assert (told.tflop, told.kept, told.few) == (2 * 25, 1210, 1)
    assert told.step > 0.1 * 50 / 3
    monkeypatch.setattr(module, "_told_by_few", lambda task: module._taken(task, 3))
    taken = dry_run(recipe, noise=True)
    assert taken.few == 0 and taken.trained == told.trained
    assert told.state == pytest.approx(taken.state, rel=0.02)


def test_several_processes_are_refused_once_they_know_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[bool] = []
    monkeypatch.setattr(module, "join_processes", lambda: joined.append(True))
    monkeypatch.setattr(module, "world", lambda: 2 if joined else 1)
    with pytest.raises(ValueError, match="got 2 processes; expected one"):
        dry_run("mini/catseg")
