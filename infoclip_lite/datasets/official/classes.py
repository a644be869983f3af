"""Classes of the field's data sets: labels in the official files, names, synonyms, and which are unseen."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from ...core.words import synonyms_of

# Unseen classes of generalised zero-shot segmentation (METHODS section 4; the same as in ZegCLIP's code).
VOC_UNSEEN = ("pottedplant", "sheep", "sofa", "train", "tvmonitor")
COCO_STUFF_UNSEEN = (
    *(
        "cow",
        "giraffe",
        "suitcase",
        "frisbee",
        "skateboard",
        "carrot",
        "scissors",
        "cardboard",
        "clouds",
        "grass",
    ),
    *("playingfield", "river", "road", "tree", "wall-concrete"),
)


class ClassTable(NamedTuple):
    """The classes of a data set, in the order of their ids.

    Attributes:
        labels: what the official label files say for each class.
        names: one name a class, no two alike; for reports.
        words: one word a class, as the papers encode it; A-847 has some that stand for several classes
            ("bag").
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
    lines = (resources.files(__package__) / "names" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    groups = [synonyms_of(words) for _, words in rows]
    first = Counter(group[0] for group in groups)
    every = Counter(word for group in groups for word in set(group))

    def own(group: list[str]) -> list[str]:
        """The words that no other class has; a first word also where it is no other class's first."""
        kept = [word for word in group if every[word] == 1 or (word == group[0] and first[word] == 1)]
        return kept or group[:1]

    return ClassTable(
        labels=tuple(int(label) for label, _ in rows),
        names=tuple(group[0] if first[group[0]] == 1 else ", ".join(group) for group in groups),
        words=tuple(group[0] for group in groups),
        synonyms=tuple(", ".join(own(group)) for group in groups),
    )
