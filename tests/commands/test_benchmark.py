"""Benchmarks: a table, each line of which leads to a function that takes what it says."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from infoclip_lite.commands import benchmark
from infoclip_lite.commands.benchmark import BENCHMARKS, Benchmark, benchmark_command, parse_part


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_is_a_function_that_takes_its_options(name: str) -> None:
    parameters = inspect.signature(BENCHMARKS[name].load()).parameters
    assert {"out", *BENCHMARKS[name].takes} <= set(parameters)
    known = set(inspect.signature(benchmark_command).parameters) - {"name", "out"}
    assert {key for key in parameters if key in known} == set(BENCHMARKS[name].takes)


def test_options_reach_the_function_and_those_that_were_not_given_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[dict[str, object]] = []

    def study(**options: object) -> Path:
        called.append(options)
        return tmp_path / "a.png"

    monkeypatch.setattr(Benchmark, "load", lambda self: study)
    benchmark_command("repair", seeds=2, part="2/3", out=tmp_path)
    benchmark_command("repair")
    assert called == [{"seeds": 2, "part": (2, 3), "out": tmp_path}, {"out": None}]
    assert f"picture: {tmp_path / 'a.png'}" in capsys.readouterr().out


def test_an_option_that_would_change_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"benchmark 'card' takes no --seeds; card: the scores of collage-mini"
    ):
        benchmark_command("card", seeds=1)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected K/N with 1 <= K <= N"):
        parse_part(text)


def test_every_line_of_the_table_is_in_the_help() -> None:
    text = benchmark._Name.__metadata__[1].help
    assert [name for name, entry in BENCHMARKS.items() if f"{name}: {entry.help}" not in text] == []
