"""Every explorer in a real JupyterLab and a real browser: a slider is moved by key, the picture changes, no
error is logged.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

from infoclip_lite.figures import widgets

EXPLORERS = [name for name in vars(widgets) if name.startswith("explore_")]
TOKEN = "explorers"
# seconds, for a machine that does other things too; a wait ends as soon as what it waits for is there
PATIENCE = 180.0
PICTURE = "img.widget-image"
HANDLE = ".noUi-handle"
RUN_ALL = ".lm-Menu-item[data-command='runmenu:run-all']"
ARROW_RIGHT = "\ue014"
ARROW_LEFT = "\ue012"
ENTER = "\ue007"
HARMLESS: tuple[str, ...] = ()
# JupyterLab asks nobody but this machine: no news, no look for a newer version, no list of extensions.
QUIET = [
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]


@dataclass
class Page:
    """The notebook in the browser.

    Attributes:
        browser: the driver.
        shots: folder where a wait that fails leaves a screenshot.
    """

    browser: Any
    shots: Path

    def all(self, selector: str) -> list:
        return self.browser.find_elements("css selector", selector)

    def wait(self, what: str, there: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not there():
            if time.monotonic() > end:
                shot = self.shots / f"{re.sub(r'[^a-z_]+', '-', what.lower())}.png"
                self.browser.save_screenshot(str(shot))
                said = " | ".join(
                    e.text[:400]
                    for e in self.all(".jp-Dialog-content, [data-mime-type*=error], b[role=alert]")
                )
                raise AssertionError(
                    f"after {PATIENCE:.0f} s there is still not: {what}; the page says: {said!r}; "
                    f"screenshot: {shot}"
                )
            time.sleep(0.1)

    def pictures(self) -> dict[str, str]:
        """Address of each explorer's picture, of those drawn; a new picture has a new address."""
        cells = zip(EXPLORERS, self.all(".jp-CodeCell"), strict=True)
        found = {name: cell.find_elements("css selector", PICTURE) for name, cell in cells}
        loaded = "return arguments[0].complete && arguments[0].naturalWidth > 0"
        return {
            n: e[0].get_attribute("src")
            for n, e in found.items()
            if e and self.browser.execute_script(loaded, e[0])
        }

    def changes(self, name: str, act: Callable[[], object]) -> None:
        """`act` gives this explorer a new picture, the others keep theirs, and no explorer reports an
        error.
        """
        before = self.pictures()
        act()
        self.wait(f"a new picture of {name}", lambda: self.pictures().get(name, before[name]) != before[name])
        assert {n for n, source in self.pictures().items() if source != before[n]} == {name}
        assert [alert.text for alert in self.all("b[role=alert]")] == []

    def output(self, name: str) -> Any:
        return self.all(".jp-CodeCell")[EXPLORERS.index(name)].find_element(
            "css selector", ".jp-OutputArea-output"
        )


@pytest.fixture(scope="module")
def lab(chromium: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a notebook with a cell for each explorer, in a JupyterLab that reads and writes nothing of
    the user's.
    """
    folder = tmp_path_factory.mktemp("lab")
    home = tmp_path_factory.mktemp("jupyter")
    cells = [
        nbformat.v4.new_code_cell(f"from infoclip_lite.figures.widgets import {name}\n{name}()")
        for name in EXPLORERS
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "explorers.ipynb")
    settings = home / "settings" / "@jupyterlab"
    for plugin, values in {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are on the page too
    }.items():
        (settings / plugin).parent.mkdir(parents=True)
        (settings / f"{plugin}.jupyterlab-settings").write_text(json.dumps(values))
    own = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = (
        os.environ | {name: str(home / place) for name, place in own.items()} | {"HF_HUB_OFFLINE": "1"}
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
    ]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", *QUIET]
    log = home / "server.log"
    with (
        log.open("w") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=environment) as server,
    ):
        try:
            await_server(server, f"http://127.0.0.1:{port}/api/status?token={TOKEN}", log)
            yield f"http://127.0.0.1:{port}/lab/tree/explorers.ipynb?token={TOKEN}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


def await_server(server: subprocess.Popen, address: str, log: Path) -> None:
    """Until it answers, at most PATIENCE."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + PATIENCE
    while True:
        try:
            opener.open(address, timeout=5).close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"JupyterLab does not answer ({error}); it said:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


@pytest.fixture(scope="module")
def page(lab: str, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The notebook opened, every cell run, every picture drawn."""
    browser.set_window_size(1400, 1600)
    page = Page(browser, tmp_path_factory.mktemp("screenshots"))
    browser.get(lab)
    page.wait("a cell for each explorer", lambda: len(page.all(".jp-CodeCell")) == len(EXPLORERS))
    page.wait(
        "a kernel that waits", lambda: bool(page.all(".jp-Notebook-ExecutionIndicator[data-status=idle]"))
    )
    next(item for item in page.all(".lm-MenuBar-item") if item.text == "Run").click()
    page.wait("the menu's Run All Cells", lambda: bool(page.all(RUN_ALL)))
    page.all(RUN_ALL)[0].click()
    for name in EXPLORERS:
        page.wait(f"a picture of {name}", lambda name=name: name in page.pictures())
    return page


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_slider_moved_by_key_changes_the_picture(page: Page, name: str) -> None:
    slider = page.output(name).find_element("css selector", ".widget-slider")
    handle, readout = (
        slider.find_element("css selector", HANDLE),
        slider.find_element("css selector", ".widget-readout"),
    )
    said = readout.text
    key = ARROW_LEFT if name == "explore_training" else ARROW_RIGHT  # the training starts at its last step
    page.changes(name, lambda: handle.send_keys(key))
    assert readout.text != said


def test_a_patch_clicked_and_a_word_typed_change_the_map(page: Page) -> None:
    output = page.output("explore_similarity")
    page.changes("explore_similarity", output.find_element("css selector", ".widget-gridbox button").click)
    word = output.find_element("css selector", "input[type=text]")
    page.changes("explore_similarity", lambda: word.send_keys("a red circle", ENTER))


def test_nothing_is_logged_as_an_error(page: Page) -> None:
    severe = [entry["message"] for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [
        message for message in severe if not any(re.search(pattern, message) for pattern in HARMLESS)
    ] == []
