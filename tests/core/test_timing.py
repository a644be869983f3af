"""One timer: in turns, waiting for the device before every reading of the clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite.core import timing
from infoclip_lite.core.timing import (
    alive_at_most,
    kept_for_gradient,
    medians,
    one_thread,
    peak_memory,
    ratios,
    seconds_of,
    take_turns,
)

CUDA = torch.device("cuda", 0)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order, on a machine that seems to have a GPU: waits and readings of the clock."""
    seen: list[str] = []
    clock = time.perf_counter

    def reading() -> float:
        seen.append("clock")
        return clock()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: seen.append("wait"))
    monkeypatch.setattr(timing.time, "perf_counter", reading)
    return seen


@pytest.mark.parametrize("device", [None, CUDA], ids=["every GPU", "one GPU"])
def test_every_reading_of_the_clock_waits_for_the_device(
    events: list[str],
    device: torch.device | None,
) -> None:
    take_turns({"a": lambda: events.append("a"), "b": lambda: events.append("b")}, 1, warmup=0, device=device)
    one = ["wait", "clock", "work", "wait", "clock"]
    assert events == [e if e != "work" else name for name in ("a", "b") for e in one]


def test_a_cpu_is_not_waited_for(events: list[str]) -> None:
    seconds_of(lambda: None, torch.device("cpu"))
    assert events == ["clock", "clock"]


def test_turns_go_back_and_forth_and_the_first_rounds_do_not_count() -> None:
    calls: list[str] = []
    taken = take_turns({name: (lambda n=name: calls.append(n)) for name in "ab"}, 3, warmup=2)
    assert "".join(calls) == "abbaabbaab" and {name: len(s) for name, s in taken.items()} == {"a": 3, "b": 3}


def test_calls_in_a_row_follow_one_that_does_not_count() -> None:
    calls: list[str] = []
    taken = take_turns({name: (lambda n=name: calls.append(n)) for name in "ab"}, 2, warmup=0, in_a_row=2)
    assert "".join(calls) == "aaabbb" + "bbbaaa" and len(taken["a"]) == 4


def test_slower_work_takes_longer() -> None:
    taken = medians(take_turns({"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.001)}, 3))
    assert taken["slow"] > 2 * taken["fast"] > 0


def test_a_ratio_is_of_one_round() -> None:
    seconds = {"ours": [1.0, 10.0, 2.0], "peer": [2.0, 20.0, 6.0]}
    assert ratios(seconds, "ours") == {"ours": [1.0] * 3, "peer": [2.0, 2.0, 3.0]}


@pytest.mark.parametrize(("functions", "rounds"), [({}, 1), ({"a": lambda: None}, 0)])
def test_nothing_to_time_is_refused(functions: dict, rounds: int) -> None:
    with pytest.raises(ValueError, match="expected at least one of each"):
        take_turns(functions, rounds)


def test_what_is_kept_counts_a_storage_once_and_no_weights() -> None:
    """x (100 floats) is kept for the weight of the layer, and its output (50) for the square."""
    layer, x = nn.Linear(10, 5), torch.randn(10, 10)
    assert kept_for_gradient(lambda: layer(x).square().sum(), layer) == 4 * (100 + 50)
    assert layer.weight.grad is not None, "both passes are done"


def test_more_can_be_counted_than_is_kept() -> None:
    """Every square keeps 40 MB: storages that get one another's addresses count one by one all the same."""
    x = torch.ones(10_000_000, requires_grad=True)

    def loss() -> Tensor:
        y = x * 1.0
        for _ in range(40):
            y = y.square()
        return y.sum()

    before = peak_memory()
    assert kept_for_gradient(loss, nn.Linear(1, 1), forget=True) == 40 * 4 * 10_000_000
    assert peak_memory() - before < 12 * 4 * 10_000_000
    every = torch.ones(3, requires_grad=True).expand(5, 3)  # shorter than its size
    assert kept_for_gradient(lambda: every.square().sum(), nn.Linear(1, 1), forget=True) == 4 * 3


def test_memory_is_counted_in_bytes() -> None:
    assert 10e6 < peak_memory() < 1e12


def test_one_thread_has_a_clock_that_stands_still_while_others_compute() -> None:
    before = torch.get_num_threads()
    with one_thread(torch.device("cpu")) as clock:
        assert torch.get_num_threads() == 1
        assert seconds_of(lambda: time.sleep(0.1), clock=clock) < 0.05
        assert take_turns({"a": lambda: time.sleep(0.1)}, 1, warmup=0, clock=clock)["a"][0] < 0.05
    assert torch.get_num_threads() == before
    with one_thread(CUDA) as clock:
        assert clock is time.perf_counter and torch.get_num_threads() == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says it there")
def test_a_peak_is_of_this_program_and_not_of_the_one_that_started_it() -> None:
    held = bytearray(os.urandom(1 << 20)) * 1500  # 1.5 GB that are really there
    asked = "from infoclip_lite.core.timing import peak_memory; print(peak_memory())"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert peak_memory() > len(held) > 1.2 * int(told.stdout)


def test_only_what_is_alive_at_once_counts_as_memory() -> None:
    x = torch.zeros(1000)

    def two_of_three() -> Tensor:
        first = x + 1
        second = first * 2
        del first
        view = second.view(10, 100).t()
        view += 1
        return view.contiguous().sum()

    assert alive_at_most(two_of_three) == 2 * 4000 + 4
    assert alive_at_most(lambda: x.add_(1)[:10]) == 0, "nothing is new"
    with torch.inference_mode():
        assert alive_at_most(two_of_three) == 2 * 4000 + 4
