"""Formulas as MathML, which browsers draw themselves: no script, no font, no network."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

# Before a delimiter that is a command, such as \langle: the converter would print that command's name.
_SIZE = re.compile(r"\\[bB]igg?[lrm]?(?=\\)")
_MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", _MATHML)
# Browsers know letters of their own for these, and ignore the attribute that the converter writes.
_ALPHABETS = {"script": "SCRIPT", "double-struck": "DOUBLE-STRUCK"}
_BARS = "|‖"


def mathml(formula: str, display: str) -> str:
    """A formula of LaTeX as MathML that browsers draw as it is meant.

    Args:
        formula: without its dollars.
        display: "inline" or "block".

    Raises:
        ImportError: the `docs` extra is not installed.
    """
    from latex2mathml.converter import convert

    root = ElementTree.fromstring(convert(_SIZE.sub("", formula), display=display))
    every = list(root.iter())
    for element in every:
        _as_browsers_read(element)
    for element in every:
        # What takes any number of parts; a space within a fraction would be one part too many.
        if _tag(element) in ("math", "mrow", "mstyle", "mtd"):
            _space_functions(element)
    return ElementTree.tostring(root, encoding="unicode")


def _as_browsers_read(element: Element) -> None:
    """Letters of an alphabet as characters, named functions as names, and bars of a letter's height."""
    text = element.text or ""
    if (alphabet := _ALPHABETS.get(element.get("mathvariant", ""))) and len(text) == 1:
        name = unicodedata.name(text).replace("LATIN ", "").replace("LETTER ", "")
        for start in ("", "MATHEMATICAL "):  # a few letters were there before the alphabet was
            try:
                element.text = unicodedata.lookup(f"{start}{alphabet} {name}")
                del element.attrib["mathvariant"]
                break
            except KeyError:
                continue
    if _tag(element) == "mo" and len(text) > 1 and text.isalpha():
        element.tag = f"{{{_MATHML}}}mi"  # as an operator "softmax" would have a gap on either side
    if _tag(element) == "mo" and text in _BARS:
        element.attrib.setdefault("stretchy", "false")


def _space_functions(row: Element) -> None:
    """A thin space between a function's name and what stands beside it without a bracket: log x, not logx."""
    parts = list(row)
    gaps = [
        place
        for place, (left, right) in enumerate(pairwise(parts), 1)
        if (_is_function(left) and _begins(right)) or (_is_function(right) and _ends(left))
    ]
    for place in reversed(gaps):
        row.insert(place, Element(f"{{{_MATHML}}}mspace", width="0.167em"))


def _is_function(element: Element) -> bool:
    """Whether it is a name of several letters, perhaps with an index."""
    if _tag(element) in ("msub", "msup", "msubsup", "munder"):
        return _is_function(element[0])
    if _tag(element) == "mrow":  # letter by letter, as the converter sets an upright name
        letters = [each for each in element if each.get("mathvariant") == "normal"]
        return len(letters) == len(element) > 1
    return _tag(element) == "mi" and len(element.text or "") > 1 and (element.text or "").isalpha()


def _begins(element: Element) -> bool:
    if _tag(element) == "mrow" and len(element) and element[0].text == "(":
        return False
    return _tag(element) not in ("mo", "mspace", "mtext") or element.text in ("‖", "⟨")


def _ends(element: Element) -> bool:
    return _tag(element) not in ("mo", "mspace", "mtext") or element.text in (")", "]", "‖", "⟩")


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
