"""Pseudo masks: patches of a picture in groups that are alike, without a label.

K-means on unit vectors whose seeds are the means of windows that slide over the picture, at several scales:
the seeding of CLIP-ZSS [N] and of Split Matching [N].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Clusters:
    """A partition of the patches of each picture; K slots, some of which are empty.

    Attributes:
        labels: (B, N) int64, the slot of each patch.
        centres: (B, K, D) unit vectors.
    """

    labels: Tensor
    centres: Tensor

    @property
    def members(self) -> Tensor:
        """(B, K, N) bool, the patches of each slot."""
        slots = torch.arange(self.centres.shape[1], device=self.labels.device)
        return self.labels[:, None] == slots[:, None]


def window_means(dense: Tensor, scale: int) -> Tensor:
    """The mean direction of every window of a size, half a window apart.

    G = (1 / s^2) sum O[u, v] at 0, s/2, ..., H - s/2 [N: Split Matching's formula]; the last windows of a row
    or column end at the border.

    Args:
        dense: (B, D, h, w).
        scale: s, the side of a window in patches.

    Returns:
        (B, K, D) unit vectors.

    Raises:
        ValueError: windows of less than two patches or larger than the picture.
    """
    height, width = dense.shape[2:]
    if not 2 <= scale <= max(height, width):
        raise ValueError(
            f"got windows of {scale} patches in a picture of {height} x {width}; "
            f"expected 2 .. {max(height, width)}"
        )
    step = scale // 2
    # Zeros beyond the border change the length of a mean, and not its direction.
    spare = [(-(-side // step) - 1) * step + scale - side for side in (width, height)]
    padded = F.pad(dense, (0, max(0, spare[0]), 0, max(0, spare[1])))
    return F.normalize(F.avg_pool2d(padded, scale, step).flatten(2).mT, dim=-1)


def spherical_kmeans(tokens: Tensor, seeds: Tensor, rounds: int) -> Clusters:
    """K-means by cosine: a patch goes to the nearest centre, a centre to the direction of its patches.

    Args:
        tokens: (B, N, D) unit vectors.
        seeds: (B, K, D) unit vectors.
        rounds: how often the centres move.

    Returns:
        The clusters. A centre without patches stays where it was.

    Raises:
        ValueError: more clusters than patches.
    """
    count, clusters = tokens.shape[1], seeds.shape[1]
    if clusters > count:
        raise ValueError(
            f"got {clusters} clusters for {count} patches; expected no more clusters than patches: "
            "larger windows have fewer seeds, larger pictures more patches"
        )
    centres = seeds
    for _ in range(rounds):
        labels = torch.einsum("bnd,bkd->bnk", tokens, centres).argmax(-1)
        sums = torch.zeros_like(centres).scatter_add(1, labels[..., None].expand_as(tokens), tokens)
        alone = (sums == 0).all(-1, keepdim=True)
        centres = torch.where(alone, centres, F.normalize(sums, dim=-1))
    return Clusters(torch.einsum("bnd,bkd->bnk", tokens, centres).argmax(-1), centres)


def merge_centres(centres: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Put centres together that are alike; each is used once, the first of a group leads it.

    Args:
        centres: (B, K, D) unit vectors.
        threshold: cosine with the leader above which a centre joins it.

    Returns:
        Mean directions (B, K, D) in the leaders' slots, and (B, K) bool, who leads.
    """
    batch, count, _ = centres.shape
    alike = centres @ centres.mT > threshold
    slots = torch.arange(count, device=centres.device)
    leader = torch.full((batch, count), -1, dtype=torch.int64, device=centres.device)
    for slot in range(count):
        free = leader < 0
        # Whoever is free when its turn comes leads those that are free and like it.
        joins = free & alike[:, slot] & free[:, slot : slot + 1]
        joins = joins | (free & (slots == slot))
        leader = torch.where(joins, slot, leader)
    sums = torch.zeros_like(centres).scatter_add(1, leader[..., None].expand_as(centres), centres)
    return F.normalize(sums, dim=-1), leader == slots


@torch.no_grad()
def multi_scale_clusters(
    dense: Tensor, scales: Sequence[int], *, rounds: int = 10, threshold: float = 0.9
) -> Clusters:
    """Group the patches of pictures, at several scales at once.

    K-means at each scale; centres of all scales that are alike become one; every patch goes to the nearest
    of what is left. That scales are fused by the cosine of centres is CLIP-ZSS's [N]; to ask each patch again
    at the end, where CLIP-ZSS and Split Matching fuse masks, is our reading [I].

    Args:
        dense: (B, D, h, w) unit vectors.
        scales: sides of the windows in patches, coarse or fine in any order.
        rounds: of K-means.
        threshold: cosine above which two centres are one.

    Returns:
        The clusters; slots that lead no group are empty.

    Raises:
        ValueError: no scale, windows that do not fit, or more clusters than patches.
    """
    if not scales:
        raise ValueError("got no scales; expected at least one side of windows, in patches")
    tokens = dense.flatten(2).mT
    # In float32 also under autocast: neighbours' cosines differ by less than half precision has.
    with torch.autocast(dense.device.type, enabled=False):
        found = [spherical_kmeans(tokens, window_means(dense, scale), rounds).centres for scale in scales]
        centres, leads = merge_centres(torch.cat(found, 1), threshold)
        cosines = torch.einsum("bnd,bkd->bnk", tokens, centres)
    return Clusters(cosines.masked_fill(~leads[:, None], -torch.inf).argmax(-1), centres)
