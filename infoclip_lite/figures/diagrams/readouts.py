"""Every read-out as a variation of one block, those that look at earlier blocks or at words among them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from .canvas import Box, Canvas, Point

READ_OUTS = (
    "Every read-out as a variation of one block, a line each from the tokens on the left; what a line "
    "has no box for is left out. All take the values v and out_proj of the last block, and leave through "
    "ln_post and proj. vanilla, maskclip, cls_value and sclip keep a residual and the feed-forward layer "
    "(FFN); the others drop both, but for gem, which adds its attention to a path that began some blocks "
    "before. resclip mixes in the query-key attention of the middle blocks, and a second time, told the "
    "words, the patches that got the same one. cliper replaces the last block's attention by the sum of all "
    "earlier ones'. pearl turns keys onto queries (R)."
)


class Member(NamedTuple):
    """What a read-out is made of.

    Attributes:
        name: of `clip.readouts.READ_OUTS`.
        earlier: what it takes of earlier blocks, or "".
        weighs: whose inner products weigh the values in the last block, or "".
        residual: what is added again, or "".
        forward: whether the feed-forward layer is kept.
        told: whether its attention looks at the words.
    """

    name: str
    earlier: str
    weighs: str
    residual: str
    forward: bool
    told: bool = False


FAMILY = (
    Member("vanilla", "", "q · k", "+ x", True),
    Member("maskclip", "", "", "+ x", True),
    Member("cls_value", "", "", "+ x_{CLS}", True),
    Member("sclip", "", "q · q and k · k", "+ x", True),
    Member("value", "", "", "", False),
    Member("clearclip", "", "q · q", "", False),
    Member("naclip", "", "k · k + near", "", False),
    Member("pearl", "", "q · kR + k · k", "", False),
    Member("gem", "path of last half", "q · q, k · k, v · v", "+ path", False),
    Member("resclip", "middle: q · k", "k · k, near, words", "", False, told=True),
    Member("cliper", "sum of q · k", "", "", False),
)
# Columns, from the left.
_EARLIER, _WEIGHTS, _OUT, _RESIDUAL, _FORWARD, _WAY_OUT = 106.0, 248.0, 392.0, 468.0, 542.0, 614.0
_BELOW, _LINE = 78.0, 33.0


def read_outs(canvas: Canvas) -> None:
    """A line for each read-out; what all share stands tall across them."""
    canvas.text((16, 32), "the last block, read in eleven ways", font=13, anchor="start", bold=True)
    tall = _LINE * len(FAMILY)
    out = canvas.box((_OUT, _BELOW), (64, tall), "times v,", "out_proj", role="frozen", font=12)
    way_out = canvas.box((_WAY_OUT, _BELOW), (64, tall), "ln_post,", "proj", role="frozen", font=12)
    heads = (
        (_EARLIER + 65, "of earlier blocks"),
        (_WEIGHTS + 66, "attention: softmax of"),
        (_RESIDUAL + 31, "residual"),
        (_FORWARD + 30, "FFN"),
    )
    for x, head in heads:
        canvas.text((x, 66), head)
    canvas.text((16, 66), "read-out", anchor="start")
    for index, member in enumerate(FAMILY):
        _line(canvas, member, _BELOW + _LINE * (index + 0.5), out, way_out)
    canvas.legend(
        ("frozen", "data", "data+text"),
        says={"frozen": "frozen: CLIP's own weights", "data+text": "computed, told the words"},
    )


def _line(canvas: Canvas, member: Member, y: float, out: Box, way_out: Box) -> None:
    """A read-out's own parts, and its way through what all share."""
    canvas.text((16, y + 4), member.name, font=13, anchor="start", bold=True)
    edge = "text" if member.told else None
    before = [
        *_part(canvas, (_EARLIER, y), 130, member.earlier),
        *_part(canvas, (_WEIGHTS, y), 132, member.weighs, edge=edge),
    ]
    after = [
        *_part(canvas, (_RESIDUAL, y), 62, member.residual),
        *_part(canvas, (_FORWARD, y), 60, "kept" if member.forward else "", role="frozen"),
    ]
    stations = [*before, out, *after, way_out]
    canvas.arrow((94, y), (stations[0].x, y))
    for start, end in pairwise(stations):
        canvas.across(start, end, at=y)


def _part(
    canvas: Canvas, place: Point, width: float, label: str, *, role: str = "data", edge: str | None = None
) -> list[Box]:
    """A part of a line; none where it is left out."""
    if not label:
        return []
    return [canvas.box((place[0], place[1] - 13), (width, 26), label, role=role, edge=edge)]
