"""Segmentors: forward(images, text) -> logits (B, C, H, W) at the pictures' size.

A new one is a file (or a folder) in here and a line in the table.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..clip import DenseCLIP
from ..core.lookup import build, find, split_section
from .base import CRITERIA, Encoded, Segmentor, Target
from .cascade import CascadeSegmentor
from .catseg import AggregationConfig, CostAggregationSegmentor
from .chimera import ChimeraSeg
from .clip_teacher import CLIPTeacher
from .clsclip import ClsCLIP
from .pacl import PACL
from .split_matching import SplitMatching
from .zero_shot import ZeroShotSegmentor
from .zsseg import ZSSeg

__all__ = [
    "PACL",
    "SEGMENTORS",
    "AggregationConfig",
    "CLIPTeacher",
    "CascadeSegmentor",
    "ChimeraSeg",
    "ClsCLIP",
    "CostAggregationSegmentor",
    "Encoded",
    "Segmentor",
    "SplitMatching",
    "Target",
    "ZSSeg",
    "ZeroShotSegmentor",
    "build_segmentor",
]

# What a recipe calls a segmentor.
SEGMENTORS: dict[str, type[Segmentor]] = {
    "zero_shot": ZeroShotSegmentor,
    "catseg": CostAggregationSegmentor,
    "chimera": ChimeraSeg,
    "cascade": CascadeSegmentor,
    "zsseg": ZSSeg,
    "split_matching": SplitMatching,
    "clsclip": ClsCLIP,
    "clip_teacher": CLIPTeacher,
    "pacl": PACL,
}


def build_segmentor(
    section: Mapping[str, object], clip: DenseCLIP, prompt: str, loss: Mapping[str, object] | None = None
) -> Segmentor:
    """The segmentor that a recipe names; a head gets its first weights from torch's global generator.

    Args:
        section: {"name": one of SEGMENTORS, and its options}.
        clip: the model.
        prompt: the recipe's template of class names.
        loss: {"name": one of CRITERIA, and its options}; None takes the segmentor's own loss.

    Returns:
        The segmentor, its head not yet trained.

    Raises:
        ValueError: unknown names or options (the nearest is named), a pixel loss for a segmentor that
            owns its loss, or what the segmentor refuses.
    """
    name, options = split_section(section, "segmentor")
    kind = find(SEGMENTORS, name, "segmentor")
    segmentor = kind.from_section(clip, prompt, options, f"segmentor {name!r}")
    if loss is None:
        return segmentor
    # A pixel loss in the recipe of a segmentor that matches masks would be passed over in silence.
    if kind.loss is not Segmentor.loss:
        raise ValueError(
            f"got loss={dict(loss)} for segmentor {name!r}, which owns its loss; "
            "expected no `loss` in the recipe"
        )
    segmentor.criterion = build(CRITERIA, loss, what="loss")
    return segmentor
