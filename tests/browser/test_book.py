"""The book's pages in a real browser: explorers show the numbers that reports have, obey keys and hinder
nobody; and no page scrolls sideways on a phone.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from served import served

from infoclip_lite import DenseCLIP
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import difference, interval
from infoclip_lite.figures.estimators import compute_information
from infoclip_lite.figures.information import compute_renyi
from infoclip_lite.figures.objective_map import compute_objective
from infoclip_lite.figures.playback import compute_frame
from infoclip_lite.figures.selection import compute_selection
from infoclip_lite.figures.similarity import compute_similarity
from infoclip_lite.studies.rows import map_curves, read_leaderboard

Select = pytest.importorskip("selenium.webdriver.support.ui").Select
pytest.importorskip("sphinx", reason="the docs extra is not installed")

PATIENCE = 180.0  # seconds, for a machine that does other things too
LEFT, RIGHT, DOWN, HOME, END = "\ue012", "\ue014", "\ue015", "\ue011", "\ue010"
ENTER = "\ue007"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
# Chapters by their names: their numbers change when one is added.
PAGES = {
    name: next(path.stem for path in NOTEBOOKS.glob(f"[0-9][0-9]_{chapter}.ipynb"))
    for name, chapter in {
        "similarity": "from_global_to_dense",
        "training": "alignment_degradation",
        "information": "what_is_mutual_information",
        "renyi": "from_distances_to_entropy",
        "objective": "transfer",
        "selection": "chimera_end_to_end",
        "leaderboard": "leaderboard",
    }.items()
}
ASK_FIRST = ("information", "objective")
KILOBYTES = 650  # of all explorers together, compressed; a page loads a sixth of it


@dataclass
class Book:
    """The book in the browser.

    Attributes:
        browser: the driver.
        address: where it is served.
    """

    browser: Any
    address: str

    def open(self, name: str, *, ask: bool = False) -> None:
        """The page of an explorer, which has started; its question is skipped unless `ask`."""
        self.browser.get(f"{self.address}/notebooks/{PAGES[name]}.html")
        end = time.monotonic() + PATIENCE
        while not self.run("return document.querySelector('.explorer').dataset.started"):
            assert time.monotonic() < end, self.run("return document.querySelector('.explorer').textContent")
            time.sleep(0.05)
        if name in ASK_FIRST and not ask:
            self.find(".predict .plain").click()

    def run(self, script: str, *arguments: object) -> Any:
        return self.browser.execute_script(script, *arguments)

    def until(self, script: str) -> None:
        """Wait until a script returns true; pages follow another scheme when they get to it."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 10).until(lambda _: self.run(script))

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", f".explorer {selector}")

    def find(self, selector: str) -> Any:
        return self.all(selector)[0]

    def said(self) -> str:
        return self.find(".said").text

    def control(self, label: str) -> Any:
        """The control that has this label."""
        script = (
            "const label = [...document.querySelectorAll('.explorer label')]"
            ".find((each) => each.textContent.startsWith(arguments[0]));"
            "return label.control ?? label.querySelector('input')"
        )
        return self.run(script, label)

    def choose(self, label: str, option: str) -> None:
        """The option that contains this text, by the list of the control."""
        found = self.control(label)
        names = [each.text for each in found.find_elements("css selector", "option")]
        Select(found).select_by_index(next(i for i, name in enumerate(names) if option in name))

    def table(self, summary: str) -> list[list[str]]:
        """The rows of the table that is folded away under this title."""
        script = (
            "const details = [...document.querySelectorAll('.explorer details')]"
            ".find((each) => each.firstElementChild.textContent.startsWith(arguments[0]));"
            "details.open = true; return details"
        )
        details = self.run(script, summary)
        end = time.monotonic() + PATIENCE
        while not (
            rows := self.run(
                "return [...arguments[0].querySelectorAll('tbody tr')]"
                ".map((row) => [...row.cells].map((cell) => cell.textContent))",
                details,
            )
        ):
            assert time.monotonic() < end, f"no rows under {summary!r}"
            time.sleep(0.05)
        return rows

    def screen(self, width: int, scheme: str) -> None:
        shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@pytest.fixture(scope="module")
def book(browser: Any, site: Path) -> Iterator[Book]:
    with served(site) as address:
        found = Book(browser, address)
        found.screen(1280, "light")
        yield found


def test_similarity_is_the_notebooks_for_a_patch_and_for_a_word(book: Book, mini: DenseCLIP) -> None:
    book.open("similarity")
    book.find(".patches").send_keys(RIGHT, DOWN)
    assert "row 4, column 4" in book.said()
    asked = [compute_similarity(mini, 0, (4, 4)).maps]
    shown = [book.table("Lowest")]
    word = book.run("return document.querySelectorAll('.explorer select')[1].options[2].textContent")
    book.choose("Similar to", word)
    assert word in book.said()
    asked.append(compute_similarity(mini, 0, word=word.split("“")[1].strip("”")).maps)
    shown.append(book.table("Lowest"))
    for maps, rows in zip(asked, shown, strict=True):
        assert [row[0] for row in rows] == list(maps)
        for name, low, high, spread in rows:
            values = maps[name]
            found = np.array([float(low), float(high), float(spread)])
            expected = np.array([values.min(), values.max(), values.std()])
            assert np.abs(found - expected).max() < 0.006, name
    every = book.table("Cosines of every patch")
    assert every[9][0] == "1, 1" and abs(float(every[9][2]) - asked[1]["value"][1, 1]) < 0.006


def test_another_scene_is_fetched_and_a_click_asks_about_its_patch(book: Book, mini: DenseCLIP) -> None:
    book.open("similarity")
    book.choose("Scene", "3:")
    book.find(".patches canvas").click()  # the middle
    patch = tuple(int(each) for each in re.findall(r"row (\d), column (\d)", book.said())[0])
    maps = compute_similarity(mini, 2, patch).maps
    assert {row[0]: float(row[1]) for row in book.table("Lowest")} == pytest.approx(
        {name: float(values.min()) for name, values in maps.items()}, abs=0.006
    )


def test_a_training_is_scrubbed_by_keys_to_the_numbers_of_its_reports(book: Book) -> None:
    book.open("training")
    report = read_report("degradation_frames")
    book.control("Training step").send_keys(HOME, RIGHT, RIGHT)
    frame = report["frames"][2]
    assert f"After {frame['step']} steps" in book.said()
    view = compute_frame(frame["step"])
    name, curves = next(iter(map_curves().items()))
    book.choose("Bands", name)
    rows = book.table("Numbers of this step")
    for (key, values), row in zip(view.curves.items(), rows, strict=True):
        assert row[1] == f"{values[2]:.1%}"
        mean = next((point for point in curves.get(key, ()) if point.step == frame["step"]), None)
        assert row[3] == (f"{100 * mean.mean:.1f} ± {100 * mean.ci95:.1f}" if mean else "–")
    # And the maps: which part of a scene each word has.
    labels = view.labels[0]
    word, count = max(zip(*np.unique(labels, return_counts=True), strict=True), key=lambda each: each[1])
    alternative = book.all("canvas")[2].get_attribute("aria-label")
    assert f"{view.names[word]} {count / labels.size:.0%}" in alternative
    book.choose("Bands", "none")
    assert book.table("Numbers of this step")[0][3] == "–"


def test_the_playground_shows_what_the_notebook_computes(book: Book) -> None:
    book.open("information")
    book.choose("Estimator", "Gaussian copula")
    for label, key in (
        ("Samples n", HOME),
        ("Samples n", RIGHT),
        ("Dimensions", RIGHT),
        ("Correlation", END),
    ):
        book.control(label).send_keys(key)
    view = compute_information("Gaussian copula", n=30, dim=2, rho=0.95)
    found = interval(view.estimates[:, -1].tolist())
    assert f"truth {view.truth[-1]:.2f} nats" in book.said()
    assert f"draws {found.mean:.2f} ± {found.ci95:.2f}" in book.said()
    assert len(book.table("Numbers of the chart")) == len(view.rho)
    for label in ("Samples n", "Dimensions"):
        book.control(label).send_keys(HOME if label == "Samples n" else END)
    assert "refuses: got 10 samples" in book.said()


def test_the_kernel_has_controls_where_there_is_one(book: Book) -> None:
    book.open("information")
    assert not book.control("Kernel width").is_displayed()
    book.choose("Estimator", "matrix-based")
    assert book.control("Kernel width").is_displayed()
    view = compute_information("matrix-based", n=100, dim=1, rho=0.8, width=1.0, alpha=2.0)
    mean = interval(view.estimates[:, view.chosen].tolist())
    assert f"{mean.mean:.2f} ± {mean.ci95:.2f}" in book.said()
    book.control("Samples n").send_keys(END)
    assert "the notebook computes every n" in book.said()


GRAMS = {
    "as it starts": ({}, "2", (100, 0.75, 1.0, 2.0)),
    # Nearly every two samples are far apart, which leaves almost nothing to reflect.
    "narrow": (
        {"Samples n": (HOME, RIGHT), "Kernel width": (HOME,), "Correlation": (END,)},
        "3",
        (16, 0.99, 0.05, 3.0),
    ),
    "below one": ({"Samples n": (END,), "Kernel width": (END,)}, "0.5", (200, 0.75, 5.0, 0.5)),
    "the limit": ({"Samples n": (HOME,), "Correlation": (HOME,)}, "1", (4, 0.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("case", GRAMS)
def test_gram_matrices_give_the_bits_that_the_notebook_computes(book: Book, case: str) -> None:
    moves, order, (n, rho, width, alpha) = GRAMS[case]
    book.open("renyi")
    for label, keys in moves.items():
        book.control(label).send_keys(*keys)
    book.choose("Order", order)
    view = compute_renyi(n, rho, width, alpha)
    bits = [float(value.replace("−", "-")) for _, value in book.table("Numbers of the bars")]
    expected = [view.entropy_x, view.entropy_y, view.information, view.shannon]
    assert [*bits[:2], *bits[3:5]] == pytest.approx(expected, abs=0.006)
    found = [float(value) for _, value in book.table("Eigenvalues")]
    assert found == pytest.approx(view.eigenvalues[:20].tolist(), abs=0.0006)
    assert f"{n} samples, correlation {rho:.2f}, width {width:g}, α = {alpha:g}" in book.said()


def test_the_map_of_the_objective_is_the_sweeps(book: Book) -> None:
    book.open("objective")
    book.control("λ₂").send_keys(RIGHT)
    view = compute_objective(lambda_2=3.0)
    gain = 100 * (view.here["hIoU"] - view.plain["hIoU"])
    assert f"hIoU {view.here['hIoU']:.1%}, {gain:+.1f} points".replace("-", "−") in book.said()
    assert book.find(".command").text == view.command
    book.choose("What the samples are", "class")
    book.find("[data-measure] button").send_keys(ENTER)
    view = compute_objective("class", lambda_1=0.0, lambda_2=0.0)
    assert f"λ₁ = 0, λ₂ = 0: hIoU {view.here['hIoU']:.1%}" in book.said()
    cells = [each.text for each in book.all("[data-measure=hIoU] td")]
    assert cells == [f"{100 * value:.1f}" for value in view.plane["hIoU"].flatten()]
    assert len(book.table("All points")) == len(cells)


def test_positions_are_kept_as_in_the_notebook(book: Book, mini: DenseCLIP) -> None:
    book.open("selection")
    book.choose("Scene", "2:")
    book.choose("Schedule", "linear")
    book.control("Progress").send_keys(END, LEFT)
    view = compute_selection(mini, 1, 0.95, schedule="linear")
    assert f"K = {view.count}:" in book.said() and f"show {view.on_objects:.1%} objects" in book.said()
    assert f"all patches: {view.chance:.1%}" in book.said()
    shares = [compute_selection(mini, i, 0.95, schedule="linear").on_objects for i in range(40)]
    mean = interval(shares)
    expected = f"{100 * mean.mean:.1f} ± {100 * mean.ci95:.1f}"
    assert book.table("Numbers of the chart")[-2] == [
        "95%",
        str(view.count),
        f"{100 * view.on_objects:.1f}",
        expected,
    ]


def test_the_leaderboard_is_filtered_and_two_rows_are_paired(book: Book) -> None:
    book.open("leaderboard")
    board = read_leaderboard()
    family = next(iter(board.methods.values())).family
    book.control(family).send_keys(" ")
    left = {label: row for label, row in board.methods.items() if row.family != family}
    assert f"{len(left)} of {len(board.methods)} methods" in book.said()
    rows = book.table("All rows")
    assert {row[0] for row in rows} == set(left)
    best = max(left, key=lambda label: left[label].scores["test"]["hIoU"].mean)
    score = left[best].scores["test"]["hIoU"]
    assert rows[0][0] == best and f"{100 * score.mean:.1f} ± {100 * score.ci95:.1f}" in rows[0]
    ranks = left[best].ranks["test"]
    assert f"{ranks.best} to {ranks.worst}" in rows[0]
    names = list(board.methods)
    book.choose("Method", names[4])
    book.choose("minus method", names[2])
    found = difference(*(board.methods[names[i]].scores["test"]["hIoU"] for i in (4, 2)))
    said = book.find(".contrast [role=status]").text
    # What rounds to zero has no sign.
    value = f"{100 * found.mean:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
    assert f"(test) {value} ± {100 * found.ci95:.1f} (p {found.p:.3f})" in said
    field = book.control("Name contains")
    field.send_keys("no such method")
    assert "No method is left" in book.said()


@pytest.mark.parametrize("name", ASK_FIRST)
def test_where_the_notebook_asks_first_the_page_does_too(book: Book, name: str) -> None:
    book.open(name, ask=True)
    assert not book.find(".figures").is_displayed()
    book.find(".predict button").click()
    assert not book.find(".figures").is_displayed() and "Choose first" in book.find(".why").text
    for each in book.all(".predict select"):
        each.send_keys(DOWN)
    book.find(".predict button").send_keys(ENTER)
    assert book.find(".figures").is_displayed()
    assert re.match(r"(Yes|Not so)\. .*[+−]\d", book.find(".why").text)
    assert (
        book.run("return document.querySelector('.explorer .chart svg, .explorer table').clientWidth") > 200
    )


STARTED = (
    "const done = arguments[2];"
    "const place = document.createElement('div'); place.className = 'explorer';"
    "document.querySelector('.explorer').replaceWith(place);"
    "import(`../_static/explorers/${arguments[0]}.js`).then((module) => module.start(place, arguments[1]))"
    ".then(() => done(place.textContent), (error) => done(String(error)))"
)


def served_json(site: Path, name: str) -> Any:
    return json.loads((site / "_static" / "explorers" / f"{name}.json").read_text())


def test_a_leaderboard_with_other_rows_and_planned_contrasts_is_followed(book: Book, site: Path) -> None:
    data = served_json(site, "leaderboard")
    data["again"] = []
    data["metrics"].insert(2, "mIoU_stuff")
    for i, row in enumerate(data["rows"]):
        row |= {"label": f"new {i}", "family": f"family {i % 7}", "tuned": f"part {i % 2}"}
        for scores in row["scores"].values():
            scores["mIoU_stuff"] = [0.5, 0.01]
    planned = {
        "first": "new 1",
        "second": "new 2",
        "mean": -0.0123,
        "half": 0.004,
        "p": 0.01,
        "corrected": 0.03,
    }
    data["planned"] = {"a study": {"test": [planned], "test-known": []}}
    book.open("leaderboard")
    text = book.browser.execute_async_script(STARTED, "leaderboard", data)
    assert "family 6" in text and "CAT-Seg" not in text
    assert "Planned contrasts of the study a study" in text and "−1.2 ± 0.4" in text
    book.choose("Measure", "stuff")
    assert "50.0 ± 1.0" in book.said()


def test_a_training_with_other_words_and_steps_is_followed(book: Book, site: Path) -> None:
    data = served_json(site, "training")
    data["names"] = [f"word {i}" for i in range(len(data["names"]))]
    data["frames"] = data["frames"][:4]
    data["curves"], data["seeds"] = {}, {}
    book.open("training")
    text = book.browser.execute_async_script(STARTED, "training", data)
    assert f"After {data['frames'][-1]['step']} steps" in text and "word 1" in text


def serious(book: Book, axe: str, context: str = "document", options: str = "{}") -> list[tuple[str, ...]]:
    """What axe finds that hinders readers seriously.

    Args:
        axe: its script.
        context: JavaScript, where it looks.
        options: JavaScript, by which rules.
    """
    book.run(axe)
    found = book.browser.execute_async_script(
        f"const done = arguments[0]; axe.run({context}, {options}).then((all) => done(all.violations))"
    )
    return [
        (each["id"], node["html"][:160], node["failureSummary"][:200])
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:3]
    ]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_an_explorers_page_hinders_nobody(book: Book, axe: str, name: str, width: int, scheme: str) -> None:
    book.screen(width, scheme)
    try:
        book.open(name)
        book.run("document.querySelectorAll('.explorer details').forEach((each) => (each.open = true))")
        assert serious(book, axe) == []
    finally:
        book.screen(1280, "light")


def test_no_page_hinders_and_none_scrolls_sideways_on_a_phone(book: Book, axe: str, site: Path) -> None:
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    # The explainer has tests of its own.
    pages = [page for page in pages if not page.startswith(("_static", "explainer"))]
    assert len(pages) > 20
    # Colours of code are those of the pages above, which are looked at whole; here they would take minutes.
    # A signature of several lines is Sphinx's own list without terms.
    context = "{exclude: [['.highlight'], ['.sig dl']]}"
    wrong: dict[str, Any] = {}
    try:
        for page in pages:
            book.screen(390, "light")
            book.browser.get(f"{book.address}/{page}")
            width = book.run("return document.documentElement.scrollWidth")
            found = serious(book, axe, context)
            # The other scheme changes colours and nothing else.
            book.screen(390, "dark")
            book.until("return document.documentElement.dataset.theme === 'dark'")
            found += serious(book, axe, context, "{runOnly: ['color-contrast']}")
            if width > 390 or found:
                wrong[page] = width, found
    finally:
        book.screen(1280, "light")
    assert wrong == {}


@pytest.mark.parametrize("name", PAGES)
def test_an_explorer_does_not_scroll_sideways_on_a_phone(book: Book, name: str) -> None:
    book.screen(390, "light")
    try:
        book.open(name)
        assert book.run("return document.documentElement.scrollWidth") <= 390
    finally:
        book.screen(1280, "light")


def test_without_javascript_the_still_figure_teaches(book: Book) -> None:
    book.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        book.browser.get(f"{book.address}/notebooks/{PAGES['training']}.html")
        place = book.browser.find_element("css selector", ".explorer")
        assert "needs JavaScript" in place.text and "figure" in place.text
    finally:
        book.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_there_is_the_figure_alone(book: Book) -> None:
    book.open("leaderboard")
    book.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not book.browser.find_element("css selector", ".explorer").is_displayed()
        assert book.browser.find_elements("css selector", ".cell_output img")
    finally:
        book.screen(1280, "light")


def test_no_request_leaves_the_pages_and_no_error_is_logged(book: Book) -> None:
    for name in PAGES:
        book.open(name)
    messages = [json.loads(entry["message"])["message"] for entry in book.browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    hosts = {urlsplit(url).netloc for url in asked if url.startswith("http")}
    assert f"{book.address}/_static/explorers/selection.json" in asked
    assert hosts == {urlsplit(book.address).netloc}
    severe = [entry["message"] for entry in book.browser.get_log("browser") if entry["level"] == "SEVERE"]
    # The theme says at a first visit that no mode was chosen yet; the book has no icon.
    harmless = ("favicon.ico", "Got invalid theme mode")
    assert [each for each in severe if not any(known in each for known in harmless)] == []


@pytest.mark.parametrize("name", ["similarity", "selection", "training"])
def test_every_scene_is_credited(site: Path, name: str) -> None:
    data = served_json(site, name)
    assert [each for each in data["scenes"] if f">{each['title']}</th>" not in data["credits"]] == []
    assert "<a href=" in data["credits"]


def test_explorers_are_small(site: Path) -> None:
    files = [path for path in (site / "_static" / "explorers").iterdir() if path.is_file()]
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) <= KILOBYTES * 1000
