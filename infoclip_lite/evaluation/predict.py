"""From pictures to labels: words are encoded as a protocol says, and the best of them is chosen at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.words import synonyms_of
from .protocol import WHOLE, Protocol
from .windows import Passes, _enlarge, look


def predict(
    segmentor: Any,
    items: Sequence[Any],
    words: Words,
    protocol: Protocol = WHOLE,
    gammas: Sequence[float] = (0.0,),
    window_batch: int = 1,
    class_chunk: int | None = None,
) -> list[list[Tensor]]:
    """Labels of some items of a data set: for each item, and for each gamma, (H, W) int64 on the CPU.

    Raises:
        MemoryError: the device's memory does not hold it; says what to change.
    """
    same = len({(item[0].shape, item[1].shape) for item in items}) == 1
    labels: list[list[Tensor]] = []
    for group in [items] if same else [[item] for item in items]:
        images = torch.stack([item[0] for item in group]).to(words.text.device)
        height, width = group[0][1].shape
        scale = 1.0
        if protocol.threshold > 0 and protocol.logit_scale is not None:
            scale = protocol.logit_scale / float(segmentor.clip.logit_scale)
        try:
            passes = look(segmentor, images, words.text, protocol, window_batch)
            found = best_classes(passes, words, (height, width), gammas=gammas, chunk=class_chunk, scale=scale)
        except torch.OutOfMemoryError as error:
            raise MemoryError(_hint(images, (height, width), len(words.owners), window_batch, class_chunk)) from error
        labels += [list(of_gammas) for of_gammas in zip(*(x.cpu() for x in found), strict=True)]
    return labels


def gather_words(segmentor: Any, dataset: Any, protocol: Protocol) -> Words:
    """The words of a data set, encoded as the protocol says.

    Raises:
        ValueError: owners that do not fit the words, or a threshold without a class called background.
    """
    names = list(dataset.names)
    given = list(getattr(dataset, "words", None) or names)
    owned = getattr(dataset, "owners", None)
    owners = list(range(len(given)) if owned is None else owned)
    if len(owners) != len(given) or not all(0 <= owner < len(names) for owner in owners):
        raise ValueError(
            f"got {len(given)} words and {len(owners)} owners in {min(owners)} .. {max(owners)}; expected one of 0 .. {len(names) - 1} each"
        )
    if protocol.synonyms == "max":
        given, places = flatten_synonyms(given)
        owners = [owners[place] for place in places]
    background = names.index("background") if "background" in names else None
    if protocol.threshold > 0 and background is None:
        raise ValueError(f"threshold is {protocol.threshold}, but {type(dataset).__name__} has no class called 'background'; expected 0")
    text = encode_words(segmentor, given, protocol.templates)
    unseen = set(getattr(dataset, "unseen", ()))
    seen = torch.tensor([owner not in unseen for owner in owners], device=text.device)
    return Words(text, torch.tensor(owners, device=text.device), seen, background)


def _hint(images: Tensor, size: tuple[int, ...], words: int, window_batch: int, class_chunk: int | None) -> str:
    """What to change when memory does not suffice, and about what it saves."""
    pixels = len(images) * max(size[0] * size[1], images.shape[-2] * images.shape[-1])
    chunk = min(words, class_chunk or max(1, CHUNK_VALUES // pixels))
    hints = []
    if len(images) > 1:
        hints.append(f"batch_size=1 (saves about {1 - 1 / len(images):.0%} of everything but the weights)")
    if window_batch > 1:
        hints.append(f"window_batch=1 (saves about {1 - 1 / window_batch:.0%} of the model's activations)")
    if chunk > 1:
        saved = 4 * 4 * pixels * (chunk - max(1, chunk // 4)) / 2**20  # about four such maps live at once
        hints.append(f"class_chunk={max(1, chunk // 4)} in place of {chunk} (saves about {saved:.0f} MB)")
    return (
        f"out of memory with {words} words and pictures of {tuple(size)} pixels; try {', or '.join(hints) or 'a smaller model or window'}"
    )


CHUNK_VALUES = 2**26  # scores that are enlarged at a time if nobody says how many: 256 MB of float32


@dataclass(frozen=True)
class Words:
    """What competes for a pixel.

    Attributes:
        text: embeddings of the words.
        owners: (words,) the class of each.
        seen: (words,) True where that class was labelled in training.
        background: class of pixels below the protocol's threshold.
    """

    text: Tensor
    owners: Tensor
    seen: Tensor
    background: int | None = None


def best_classes(
    passes: Passes, words: Words, size: tuple[int, int], *, gammas: Sequence[float] = (0.0,), chunk: int | None = None, scale: float = 1.0
) -> list[Tensor]:
    """The class of every pixel, a few words at a time.

    Args:
        passes: of `look`.
        words: which class each belongs to; a tie goes to the first.
        size: (H, W) of the labels; scores are brought to it before the best is chosen.
        gammas: constants subtracted from the scores of seen classes.
        chunk: words at a time; None: as many as CHUNK_VALUES allow. The labels do not depend on it.
        scale: what scores are multiplied with before the softmax of the protocol's threshold.

    Returns:
        For each gamma (B, H, W) int64.

    Raises:
        FloatingPointError: a score is NaN.
    """
    batch, count = len(passes.logits[0]), len(words.owners)
    pixels = batch * max(size[0] * size[1], passes.size[0] * passes.size[1])
    chunk = chunk or max(1, CHUNK_VALUES // pixels)
    best: list[tuple[Tensor, Tensor]] = []
    total: Tensor | None = None  # log of the softmax's denominator
    for first in range(0, count, chunk):
        part = slice(first, first + chunk)
        scores = _enlarge(passes.scores(part), size)
        found = []
        for gamma in gammas:
            shifted = scores - gamma * words.seen[part].to(scores)[:, None, None] if gamma else scores
            score, word = shifted.max(1)
            found.append((score, word + first))
        best = [_better(old, new) for old, new in zip(best, found, strict=True)] if best else found
        if bool(found[0][0].isnan().any()):
            raise FloatingPointError("the segmentor gave scores that are NaN; expected finite ones: are its weights broken?")
        if passes.protocol.threshold > 0:
            summed = (scores * scale).logsumexp(1)
            total = summed if total is None else torch.logaddexp(total, summed)
        del scores
    labels = [words.owners[word] for _, word in best]
    if total is not None and words.background is not None:
        labels[0][(best[0][0] * scale - total).exp() < passes.protocol.threshold] = words.background
    return labels


def _better(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    higher = new[0] > old[0]
    return torch.where(higher, new[0], old[0]), torch.where(higher, new[1], old[1])


def encode_words(segmentor: Any, words: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
    """Embeddings of words by the segmentor's own `encode_text`, or by its CLIP's if it has none."""
    return getattr(segmentor, "encode_text", segmentor.clip.encode_text)(words, templates)


def flatten_synonyms(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Every synonym of every class, and the class each belongs to.

    >>> flatten_synonyms(["ox|cow", "grass"])
    (['ox', 'cow', 'grass'], [0, 0, 1])
    """
    pairs = [(word, i) for i, name in enumerate(names) for word in synonyms_of(name)]
    return [word for word, _ in pairs], [i for _, i in pairs]


def best_synonym(logits: Tensor, owners: Sequence[int], classes: int) -> Tensor:
    """The largest logit of each class's words: (B, words, H, W) -> (B, classes, H, W)."""
    if len(owners) == classes:
        return logits
    index = torch.as_tensor(owners, device=logits.device).view(1, -1, 1, 1).expand_as(logits)
    best = logits.new_full((logits.shape[0], classes, *logits.shape[2:]), -torch.inf)
    return best.scatter_reduce(1, index, logits, "amax")
