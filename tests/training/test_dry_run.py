"""The dry run: it does one of everything, adds up right, and keeps nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

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


def on_noise(checkpoint: Path, root: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of VOC's names whose data are not here."""
    return {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(checkpoint)},
        "data": {"name": "voc_zss", "root": str(root), "size": 32},
        "tune": "full",
        "machine": {"dtype": "float32"},
        "batch": 12,
        "steps": 3,
        **changes,
    }


def whole(recipe: dict[str, Any]) -> tuple[float, int]:
    """What `counted` finds with all pictures, once caches are warm."""
    loaded, drawn, _ = stand_in(load_finetuning(recipe))
    task = build_task(loaded, data=drawn)[0]
    counted(task)
    return counted(task)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pictures are sent only where there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, (1, 2)),
        ({"machine": {"dtype": "float32", "accumulate": 3}}, (1, 2)),
        ({"batch": 1}, (1,)),
        ({"tune": "image"}, (1, 2)),  # words are encoded once for all steps
        # Pictures are the samples of this one: two at least.
        ({"objective": {"name": "infoclip", "axis": "batch"}}, (2, 3)),
        ({"objective": {"name": "infoclip", "axis": "batch"}, "batch": 2}, (2,)),
        # Every picture is compared with every sentence.
        ({"supervision": {"name": "captions"}, "batch": 48}, (2, 3, 4)),
    ],
)
def test_few_pictures_say_what_a_step_of_all_takes(
    tiny_checkpoint: Path, tmp_path: Path, changes: dict[str, Any], passes: tuple[int, ...]
) -> None:
    recipe = on_noise(tiny_checkpoint, tmp_path, **changes)
    found = dry_run(recipe, noise=True)
    tflop, kept = whole(recipe)
    assert found.passes == passes
    assert f"at least, computed from passes of {' and '.join(map(str, passes))} pictures" in str(found)
    # Pictures that are compared with one another grow a little faster than a line.
    compared = "objective" in changes
    assert found.tflop == pytest.approx(tflop, rel=0.01 if compared else 1e-6)
    # Of one picture alone a tensor that is the same for all need not be copied for each.
    assert found.kept == pytest.approx(kept, rel=0.02)
    assert found.reference > 10**6 and found.step > 0
    weights = found.parameters + found.reference
    assert found.memory == 4 * weights + 12 * found.trained + found.kept == found.card_memory


@pytest.mark.usefixtures("no_gpu")
def test_no_pass_has_more_pictures_than_it_says(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    loss = FineTuning.loss

    def watched(self: FineTuning, step: int, batch: Any) -> dict[str, Any]:
        seen.append(len(batch[0]))
        return loss(self, step, batch)

    monkeypatch.setattr(FineTuning, "loss", watched)
    dry_run(on_noise(tiny_checkpoint, tmp_path), noise=True)
    assert max(seen) == 2 < 12


@pytest.mark.usefixtures("no_gpu")
def test_seconds_grow_as_operations_do_and_the_state_is_that_of_a_step(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = {"dtype": "float32", "accumulate": 2, "workers": 2}
    recipe = on_noise(tiny_checkpoint, tmp_path, batch=24, machine=machine)
    with monkeypatch.context() as patch:
        patch.setattr(module, "counted", lambda task: (1 + 2 * task.batch, 10 + 100 * task.batch))
        # The clock is asked of a pass alone; drawing pictures and starting workers are no part of it.
        patch.setattr(module, "seconds_of", lambda function: function() and 0.6)
        patch.setattr(module, "_there_and_back", lambda task, part: len(part[0]))
        told = dry_run(recipe, noise=True)
    # Two passes of twelve pictures; one picture took three operations and 0.6 seconds.
    assert (told.tflop, told.kept, told.passes) == (2 * 25, 1210, (1, 2))
    passing = 2 * 0.6 * 25 / 3
    assert passing < told.step < passing + 5, "and the optimizer's own"
    monkeypatch.setattr(module, "_told_by_few", lambda task: module._taken(task, 3))
    taken = dry_run(recipe, noise=True)
    assert taken.passes == () and told.state == pytest.approx(taken.state, rel=0.02)


def test_several_processes_are_refused_once_they_know_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[bool] = []
    monkeypatch.setattr(module, "join_processes", lambda: joined.append(True))
    monkeypatch.setattr(module, "world", lambda: 2 if joined else 1)
    with pytest.raises(ValueError, match="got 2 processes; expected one"):
        dry_run("mini/catseg")
