"""What pretraining lowers: contrast of pictures and sentences, and of patches and words."""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive_loss(image: Tensor, text: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy where a caption may be true of several images.

    With `matches` the identity this is CLIP's loss (2103.00020, figure 3); several positives share the target
    evenly (as in UniCL, 2204.03610), so that two pictures of a dog do not push each other's caption away.

    Args:
        image: (B, D) unit vectors.
        text: (n, D) unit vectors; every caption is true of an image and every image has a caption.
        matches: (B, n) bool, caption j is true of image i.
        scale: inverse temperature.

    Returns:
        A scalar in nats.
    """
    return shared_cross_entropy(scale * image @ text.T, matches)


def shared_cross_entropy(logits: Tensor, matches: Tensor) -> Tensor:
    """Symmetric cross-entropy of rows and columns, several right answers sharing the target evenly.

    Args:
        logits: (B, n); every row and every column has a right answer.
        matches: (B, n) bool.

    Returns:
        A scalar in nats.
    """
    target = matches.float()
    by_image = -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_text = -(target / target.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_image + by_text) / 2


def local_loss(patches: Tensor, words: Tensor, shown: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Contrast of patches and words, where it is known which words a picture shows but not where.

    Our choice [O]; the second term pools patches as PACL does (2212.04994), by how well they fit a word.

    Args:
        patches: (B, N, D) unit vectors.
        words: (n, D) unit vectors; every word is shown by a picture and every picture shows one.
        shown: (B, n) bool, which words a picture shows.
        scale: inverse temperature.

    Returns:
        Scalars in nats {"total", "explained", "found"}, total = explained + found. `explained`: every patch
        shows one of the picture's words, whichever it resembles most. `found`: every word of the picture is
        somewhere, looked for among pictures and among words as in `contrastive_loss`.
    """
    logits = scale * patches @ words.T  # (B, N, n)
    allowed = logits.masked_fill(~shown[:, None], -torch.inf)
    explained = (logits.logsumexp(-1) - allowed.logsumexp(-1)).mean()
    pooled = (logits.softmax(1) * logits).sum(1)  # (B, n)
    found = shared_cross_entropy(pooled, shown)
    return {"total": explained + found, "explained": explained, "found": found}
