"""The dry run: it does one of everything, adds up right, and keeps nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.cli import train_command
from infoclip_lite.training.build import build_task
from infoclip_lite.training.dry_run import STEPS, Estimate, dry_run
from infoclip_lite.training.recipe import load_recipe

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
    assert found.memory > 2**28


def test_pretraining_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the sentence encoder, which few have installed.
    found = dry_run("mini/pretrain", batch=8, text=None, classes=0.0)
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
    assert STEPS > 1


def test_the_command_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train_command("mini/catseg", dry_run=True)
    assert "for 120 steps" in capsys.readouterr().out and not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="infoclip-lite data download coco_stuff"):
        train_command("paper/catseg-vitb16", dry_run=True, root=tmp_path)
