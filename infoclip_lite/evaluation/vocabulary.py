"""The words that compete for every pixel, each with the class that it speaks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..clip.text_cache import remembered
from ..core.words import check_names, synonyms_of
from ..datasets.wording import Reworded
from .protocol import EvaluationProtocol

if TYPE_CHECKING:
    from ..datasets.base import Segmented
    from ..segmentors.base import Segmentor


@dataclass(frozen=True)
class Vocabulary:
    """What competes for a pixel; on the model's device.

    Attributes:
        text: embeddings of the words, as the segmentor's `encode_text` gives them.
        owners: (words,) int64, the label that each word gives to a pixel.
        seen: (words,) True where that class was labelled in training.
        background: label of pixels below the protocol's threshold; None where there is no such label.
    """

    text: Tensor
    owners: Tensor
    seen: Tensor
    background: int | None = None


def encode_vocabulary(
    segmentor: Segmentor,
    words: Sequence[str],
    owners: Sequence[int],
    protocol: EvaluationProtocol,
    *,
    unseen: Sequence[int] = (),
    background: int | None = None,
) -> Vocabulary:
    """Words, encoded as the protocol says.

    Args:
        segmentor: the model; its text tower encodes them.
        words: what is encoded; "ox|cow" are synonyms of one class.
        owners: the label that each word gives.
        protocol: templates, and what is done with synonyms.
        unseen: labels of classes that training never labelled.
        background: see `Vocabulary`.
    """
    words, owners = _by_synonyms(words, owners, protocol)
    text = segmentor.encode_text(words, protocol.prompts)
    return _vocabulary(text, owners, unseen, background)


def vocabulary_of(
    segmentor: Segmentor,
    dataset: Segmented,
    protocol: EvaluationProtocol,
    text_cache: str | Path | None = None,
) -> Vocabulary:
    """The words of a data set, encoded as the protocol says, or as they were the last time.

    Args:
        segmentor: the model; its text tower encodes the words.
        dataset: whose words.
        protocol: which of them, templates, and what is done with synonyms.
        text_cache: folder of embeddings that are kept; see `remembered`.

    Raises:
        ValueError: as `words_of`.
    """
    words, owners = words_of(dataset, protocol)
    # What is there several times is asked for once: a text tower that is asked for it refuses.
    once = list(dict.fromkeys(words))
    text = remembered(segmentor, once, protocol.prompts, text_cache)
    if len(once) < len(words):
        places = [once.index(word) for word in words]
        text = text[torch.tensor(places, device=text.device)]
    return _vocabulary(text, owners, dataset.unseen, _background(dataset))


def words_of(dataset: Segmented, protocol: EvaluationProtocol) -> tuple[list[str], list[int]]:
    """What is encoded for a data set in a protocol, and the class id of each word.

    Raises:
        ValueError: owners that do not fit the words, a word that is said of several classes although the
            data set's own list does not say so, words for a class that the data set does not have, or a
            threshold without a class called background.
    """
    names, words, owners = list(dataset.names), list(dataset.words), list(dataset.owners)
    if len(owners) != len(words) or not all(0 <= owner < len(names) for owner in owners):
        raise ValueError(
            f"got {len(words)} words and {len(owners)} owners in {min(owners, default=0)} .. "
            f"{max(owners, default=0)}; expected one of 0 .. {len(names) - 1} each"
        )
    for name in ("threshold", "area"):
        if getattr(protocol, name) > 0 and _background(dataset) is None:
            raise ValueError(
                f"{name} is {getattr(protocol, name)}, but {type(dataset).__name__} has no class called "
                "'background'; expected 0"
            )
    # Whoever brings a list of his own has said what a class is called.
    if not isinstance(dataset, Reworded):
        words, owners = _as_published(names, words, owners, protocol)
    words, owners = _by_synonyms(words, owners, protocol)
    return _each_once(dataset, words, owners, protocol)


def flatten_synonyms(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Every synonym of every class, and the class each belongs to.

    >>> flatten_synonyms(["ox|cow", "grass"])
    (['ox', 'cow', 'grass'], [0, 0, 1])
    """
    pairs = [(word, i) for i, name in enumerate(names) for word in synonyms_of(name)]
    return [word for word, _ in pairs], [i for _, i in pairs]


def _background(dataset: Segmented) -> int | None:
    """As VOC calls it; other data sets have no class for what nobody named."""
    names = list(dataset.names)
    return names.index("background") if "background" in names else None


def _vocabulary(
    text: Tensor, owners: Sequence[int], unseen: Sequence[int], background: int | None
) -> Vocabulary:
    # calibration lowers the words of seen classes: of a class's synonyms all or none
    never = set(unseen)
    seen = torch.tensor([owner not in never for owner in owners], device=text.device)
    return Vocabulary(text, torch.tensor(owners, device=text.device), seen, background)


def _as_published(
    names: Sequence[str], words: Sequence[str], owners: Sequence[int], protocol: EvaluationProtocol
) -> tuple[list[str], list[int]]:
    """The words, those of some classes as the protocol's authors have them."""
    said = dict(protocol.words)
    if not said:
        return list(words), list(owners)
    lacking = [name for name in said if name not in names]
    if lacking:
        raise ValueError(
            f"{protocol.name} has words for {lacking[0]!r}, which is none of the {len(names)} classes; "
            "expected the data set that it is for"
        )
    instead = {names.index(name): word for name, word in said.items()}
    kept = [(word, owner) for word, owner in zip(words, owners, strict=True) if owner not in instead]
    # In the order of the classes, whose words stood next to each other before.
    pairs = sorted([*kept, *((word, owner) for owner, word in instead.items())], key=lambda pair: pair[1])
    return [word for word, _ in pairs], [owner for _, owner in pairs]


def _by_synonyms(
    words: Sequence[str], owners: Sequence[int], protocol: EvaluationProtocol
) -> tuple[list[str], list[int]]:
    words, owners = list(words), list(owners)
    # "mean" is the text tower's to take: it averages before it normalises
    if protocol.synonyms == "first":
        words = [synonyms_of(word)[0] for word in words]
    elif protocol.synonyms == "max":
        words, places = flatten_synonyms(words)
        owners = [owners[place] for place in places]
    return words, owners


def _each_once(
    dataset: Segmented, words: Sequence[str], owners: Sequence[int], protocol: EvaluationProtocol
) -> tuple[list[str], list[int]]:
    """The words without those that an earlier class has, unless the protocol keeps them."""
    # Classes of one name are a slip; names that differ may share a word: A-847 has ten such words.
    own = dataset.dataset.words if isinstance(dataset, Reworded) else dataset.words
    meant = set() if _twice(dataset.names) else _twice([synonyms_of(word)[0] for word in own])
    first: dict[str, int] = {}
    kept: list[tuple[str, int]] = []
    for word, owner in zip(words, owners, strict=True):
        known = word.lower() in first
        earlier = first.setdefault(word.lower(), owner)
        if earlier != owner and word.lower() not in meant:
            a, b = dataset.names[earlier], dataset.names[owner]
            raise ValueError(
                f"got {word!r} for the classes {a!r} and {b!r}; expected each word in one class only: with "
                "equal scores the first would win everywhere, so take it out of one"
            )
        if not known or (earlier != owner and protocol.repeats):
            kept.append((word, owner))
    # Synonyms of which a mean is taken stand together, and are looked at one by one here.
    check_names(list(dict.fromkeys(word for word, _ in kept)))
    return [word for word, _ in kept], [owner for _, owner in kept]


def _twice(names: Sequence[str]) -> set[str]:
    """What is there more than once, in small letters."""
    return {name for name, count in Counter(name.lower() for name in names).items() if count > 1}
