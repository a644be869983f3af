"""The browser that every test in this folder needs, and what npm gives to the site."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

# seconds, for a machine that does other things too; a page or a script that is done sooner is not waited for
PATIENCE = 180.0
CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --window-size=1280,1400 "
    "--disable-background-networking --disable-component-update --disable-sync"
)
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


@pytest.fixture(scope="module")
def browser(chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser of the module's own, that talks to nobody and keeps what it logs."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium: pip install -e '.[test]'")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in [*CHROMIUM.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromium[1]))
    driver.set_page_load_timeout(PATIENCE)
    driver.set_script_timeout(PATIENCE)
    try:
        yield driver
    finally:
        driver.quit()


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
