"""The prose of a notebook as blocks and sentences, and which of them a slide should show."""

from __future__ import annotations

import re
from collections.abc import Iterable

POINTS = 3  # on one slide: more are read instead of listened to
_LONGEST = 280  # characters of a point; who needs more reads the notes
_FENCE = re.compile(r"^(?:```|<details)")
_FENCE_END = re.compile(r"(?:^```|</details>)\s*$")
_SENTENCE = re.compile(r"(?<=[.!?])(?P<close>[*_\")]*)\s+(?=[A-Z*\"$`(\[])")
# What a full stop stands in without ending a sentence.
_WHOLE = re.compile(r"\$[^$]*\$|`[^`]*`|\[[^\]]*\]\([^)]*\)|\b(?:e\.g|i\.e|vs|cf|eq|et al|Fig)\.")
# "**Explain.**" says what a paragraph is for, and nothing that a slide should show.
_LABEL = re.compile(r"^\*\*\w+(?: \w+){0,3}[.:?]\*\*\s*")
# Stage directions are for who sits at the notebook.
_STAGE = re.compile(r"^(?:Here (?:is|are)|The (?:tables?|next cell|cells?)\b|`infoclip-lite|Try )")
_PREDICT = re.compile(r"\*\*(?:\w+ )?[Pp]redict\b|Before you run the next cell")


def blocks(text: str) -> list[str]:
    """Paragraphs, headings, formulas, lists, tables and code of a Markdown text, each whole.

    >>> blocks("# A\\nOne\\nline.\\n\\n$$x$$\\n- a\\n- b")
    ['# A', 'One\\nline.', '$$x$$', '- a\\n- b']
    """
    found: list[list[str]] = []
    fence = False
    kind = ""
    for line in text.splitlines():
        if fence:
            found[-1].append(line)
            fence = not _FENCE_END.search(line)
            continue
        before, kind = kind, _kind(line, kind)
        if kind in ("", "blank"):
            continue
        if kind != before or kind == "heading":
            found.append([])
        found[-1].append(line)
        fence = kind == "fence" and not (line.startswith("<details") and "</details>" in line)
        if kind == "formula" and (line.count("$$") == 2 or (line.endswith("$$") and len(found[-1]) > 1)):
            kind = "blank"
    return ["\n".join(lines) for lines in found]


def _kind(line: str, before: str) -> str:
    """What a line is, given what the line before it was."""
    starts = (
        ("#", "heading"),
        ("$$", "formula"),
        ("|", "table"),
        ("- ", "list"),
    )
    if not line.strip():
        return before if before == "formula" else "blank"
    if _FENCE.match(line):
        return "fence"
    for start, kind in starts:
        if line.startswith(start):
            return kind
    if re.match(r"\d+\. ", line):
        return "list"
    # A line goes on with what it stands under, except under a heading, which is one line.
    return before if before in ("formula", "list", "paragraph") else "paragraph"


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, its lines joined.

    >>> sentences("It is *so*. See [a. B](c.d), e.g. this.\\nAnd $x. Y$ too.")
    ['It is *so*.', 'See [a. B](c.d), e.g. this.', 'And $x. Y$ too.']
    """
    kept: list[str] = []

    def hide(match: re.Match[str]) -> str:
        kept.append(match.group())
        return f"\x00{len(kept) - 1}\x00"

    joined = _WHOLE.sub(hide, " ".join(paragraph.split()))
    parts = _SENTENCE.sub(lambda match: f"{match['close']}\x01", joined).split("\x01")
    return [re.sub(r"\x00(\d+)\x00", lambda match: kept[int(match[1])], part) for part in parts]


def items(block: str) -> list[str]:
    """The items of a Markdown list, each on one line and without its sign."""
    lines = re.split(r"^(?:- |\d+\. )", block, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in lines if line.strip()]


def is_prediction(block: str) -> bool:
    """Whether a paragraph asks the reader for a guess."""
    return bool(_PREDICT.search(block)) and not block.startswith("#")


def is_prose(block: str) -> bool:
    """Whether a block is sentences, and neither heading, formula, table, list, code nor caption."""
    return _kind(block.splitlines()[0], "") == "paragraph" and not block.startswith("*Figure")


def key_points(texts: Iterable[str], most: int = POINTS) -> list[str]:
    """What a slide says of some blocks.

    Ours: authors set in bold what a reader should keep, so sentences with bold words come first; a list is
    there to be seen; where neither is, the first sentence says what it is about.

    Args:
        texts: blocks in order.
        most: how many points at most.

    Returns:
        Sentences in Markdown, in the order of the text.

    >>> key_points(["One. Two with a **word**. Three.", "- four. More.\\n- five"])
    ['Two with a **word**.', 'four. More.', 'five']
    """
    said = [text for text in texts if is_prose(text) and not is_prediction(text)]
    candidates: list[tuple[bool, str]] = []
    for text in texts:
        if _kind(text.splitlines()[0], "") == "list":
            candidates += [(True, _shortened(item)) for item in items(text)]
        elif text in said:
            spoken = [one for one in sentences(_LABEL.sub("", text)) if not _STAGE.match(one)]
            candidates += [("**" in sentence, sentence) for sentence in spoken]
    chosen = [point for marked, point in candidates if marked and len(point) <= _LONGEST][:most]
    if not chosen:
        plain = [point for marked, point in candidates if not marked][:2]
        # A first sentence that is short leans on the second.
        chosen = plain[:1] if plain and len(plain[0]) >= 60 else [" ".join(plain)] if plain else []
    return chosen


def _shortened(item: str) -> str:
    """A list's item, cut behind the sentence with which it gets too long."""
    text = ""
    for sentence in sentences(item):
        if len(text) > 40 and len(text) + len(sentence) > 160:
            break
        text = f"{text} {sentence}".strip()
    return text
