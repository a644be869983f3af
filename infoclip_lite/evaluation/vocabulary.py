"""The words that compete for every pixel, each with the class that it speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..core.words import synonyms_of
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
    words, owners = list(words), list(owners)
    # "mean" is the text tower's to take: it averages before it normalises
    if protocol.synonyms == "max":
        words, places = flatten_synonyms(words)
        owners = [owners[place] for place in places]
    text = segmentor.encode_text(words, protocol.prompts)
    # calibration lowers the words of seen classes: of a class's synonyms all or none
    never = set(unseen)
    seen = torch.tensor([owner not in never for owner in owners], device=text.device)
    return Vocabulary(text, torch.tensor(owners, device=text.device), seen, background)


def vocabulary_of(segmentor: Segmentor, dataset: Segmented, protocol: EvaluationProtocol) -> Vocabulary:
    """The words of a data set, encoded as the protocol says.

    Raises:
        ValueError: owners that do not fit the words, or a threshold without a class called background.
    """
    names, words, owners = list(dataset.names), list(dataset.words), list(dataset.owners)
    if len(owners) != len(words) or not all(0 <= owner < len(names) for owner in owners):
        raise ValueError(
            f"got {len(words)} words and {len(owners)} owners in {min(owners, default=0)} .. "
            f"{max(owners, default=0)}; expected one of 0 .. {len(names) - 1} each"
        )
    # as VOC calls it; other data sets have no class for what nobody named
    background = names.index("background") if "background" in names else None
    if protocol.threshold > 0 and background is None:
        raise ValueError(
            f"threshold is {protocol.threshold}, but {type(dataset).__name__} has no class called "
            "'background'; expected 0"
        )
    never = dataset.unseen
    return encode_vocabulary(segmentor, words, owners, protocol, unseen=never, background=background)


def flatten_synonyms(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Every synonym of every class, and the class each belongs to.

    >>> flatten_synonyms(["ox|cow", "grass"])
    (['ox', 'cow', 'grass'], [0, 0, 1])
    """
    pairs = [(word, i) for i, name in enumerate(names) for word in synonyms_of(name)]
    return [word for word, _ in pairs], [i for _, i in pairs]
