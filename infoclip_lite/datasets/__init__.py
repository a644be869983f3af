"""Data sets of pictures, masks and captions."""

from .collage import Collage, Scene
from .transforms import read_image

__all__ = ["Collage", "Scene", "read_image"]
