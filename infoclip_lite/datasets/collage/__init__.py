"""Collage: scenes, and the pack of pictures they are made of."""

from .scenes import SPLITS, Collage, Scene, all_nouns, describe, seen_nouns, stuff, unseen_nouns

__all__ = ["SPLITS", "Collage", "Scene", "all_nouns", "describe", "seen_nouns", "stuff", "unseen_nouns"]
