"""A lazy face gives what its modules have, when it is asked for and not before."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FACE = """
from infoclip_lite.core.lazy import lazy_face

__getattr__, __dir__ = lazy_face(__name__, {"roast": "oven", "bake": "bake", "cellar": ""})
__all__ = ["bake", "cellar", "roast"]
"""
MODULES = {
    "oven": "def roast():\n    return 'roasted'\n",
    "bake": "def bake():\n    return 'baked'\n",
    "cellar": "wine = 'red'\n",
}


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package with a lazy face, a function in a module of its own name, and a public room."""
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "__init__.py").write_text(FACE)
    for name, text in MODULES.items():
        (tmp_path / "kitchen" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("kitchen")
    for name in [name for name in sys.modules if name.split(".")[0] == "kitchen"]:
        del sys.modules[name]


def test_nothing_is_loaded_until_it_is_used(kitchen: ModuleType) -> None:
    assert "kitchen.oven" not in sys.modules
    assert kitchen.roast() == "roasted" and "kitchen.oven" in sys.modules
    assert "roast" in vars(kitchen), "the second look-up is an ordinary one"


def test_the_names_are_listed_before_they_are_used(kitchen: ModuleType) -> None:
    assert {"roast", "bake", "cellar"} <= set(dir(kitchen))
    assert "kitchen.oven" not in sys.modules


def test_a_star_import_gives_every_public_name(kitchen: ModuleType) -> None:
    names: dict[str, object] = {}
    exec("from kitchen import *", names)
    assert names["bake"]() == "baked" and names["roast"]() == "roasted" and names["cellar"].wine == "red"


def test_a_function_keeps_its_place_before_the_module_of_its_name(kitchen: ModuleType) -> None:
    module = importlib.import_module("kitchen.bake")
    assert kitchen.bake() == "baked" and kitchen.bake is module.bake
    assert sys.modules["kitchen.bake"] is module


def test_a_module_that_is_public_comes_when_it_is_used(kitchen: ModuleType) -> None:
    assert "kitchen.cellar" not in sys.modules
    assert kitchen.cellar is sys.modules["kitchen.cellar"]


def test_an_unknown_name_is_an_attribute_error_that_names_the_public_ones(kitchen: ModuleType) -> None:
    with pytest.raises(
        AttributeError, match=r"'kitchen' has no attribute 'grill'; expected one of bake, cellar, roast"
    ):
        _ = kitchen.grill
    assert not hasattr(kitchen, "grill")
    with pytest.raises(ImportError, match="grill"):
        exec("from kitchen import grill", {})
