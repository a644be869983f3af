"""What is measured: a segmentor, or something that has one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..segmentors.base import Segmentor


@runtime_checkable
class Trained(Protocol):
    """Something with a trained segmentor, such as the Run of `train`."""

    model: Segmentor


def as_segmentor(subject: object) -> Segmentor:
    """The segmentor itself, or the one inside.

    Raises:
        ValueError: neither a segmentor nor something that has one.
    """
    inside = subject.model if isinstance(subject, Trained) else subject
    # a CLIP has a .model as well, but open_clip's
    for candidate in (subject, inside):
        if isinstance(candidate, Segmentor):
            return candidate
    raise ValueError(
        f"got {type(subject).__name__}; expected a Segmentor, or a Run of `train`: "
        "wrap a CLIP as ZeroShotSegmentor(clip, read_outs); a class of your own derives from "
        "segmentors.Segmentor"
    )
