"""Every command that README, docs and notebooks show can be typed: its options exist, its values are read."""

from __future__ import annotations

import functools
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tyro

from infoclip_lite.cli import COMMANDS
from infoclip_lite.commands.benchmark import BENCHMARKS
from infoclip_lite.evaluation import PROTOCOLS
from infoclip_lite.training.recipe import list_recipes

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TYPED = re.compile(r"(?:infoclip-lite|-m infoclip_lite\.cli)((?: .+)?)")


def texts() -> Iterator[tuple[str, str]]:
    """(where, text) of every page, and of the prose of every notebook."""
    for path in PAGES:
        yield path.name, path.read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        yield (
            path.name,
            "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"),
        )


def typed() -> list[tuple[str, str]]:
    """(where, arguments) of every line of a code block, joined where a backslash says so, and of every
    `command` in a sentence.
    """
    found = []
    for where, text in texts():
        blocks = [
            line
            for block in re.findall(r"```[^\n`]*\n(.*?)```", text, re.DOTALL)
            for line in re.sub(r"\\\n *", "", block).splitlines()
        ]
        quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for words in [*blocks, *quoted]:
            call = _TYPED.search(words)
            if call and call.group(1).strip():
                found.append((where, call.group(1).split(" #")[0].strip()))
    return sorted(set(found))


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, dict[str, object]]]:
    """(command, arguments) that a line is understood as; nothing is run."""
    called: list[tuple[str, dict[str, object]]] = []

    def stub(name: str, command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def record(**arguments: object) -> None:
            called.append((name, arguments))

        return record

    stubs = {name: stub(name, command) for name, command in COMMANDS.items()}

    def understood(line: str) -> tuple[str, dict[str, object]]:
        tyro.extras.subcommand_cli_from_dict(stubs, prog="infoclip-lite", args=shlex.split(line))
        return called[-1]

    return understood


def test_there_are_commands_to_look_at() -> None:
    assert len(typed()) >= 40 and {"README.md", "reproduce.md", "teach.md"} <= {where for where, _ in typed()}


@pytest.mark.parametrize(("where", "line"), typed(), ids=lambda value: str(value))
def test_what_is_shown_can_be_typed(
    where: str, line: str, parse: Callable[[str], tuple[str, dict[str, object]]]
) -> None:
    if line in COMMANDS or line.split()[0] in COMMANDS and "RECIPE" in line:
        return  # the name of a command in a sentence
    name, arguments = parse(line)
    if name == "benchmark":
        assert arguments["name"] in BENCHMARKS
    recipe = arguments.get("recipe")
    assert recipe is None or recipe in list_recipes()
    protocol = arguments.get("protocol")
    assert protocol is None or protocol in PROTOCOLS


def test_readme_shows_every_command_and_every_benchmark_has_a_line_in_the_help() -> None:
    shown = {line.split()[0] for where, line in typed() if where == "README.md"} | {"demo"}
    assert set(COMMANDS) <= shown
