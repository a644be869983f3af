"""Formulas as MathML, which browsers draw themselves: no script, no font, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

# Before a delimiter that is a command, such as \langle: the converter would print that command's name.
_SIZE = re.compile(r"\\[bB]igg?[lrm]?(?=\\)")

WORD_JOINER = "\u2060"


def converted(formula: str, display: str) -> str:
    """A formula of LaTeX as MathML.

    Args:
        formula: without its dollars.
        display: "inline" or "block".
    """
    return convert(_SIZE.sub("", formula), display=display)


def inline(writer: Any, node: nodes.math) -> None:
    """A formula within a line, from which a comma behind it does not break away."""
    writer.body.append(converted(node.astext(), "inline") + WORD_JOINER)
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """A formula on a line of its own, which scrolls where the window is narrow."""
    writer.body.append(f'<div class="math-block">{converted(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer and choose it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
