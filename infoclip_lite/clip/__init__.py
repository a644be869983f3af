"""CLIP models with a dense read-out."""

from .dense import DenseCLIP
from .loading import load_clip, read_card, save_clip

__all__ = ["DenseCLIP", "load_clip", "read_card", "save_clip"]
