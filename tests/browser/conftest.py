"""The browser that every test in this folder needs, and what npm gives to the site."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _missing(reason: str) -> NoReturn:
    """Skip, or fail where BROWSER_TESTS=required."""
    (pytest.fail if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip)(reason)
    raise AssertionError("both of them raise")


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Paths of the browser and its driver; without them tests are skipped, or fail where
    BROWSER_TESTS=required.
    """
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in found.items() if path is None]:
        _missing(f"{' and '.join(missing)} not found; on Debian: apt-get install chromium chromium-driver")
    return str(found["chromium"]), str(found["chromedriver"])


@pytest.fixture(scope="session")
def explainer(chromium: tuple[str, str]) -> ModuleType:
    """The module that builds the explainer."""
    pytest.importorskip("onnxscript", reason="onnxscript not found: pip install -e '.[chimera]'")
    if shutil.which("npm") is None:
        _missing("npm not found; on Debian: apt-get install npm")
    spec = importlib.util.spec_from_file_location("explainer_build", DOCS / "explainer" / "__main__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@pytest.fixture(scope="session")
def axe(explainer: ModuleType) -> str:
    """The script that looks for what hinders readers."""
    modules = explainer.install(explainer.PARTS)
    return (modules / "axe-core" / "axe.min.js").read_text()
