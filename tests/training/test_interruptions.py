"""What may happen on the day that the GPU was booked for: two commands in one folder, another number of
processes, workers that hang or die, clocks that are wrong, folders that cannot be written.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import real_data
import torch
from resume import assert_same_run, stopped

from infoclip_lite import train
from infoclip_lite.core import locks
from infoclip_lite.core.states import read_state, write_state
from infoclip_lite.datasets import crops
from infoclip_lite.training import finetuning
from infoclip_lite.training.finetuning import FineTuning

_HOLDS = (
    "import signal, sys; from pathlib import Path; from infoclip_lite.core.locks import held\n"
    "with held(Path(sys.argv[1])): print(flush=True); signal.pause()"
)
pytestmark = pytest.mark.filterwarnings("ignore:.*official .* split has")


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "task": "finetune",
        "name": "small",
        "steps": 4,
        "data": {"name": "collage", "size": 32},
        "batch": 4,
        "optimizer": {"warmup": 1, "lr": 1.0e-3},
        "machine": {"dtype": "float32"},
        "clip": {"name": str(tiny_checkpoint)},
    }


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    real_data.write_voc(tmp_path / "data")
    return tmp_path / "data"


def on_voc(recipe: dict[str, Any], root: Path, workers: int = 0) -> dict[str, Any]:
    data = {"name": "voc_zss", "root": str(root), "size": 32}
    return {**recipe, "data": data, "machine": {"dtype": "float32", "workers": workers}}


def test_a_second_run_in_one_folder_is_refused_before_anything_is_loaded(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infoclip_lite.training.run.build_task", None)
    command = [sys.executable, "-c", _HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None and child.stdout.readline()
            with pytest.raises(BlockingIOError, match=f"in use by process {child.pid}"):
                train(recipe, folder=tmp_path, progress=False)
        finally:
            child.kill()
    assert os.listdir(tmp_path) == [locks.LOCK]


def test_another_number_of_processes_is_refused_until_the_run_is_finished(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped(FineTuning, 3):
        train(recipe, folder=tmp_path, progress=False, save_every=2)
    state = read_state(tmp_path)
    assert state is not None and state["processes"] == 1
    write_state(tmp_path, {**state, "processes": 4})
    said = r"holds a run of 4 processes, stopped at step 2; got 1, expected 4 again.*--nproc-per-node 4"
    with pytest.raises(ValueError, match=said):
        train(recipe, folder=tmp_path, progress=False)
    write_state(tmp_path, state)
    whole = train(recipe, folder=tmp_path, progress=False)
    last = read_state(tmp_path)
    assert last is not None
    write_state(tmp_path, {**last, "processes": 4}, last=True)
    assert train(recipe, folder=tmp_path, progress=False).log == whole.log, (
        "a finished run is read by anybody"
    )


def test_a_finished_run_is_read_where_nothing_can_be_written(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe, folder=tmp_path, progress=False)
    # Rights do not bind whoever runs tests as root: writing itself is made to fail.
    monkeypatch.setattr(locks, "_opened", lambda path: None)
    for module in ("run", "loop"):
        monkeypatch.setattr(f"infoclip_lite.training.{module}.whole_file", None)
    assert_same_run(train(recipe, folder=tmp_path, progress=False), whole)


def test_a_hung_worker_is_an_error_with_a_hint(
    recipe: dict, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(*_: object) -> None:
        time.sleep(60)

    monkeypatch.setattr(finetuning, "PATIENCE", 1)
    monkeypatch.setattr(crops.TrainingCrops, "__getitem__", hangs)
    with pytest.raises(OSError, match=r"no batch for 1 seconds.* hangs; .*workers: 0.*same command goes on"):
        train(on_voc(recipe, voc, workers=1), progress=False)


def test_a_killed_worker_is_an_error_with_a_hint(
    recipe: dict, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(crops.TrainingCrops, "__getitem__", dies)
    with pytest.raises(OSError, match=r"was killed .*lower `machine.workers`; the same command goes on"):
        train(on_voc(recipe, voc, workers=1), progress=False)


def test_clocks_play_no_part(recipe: dict, tmp_path: Path) -> None:
    """Of two states the newer is known by its name, whatever the clock of a server said."""
    whole = train(recipe, progress=False)
    with stopped(FineTuning, 3):
        train(recipe, folder=tmp_path, progress=False, save_every=1)
    when = time.time() - 30 * 365 * 86400
    os.utime(tmp_path / "state.pt", (when, when))
    assert_same_run(train(recipe, folder=tmp_path, progress=False), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_folder_of_the_data_is_never_written(recipe: dict, voc: Path, workers: int) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        entries = {str(path): path.stat() for path in [voc, *voc.rglob("*")]}
        return {path: (entry.st_mtime_ns, entry.st_size) for path, entry in entries.items()}

    before = seen()
    train(on_voc(recipe, voc, workers) | {"evaluation": {"at": [4], "scenes": 1}}, progress=False)
    assert seen() == before


def test_out_of_memory_names_every_knob_and_what_it_saves(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(FineTuning, "loss", too_large)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        train(recipe, progress=False)
    said = str(caught.value)
    assert all(knob in said for knob in ("accumulate", "checkpointing", "size", "dtype")), said
    assert all(saved in said for saved in ("in proportion", "several times less", "square", "half")), said
