"""Collage: scenes, and the pack of pictures they are made of."""

from .captions import describe
from .photographs import Photograph, photographs
from .scenes import SPLITS, Collage, Scene
from .words import all_nouns, dev_nouns, seen_nouns, segmentation_nouns, stuff, unseen_nouns, voc_like

__all__ = [
    "SPLITS",
    "Collage",
    "Photograph",
    "Scene",
    "all_nouns",
    "describe",
    "dev_nouns",
    "photographs",
    "seen_nouns",
    "segmentation_nouns",
    "stuff",
    "unseen_nouns",
    "voc_like",
]
