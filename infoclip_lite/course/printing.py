"""Pages as PDF, printed by a browser that is already on the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# Their commands on Linux, then where macOS and Windows keep them.
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_PATIENCE = 120  # seconds for a page; a deck of forty slides takes some five


def find_browser() -> str | None:
    """A Chromium, Chrome or Edge of this machine; None where there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def print_pdf(page: Path, target: Path, browser: str | None = None) -> Path:
    """Print a page that needs no network as PDF; its own style sheet says how large the paper is.

    Args:
        page: an HTML file.
        target: the PDF.
        browser: its command; the first that is found by default.

    Returns:
        The PDF's path.

    Raises:
        FileNotFoundError: no browser, or no such page.
        OSError: the browser printed nothing.
    """
    browser = browser or find_browser()
    if browser is None:
        raise FileNotFoundError(
            "no Chromium, Chrome or Edge on this machine; expected one to print PDF: install it, or open "
            f"{page} in any browser and print it to a file"
        )
    if not page.is_file():
        raise FileNotFoundError(f"no page {page}; expected an HTML file")
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the target's folder: a rename is atomic there, and a confined browser sees no other file of ours.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="printing-") as folder:
        printed = Path(folder).resolve() / "page.pdf"
        command = _command(browser, page.resolve(), printed)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        if not printed.is_file() or printed.stat().st_size == 0:
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            raise OSError(f"{browser} printed no {target.name}; it says: {said[0]}")
        printed.replace(target)
    return target


def _command(browser: str, page: Path, printed: Path) -> list[str]:
    options = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",  # what loads nothing is printed by a browser that asks nobody
        "--no-pdf-header-footer",
        f"--user-data-dir={printed.parent / 'profile'}",  # beside a browser that is open already
        f"--print-to-pdf={printed}",
    ]
    # The sandbox refuses to start for root, which is who builds in a container.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")
    return [browser, *options, page.as_uri()]
