"""The first second: what is not loaded by those who do not need it. No clock, which would fail by chance."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from infoclip_lite.studies.imports import STARTS, Start, cpu_seconds, rows_of

PACKAGE = Path(__file__).resolve().parents[2] / "infoclip_lite"
# What takes a tenth of a second to load, and what only drawing, training, testing or a notebook needs.
HEAVY = {
    "IPython",
    "accelerate",
    "matplotlib",
    "nbformat",
    "open_clip",
    "pandas",
    "scipy",
    "seaborn",
    "segmentation_models_pytorch",
    "sklearn",
    "tensorboard",
    "timm",
    "torch",
    "torchvision",
    "transformers",
}
RUN = "import sys, runpy; sys.argv = {argv!r}; runpy.run_module('infoclip_lite.cli', run_name='__main__')"
REPORT = "import atexit, json, sys; atexit.register(lambda: print('LOADED', json.dumps(sorted(sys.modules))))"


def loaded_by(program: str) -> set[str]:
    """Top-level names in sys.modules when a fresh Python has run a program."""
    done = subprocess.run(
        [sys.executable, "-c", f"{REPORT}\n{program}"], capture_output=True, text=True, check=False
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")]
    return {name.split(".")[0] for name in json.loads(line.removeprefix("LOADED "))}


def command(*arguments: str) -> str:
    return RUN.format(argv=["infoclip-lite", *arguments])


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import infoclip_lite") & HEAVY == set()


@pytest.mark.parametrize("name", ["load_clip", "segment", "evaluate", "train"])
def test_what_the_face_offers_brings_torch_alone(name: str) -> None:
    """open_clip, which brings torchvision and transformers, comes when a model is built."""
    assert loaded_by(f"from infoclip_lite import {name}") & HEAVY == {"torch"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("benchmark", "--help"),
        ("data", "list"),
        ("benchmark", "sped"),
        ("train",),
        ("evaluate", "--limt", "3"),
    ],
    ids=" ".join,
)
def test_help_lists_and_mistakes_need_no_torch(arguments: tuple[str, ...]) -> None:
    assert loaded_by(command(*arguments)) & HEAVY == set()


def faces() -> list[Path]:
    """The packages whose names are loaded when they are first used."""
    return [path for path in sorted(PACKAGE.rglob("__init__.py")) if "lazy_face(" in path.read_text()]


def promised(tree: ast.Module) -> set[str]:
    """What a type checker is told to find in a face."""
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }


@pytest.mark.parametrize("path", faces(), ids=lambda path: path.parent.name)
def test_a_lazy_face_has_what_the_type_checker_sees(path: Path) -> None:
    module = importlib.import_module(".".join(["infoclip_lite", *path.parent.relative_to(PACKAGE).parts]))
    names = promised(ast.parse(path.read_text()))
    assert set(module.__all__) <= names <= set(dir(module))
    assert [name for name in sorted(names) if getattr(module, name, None) is None] == []


def test_a_function_is_not_hidden_by_the_module_of_its_name() -> None:
    import infoclip_lite

    importlib.import_module("infoclip_lite.evaluation.evaluate")
    importlib.import_module("infoclip_lite.evaluation.segment")
    assert callable(infoclip_lite.evaluate) and callable(infoclip_lite.segment)


def test_the_benchmark_starts_what_a_user_types() -> None:
    assert {"import torch", "import infoclip_lite", "infoclip-lite --help", "infoclip-lite data list"} <= set(
        STARTS
    )


def test_the_benchmark_counts_the_seconds_of_each_process() -> None:
    idle, busy = Start(("-c", "pass")), Start(("-c", "sum(range(10**7))"))
    seconds = cpu_seconds({"import torch": idle, "busy": busy}, rounds=2)
    assert {what: len(taken) for what, taken in seconds.items()} == {"import torch": 2, "busy": 2}
    assert min(seconds["busy"]) > max(seconds["import torch"]) > 0
    assert rows_of(seconds)[1].ratio > 1


def test_a_start_that_fails_is_not_timed() -> None:
    with pytest.raises(RuntimeError, match=r"`broken` ended with status 1 \(ModuleNotFoundError.*expected 0"):
        cpu_seconds({"broken": Start(("-c", "import no_such_module"))}, rounds=1)
