"""Losses of masks that are matched, and the map that queries make together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .targets import Masks

# Of the focal loss (1708.02002), as MaskFormer, ZegCLIP and Cascade-CLIP have them [S].
ALPHA, GAMMA = 0.25, 2.0


def sigmoid_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of every pixel (1708.02002, alpha 0.25, gamma 2).

    Args:
        logits: of any shape.
        wanted: 0 or 1, of the same shape.

    Returns:
        Nats, of that shape.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    right = probability * wanted + (1 - probability) * (1 - wanted)  # what the right answer is given
    balance = ALPHA * wanted + (1 - ALPHA) * (1 - wanted)
    return balance * entropy * (1 - right) ** GAMMA


def dice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """1 - Dice of every mask.

    Args:
        logits: (B, C, H, W).
        wanted: (B, C, H, W), 0 or 1.

    Returns:
        (B, C), 0 .. 1.
    """
    # Smoothed by one pixel: an empty mask that is left empty has a loss of zero, and not of 0 / 0.
    got = logits.sigmoid()
    overlap = (got * wanted).sum((2, 3))
    size = got.sum((2, 3)) + wanted.sum((2, 3))
    return 1 - (2 * overlap + 1) / (size + 1)


def drawn_masks_loss(logits: Tensor, wanted: Masks, match: Tensor) -> tuple[Tensor, Tensor]:
    """Focal and Dice loss of matched masks, each a mean over them; zero if there is none.

    Args:
        logits: (B, Q, h, w).
        wanted: the masks, at a size of their own.
        match: (B, K) of `assign`.

    Returns:
        Two scalars, focal in nats a pixel, Dice 0 .. 1.
    """
    matched = match >= 0
    places = match.clamp(min=0)[:, :, None, None].expand(-1, -1, *logits.shape[2:])
    size = wanted.masks.shape[2:]
    # Only masks that somebody answers for are enlarged: all of them at the size of the labels are large.
    drawn = F.interpolate(logits.gather(1, places), size, mode="bilinear", align_corners=False)
    count = matched.sum().clamp(min=1)
    focal = (sigmoid_focal_loss(drawn, wanted.masks).mean((2, 3)) * matched).sum() / count
    dice = (dice_loss(drawn, wanted.masks) * matched).sum() / count
    return focal, dice


def class_loss(logits: Tensor, ids: Tensor, match: Tensor, no_object: float) -> Tensor:
    """Cross-entropy of what queries say they are of; those that nobody needs should say: of nothing.

    Args:
        logits: (B, Q, C + 1), "no object" last.
        ids: (B, K) classes of the wanted masks.
        match: (B, K) of `assign`.
        no_object: weight of the queries without a mask, beside 1 of those with one.

    Returns:
        A scalar in nats, the weighted mean over all queries, as in DETR's code [S].
    """
    batch, queries, classes = logits.shape
    # One query more catches the slots that nobody answers for, and is cut off again.
    said = torch.full((batch, queries + 1), classes - 1, dtype=torch.int64, device=logits.device)
    places = torch.where(match >= 0, match, queries)
    said = said.scatter(1, places, ids)[:, :queries]
    weight = torch.ones(classes, device=logits.device)
    weight[-1] = no_object
    return F.cross_entropy(logits.flatten(0, 1), said.flatten(), weight)


def semantic_map(probabilities: Tensor, masks: Tensor) -> Tensor:
    """From what queries are of, and where, to what is where: sum_q p_q(c) sigmoid(mask_q).

    Args:
        probabilities: (B, Q, C), without "no object".
        masks: (B, Q, h, w) logits.

    Returns:
        (B, C, h, w), 0 or more: no logits, and no probabilities either, for several masks may overlap.
    """
    return torch.einsum("bqc,bqhw->bchw", probabilities, masks.sigmoid())
