"""Prompt templates: sentences with one {} for the word."""

from __future__ import annotations

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

SIMPLE_TEMPLATES = ("a photo of a {}",)
COLLAGE_TEMPLATES = ("a photo of a {}", "a photo of {}", "a picture of a {}", "a collage of {}")
CATSEG_TEMPLATES = ("A photo of a {} in the scene",)  # METHODS of CAT-Seg and InfoCLIP
IMAGENET_TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)  # CLIP's 80
