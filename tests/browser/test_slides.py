"""A deck in a real browser: keys move slides and steps, a second window follows, nothing is cut off."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.course.slides import write_slides

pytest.importorskip("mdit_py_plugins", reason="the docs extra is not installed")
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "06_transfer.ipynb"
RIGHT, LEFT, END = "\ue014", "\ue012", "\ue010"


@pytest.fixture(scope="module")
def deck(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    size(browser, 1280, 720)
    browser.get(write_slides([NOTEBOOK], tmp_path_factory.mktemp("deck"))[0].as_uri())
    return browser


def size(page: Any, width: int, height: int) -> None:
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)


def press(page: Any, key: str) -> None:
    page.find_element("tag name", "body").send_keys(key)


def place(page: Any) -> tuple[int, int]:
    at, step = page.execute_script("return [at, step]")
    return at, step


def cut_off(page: Any) -> list[int]:
    """Numbers of slides whose content is larger than they are."""
    return page.execute_script(
        """return slides.map((slide, index) => {
            show(index, Infinity);
            const body = slide.querySelector(".body");
            const parts = [body, ...body.querySelectorAll("pre")];
            const over = parts.flatMap((part) => [
                part.scrollHeight - part.clientHeight, part.scrollWidth - part.clientWidth]);
            return Math.max(...over) > 1 ? index + 1 : 0;
        }).filter(Boolean)"""
    )


def test_keys_move_through_slides_and_their_steps(deck: Any) -> None:
    first = deck.execute_script("return slides.findIndex((slide) => steps(slide).length === 1)")
    deck.execute_script("show(arguments[0], 0)", first)
    hidden = "return getComputedStyle(slides[at].querySelector('.step')).visibility"
    assert deck.execute_script(hidden) == "hidden"
    press(deck, RIGHT)
    assert place(deck) == (first, 1) and deck.execute_script(hidden) == "visible"
    press(deck, RIGHT)
    assert place(deck) == (first + 1, 0)
    press(deck, LEFT)
    assert place(deck) == (first, 1), "back is where one came from, with what was shown"
    press(deck, END)
    assert place(deck)[0] == deck.execute_script("return slides.length") - 1


def test_notes_and_a_dark_room_are_a_key_away(deck: Any) -> None:
    deck.execute_script("show(3, 0)")
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = deck.execute_script(paper)
    press(deck, "d")
    assert deck.execute_script(paper) != light
    press(deck, "n")
    assert deck.find_element("css selector", ".here .notes").is_displayed()
    press(deck, "n")
    assert not deck.find_element("css selector", ".here .notes").is_displayed()


def test_the_speakers_window_shows_notes_and_moves_both(deck: Any) -> None:
    deck.execute_script("show(3, 0)")
    audience = deck.current_window_handle
    press(deck, "s")
    speaker = next(handle for handle in deck.window_handles if handle != audience)
    deck.switch_to.window(speaker)
    end = time.monotonic() + 20
    while not deck.execute_script("return document.documentElement.classList.contains('showing-notes')"):
        assert time.monotonic() < end, "the speaker's window shows no notes"
        time.sleep(0.1)
    deck.execute_script("show(6, 0)")
    deck.switch_to.window(audience)
    while place(deck)[0] != 6:
        assert time.monotonic() < end, "the audience's window does not follow"
        time.sleep(0.1)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (1024, 768)])
def test_nothing_is_cut_off_on_a_screen(deck: Any, width: int, height: int) -> None:
    size(deck, width, height)
    assert cut_off(deck) == []


def test_on_a_phone_the_deck_is_a_page_that_scrolls_one_way(deck: Any) -> None:
    size(deck, 390, 844)
    assert deck.execute_script("return document.documentElement.scrollWidth") <= 390
    assert deck.find_elements("css selector", ".slide")[-1].is_displayed()


def test_a_deck_on_a_phone_hinders_nobody(browser: Any, axe: str, tmp_path: Path) -> None:
    size(browser, 390, 844)
    wide = NOTEBOOK.with_name("08_do_bits_predict.ipynb")  # with a table that has to scroll
    browser.get(write_slides([wide], tmp_path)[0].as_uri())
    assert browser.find_elements("css selector", ".table[tabindex]")
    browser.execute_script(axe)
    found = browser.execute_async_script("axe.run().then((all) => arguments[0](all.violations))")
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


def test_no_error_was_logged(deck: Any) -> None:
    assert [entry["message"] for entry in deck.get_log("browser") if entry["level"] == "SEVERE"] == []
