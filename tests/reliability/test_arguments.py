"""Whatever is typed, the answer to a mistake is one line and exit status 2."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reliability.tally import Tally

from infoclip_lite.cli import COMMANDS, main

# What each command cannot do without.
NEEDED = {
    "train": ["mini/plain"],
    "segment": ["photo.png"],
    "export": ["mini/chimera", "--names", "cow"],
    "benchmark": ["speed"],
    "data": ["list"],
    "notebooks": ["check"],
}
# Options in a plain word of which nothing is right, by command.
WORDS = {
    "evaluate": ["--dataset", "--protocol", "--gammas", "--read-outs", "--model", "--recipe", "--weights"],
    "segment": ["--words", "--model"],
    "protocols": ["--dataset"],
    "demo": ["--recipe"],
    "pretrain": ["--recipe"],
    "benchmark": ["--part"],
    "notebooks": ["--files"],
}


def mistakes() -> Iterator[tuple[str, ...]]:
    """Of every command: an option that it does not have, a word too many, and each number as a word."""
    yield ()
    yield ("nope",)
    for name, command in COMMANDS.items():
        needed = NEEDED.get(name, [])
        if needed:
            yield (name,)
        yield (name, *needed, "--nonsense", "3")
        yield (name, *needed, "a", "b", "c", "d")
        for option, parameter in inspect.signature(command).parameters.items():
            if str(parameter.annotation) in ("int", "int | None", "float"):
                yield (name, *needed, f"--{option.replace('_', '-')}", "x")
                yield (name, *needed, f"--{option.replace('_', '-')}")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run, notebook or photograph lies where the command is typed."""
    monkeypatch.chdir(tmp_path)


def answered(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    _, err = capsys.readouterr()
    assert leaving.value.code == 2 and err.startswith("infoclip-lite: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("arguments", mistakes(), ids=" ".join)
def test_a_mistyped_command_is_answered_in_one_line(
    arguments: tuple[str, ...], tally: Tally, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--help" in answered(arguments, capsys)
    tally.note("commands typed wrongly", "answered in one line, exit status 2")


CASES = [(name, option) for name, options in WORDS.items() for option in options]


@pytest.mark.parametrize(("name", "option"), CASES)
def test_a_wrong_value_is_answered_in_one_line(
    name: str, option: str, tally: Tally, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ("ähm\n草", "0x1,,", "nope", "../nope", "cow|", "a" * 300)
    for value in values if tally.often else values[:1]:
        answered((name, *NEEDED.get(name, []), f"{option}={value}"), capsys)
        tally.note("options with values that are none", "answered in one line, exit status 2")


# To read a command line takes half a second: a quarter of the examples.
@settings(max_examples=settings.default.max_examples // 4)
@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text), max_size=4))
def test_noise_is_answered_in_one_line(tally: Tally, arguments: list[str]) -> None:
    # Without a command's name nothing can run.
    typed = [text for text in arguments if text not in COMMANDS and text not in ("-h", "--help")]
    with pytest.raises(SystemExit) as leaving:
        main(typed)
    assert leaving.value.code == 2
    tally.note("noise in place of a command", "ended with exit status 2")
