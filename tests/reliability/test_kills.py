"""Killed from outside, from the command line, at random moments and in saving: the same bits at the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from reliability.tally import Tally

from infoclip_lite.core.states import STATE, read_state

KILLS, STEPS = 20, 200
KINDS = ("in saving", "between two states")


@pytest.fixture
def recipe(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A fine-tuning of a tiny CLIP with an objective, small enough to be begun again and again."""
    content = {
        "task": "finetune",
        "name": "killed",
        "steps": STEPS,
        "clip": {"name": str(tiny_checkpoint)},
        "data": {"name": "collage", "size": 32},
        "batch": 2,
        "objective": {"name": "infoclip", "axis": "pixel"},
        "optimizer": {"warmup": 2, "lr": 1.0e-3},
        "machine": {"dtype": "float32"},
    }
    path = tmp_path / "killed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def command(recipe: Path, folder: Path) -> list[str]:
    typed = [sys.executable, "-m", "infoclip_lite.cli", "train", str(recipe), "--folder", str(folder)]
    return [*typed, "--save-every", "1"]


def killed(recipe: Path, folder: Path, kind: str, rng: random.Random) -> bool:
    """Begin or go on, and kill at a moment of a kind; False if it came to its end before."""
    path = folder / STATE
    before = path.stat().st_mtime_ns if path.exists() else 0
    with subprocess.Popen(command(recipe, folder), stderr=subprocess.DEVNULL) as child:
        # Some of the way is gone before: else twenty kills would be twenty beginnings.
        while child.poll() is None and (path.stat().st_mtime_ns if path.exists() else 0) == before:
            time.sleep(0.002)
        if kind == "in saving":
            while child.poll() is None and not any(folder.glob(f".{STATE}.*.tmp")):
                pass  # a saving lasts milliseconds
        else:
            time.sleep(rng.uniform(0, 0.2))
        child.kill()
        return child.wait() == -signal.SIGKILL


def equal(a: Any, b: Any) -> bool:
    """Bit for bit, however deep."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    tally: Tally, recipe: Path, tmp_path: Path
) -> None:
    rng, kills = random.Random(0), KILLS if tally.often else 1
    what = "a training of 200 steps from the command line, killed ({})"
    for number in range(kills):
        kind = KINDS[number % 2]
        assert killed(recipe, tmp_path / "killed", kind, rng), "it came to its end before it was killed"
        tally.note(what.format(kind), "resumed")
    for folder in ("killed", "whole"):
        subprocess.run(command(recipe, tmp_path / folder), check=True, capture_output=True, env=os.environ)
    disturbed, whole = (read_state(tmp_path / folder) for folder in ("killed", "whole"))
    assert disturbed is not None and whole is not None and whole["step"] == STEPS
    # Nothing draws from torch's own generator, which begins with another seed in every process.
    disturbed.pop("random"), whole.pop("random")
    assert equal(disturbed, whole)
    tally.note("the end of that training against an undisturbed one", "equal in every bit of its state")
