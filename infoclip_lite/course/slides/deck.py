"""The slides of a chapter, from its headings, its key sentences and its stored figures."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..coursework import read_exercises
from . import prose
from .markup import figure, fitted, printed, sentence_html, to_html

if TYPE_CHECKING:
    from nbformat import NotebookNode

_LINES, _COLUMNS = 22, 100  # of a printed output that can be read from the last row
_BELOW, _FULL = 5, 12  # lines that may stand below words, and above them
_LEAD = 200  # characters above a figure
_SKIPPED = ("Exercises", "Summary", "References")
_NAVIGATION = re.compile(r"\n*^\*\*Chapters\*\*: .*$", re.MULTILINE)


@dataclass
class Slide:
    """One slide.

    Attributes:
        heading: Markdown.
        words: the notebook's blocks that it speaks of, in Markdown; they are the speaker's notes.
        lead: blocks that stand above the evidence.
        evidence: HTML of a figure or a table, or what a cell printed.
        caption: of the figure, Markdown.
    """

    heading: str
    words: list[str] = field(default_factory=list)
    lead: list[str] = field(default_factory=list)
    evidence: str = ""
    caption: str = ""


def read_slides(notebook: NotebookNode) -> list[str]:
    """The slides of a chapter as HTML, the title first, exercises and summary last.

    Args:
        notebook: as nbformat reads it, executed; its first cell is the title.

    Raises:
        ImportError: the `docs` extra is not installed.
    """
    title, *rest = notebook["cells"]
    slides = [slide for slide in _sections(rest) if slide.words or slide.evidence]
    return [*_opening(title["source"]), *map(_body, slides), *_closing(notebook)]


def _sections(cells: list[NotebookNode]) -> list[Slide]:
    slides = [Slide("Before we begin")]
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for block in prose.blocks(cell["source"]):
                if block.startswith("## ") and block[3:] in _SKIPPED:
                    return slides
                _say(slides, block)
        else:
            for output in cell.get("outputs", []):
                _show(slides, figure(output), printed(output))
    return slides


def _say(slides: list[Slide], block: str) -> None:
    """Put a block of words where it belongs: on the slide that is open, or on a new one."""
    if block.startswith("#"):
        slides.append(Slide(block.lstrip("# ")))
    elif block.startswith("*Figure"):
        slides[-1].caption = block.strip("*")
    # A prediction is asked before anything is shown.
    elif prose.is_prediction(block) and (slides[-1].evidence or _predicts(slides[-1])):
        slides.append(Slide(slides[-1].heading, [block]))
    elif slides[-1].words and _unfinished(slides[-1].words[-1]):
        slides[-1].words[-1] += f"\n\n{block}"
    elif slides[-1].evidence.count("\n") >= _FULL and slides[-1].evidence.startswith("<pre"):
        slides.append(Slide(slides[-1].heading, [block]))
    else:
        slides[-1].words.append(block)


def _unfinished(block: str) -> bool:
    """Whether what is to be predicted follows in a list."""
    return prose.is_prediction(block) and not block.rstrip().endswith((".", "?", "!", "*", ")"))


def _show(slides: list[Slide], drawn: str, said: str) -> None:
    """Put an output beside the words before it; a second one gets a slide of its own."""
    lines = said.splitlines()
    short = 0 < len(lines) <= _LINES and max(map(len, lines)) <= _COLUMNS
    # Ten lines, and ninety letters in each, are what a slide has room for.
    size = ' class="small"' if len(lines) > 10 or max(map(len, lines), default=0) > 88 else ""
    evidence = drawn or (f"<pre{size}>{html.escape(said)}</pre>" if short else "")
    if not evidence:
        return
    here = slides[-1]
    if drawn and not here.evidence and _short(here):
        here.lead, here.words = here.words, []
    elif here.evidence and not drawn:
        return  # what is printed beside a figure, or after other numbers, is for the notebook
    elif here.evidence or (here.words and (drawn or len(lines) > _BELOW)):
        slides.append(Slide(here.heading))
    slides[-1].evidence = evidence


def _short(slide: Slide) -> bool:
    """Whether what was said so far fits above a figure, and nobody should think before it is shown."""
    points = prose.key_points(slide.words)
    kinds = {block[:1] for block in slide.words} & {"$", "|"}
    return not (_predicts(slide) or kinds) and sum(map(len, points)) <= _LEAD and len(points) <= 1


def _predicts(slide: Slide) -> bool:
    return any(map(prose.is_prediction, slide.words))


def _body(slide: Slide) -> str:
    """A slide as HTML. What explains a figure, and what answers a prediction, comes a step later."""
    told = _listed(slide.words)
    formulas = "".join([to_html(block) for block in slide.words if block.startswith("$$")][:2])
    if slide.evidence and not (slide.evidence.startswith("<pre") and slide.words):
        lead = " ".join(f"<p>{sentence_html(point)}</p>" for point in prose.key_points(slide.lead))
        after = f'<div class="step">{told}{formulas}</div>' if told or formulas else ""
        body = lead + _figure(slide) + after
    else:
        tables = [fitted(to_html(block)) for block in slide.words if block.startswith("|")][:1]
        asked = [f'<div class="predict">{to_html(b)}</div>' for b in slide.words if prose.is_prediction(b)]
        shown = [f'<div class="step">{slide.evidence}</div>'] if slide.evidence else []
        body = "".join([told, formulas, *tables, *asked, *shown])
    caption = [f"*{slide.caption}*"] if slide.caption else []
    return _section(slide.heading, body, "\n\n".join(caption + slide.lead + slide.words))


def _listed(words: list[str]) -> str:
    points = [f"<li>{sentence_html(point)}</li>" for point in prose.key_points(words)]
    return f"<ul>{''.join(points)}</ul>" if points else ""


def _figure(slide: Slide) -> str:
    """The evidence with the first sentence of its caption; the rest is in the notes."""
    first = prose.sentences(slide.caption.removeprefix("Figure: "))[0] if slide.caption else ""
    # Only a picture knows its shape before it is drawn; a table takes the place that it needs.
    kind = "frame" if slide.evidence.startswith("<img") else ""
    caption = f"<figcaption>{sentence_html(first)}</figcaption>"
    return f'<figure><div class="{kind}">{slide.evidence}</div>{caption}</figure>'


def _section(heading: str, body: str, notes: str, kind: str = "") -> str:
    head = sentence_html(heading)
    aside = f'<aside class="notes">{to_html(notes)}</aside>' if notes else ""
    return f'<section class="slide {kind}"><h2>{head}</h2><div class="body">{body}</div>{aside}</section>'


def _opening(title: str) -> list[str]:
    """The title, and what is to be learnt."""
    heading, question, *rest = prose.blocks(_NAVIGATION.sub("", title))
    facts = [block for block in rest if re.match(r"\*\*(Time|Prerequisites)", block)]
    learnt = [block for block in rest if block.startswith("- ")]
    first = f'<p class="question">{sentence_html(question)}</p>'
    facts_html = f'<div class="facts">{"".join(map(to_html, facts))}</div>'
    slides = [_section(heading.lstrip("# "), first + facts_html, "", "title")]
    if learnt:
        slides.append(_section("What you will learn", "".join(map(to_html, learnt)), ""))
    return slides


def _closing(notebook: NotebookNode) -> list[str]:
    """The exercises as a table, and the summary."""
    rows = [
        f"<tr><td>{one.number}</td><td>{html.escape(one.title)}</td><td>{_stars(one.difficulty)}</td>"
        f"<td>{one.minutes} min</td></tr>"
        for one in read_exercises(notebook)
    ]
    head = "<tr><th></th><th>exercise</th><th>difficulty</th><th>time</th></tr>"
    slides = [_section("Exercises", f"<table>{head}{''.join(rows)}</table>", "")] if rows else []
    last = prose.blocks(_NAVIGATION.sub("", notebook["cells"][-1]["source"]))
    heads = {block[3:]: place for place, block in enumerate(last) if block.startswith("## ")}
    if "Summary" in heads:
        end = heads.get("References", len(last))
        said = last[heads["Summary"] + 1 : end]
        listed = [block for block in said if block.startswith("- ")] or said
        slides.append(_section("Summary", to_html("\n\n".join(listed)), "\n\n".join(last[end + 1 :])))
    return slides


def _stars(count: int) -> str:
    return f'<span aria-label="{count} of 3">{"★" * count}{"☆" * (3 - count)}</span>'
