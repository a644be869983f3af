"""Nothing is lost: killed at any moment, with a damaged state or a full disk, a run ends the same."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite.core import states as checkpoints
from infoclip_lite.core.states import read_state, write_state
from infoclip_lite.training.loop import fit

STEPS, EVERY = 60, 6


class Noisy:
    """A task with dropout: its weights depend on torch's random state as well as on the batches."""

    dtype = torch.float32

    def __init__(self, pause: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.pause = pause

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": 0.05, "weight_decay": 0.1}]

    def batches(self, first: int, last: int) -> Iterator[Tensor]:
        for step in range(first, last):
            yield torch.randn(8, 4, generator=torch.Generator().manual_seed(step))

    def loss(self, step: int, batch: Tensor) -> dict[str, Tensor]:
        time.sleep(self.pause)
        return {"total": (self.module(batch) - batch.sum(1, keepdim=True)).square().mean()}


def run(
    folder: Path | None, pause: float = 0.0, steps: int = STEPS, every: int = EVERY
) -> tuple[dict[str, Tensor], list]:
    task = Noisy(pause)
    log = fit(task, steps=steps, folder=folder, save_every=every)
    return task.module.state_dict(), log


def in_a_process(
    work: Callable[[], object],
    kill_when: Callable[[], bool] | None = None,
    kill_after: float = 0.0,
) -> int:
    """Run in a child, killed when something has happened, not after so much time: machines are busy.

    Args:
        work: what the child does.
        kill_when: asked again and again; True kills it; None lets it end by itself.
        kill_after: seconds after that.

    Returns:
        The number of the signal that ended it, or its exit status.
    """
    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as leaving:
            os._exit(int(leaving.code or 0))
        except BaseException:
            os._exit(1)
        os._exit(0)
    ended, status = 0, 0
    while kill_when is not None and not ended and not kill_when():
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        if kill_when is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def mark(path: Path) -> int:
    """Another number for another file of this name; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def is_newer(path: Path, before: int) -> bool:
    return mark(path) > before


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads do not survive a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def wanted() -> tuple[dict[str, Tensor], list]:
    """What a run gives that nothing disturbs."""
    return run(None)


def same(found: tuple[dict[str, Tensor], list], wanted: tuple[dict[str, Tensor], list]) -> bool:
    return found[1] == wanted[1] and all(torch.equal(found[0][key], wanted[0][key]) for key in wanted[0])


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    rng, steps, pause = random.Random(0), 150, 0.02
    moments = [rng.uniform(0.0, 0.25) for _ in range(10)]
    assert sum(moments) + 10 * pause < steps * pause, "so that none of them comes to its end"
    for moment in moments:
        before = mark(tmp_path / "state.pt")
        further = partial(is_newer, tmp_path / "state.pt", before)
        ended = in_a_process(lambda: run(tmp_path, pause, steps, every=1), further, moment)
        assert ended == signal.SIGKILL
    assert read_state(tmp_path) is not None, "some of the way was gone"
    assert same(run(tmp_path, steps=steps, every=1000), run(None, steps=steps))


@pytest.mark.parametrize("call", range(1, 7))
@pytest.mark.parametrize("what", ["replace", "fsync"])
def test_killed_in_mid_save(
    tmp_path: Path, wanted: tuple, monkeypatch: pytest.MonkeyPatch, what: str, call: int
) -> None:
    """A save is writes, syncs and renames; the process ends at the n-th of them."""

    def work() -> None:
        plain, calls = getattr(os, what), []

        def deadly(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args)

        monkeypatch.setattr(os, what, deadly)
        run(tmp_path)

    assert in_a_process(work) == signal.SIGKILL
    assert same(run(tmp_path), wanted)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_state_is_passed_over(tmp_path: Path, wanted: tuple, damage: str) -> None:
    both = [tmp_path / "previous.pt", tmp_path / "state.pt"]
    in_a_process(lambda: run(tmp_path, pause=0.02), lambda: all(mark(state) for state in both))
    path = tmp_path / "state.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=r"state\.pt is damaged; going on from previous\.pt"):
        state = read_state(tmp_path)
    assert state is not None and state["step"] % EVERY == 0 and state["step"] > 0
    with pytest.warns(UserWarning, match="damaged"):
        assert same(run(tmp_path), wanted)
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "state.pt"]


def test_states_that_are_all_damaged_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"state\.pt cannot be read.*delete it to begin again"):
        run(tmp_path)


def test_sigterm_keeps_the_step_and_ends(tmp_path: Path, wanted: tuple) -> None:
    def work() -> None:
        task = Noisy()
        plain = task.loss

        def loss(step: int, batch: Tensor) -> dict[str, Tensor]:
            if step == 10:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(step, batch)

        task.loss = loss  # type: ignore[method-assign]
        fit(task, steps=STEPS, folder=tmp_path, save_every=1000)

    assert in_a_process(work) == 143
    state = read_state(tmp_path)
    assert state is not None and state["step"] == 11 and len(state["log"]) == 11
    assert same(run(tmp_path), wanted)


def test_sigterm_is_the_systems_again_afterwards(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_no_room_is_said_before_the_old_state_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path, {"step": 1})
    before = (tmp_path / "state.pt").read_bytes()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage(1, 1, 100))
    with pytest.raises(OSError, match=r"cannot write .*state\.pt.*MB needed, 0\.0 MB free") as caught:
        write_state(tmp_path, {"step": 2})
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["state.pt"] and (tmp_path / "state.pt").read_bytes() == before


def test_no_state_is_none(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None and read_state(tmp_path / "nowhere") is None
