"""Every exercise: the stub is not yet right, the solution is, typical mistakes are told what they are."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from infoclip_lite.course.coursework import Posed, read_exercises
from infoclip_lite.course.exercises import judge

ROOT = Path(__file__).resolve().parents[3]
WRONG = Path(__file__).parent / "wrong_answers"
NOTEBOOKS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
POSED = [
    pytest.param(stem, posed, id=posed.number)
    for stem, notebook in NOTEBOOKS.items()
    for posed in read_exercises(notebook)
]
MISTAKES = {
    number: mistakes
    for path in sorted(WRONG.glob("*.yaml"))
    for number, mistakes in yaml.safe_load(path.read_text()).items()
}


@functools.cache
def imports(stem: str) -> str:
    """The notebook's cell of imports: the first code cell after the one that installs the package."""
    code = [cell for cell in NOTEBOOKS[stem]["cells"] if cell["cell_type"] == "code"]
    plain = [cell for cell in code if "setup" not in cell["metadata"].get("tags", [])]
    source = plain[0]["source"]
    return source if isinstance(source, str) else "".join(source)


def answer_of(stem: str, posed: Posed, code: str) -> Any:
    """Run code where an exercise stands, with the notebook's imports: what its check hands over."""
    given: dict[str, Any] = {}
    space: dict[str, Any] = {}
    exec(imports(stem), space)
    space["check"] = lambda number, answer: given.update({number: answer})
    exec(f"{code}\n\n{posed.check}", space)
    return given[posed.number]


def verdict(stem: str, posed: Posed, code: str) -> Any:
    """The judge's word on code that stands in an exercise's place."""
    return judge(posed.number, answer_of(stem, posed, code))


def looks_away(code: str) -> bool:
    """Whether no function of an answer reads any of its arguments."""
    functions = [node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    return bool(functions) and all(
        not {arg.arg for arg in function.args.args}
        & {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
        for function in functions
    )


@pytest.mark.parametrize(("stem", "posed"), POSED)
def test_the_stub_is_not_answered_and_the_solution_is_right(stem: str, posed: Posed) -> None:
    stub = verdict(stem, posed, posed.stub.replace(posed.check, ""))
    assert not stub.passed and "not answered yet" in stub.text
    solved = verdict(stem, posed, posed.solution)
    assert solved.passed, solved.text


@pytest.mark.parametrize(("stem", "posed"), POSED)
def test_typical_mistakes_get_their_explanation(stem: str, posed: Posed) -> None:
    assert MISTAKES.get(posed.number), f"no wrong answer to {posed.number} in {WRONG.name}/"
    for mistake in MISTAKES[posed.number]:
        found = verdict(stem, posed, mistake["answer"])
        assert not found.passed and mistake["says"] in found.text, found.text


@pytest.mark.parametrize(("stem", "posed"), POSED)
def test_three_wrong_answers_are_tried_and_one_looks_at_nothing(stem: str, posed: Posed) -> None:
    tried = [mistake["answer"] for mistake in MISTAKES[posed.number]]
    assert len(set(tried)) >= 3 and any(map(looks_away, tried))


# What answers without looking: an exercise that one of them solves asks for nothing.
CONSTANTS = (0.0, 1.0, 0.5, -1, True, False, "x", (), {}, (1, 1), torch.zeros(1), torch.tensor(0.0))
# 3.5 asks for data, from no input; 15.2 for two functions, one of which answers by what it does.
NO_INPUT = ("3.5", "15.2")


@pytest.mark.parametrize(("stem", "posed"), POSED)
def test_no_constant_passes_not_even_a_right_one(stem: str, posed: Posed) -> None:
    if posed.number in NO_INPUT:
        pytest.skip("has no input to look at")
    solved: Callable[..., Any] = answer_of(stem, posed, posed.solution)
    said: list[Any] = []

    def noted(*arguments: Any) -> Any:
        said.append(solved(*arguments))
        return said[-1]

    assert judge(posed.number, noted).passed and len(said) > 1, "several inputs"
    for constant in (*CONSTANTS, said[0], said[-1]):
        assert not judge(posed.number, lambda *arguments, constant=constant: constant).passed, constant


def test_every_mistake_belongs_to_an_exercise() -> None:
    assert set(MISTAKES) <= {param.values[1].number for param in POSED}


@pytest.mark.parametrize("stem", sorted({param.values[0] for param in POSED}))
def test_a_notebook_has_four_to_seven_numbered_in_order_and_not_all_alike(stem: str) -> None:
    exercises = read_exercises(NOTEBOOKS[stem])
    chapter = int(stem[:2])
    assert [e.number for e in exercises] == [
        f"{chapter}.{i + 1}" for i in range(len(exercises))
    ] and 4 <= len(exercises) <= 7
    assert len({e.difficulty for e in exercises}) > 1 and all(
        1 <= e.difficulty <= 3 and 1 <= e.importance <= 3 for e in exercises
    )
