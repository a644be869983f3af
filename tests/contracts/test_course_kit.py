"""The course kit says what the notebooks and the code say: sections, minutes, messages."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path.stem[:2] for path in NOTEBOOKS]


@pytest.fixture(scope="module")
def plans() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    try:
        yield importlib.import_module("plans")
    finally:
        sys.path.remove(str(DOCS))


def sections(number: str) -> set[int]:
    """The numbered sections of a chapter."""
    path = next(path for path in NOTEBOOKS if path.stem.startswith(f"{number}_"))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {int(found) for found in re.findall(r"^## (\d+)", text, re.MULTILINE)}


def exercises(number: str) -> set[str]:
    path = next(path for path in NOTEBOOKS if path.stem.startswith(f"{number}_"))
    return set(re.findall(r"### Exercise (\d+\.\d+)", path.read_text(encoding="utf-8")))


def numbers(text: str) -> list[int]:
    """Every section that a text refers to: "section 3", "sections 4 and 5", "sections 1 to 6"."""
    found = re.findall(r"[Ss]ections? (\d+)(?:(?:,| to| and) (\d+))*", text)
    return [int(each) for pair in found for each in pair if each]


def test_there_are_two_questions_before_and_two_after_every_chapter() -> None:
    parts = re.split(r"^## (\d\d) ", (DOCS / "questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    asked = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(asked) == CHAPTERS
    for chapter, text in asked.items():
        counts = [
            len(re.findall(rf"^\*\*{when}: .+[.?]\*\*\n: \w", text, re.MULTILINE))
            for when in ("Before", "After")
        ]
        assert counts == [2, 2], chapter
        title = next(path for path in NOTEBOOKS if path.stem.startswith(chapter))
        assert f"# {chapter}. {text.splitlines()[0]}" in title.read_text(encoding="utf-8"), chapter


def test_every_section_that_a_question_names_is_in_its_chapter() -> None:
    parts = re.split(r"^## (\d\d) ", (DOCS / "questions.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for chapter, text in zip(parts[1::2], parts[2::2], strict=True):
        named = numbers(text)
        assert len(named) >= 3 and set(named) <= sections(chapter), chapter
        assert set(re.findall(r"exercise (\d+\.\d+)", text)) <= exercises(chapter), chapter


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_every_section_that_a_page_names_with_its_chapter_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for chapter, said in re.findall(r"[Cc]hapter (\d\d),? (sections? [\d, toand]+)", text):
        assert set(numbers(said)) <= sections(chapter), f"{chapter}: {said}"
    named = re.findall(r"[Cc]hapters? (\d\d)(?:(?:,| to| and) (\d\d))?", text)
    assert {number for pair in named for number in pair if number} <= set(CHAPTERS)


def test_a_plan_leaves_a_quarter_of_its_time_for_talk(plans: ModuleType) -> None:
    sessions = list(plans.PLANS.values())
    sessions += [(plans.SESSION, parts) for _, *both in plans.WEEKS for parts in both]
    for minutes, parts in sessions:
        left, on_notebooks = plans.talk(minutes, parts)
        assert left >= plans.TALK * on_notebooks, [part.chapter for part in parts]


def test_a_plan_ends_when_it_should_and_four_weeks_meet_every_chapter(plans: ModuleType) -> None:
    for name, (minutes, _) in plans.PLANS.items():
        rows = re.findall(r"^\| (\d+) to (\d+) ", plans.plan_table(name), re.MULTILINE)
        assert int(rows[-1][1]) == minutes and [end for _, end in rows[:-1]] == [
            begin for begin, _ in rows[1:]
        ]
    met = {part.chapter for _, *both in plans.WEEKS for parts in both for part in parts}
    assert met | {"13", "15"} == set(CHAPTERS) and "hours" in plans.weeks_table()


def test_minutes_follow_the_headers_and_a_section_that_is_not_there_is_refused(
    plans: ModuleType, tmp_path: Path
) -> None:
    head = "# 04. A title\n\n**Time**: 90 seconds to run on two cores, {} to read."
    exercise = "### Exercise 4.1 · X\n*difficulty ★☆☆ · 7 minutes*"
    body = f"## 1. A\n\none two three\n\n## 2. B\n\none two three\n\n{exercise}"

    def write(read: str) -> None:
        cells = [{"cell_type": "markdown", "source": [text]} for text in (head.format(read), body)]
        (tmp_path / "04_a.ipynb").write_text(json.dumps({"cells": cells}))

    write("half an hour")
    one = plans.Part("x", "04", (1, 1), ("4.1",))
    half = plans.needed(one, tmp_path)
    write("an hour")
    # a run of 1.5 minutes, an exercise of 7, and the same share of twice the reading
    assert plans.needed(one, tmp_path) - 8.5 == pytest.approx(2 * (half - 8.5))
    with pytest.raises(ValueError, match="has no 9; expected sections"):
        plans.needed(plans.Part("x", "04", (1, 9)), tmp_path)
    write("a while")
    with pytest.raises(ValueError, match="got 'a while'; expected a time"):
        plans.needed(one, tmp_path)


def said_in(paths: Iterable[Path]) -> str:
    """Every text in code, joined; one that is written in several parts is one."""
    texts = []
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return "\n".join(texts)


def test_every_message_that_the_kit_quotes_is_still_in_the_code() -> None:
    text = (DOCS / "teach.md").read_text(encoding="utf-8").split("## What goes wrong in class")[1]
    rows = [line for line in text.splitlines() if line.startswith("| ") and '"' in line]
    quotes = [re.search(r'"(.+)"', line).group(1) for line in rows]  # type: ignore[union-attr]
    said = said_in((ROOT / "infoclip_lite").rglob("*.py"))
    assert len(quotes) >= 20 and [quote for quote in quotes if quote not in said] == []


def test_a_check_is_quoted_beside_an_exercise_of_its_chapter() -> None:
    text = (DOCS / "teach.md").read_text(encoding="utf-8").split("## What goes wrong in class")[1]
    for number, quote in re.findall(r'^\| (\d+\.\d+) \| "(.+?)" \|', text, re.MULTILINE):
        chapter = number.split(".")[0]
        said = said_in([ROOT / f"infoclip_lite/course/exercises/chapter{chapter:0>2}.py"])
        assert number in said.splitlines() and quote in said, number


def test_the_notation_is_one_page(tmp_path: Path) -> None:
    pytest.importorskip("mdit_py_plugins", reason="the docs extra is not installed")
    printing = importlib.import_module("infoclip_lite.course.printing")
    if printing.find_browser() is None:
        pytest.skip("no browser that prints")
    sys.path.insert(0, str(DOCS))
    try:
        importlib.import_module("symbols").main(tmp_path)
    finally:
        sys.path.remove(str(DOCS))
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "symbols.pdf").read_bytes())) == 1
    assert "LPAM" in (tmp_path / "symbols.html").read_text(encoding="utf-8")
