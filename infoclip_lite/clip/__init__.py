"""CLIP models with a dense read-out: one tower, one pass."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_face

if TYPE_CHECKING:
    from .loading import load_clip, read_card, save_clip
    from .model import DenseCLIP
else:
    __getattr__, __dir__ = lazy_face(
        __name__,
        {"DenseCLIP": "model", "load_clip": "loading", "read_card": "loading", "save_clip": "loading"},
    )

__all__ = ["DenseCLIP", "load_clip", "read_card", "save_clip"]
