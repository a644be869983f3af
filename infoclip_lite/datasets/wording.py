"""Other words for the classes of a data set: a paper's numbers depend on them, and each has its own list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.words import synonyms_of
from .base import Item, SegmentationDataset, Segmented, class_groups
from .listing import read_lines


class Reworded(SegmentationDataset):
    """A data set whose classes are called by other words; pictures, masks and names in reports stay.

    Args:
        dataset: the data set.
        words: one for each class, in the order of its names; "ox|cow" or "ox, cow" are synonyms.

    Raises:
        ValueError: more or fewer words than classes, or a blank one.
    """

    def __init__(self, dataset: Segmented, words: Sequence[str]) -> None:
        if len(words) != len(dataset.names):
            first, last = dataset.names[0], dataset.names[-1]
            raise ValueError(
                f"got {len(words)} words for {len(dataset.names)} classes; "
                f"expected one for each, from {first!r} to {last!r}"
            )
        blank = [name for name, word in zip(dataset.names, words, strict=True) if not synonyms_of(word)]
        if blank:
            raise ValueError(f"got no word for {blank[0]!r}; expected letters on every line")
        super().__init__(
            dataset.names, split=dataset.split, ignore=dataset.ignore, unseen=dataset.unseen, words=words
        )
        self.dataset = dataset
        self.class_groups = class_groups(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Item:
        return self.dataset[index]

    def settings(self) -> dict[str, object]:
        """The data set that the pictures are of."""
        return {"of": self.dataset.describe()}


def read_words(path: str | Path) -> list[str]:
    """The words of a file, one for each class.

    Args:
        path: of a JSON list of texts, as CAT-Seg writes them (.json), or of a text with one class a line,
            synonyms separated by commas, as SCLIP, ClearCLIP and NACLIP write them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text, or JSON that is no list of texts.
    """
    path = Path(path)
    lines = read_lines(path, "one class a line")
    if path.suffix.lower() != ".json":
        return [line.strip() for line in lines]
    try:
        words = json.loads("\n".join(lines))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected a list of texts") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f'{path} holds another thing; expected a list of texts, such as ["cow", "grass"]')
    return words
