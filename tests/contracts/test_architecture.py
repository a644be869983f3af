"""Rooms import from the floors below only; what is public is documented and annotated."""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "infoclip_lite"

# From the ground up. A room imports from itself and from the floors below, not from others of its floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("information",),
    ("clip", "datasets"),
    ("objectives", "segmentors"),
    ("evaluation",),
    ("training",),
    ("studies",),
    ("figures",),
    ("course",),
    ("commands",),
    ("cli",),
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# What must never be, even where the floors would allow it: (these rooms, know nothing of those).
NEVERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("objectives", "segmentors"), ("datasets",)),  # a method knows tensors, not scenes
)
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "_data" not in p.parts)
FORBIDDEN = {"detectron2", "mmcv", "mmseg", "mmengine"}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[0]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module inside the package) of every import, those in functions and under TYPE_CHECKING too."""
    package = ["infoclip_lite", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "infoclip_lite":
                yield node.lineno, target.removeprefix("infoclip_lite").removeprefix(".")


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_the_hall_is_empty() -> None:
    """At the top level stand the face, the command line, and rooms that have a floor."""
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "cli.py"}
    assert {room_of(module_of(p)) for p in FILES} == set(HEIGHT)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    here = module_of(path)
    room, wrong = room_of(here), []
    forbidden = {other for rooms, others in NEVERS for other in others if room in rooms}
    for line, target in imports_of(path):
        while target and not exists(target):  # a name inside a module
            target = target.rpartition(".")[0]
        other = room_of(target)
        if not target:
            wrong.append(f"line {line}: imports from the package's top, which stands above everything")
        elif other != room and HEIGHT[other] >= HEIGHT[room]:
            wrong.append(f"line {line}: {here} imports {target}, which is not on a floor below")
        elif other in forbidden:
            wrong.append(f"line {line}: {room} must know nothing of {other}")
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_no_heavy_frameworks(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    named |= {
        node.module.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    assert not named & FORBIDDEN


@pytest.mark.parametrize("room", ["core", "information", "datasets"])
def test_ground_floors_know_nothing_of_clip(room: str) -> None:
    paths = [p for p in FILES if room_of(module_of(p)) == room]
    assert (
        paths
        and [
            p.name for p in paths if re.search(r"^\s*(?:from|import) open_clip", p.read_text(), re.MULTILINE)
        ]
        == []
    )


def public(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes, methods; __init__ counts with its class, a setter with its property."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if not isinstance(inner, ast.FunctionDef) or is_setter(inner):
                    continue
                if not inner.name.startswith("_") or inner.name in ("__init__", "__call__"):
                    yield f"{node.name}.{inner.name}", inner


def is_setter(node: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in node.decorator_list)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    bare = [name for name, node in public(tree) if not name.endswith("__") and not ast.get_docstring(node)]
    assert ast.get_docstring(tree) and bare == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_public_names_are_annotated(path: Path) -> None:
    bare = []
    for name, node in public(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        given = node.args
        every = [
            *given.posonlyargs,
            *given.args,
            *given.kwonlyargs,
            *(a for a in (given.vararg, given.kwarg) if a),
        ]
        bare += [f"{name}({a.arg})" for a in every if a.annotation is None and a.arg not in ("self", "cls")]
        if node.returns is None and not name.endswith("__init__"):
            bare.append(f"{name} -> ?")
    assert bare == []


def test_what_a_module_offers_exists() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text())
        offered = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        have = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        have |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        have |= {
            t.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for t in node.targets
            if isinstance(t, ast.Name)
        }
        have |= {
            node.target.id
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        assert not [name for names in offered for name in names if name not in have], module_of(path)


def test_errors_are_no_asserts() -> None:
    """An assert vanishes under `python -O`, and says nothing to a user."""
    found = [
        f"{module_of(p)}:{node.lineno}"
        for p in FILES
        for node in ast.walk(ast.parse(p.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


class Numbers(NamedTuple):
    """What can be counted of how a house is written.

    Attributes:
        any_1000: `Any` in code, per 1,000 lines.
        dict_any_1000: `dict[str, Any]`, per 1,000 lines.
        comments_100: lines with a comment, per 100 lines.
        p95: 95th percentile of the length of a line.
    """

    any_1000: float
    dict_any_1000: float
    comments_100: float
    p95: int


def numbers(paths: Sequence[Path]) -> Numbers:
    """Counted by tokens: an "Any" in a docstring is none, and neither is a "#" in a text."""
    lengths: list[int] = []
    anys = dicts = comments = 0
    for path in paths:
        text = path.read_text()
        lengths += [len(line) for line in text.splitlines()]
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        words = [token.string for token in tokens if token.type in (tokenize.NAME, tokenize.OP)]
        anys += words.count("Any")
        dicts += sum(words[i : i + 6] == ["dict", "[", "str", ",", "Any", "]"] for i in range(len(words)))
        comments += len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})
    lines = len(lengths)
    p95 = sorted(lengths)[math.ceil(0.95 * lines) - 1]
    return Numbers(1000 * anys / lines, 1000 * dicts / lines, 100 * comments / lines, p95)


def test_numbers_are_counted_by_tokens(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('"""Any # no comment"""\nx: dict[str, Any] = {}  # one\n# two\ny: Any = "# Any"\n')
    assert numbers([path]) == Numbers(500.0, 250.0, 50.0, 29)


def test_the_house_is_typed_commented_and_not_wide() -> None:
    """What we promise of our own code, beside the projects that we learn from."""
    found = numbers([*FILES, PACKAGE / "__init__.py"])
    assert found.any_1000 <= 8 and found.dict_any_1000 <= 3, found
    assert found.comments_100 >= 3 and found.p95 <= 105, found
