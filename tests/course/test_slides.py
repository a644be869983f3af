"""Slides are made of headings, key sentences and stored figures, and load nothing."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from infoclip_lite.cli import main
from infoclip_lite.course import printing
from infoclip_lite.course.slides import write_slides
from infoclip_lite.course.slides.prose import blocks, is_prediction, key_points, sentences

pytest.importorskip("mdit_py_plugins", reason="the docs extra is not installed")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
TITLE = "# 98. A title\n\n*A question?*\n\n**Time**: a day to run.\n\n**Chapters**: [x](x.ipynb) →"
CLOSE = "## Summary\n\n- All is said.\n\n## References\n\n- A paper."


def picture() -> Any:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, format="PNG")
    content = base64.b64encode(buffer.getvalue()).decode()
    return new_output(
        "display_data", {"image/png": content}, metadata={"image/png": {"alt": "Figure: a <b>."}}
    )


def printed(text: str) -> Any:
    return new_output("stream", text=text)


def deck(tmp_path: Path, *cells: Any) -> list[str]:
    """The slides of a notebook of some cells between a title and a summary."""
    path = tmp_path / "98_x.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell(TITLE), *cells, new_markdown_cell(CLOSE)]), path)
    (page,) = write_slides([path], tmp_path)
    return re.findall(r"<section.*?</section>", page.read_text(encoding="utf-8"), re.DOTALL)


def test_a_chapter_becomes_title_sections_and_summary(tmp_path: Path) -> None:
    words = new_markdown_cell(
        "## 1. A part\n\nPlain. A **word** to keep, see [card](../docs/model_card.md). More."
    )
    slides = deck(tmp_path, words)
    assert ["<h2>98. A title" in slides[0], "<h2>1. A part" in slides[1], "<h2>Summary" in slides[2]] == [
        True
    ] * 3
    assert "A question?" in slides[0] and "x.ipynb" not in slides[0]
    shown, notes = slides[1].split('<aside class="notes">')
    assert "<strong>word</strong> to keep, see card." in shown and "Plain." not in shown
    assert "Plain." in notes and "More." in notes and "A paper." in slides[2]


def test_what_is_to_be_predicted_comes_before_what_answers_it(tmp_path: Path) -> None:
    asked = new_markdown_cell("## 1. A part\n\n**Predict.** Up or down?")
    figure = new_code_cell("draw()", outputs=[picture()])
    told = new_markdown_cell("*Figure: a line. It rises.*\n\nIt went **up**.")
    _, question, answer, _ = deck(tmp_path, asked, figure, told)
    assert "Up or down?" in question and "<img" not in question
    assert answer.index("<img") < answer.index('class="step"') < answer.index("<strong>up</strong>")
    assert 'alt="Figure: a &lt;b&gt;."' in answer and "<figcaption>a line.</figcaption>" in answer


def test_a_number_that_is_printed_is_a_step_after_its_question(tmp_path: Path) -> None:
    asked = new_markdown_cell("## 1. A part\n\n**Predict.** How many?")
    _, slide, _ = deck(tmp_path, asked, new_code_cell("f()", outputs=[printed("a < b: 7\n")]))
    assert slide.index("How many?") < slide.index('<div class="step"><pre>a &lt; b: 7</pre>')


def test_a_long_print_and_a_source_that_is_shown_stay_in_the_notebook(tmp_path: Path) -> None:
    source = new_output("execute_result", {"text/markdown": "```python\nx\n```"}, execution_count=1)
    cell = new_code_cell("f()", outputs=[printed("line\n" * 40), source])
    assert len(deck(tmp_path, new_markdown_cell("## 1. A part\n\nSaid."), cell)) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_of_a_chapter_is_on_a_slide_and_nothing_is_loaded(path: Path, tmp_path: Path) -> None:
    page = write_slides([path], tmp_path)[0].read_text(encoding="utf-8")
    drawn = sum(map(pictures, nbformat.read(path, as_version=4).cells))
    assert page.count("<img src=") == drawn
    assert re.findall(r'(?:src|href)="(?!data:|https?://)[^"]*"', page) == []
    assert not re.search(r"<(?:script|link|iframe|img)[^>]+(?:src|href)=\"http", page)
    words = re.sub(r"<(script|style|pre|code)\b.*?</\1>|alt=\"[^\"]*\"", "", page, flags=re.DOTALL)
    assert "$" not in words, "a formula is not drawn"


def pictures(cell: Any) -> int:
    """How many a cell drew."""
    kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
    return sum(kind.startswith("image/") for kind in kinds)


def test_blocks_keep_lists_formulas_and_folded_parts_whole() -> None:
    text = (
        "## A\nOne.\n\n- a\n  b\n- c\n\n$$x\n= y$$\nTwo.\n\n<details>\n\nfolded\n\n</details>\n| a |\n|---|"
    )
    folded = "<details>\n\nfolded\n\n</details>"
    assert blocks(text) == ["## A", "One.", "- a\n  b\n- c", "$$x\n= y$$", "Two.", folded, "| a |\n|---|"]


def test_sentences_do_not_end_within_formulas_code_or_abbreviations() -> None:
    text = 'See eq. (3), i.e. Kraskov et al. And `a. B` holds. "So?" Yes.'
    assert sentences(text) == ["See eq. (3), i.e. Kraskov et al. And `a. B` holds.", '"So?"', "Yes."]


def test_points_leave_labels_predictions_and_stage_directions_out() -> None:
    assert key_points(["**Explain.** It **is**. Not.", "**Predict.** A **guess**?"]) == ["It **is**."]
    assert key_points(
        ["The next cell draws it. It is a long sentence which says what the section is about."]
    ) == ["It is a long sentence which says what the section is about."]
    assert key_points([]) == [] and is_prediction("Now **predict** it.") and not is_prediction("## Predict")


def test_a_notebook_without_a_title_is_refused(tmp_path: Path) -> None:
    nbformat.write(new_notebook(cells=[new_markdown_cell("Text.")]), tmp_path / "a.ipynb")
    with pytest.raises(ValueError, match="a.ipynb: the first cell has no '# title'"):
        write_slides([tmp_path / "a.ipynb"], tmp_path)


def test_without_a_browser_there_are_slides_and_a_word_about_the_pdf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(printing, "BROWSERS", ("no-such-browser",))
    main(["notebooks", "slides", "--files", str(NOTEBOOKS[0]), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert (tmp_path / "slides" / f"{NOTEBOOKS[0].stem}.html").exists() and "no PDF: Chromium" in said
    with pytest.raises(FileNotFoundError, match="expected one to print PDF"):
        printing.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf")


@pytest.mark.skipif(sys.platform == "win32", reason="a browser of one line of shell")
def test_a_browser_that_prints_nothing_is_told_of_and_leaves_no_file(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\necho out of paper >&2\n")
    browser.chmod(0o755)
    (tmp_path / "a.html").write_text("<p>a</p>")
    with pytest.raises(OSError, match="printed no a.pdf; it says: out of paper"):
        printing.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf", str(browser))
    assert not (tmp_path / "a.pdf").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.html", "browser"]
