"""From pictures to labels, the one way: windows, then the best word at every pixel.

A few words at a time, so that memory does not grow with their number: 847 words at 640 pixels a side are
1.4 GB of scores, and they are never all there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .protocol import WHOLE, EvaluationProtocol
from .vocabulary import Vocabulary
from .windows import WindowLogits, enlarged, run_windows

if TYPE_CHECKING:
    from ..clip.refinements import Scores
    from ..segmentors.base import Segmentor

CHUNK_VALUES = 2**26  # scores that are enlarged at a time if nobody says how many: 256 MB of float32


@dataclass(frozen=True)
class Prediction:
    """The best word at every pixel.

    Attributes:
        labels: for each gamma (B, H, W) int64, the label of that word.
        confidence: (B, H, W) float32, that word's fraction of the softmax over all words; None if it
            was not asked for.
        valid: scalar, False where a score was NaN.
    """

    labels: list[Tensor]
    confidence: Tensor | None
    valid: Tensor

    def cpu(self) -> Prediction:
        """The same on the CPU."""
        confidence = None if self.confidence is None else self.confidence.cpu()
        return Prediction([labels.cpu() for labels in self.labels], confidence, self.valid.cpu())


def predict(
    segmentor: Segmentor,
    images: Tensor,
    vocabulary: Vocabulary,
    protocol: EvaluationProtocol = WHOLE,
    *,
    size: tuple[int, int] | None = None,
    gammas: Sequence[float] = (0.0,),
    confidence: bool = False,
    window_batch: int = 1,
    class_chunk: int | None = None,
) -> Prediction:
    """Labels of pictures of one size.

    Args:
        segmentor: the model.
        images: (B, 3, H, W) floats in [0, 1], on any device.
        vocabulary: the words that compete.
        protocol: what happens to the pictures, and to the scores.
        size: (height, width) of the labels; the pictures' by default.
        gammas: constants subtracted from the scores of seen classes.
        confidence: whether to compute it; a protocol with a threshold does in any case.
        window_batch: windows in one pass through the model.
        class_chunk: words whose scores are enlarged at a time; None: as many as CHUNK_VALUES allow.

    Returns:
        A Prediction, on the CPU.

    Raises:
        FloatingPointError: a score is NaN.
        MemoryError: the device's memory does not hold it; says what to change.
    """
    size = size or (images.shape[-2], images.shape[-1])
    decided = _decided(size, protocol)
    try:
        windows = run_windows(segmentor, images, vocabulary.text, protocol, window_batch)
        scores = _refined(segmentor, windows, vocabulary, protocol, decided, class_chunk)
        without = _small_classes(windows, vocabulary, decided, protocol.area, class_chunk, scores)
        found = best_words(
            windows,
            vocabulary,
            decided,
            gammas=gammas,
            chunk=class_chunk,
            scores=scores,
            threshold=protocol.threshold,
            confidence=confidence,
            scale=_softmax_scale(segmentor, protocol, confidence),
            without=without,
        ).cpu()
    except torch.OutOfMemoryError as error:
        hint = _hint(images, size, len(vocabulary.owners), window_batch, class_chunk)
        raise MemoryError(hint) from error
    if not bool(found.valid):
        raise FloatingPointError(
            "the segmentor gave scores that are NaN; expected finite ones: are its weights broken?"
        )
    return found if decided == size else _nearest(found, size)


def best_words(
    windows: WindowLogits,
    vocabulary: Vocabulary,
    size: tuple[int, int],
    *,
    gammas: Sequence[float] = (0.0,),
    chunk: int | None = None,
    scores: Scores | None = None,
    threshold: float = 0.0,
    confidence: bool = False,
    scale: float = 1.0,
    without: Tensor | None = None,
) -> Prediction:
    """The best word of every pixel, a few words at a time.

    Args:
        windows: of `run_windows`.
        vocabulary: the words; a tie goes to the first.
        size: (H, W) of the labels; scores are brought to it before the best is chosen.
        gammas: constants subtracted from the scores of seen classes.
        chunk: words at a time; None: as many as CHUNK_VALUES allow. The labels do not depend on it.
        scores: of some words at that size; None enlarges what the windows say.
        threshold: of the confidence, below which the vocabulary's background is the label.
        confidence: whether to compute it; a threshold needs it in any case.
        scale: what scores are multiplied with before the softmax.
        without: (B, words) bool, words that cannot win in a picture, though they count in the softmax.

    Returns:
        A Prediction on the model's device; nothing in here waits for it.
    """
    batch, count = len(windows.logits[0]), len(vocabulary.owners)
    chunk = chunk or _chunk(batch, size, windows.size)
    best: list[tuple[Tensor, Tensor]] = []
    total: Tensor | None = None  # log of the softmax's denominator
    valid = torch.ones((), dtype=torch.bool, device=vocabulary.owners.device)
    scores_of = scores or _enlarged_scores(windows, size)
    for part in _parts(count, chunk):
        own = scores_of(part)
        # Only now: a refinement takes from neighbours and other words, and would spread what is infinite.
        running = _running(own, without, part)
        found = [
            (score, word + part.start) for score, word in _maxima(running, vocabulary.seen[part], gammas)
        ]
        # a NaN wins every maximum here, but would lose the comparison below
        valid = valid & ~found[0][0].isnan().any()
        best = [_better(old, new) for old, new in zip(best, found, strict=True)] if best else found
        if threshold > 0 or confidence:
            summed = (own * scale).logsumexp(1)
            total = summed if total is None else torch.logaddexp(total, summed)
        del own, running  # before the next part is enlarged
    labels = [vocabulary.owners[word] for _, word in best]
    fraction = None if total is None else (best[0][0] * scale - total).exp()
    if fraction is not None and threshold > 0 and vocabulary.background is not None:
        labels[0] = labels[0].masked_fill(fraction < threshold, vocabulary.background)
    return Prediction(labels, fraction, valid)


def _running(scores: Tensor, without: Tensor | None, part: slice) -> Tensor:
    """Scores in which the words that cannot win are out of the race."""
    return scores if without is None else scores.masked_fill(without[:, part, None, None], -torch.inf)


def _small_classes(
    windows: WindowLogits,
    vocabulary: Vocabulary,
    size: tuple[int, int],
    area: float,
    chunk: int | None,
    scores: Scores | None,
) -> Tensor | None:
    """(B, words) True for the words of classes that are too small in a picture, as in SCLIP's code."""
    if area == 0 or vocabulary.background is None:
        return None
    # A first look at what would win: before any threshold, but of refined scores [S].
    labels = best_words(windows, vocabulary, size, chunk=chunk, scores=scores).labels[0].flatten(1)
    pixels = torch.stack([(labels == owner).sum(1) for owner in vocabulary.owners], 1)
    foreground = (labels != vocabulary.background).sum(1, keepdim=True)
    # Background never goes: where all other words do, it has the pixels.
    return (pixels <= area * foreground) & (vocabulary.owners != vocabulary.background)


def _enlarged_scores(windows: WindowLogits, size: tuple[int, int]) -> Scores:
    return lambda part: enlarged(windows.scores(part), size)


def _refined(
    segmentor: Segmentor,
    windows: WindowLogits,
    vocabulary: Vocabulary,
    protocol: EvaluationProtocol,
    size: tuple[int, int],
    chunk: int | None,
) -> Scores | None:
    """Scores at the size of the labels after the protocol's refinement; None where it has none."""
    if protocol.refine is None:
        return None
    # The picture that the model saw, enlarged again, and not the sharper original, as NACLIP does it [S].
    picture = enlarged(windows.picture.float(), size)
    parts = _parts(len(vocabulary.owners), chunk or _chunk(len(picture), size, windows.size))
    # Scores of cosines carry CLIP's scale; what others give is taken as it is [O].
    scale = 1.0 if segmentor.independent else 1 / float(segmentor.clip.logit_scale)
    given = _enlarged_scores(windows, size)
    refined = protocol.refine.refined(picture, given, parts, vocabulary.text, scale)
    if protocol.area == 0 or len(parts) > 1:
        return refined
    # Small classes are left out at a second look: words that fit at once are refined once for both.
    whole = refined(parts[0])
    return lambda part: whole[:, part]


def _parts(count: int, chunk: int) -> list[slice]:
    """Slices that together name all words."""
    return [slice(first, first + chunk) for first in range(0, count, chunk)]


def _maxima(scores: Tensor, seen: Tensor, gammas: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """For each gamma the largest score (B, H, W) and its word."""
    found = []
    for gamma in gammas:
        shifted = scores - gamma * seen.to(scores)[:, None, None] if gamma else scores
        score, word = shifted.max(1)
        found.append((score, word))
    return found


def _better(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    higher = new[0] > old[0]
    return torch.where(higher, new[0], old[0]), torch.where(higher, new[1], old[1])


def _chunk(batch: int, size: tuple[int, int], picture: tuple[int, int]) -> int:
    pixels = batch * max(size[0] * size[1], picture[0] * picture[1])
    return max(1, CHUNK_VALUES // pixels)


def _softmax_scale(segmentor: Segmentor, protocol: EvaluationProtocol, confidence: bool) -> float:
    """Scores carry CLIP's own scale already; a protocol's stands in its place."""
    if protocol.logit_scale is None or not (protocol.threshold > 0 or confidence):
        return 1.0
    return protocol.logit_scale / float(segmentor.clip.logit_scale)


def _decided(size: tuple[int, int], protocol: EvaluationProtocol) -> tuple[int, int]:
    """The size at which the best word is chosen."""
    if protocol.largest is None or max(size) <= protocol.largest:
        return size
    shrink = protocol.largest / max(size)
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def _nearest(found: Prediction, size: tuple[int, int]) -> Prediction:
    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x[:, None].float(), size, mode="nearest-exact")[:, 0].to(x.dtype)

    labels = [enlarge(x) for x in found.labels]
    return replace(
        found, labels=labels, confidence=None if found.confidence is None else enlarge(found.confidence)
    )


def _hint(
    images: Tensor, size: tuple[int, int], words: int, window_batch: int, class_chunk: int | None
) -> str:
    """What to change when memory does not suffice, and about what it saves."""
    chunk = min(words, class_chunk or _chunk(len(images), size, (images.shape[-2], images.shape[-1])))
    hints = []
    if len(images) > 1:
        hints.append(f"batch_size=1 (saves about {1 - 1 / len(images):.0%} of everything but the weights)")
    if window_batch > 1:
        hints.append(f"window_batch=1 (saves about {1 - 1 / window_batch:.0%} of the model's activations)")
    if chunk > 1:
        fewer = max(1, chunk // 4)
        pixels = len(images) * max(size[0] * size[1], images.shape[-2] * images.shape[-1])
        saved = 4 * 4 * pixels * (chunk - fewer) / 2**20  # about four such maps of 4 bytes live at once
        hints.append(f"class_chunk={fewer} in place of {chunk} (saves about {saved:.0f} MB)")
    advice = ", or ".join(hints) or "a smaller model or window"
    return f"out of memory with {words} words and pictures of {tuple(size)} pixels; try {advice}"
