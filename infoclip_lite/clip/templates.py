"""Prompt templates: sentences with one {} for the word."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

SIMPLE_TEMPLATES = ("a photo of a {}",)
COLLAGE_TEMPLATES = ("a photo of a {}", "a photo of {}", "a picture of a {}", "a collage of {}")
CATSEG_TEMPLATES = ("A photo of a {} in the scene",)  # of CAT-Seg and InfoCLIP [S]


@cache
def imagenet_templates() -> tuple[str, ...]:
    """CLIP's 80 templates for ImageNet, as open_clip has them."""
    # Here and not above: open_clip takes seconds to load.
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


@cache
def maskclip_templates() -> tuple[str, ...]:
    """MaskCLIP's 85: CLIP's for ImageNet, and five that place the word in a scene."""
    subjects = ("there is a", "there is the", "this is a", "this is the", "this is one")
    return (*imagenet_templates(), *(f"{subject} {{}} in the scene." for subject in subjects))


# What a protocol calls a list of prompts.
TEMPLATES: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet": imagenet_templates,
    "maskclip": maskclip_templates,
}


def __getattr__(name: str) -> tuple[str, ...]:
    # A constant to its users, read when it is first asked for.
    if name == "IMAGENET_TEMPLATES":
        return imagenet_templates()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
