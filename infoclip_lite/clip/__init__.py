"""CLIP models with a dense read-out."""

from .loading import load_clip, read_card, save_clip
from .model import DenseCLIP

__all__ = ["DenseCLIP", "load_clip", "read_card", "save_clip"]
