"""The page on the architecture says what the code does: its rooms are the contract's, its walks are
walked.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np
import pytest
from contracts.test_architecture import FLOORS, NEVERS

from infoclip_lite import segment, train

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def house() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    try:
        yield import_module("house")
    finally:
        sys.path.remove(str(DOCS))


@contextmanager
def met() -> Iterator[list[CodeType]]:
    """The code that is entered, each once, in the order of the first time."""
    order: dict[CodeType, None] = {}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            order.setdefault(frame.f_code)

    found: list[CodeType] = []
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)
        found.extend(order)


def code_of(thing: Callable[..., Any]) -> CodeType:
    """The code that runs when a function is called, or an object of a class is made."""
    made = thing.__init__ if inspect.isclass(thing) else thing  # type: ignore[misc]
    return inspect.unwrap(made).__code__


def stations(house: ModuleType, walk: tuple[str, ...], passed: list[CodeType]) -> list[str]:
    """Those of a walk that were met, in the order in which they were."""
    names = {code_of(house.find(dotted)): dotted for dotted in walk}
    return [names[code] for code in passed if code in names]


def test_the_rooms_are_those_of_the_contract(house: ModuleType) -> None:
    assert house.contract("FLOORS") == FLOORS and house.contract("NEVERS") == NEVERS
    rows = [line.split(" | ") for line in house.rooms_table().splitlines()[2:]]
    assert [(int(height.strip("| ")), room.strip("`")) for height, room, *_ in rows] == [
        (height, room) for height, floor in enumerate(FLOORS) for room in floor
    ]
    assert all(purpose.strip() for _, _, purpose, _ in rows)


def test_every_module_has_its_line(house: ModuleType) -> None:
    lines = house.modules_part().splitlines()
    named = {line.split("`")[1] for line in lines if line.startswith("| `")}
    modules = {
        path.relative_to(house.PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
        for path in house.PACKAGE.rglob("*.py")
        if path.parent != house.PACKAGE or path.name == "cli.py"
    }
    assert named == {name for name in modules if not name.startswith("_data")}


def test_the_walk_of_a_picture_is_walked_in_this_order(house: ModuleType, tmp_path: Path) -> None:
    with met() as passed:
        found = segment(np.zeros((48, 48, 3), np.uint8), ["cow", "grass"])
        found.save(tmp_path / "overlay.png")
    assert stations(house, house.PICTURE, passed) == list(house.PICTURE)


def test_the_walk_of_a_recipe_is_walked_in_this_order(house: ModuleType) -> None:
    short = {"steps": 1, "batch": 2, "data": {"size": 32}, "evaluation": {"at": [0], "scenes": 2}}
    with met() as passed:
        train("mini/plain", objective={"name": "kl"}, progress=False, **short)
    assert stations(house, house.RECIPE, passed) == list(house.RECIPE)


def test_a_station_that_is_no_more_is_found_out(house: ModuleType) -> None:
    with pytest.raises(AttributeError, match="strayed"):
        house.walk_table(["training.run.strayed"])
