"""What a training learns from where nobody drew masks: words or sentences of whole pictures.

A new kind is a class in a file of this folder, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...core.lookup import build
from .base import Supervision, WithoutMasks
from .captions import Captions, CaptionTuning
from .pseudo_masks import PseudoMasks, PseudoMaskSupervision

__all__ = [
    "SUPERVISIONS",
    "CaptionTuning",
    "Captions",
    "PseudoMaskSupervision",
    "PseudoMasks",
    "Supervision",
    "WithoutMasks",
    "build_supervision",
]

# What a recipe calls it.
SUPERVISIONS: dict[str, type[Supervision]] = {"clip_es": PseudoMaskSupervision, "captions": Captions}


def build_supervision(section: Mapping[str, object] | None) -> Supervision | None:
    """What a recipe says of it.

    Args:
        section: {"name": one of SUPERVISIONS, and its options}; None: the data set's masks.

    Returns:
        The supervision, or None for masks.

    Raises:
        ValueError: an unknown name or option (the nearest is named), or a value that it refuses.
    """
    return None if section is None else build(SUPERVISIONS, section, what="supervision")
