"""Markdown and stored outputs as HTML that needs nothing else: formulas are MathML, pictures are in it."""

from __future__ import annotations

import base64
import html
import io
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..links import words_alone
from .formulas import mathml

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
NEEDED = "slides need the docs extra (Markdown and formulas); install with `pip install -e .[docs]`"
_BOX = re.compile(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"')
# Colours that an output may bring do not know whether the room is dark.
_STYLE = re.compile(r"<(style|script)\b.*?</\1>", re.DOTALL | re.IGNORECASE)


@cache
def _markdown() -> MarkdownIt:
    try:
        import latex2mathml  # noqa: F401
        from markdown_it import MarkdownIt
        from mdit_py_plugins.dollarmath import dollarmath_plugin
    except ImportError as error:
        raise ImportError(NEEDED) from error

    def formula(content: str, options: dict[str, Any]) -> str:
        return mathml(content, "block" if options["display_mode"] else "inline")

    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    dollarmath_plugin(markdown, renderer=formula, double_inline=True)
    return markdown


def to_html(text: str) -> str:
    """Markdown with formulas between dollars as HTML; links that lead beside the notebook become their words.

    Args:
        text: as a notebook's cell has it.

    Raises:
        ImportError: the `docs` extra is not installed.
    """
    # A deck is handed on by itself: what stands beside the notebook is not beside the deck.
    return str(_markdown().render(words_alone(text))).strip()


def sentence_html(text: str) -> str:
    """The same for a heading or a sentence: "1. This" is no list there."""
    return str(_markdown().renderInline(words_alone(text))).strip()


def figure(output: dict[str, Any]) -> str:
    """A stored output as a figure or a table; empty where it is neither.

    Args:
        output: of a code cell, as nbformat has it.
    """
    data = output.get("data", {})
    for kind in PICTURES:
        if kind in data:
            alt = html.escape(output.get("metadata", {}).get(kind, {}).get("alt", ""))
            content = _encoded(kind, _joined(data[kind]))
            return f'<img src="data:{kind};base64,{content}" alt="{alt}"{_natural(kind, content)}>'
    if "text/html" in data:
        return fitted(_STYLE.sub("", _joined(data["text/html"])))
    # Markdown that is a block of code is a source that the notebook shows: too long for a slide.
    if _joined(data.get("text/markdown", "```")).lstrip().startswith("|"):
        return fitted(to_html(_joined(data["text/markdown"])))
    return ""


def fitted(table: str) -> str:
    """A table whose letters are the smaller the more there are, so that it stays on its slide."""
    rows = [re.split(r"<t[dh][^>]*>", row)[1:] for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)]
    cells = [[len(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in rows]
    # A row of more than some eighty letters takes a second line.
    lines = sum(1 + sum(row) // 80 for row in cells)
    size = "small" if lines > 12 else "medium" if lines > 7 else ""
    return f'<div class="table {size}">{table}</div>'


def printed(output: dict[str, Any]) -> str:
    """What a cell printed, as text; empty for any other output."""
    return _joined(output["text"]).rstrip() if output.get("output_type") == "stream" else ""


def _natural(kind: str, content: str) -> str:
    """A picture's own width and shape as a style: it grows, but not until its dots can be counted."""
    raw = base64.b64decode(content)
    if kind == "image/svg+xml":
        box = _BOX.search(raw.decode())
        # A drawing has no dots; as wide as a slide, then.
        width, height = (float(box[1]), float(box[2])) if box else (16.0, 9.0)
        return f' style="--own: 900; --shape: {width / height:.3f}"'
    with Image.open(io.BytesIO(raw)) as picture:
        return f' style="--own: {picture.width}; --shape: {picture.width / picture.height:.3f}"'


def _encoded(kind: str, content: str) -> str:
    if kind == "image/svg+xml":
        return base64.b64encode(content.encode()).decode()
    return "".join(content.split())


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
