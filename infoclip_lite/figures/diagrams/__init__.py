"""Diagrams of every architecture, drawn as SVG by code: `diagram("towers")` is the picture of a cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ...core.lookup import find
from . import clip, lessons, masks, objectives, readouts, segmentors, words
from .canvas import Canvas


class Plan(NamedTuple):
    """What a diagram is made of.

    Attributes:
        draw: puts its parts on a canvas.
        height: of the canvas in pixels.
        title: a short name.
        alt: what it shows, in sentences, for those who do not see it.
    """

    draw: Callable[[Canvas], None]
    height: int
    title: str
    alt: str


# What a cell calls a diagram.
DIAGRAMS: dict[str, Plan] = {
    "towers": Plan(clip.towers, 302, "CLIP's two towers", clip.TOWERS),
    "block": Plan(clip.block, 456, "A block and its read-outs", clip.BLOCK),
    "read_outs": Plan(readouts.read_outs, 482, "The family of read-outs", readouts.READ_OUTS),
    "catseg": Plan(segmentors.catseg, 336, "CAT-Seg", segmentors.CATSEG),
    "infoclip": Plan(objectives.infoclip, 418, "InfoCLIP in training", objectives.INFOCLIP),
    "chimera": Plan(segmentors.chimera, 352, "Chimera-Seg", segmentors.CHIMERA),
    "zsseg": Plan(masks.zsseg, 352, "ZSSeg", masks.ZSSEG),
    "split_matching": Plan(masks.split_matching, 352, "Split Matching", masks.SPLIT),
    "cascade": Plan(words.cascade, 406, "Cascade-CLIP", words.CASCADE),
    "clip_zss": Plan(lessons.clip_zss, 376, "CLIP-ZSS", lessons.CLIP_ZSS),
    "clsclip": Plan(words.clsclip, 362, "ClsCLIP", words.CLSCLIP),
    "pacl": Plan(lessons.pacl, 342, "PACL", lessons.PACL),
    "clip_es": Plan(lessons.clip_es, 394, "CLIP-ES", lessons.CLIP_ES),
    "points": Plan(lessons.points, 414, "Four lessons for points", lessons.POINTS),
    "global_to_local": Plan(objectives.global_to_local, 400, "Global to local", objectives.GLOBAL_TO_LOCAL),
    "selected_lessons": Plan(
        objectives.selected_lessons, 252, "Selected lessons", objectives.SELECTED_LESSONS
    ),
}


@dataclass(frozen=True, repr=False)
class Diagram:
    """A drawing that a notebook shows by itself.

    Attributes:
        name: key of DIAGRAMS.
        title: a short name.
        alt: what it shows, in sentences, for those who do not see it.
        svg: the file, as text.
    """

    name: str
    title: str
    alt: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        # Where a notebook is not trusted, or has no eyes, this is shown in place of the drawing.
        return f"{self.title}: {self.alt}"


def diagram(name: str) -> Diagram:
    """Draw an architecture.

    Args:
        name: key of DIAGRAMS: "towers", "block", "read_outs", "catseg", "infoclip", "chimera", "zsseg",
            "split_matching", "cascade", "clip_zss", "clsclip", "pacl", "clip_es", "points",
            "global_to_local" or "selected_lessons".

    Returns:
        The drawing, 700 pixels wide; the same text at every call.

    Raises:
        ValueError: no such diagram; the nearest is named.

    >>> diagram("towers").title
    "CLIP's two towers"
    """
    plan = find(DIAGRAMS, name, "diagram")
    canvas = Canvas(name, plan.height)
    plan.draw(canvas)
    return Diagram(name, plan.title, plan.alt, canvas.svg(plan.title, plan.alt))
