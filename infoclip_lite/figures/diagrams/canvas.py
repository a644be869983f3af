"""A tiny SVG writer: boxes, arrows and labels on a card, as text that is the same at every run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

Point = tuple[float, float]

WIDTH = 700  # pixels, the width of a page's text
INK = "#1f2933"
# The page's own fonts would differ between notebook and site; these are on every machine, near enough alike.
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_FONT_SIZE = 13
_SMALLEST = 12  # pixels of a font: less cannot be read where the page is no wider than the drawing
_INDEX = re.compile(r"([_^])\{([^}]*)\}")


class Role(NamedTuple):
    """How a part is drawn that plays a role.

    Attributes:
        fill, edge: colours; "none" leaves the card's.
        says: its line in the legend.
    """

    fill: str
    edge: str
    says: str


class Line(NamedTuple):
    """How an arrow is drawn.

    Attributes:
        colour: of line and tip.
        thick: pixels.
        says: its line in the legend.
    """

    colour: str
    thick: float
    says: str


# One colour a role in all drawings. Fills are pale, so that dark ink on them can be read by everyone.
ROLES = {
    "data": Role("#ffffff", "#8a94a3", "computed"),
    "frozen": Role("#dbe3ee", "#4a5d78", "frozen"),
    "trained": Role("#ffe2bf", "#c96500", "trained"),
    "text": Role("#d6efda", "#2c7a39", "text"),
    "loss": Role("#fbd8d8", "#bf2026", "loss"),
    "absent": Role("none", "#aab3c0", "left out"),
}
# What runs along an arrow. A gradient runs against it, in the colour of the loss that it comes from.
ARROWS = {
    "signal": Line("#566273", 1.5, "signal"),
    "gradient": Line(ROLES["loss"].edge, 2.5, "gradient comes back"),
    "copy": Line(ROLES["frozen"].edge, 1.5, "copied"),
    "absent": Line(ROLES["absent"].edge, 1.5, "left out"),
}
_DASHED = {"copy", "absent"}


@dataclass(frozen=True)
class Box:
    """A rectangle that was drawn, for arrows to begin and end at.

    Attributes:
        x, y: its upper left corner.
        width, height: in pixels.
    """

    x: float
    y: float
    width: float
    height: float

    def left(self, along: float = 0.5) -> Point:
        """A point of the left edge, `along` of the way down."""
        return self.x, self.y + along * self.height

    def right(self, along: float = 0.5) -> Point:
        """A point of the right edge, `along` of the way down."""
        return self.x + self.width, self.y + along * self.height

    def top(self, along: float = 0.5) -> Point:
        """A point of the upper edge, `along` of the way to the right."""
        return self.x + along * self.width, self.y

    def bottom(self, along: float = 0.5) -> Point:
        """A point of the lower edge, `along` of the way to the right."""
        return self.x + along * self.width, self.y + self.height


class Canvas:
    """A drawing of WIDTH pixels that grows element by element; what comes first lies below.

    Labels know indices: "R_{T}" is set low, "k^{T}" high. Names with an underscore stay as they are.

    Args:
        name: of the drawing; makes its identifiers unlike those of others on a page.
        height: in pixels.
    """

    def __init__(self, name: str, height: int) -> None:
        self.name, self.height = name, height
        # A card of its own: the page below may be light or dark, and whoever shows it may not say which.
        self._parts = [
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" '
            'fill="#fdfdfb" stroke="#c9cfd8"/>'
        ]

    def box(
        self,
        corner: Point,
        size: Point,
        *lines: str,
        role: str = "data",
        edge: str | None = None,
        font: int = _FONT_SIZE,
        bold: bool = False,
        round_: bool = False,
    ) -> Box:
        """A box with its lines of text in the middle.

        Args:
            corner: upper left.
            size: width and height.
            lines: of text.
            role: of ROLES: its colours.
            edge: role that lends the edge's colour, such as "trained" for text that is trained.
            font: pixels.
            bold: text.
            round_: ends, as losses have.
        """
        box = Box(*corner, *size)
        look, rim = ROLES[role], ROLES[edge or role].edge
        thick = 2.5 if edge else 1.5
        radius = box.height / 2 if round_ else 5
        self._parts += [
            '<g class="box">',
            f'<rect {_place(box)} rx="{_number(radius)}" fill="{look.fill}" stroke="{rim}" '
            f'stroke-width="{thick}"{_dash(role)}/>',
        ]
        step = 1.25 * font
        first = box.y + box.height / 2 - step * (len(lines) - 1) / 2 + 0.36 * font
        for index, line in enumerate(lines):
            self.text((box.x + box.width / 2, first + step * index), line, font=font, bold=bold)
        self._parts.append("</g>")
        return box

    def loss(self, corner: Point, size: Point, *lines: str, font: int = _FONT_SIZE) -> Box:
        """A loss: a box with round ends."""
        return self.box(corner, size, *lines, role="loss", font=font, round_=True)

    def group(
        self, corner: Point, size: Point, label: str, *, role: str = "data", below: bool = False
    ) -> Box:
        """A frame around what belongs together, its name in the upper left corner or in the lower one."""
        box = Box(*corner, *size)
        self._parts.append(
            f'<rect class="group" {_place(box)} rx="8" fill="none" stroke="{ROLES[role].edge}" '
            'stroke-dasharray="2 3"/>'
        )
        line = box.bottom()[1] - 7 if below else box.y + 16
        self.text((box.x + 8, line), label, anchor="start")
        return box

    def text(
        self,
        place: Point,
        label: str,
        *,
        font: int = 12,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """A line of text.

        Args:
            place: where its baseline begins, ends or has its middle, as `anchor` says.
            label: what it says.
            font: pixels, 12 or more.
            anchor: "start", "middle" or "end".
            bold: letters.

        Raises:
            ValueError: letters that are too small to read.
        """
        if font < _SMALLEST:
            raise ValueError(f"got a font of {font} pixels for {label!r}; expected {_SMALLEST} or more")
        # What most labels share stands in the head of the file.
        look = "" if font == _FONT_SIZE else f' font-size="{font}"'
        look += "" if anchor == "middle" else f' text-anchor="{anchor}"'
        look += ' font-weight="bold"' if bold else ""
        x, y = map(_number, place)
        self._parts.append(f'<text x="{x}" y="{y}"{look}>{_marked(label)}</text>')

    def arrow(self, *points: Point, kind: str = "signal") -> None:
        """An arrow along points.

        Args:
            points: two or more, the corners of its way.
            kind: of ARROWS: what runs along it.
        """
        colour, thick, _ = ARROWS[kind]
        (x, y), (x_before, y_before) = points[-1], points[-2]
        length = 2.5 * thick + 4
        far = math.hypot(x - x_before, y - y_before)
        across, down = (x - x_before) / far, (y - y_before) / far
        base = (x - length * across, y - length * down)
        way = " ".join(f"{_number(a)},{_number(b)}" for a, b in (*points[:-1], base))
        self._parts += [
            f'<g class="arrow {kind}">',
            f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="{thick}" '
            f'stroke-linejoin="round"{_dash(kind)}/>',
        ]
        # The tip is drawn, and no marker: those are found by identifier, of which a page knows one each.
        side = 0.45 * length
        tip = [
            (x, y),
            (base[0] - side * down, base[1] + side * across),
            (base[0] + side * down, base[1] - side * across),
        ]
        outline = " ".join(f"{_number(a)},{_number(b)}" for a, b in tip)
        self._parts += [f'<polygon points="{outline}" fill="{colour}"/>', "</g>"]

    def across(self, start: Box, end: Box, *, at: float | None = None, kind: str = "signal") -> None:
        """A level arrow between two boxes, to the right or to the left.

        Args:
            start, end: where from and where to.
            at: height of the arrow; None is the middle of the lower box of the two.
            kind: of ARROWS.
        """
        flat = min(start, end, key=lambda box: box.height)
        y = flat.left()[1] if at is None else at
        x, goal = (start.right()[0], end.x) if start.x < end.x else (start.x, end.right()[0])
        self.arrow((x, y), (goal, y), kind=kind)

    def along(self, start: Box, end: Box, *, at: float | None = None, kind: str = "signal") -> None:
        """An upright arrow between two boxes, up or down.

        Args:
            start, end: where from and where to.
            at: its place from the left; None is the middle of the narrower box of the two.
            kind: of ARROWS.
        """
        narrow = min(start, end, key=lambda box: box.width)
        x = narrow.top()[0] if at is None else at
        y, goal = (start.bottom()[1], end.y) if start.y < end.y else (start.y, end.bottom()[1])
        self.arrow((x, y), (x, goal), kind=kind)

    def dot(self, place: Point, kind: str = "signal") -> None:
        """Where a way divides."""
        x, y = map(_number, place)
        self._parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{ARROWS[kind].colour}"/>')

    def mosaic(self, corner: Point, rows: Sequence[Sequence[bool]], *, cell: int, role: str) -> Box:
        """A grid of patches, some of them in the colours of a role, the others left out.

        Args:
            corner: upper left.
            rows: of marks.
            cell: side of a patch in pixels.
            role: of the marked ones.
        """
        for marked in (False, True):
            look = ROLES[role if marked else "absent"]
            # One path for all patches of a kind: a rectangle each would be most of the file.
            patches = [
                f"M{corner[0] + cell * column:g} {corner[1] + cell * index:g}h{cell}v{cell}h-{cell}z"
                for index, row in enumerate(rows)
                for column, mark in enumerate(row)
                if mark == marked
            ]
            if patches:
                outline = "".join(patches)
                self._parts.append(f'<path d="{outline}" fill="{look.fill}" stroke="{look.edge}"/>')
        return Box(*corner, cell * len(rows[0]), cell * len(rows))

    def legend(self, entries: Sequence[str], *, says: dict[str, str] | None = None) -> None:
        """What colours and lines mean, along the lower edge.

        Args:
            entries: names of ROLES and ARROWS, from the left; "text+trained" is text with the edge of what
                is trained, and says both.
            says: other words for an entry, by its name.
        """
        x, y = 20.0, self.height - 18.0
        for entry in entries:
            role, _, edge = entry.partition("+")
            if role in ROLES:
                self._swatch(Box(x, y - 9, 20, 12), role, edge or None)
                words = f"{ROLES[role].says}, {ROLES[edge].says}" if edge else ROLES[role].says
            else:
                self.arrow((x, y - 3), (x + 22, y - 3), kind=role)
                words = ARROWS[role].says
            words = (says or {}).get(entry, words)
            self.text((x + 28, y + 1), words, anchor="start")
            x += 28 + _estimated_width(words) + 18

    def _swatch(self, box: Box, role: str, edge: str | None) -> None:
        rim = ROLES[edge or role].edge
        radius = 6 if role == "loss" else 3
        self._parts.append(
            f'<rect {_place(box)} rx="{radius}" fill="{ROLES[role].fill}" stroke="{rim}" '
            f'stroke-width="{2.5 if edge else 1.5}"{_dash(role)}/>'
        )

    def svg(self, title: str, description: str) -> str:
        """The whole file.

        Args:
            title: a short name, for those who do not see it.
            description: what it shows, for them too.

        Returns:
            SVG, in one line.
        """
        named, told = f"diagram-{self.name}-title", f"diagram-{self.name}-description"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'width="{WIDTH}" height="{self.height}" style="max-width: 100%; height: auto" '
            f'font-family={quoteattr(_FONT)} font-size="{_FONT_SIZE}" text-anchor="middle" fill="{INK}" '
            f'role="img" aria-labelledby="{named} {told}">'
        )
        words = [
            f'<title id="{named}">{escape(title)}</title>',
            f'<desc id="{told}">{escape(description)}</desc>',
        ]
        # Without line breaks: a notebook stores each line with quotes and an indent.
        return "".join([head, *words, *self._parts, "</svg>"])


def _number(value: float) -> str:
    """Rounded to tenths of a pixel, so that no machine's last digit gets into a file."""
    return f"{round(value, 1):g}"


def _place(box: Box) -> str:
    x, y, width, height = map(_number, (box.x, box.y, box.width, box.height))
    return f'x="{x}" y="{y}" width="{width}" height="{height}"'


def _dash(kind: str) -> str:
    return ' stroke-dasharray="5 4"' if kind in _DASHED else ""


def _marked(label: str) -> str:
    """Text of SVG in which indices are set lower or higher."""
    pieces, end, lift = [], 0, 0
    for found in _INDEX.finditer(label):
        pieces.append(_span(label[end : found.start()], -lift))
        lift = 3 if found[1] == "_" else -4
        pieces.append(f'<tspan dy="{lift}" font-size="{_SMALLEST}">{escape(found[2])}</tspan>')
        end = found.end()
    pieces.append(_span(label[end:], -lift))
    return "".join(pieces)


def _span(words: str, shift: int) -> str:
    """Words that stand on the line again after an index."""
    if not words or not shift:
        return escape(words)
    return f'<tspan dy="{shift}">{escape(words)}</tspan>'


def _estimated_width(words: str) -> float:
    """Pixels of a line in the smallest font; letters of the widest of our fonts are 0.6 of it on average."""
    return 0.6 * _SMALLEST * len(words)
