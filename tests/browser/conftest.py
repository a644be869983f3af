"""The browser that every test in this folder needs."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Paths of the browser and its driver; without them tests are skipped, or fail where
    BROWSER_TESTS=required.
    """
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in found.items() if path is None]:
        reason = f"{' and '.join(missing)} not found; on Debian: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip)(reason)
    return str(found["chromium"]), str(found["chromedriver"])
