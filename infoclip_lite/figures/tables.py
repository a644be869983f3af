"""Numbers as a table that a notebook renders: the same on every run, on light and on dark pages."""

from __future__ import annotations

import html
import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..core.statistics import Interval, Row, read_interval

MISSING = "–"  # was not measured
_DIGITS = 2  # after the point, where nothing else is asked


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; the last value of a notebook's cell is drawn as a table.

    Attributes:
        head: names of the columns.
        rows: one text a column.
        right: for each column, whether it is set to the right, as numbers are.
        caption: above the table, or "".
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]
    caption: str = ""

    def _repr_html_(self) -> str:
        # No colour and no background: the page's own theme knows whether it is dark, and looks for
        # this class. No generated ids either, or no two runs would store the same text.
        parts = ['<table class="dataframe">']
        if self.caption:
            parts.append(f"<caption>{html.escape(self.caption, quote=False)}</caption>")
        parts.append(f"<thead>\n{self._line('th', self.head)}\n</thead>")
        parts.append("<tbody>")
        parts += [self._line("td", row) for row in self.rows]
        parts.append("</tbody>\n</table>")
        return "\n".join(parts)

    def _line(self, tag: str, texts: Sequence[str]) -> str:
        sides = ["right" if right else "left" for right in self.right]
        scope = ' scope="col"' if tag == "th" else ""
        cells = [
            f'<{tag}{scope} style="text-align: {side}">{html.escape(text, quote=False)}</{tag}>'
            for text, side in zip(texts, sides, strict=True)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    def __repr__(self) -> str:
        """The same table for a terminal."""
        every = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in every) for column in range(len(self.head))]
        lines = [self.caption] if self.caption else []
        for row in every:
            padded = [
                text.rjust(width) if right else text.ljust(width)
                for text, width, right in zip(row, widths, self.right, strict=True)
            ]
            lines.append("  ".join(padded).rstrip())
        return "\n".join(lines)


def table(
    rows: Sequence[Mapping[str, object]],
    *,
    digits: int | Mapping[str, int] = _DIGITS,
    signed: Collection[str] = (),
    caption: str = "",
) -> Table:
    """Rows of values as a table: numbers rounded and set to the right, words to the left.

    Round to what is stable from machine to machine, and no finer: a stored table is compared as text.

    Args:
        rows: one mapping a row, from the column's name to its value, all with the same columns. Floats are
            rounded, whole numbers and words stay; an `Interval` becomes "mean ± half its width"; None and
            NaN become a dash.
        digits: after the point, of all columns or of those named (others have two).
        signed: columns whose positive numbers get a plus sign, such as errors and differences.
        caption: a line above the table: what was measured, in which unit.

    Raises:
        ValueError: no rows, rows with different columns, or `digits` or `signed` of a column that is not
            there.

    >>> rows = [{"estimator": "ksg", "error": -0.0004}, {"estimator": "club", "error": 1.24}]
    >>> table(rows, signed=["error"])
    estimator  error
    ksg         0.00
    club       +1.24
    """
    head = list(rows[0]) if rows else []
    if not head or any(list(row) != head for row in rows):
        raise ValueError(
            f"got rows with the columns {[list(row) for row in rows][:3]}; "
            "expected at least one row, and the same columns in the same order in each"
        )
    named = digits if isinstance(digits, Mapping) else dict.fromkeys(head, digits)
    if unknown := sorted({*named, *signed} - {*head}):
        raise ValueError(f"got digits or signs of {unknown}, expected some of the columns {head}")
    texts = [
        [_text(value, named.get(name, _DIGITS), name in signed) for name, value in row.items()]
        for row in rows
    ]
    right = [all(_is_number(row[name]) for row in rows) for name in head]
    return Table(head, texts, right, caption)


def percent(cell: Row | float | None) -> Interval | float | None:
    """A share, or a report's row of shares, as a table's cell in percent.

    Args:
        cell: a row {"mean", "half"} of no width, where nothing was drawn, becomes a number alone; None, what
            was not measured, stays None.
    """
    if isinstance(cell, Mapping):
        return read_interval(cell).percent if cell["half"] else 100 * float(cell["mean"])
    return None if cell is None else 100 * cell


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, (numbers.Real, Interval))


def _text(value: object, digits: int, signed: bool) -> str:
    if isinstance(value, Interval):
        return f"{_text(value.mean, digits, signed)} ± {_text(value.ci95, digits, False)}"
    if value is None:
        return MISSING
    if not isinstance(value, numbers.Real):
        return str(value)
    if math.isnan(value):
        return MISSING
    if isinstance(value, numbers.Integral):
        return f"{int(value):+d}" if signed and value else str(value)
    # What rounds to zero has no sign: rounding errors differ from machine to machine, and so would it.
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"
