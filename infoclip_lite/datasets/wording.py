"""Other words for the classes of a data set: a paper's numbers depend on them, and each has its own list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..core.words import synonyms_of
from .base import Classes, Item, SegmentationDataset, Segmented, class_groups, classes_of, known_as
from .listing import read_lines

BACKGROUND = "background"


class Reworded(SegmentationDataset):
    """A data set whose classes are called by other words; pictures, masks and names in reports stay.

    Args:
        dataset: the data set.
        words: one for each class, in the order of its names, but background's first if it has such a class,
            as SCLIP's lists have it; "ox|cow" or "ox, cow" are synonyms. Or one for each of the data set's
            words in their order, where it has more words than classes (CAT-Seg's list for PAS-20b).

    Raises:
        ValueError: more or fewer words than that, a blank one, or a list in which background does not come
            first.
    """

    def __init__(self, dataset: Segmented, words: Sequence[str]) -> None:
        names, owners = list(dataset.names), list(range(len(dataset.names)))
        if BACKGROUND in names:
            place = names.index(BACKGROUND)
            owners = [place, *owners[:place], *owners[place + 1 :]]
        if len(words) != len(names) and len(words) == len(dataset.words):
            owners = list(dataset.owners)
        elif len(words) != len(names):
            raise ValueError(_other_count(len(words), dataset, [names[owner] for owner in owners]))
        blank = [names[owner] for owner, word in zip(owners, words, strict=True) if not synonyms_of(word)]
        if blank:
            raise ValueError(f"got no word for {blank[0]!r}; expected letters on every line")
        # One line up, every class would answer to its neighbour's name, and nothing else would look wrong.
        if owners[0] != 0 and synonyms_of(words[0])[0] == names[0]:
            raise ValueError(
                f"got {words[0]!r} first, which is a class; expected what is said of background first, and "
                f"then {names[0]!r} to {names[owners[-1]]!r}"
            )
        classes: Classes = {**classes_of(dataset), "words": words, "owners": owners}
        super().__init__(**classes)
        self.dataset = dataset
        self.known_as = known_as(dataset)
        self.class_groups = class_groups(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int, /) -> Item:
        return self.dataset[index]

    def settings(self) -> dict[str, object]:
        """The data set that the pictures are of."""
        return {"of": self.dataset.describe()}


def read_words(path: str | Path) -> list[str]:
    """The words of a file, one for each class, synonyms separated by commas.

    Args:
        path: of a text with one class a line, as SCLIP, ClearCLIP and NACLIP write it, or of a JSON list of
            texts, as CAT-Seg writes it, in which a list in place of a text is a class's synonyms.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no text, no words, a blank line, or JSON that is no list of texts.
    """
    path = Path(path)
    lines = read_lines(path, "one class a line")
    # By what is in it: lists are copied from one name to another.
    if path.suffix.lower() == ".json" or (lines and lines[0].startswith("[")):
        words = _from_json(path, "\n".join(lines))
    else:
        words = [line.strip() for line in lines]
    if not words:
        raise ValueError(f"{path} has no words; expected one class a line, or a JSON list of texts")
    blank = [number for number, word in enumerate(words, 1) if not synonyms_of(word)]
    if blank:
        raise ValueError(
            f"{path} is blank in line {blank[0]} of {len(words)}; expected a class on every line: all below "
            "would get the words of their neighbours"
        )
    return words


def _from_json(path: Path, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected a list of texts") from error
    if not isinstance(found, list) or not all(map(_is_text, found)):
        raise ValueError(f'{path} holds another thing; expected a list of texts, such as ["cow", "grass"]')
    return [each.strip() if isinstance(each, str) else ", ".join(each) for each in found]


def _is_text(entry: object) -> bool:
    """A class of a JSON list: a text, or the list of its synonyms."""
    return isinstance(entry, str) or (
        isinstance(entry, list) and all(isinstance(word, str) for word in entry)
    )


def _other_count(count: int, dataset: Segmented, order: Sequence[str]) -> str:
    """What is said of a list of another length."""
    expected = f"one for each, from {order[0]!r} to {order[-1]!r}"
    if order[0] == BACKGROUND:
        expected = f"what is said of background first, then one for each from {order[1]!r} to {order[-1]!r}"
    more = len(dataset.words)
    also = f", or one for each of its {more} words" if more != len(order) else ""
    return f"got {count} words for {len(order)} classes; expected {expected}{also}"
