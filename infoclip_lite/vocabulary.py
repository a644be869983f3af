"""Words: class names with synonyms, prompt templates, seen and unseen classes, and checks of what a user types."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

SIMPLE_TEMPLATES = ("a photo of a {}",)
COLLAGE_TEMPLATES = ("a photo of a {}", "a photo of {}", "a picture of a {}", "a collage of {}")
CATSEG_TEMPLATES = ("A photo of a {} in the scene",)  # METHODS of CAT-Seg and InfoCLIP
IMAGENET_TEMPLATES = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)  # CLIP's 80

# Unseen classes of generalised zero-shot segmentation (METHODS section 4; the same as in ZegCLIP's code).
VOC_UNSEEN = ("pottedplant", "sheep", "sofa", "train", "tvmonitor")
COCO_STUFF_UNSEEN = (
    *("cow", "giraffe", "suitcase", "frisbee", "skateboard", "carrot", "scissors", "cardboard", "clouds", "grass"),
    *("playingfield", "river", "road", "tree", "wall-concrete"),
)


class ClassTable(NamedTuple):
    """The classes of a data set, in the order of their ids.

    Attributes:
        labels: what the official label files say for each class.
        names: one name a class, no two alike; for reports.
        words: one word a class, as the papers encode it; A-847 has some that stand for several classes ("bag").
        synonyms: the words of a class that no other class has, in the form "word, word".
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]
    synonyms: tuple[str, ...]


@lru_cache
def class_table(name: str) -> ClassTable:
    """The table of "voc", "coco_stuff", "pc59", "ade150" or "ade847".

    >>> class_table("voc").words[15], class_table("voc").synonyms[15], class_table("voc").labels[15]
    ('pottedplant', 'pottedplant, potted plant', 16)
    """
    lines = (resources.files(__package__) / "classes" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    groups = [synonyms_of(words) for _, words in rows]
    first = Counter(group[0] for group in groups)
    every = Counter(word for group in groups for word in set(group))
    own = [[w for w in group if every[w] == 1 or (w == group[0] and first[w] == 1)] or group[:1] for group in groups]
    return ClassTable(
        labels=tuple(int(label) for label, _ in rows),
        names=tuple(group[0] if first[group[0]] == 1 else ", ".join(group) for group in groups),
        words=tuple(group[0] for group in groups),
        synonyms=tuple(", ".join(group) for group in own),
    )


def synonyms_of(name: str) -> list[str]:
    """The words of one class.

    >>> synonyms_of("ox|cow, cattle")
    ['ox', 'cow', 'cattle']
    """
    return [word.strip() for word in re.split(r"[|,]", name) if word.strip()]


def check_names(names: Sequence[str]) -> list[str]:
    """The names, stripped, if a model can tell them apart.

    Raises:
        ValueError: none, a blank one, one that is there twice, or a single string where a list belongs.

    >>> check_names([" cow", "grass"])
    ['cow', 'grass']
    """
    if isinstance(names, str):
        raise ValueError(f"got the string {names!r}; expected a list of words, such as {[n.strip() for n in names.split(',')]}")
    stripped = [str(name).strip() for name in names]
    if not stripped:
        raise ValueError('got no words; expected at least one, such as ["cow", "grass"]')
    if not all(synonyms_of(name) for name in stripped):
        raise ValueError(f"got a blank word among {stripped}; expected letters in each")
    words = [word.lower() for name in stripped for word in synonyms_of(name)]
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise ValueError(f"got {', '.join(twice)} more than once; expected each word in one class only")
    return stripped
