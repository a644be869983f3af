"""Collage: scenes, and the pack of pictures they are made of."""

from .captions import describe
from .scenes import SPLITS, Collage, Scene
from .words import all_nouns, dev_nouns, seen_nouns, segmentation_nouns, stuff, unseen_nouns, voc_like

__all__ = [
    "SPLITS",
    "Collage",
    "Scene",
    "all_nouns",
    "describe",
    "dev_nouns",
    "seen_nouns",
    "segmentation_nouns",
    "stuff",
    "unseen_nouns",
    "voc_like",
]
