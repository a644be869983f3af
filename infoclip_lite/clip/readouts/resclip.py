"""ResCLIP (2411.15851): attention of earlier blocks joins the last one's, and a first answer refines it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import project_out, project_qkv, similarity
from ..depth import at_depth
from ..refinements.pamr import Pamr, affinity
from ..tower import TowerPass
from .naclip import NEIGHBOURHOOD_STD, neighbourhood

FIRST, LAST = 5 / 11, 8 / 11  # blocks 5 to 8 of twelve [S]
_WORDS = 32  # refined at a time, so that not all maps of many words are copied


def resclip(
    tower: TowerPass,
    *,
    cross: tuple[float, float] = (2.0, 0.4),
    feedback: tuple[float, float] = (1.8, 0.7),
    sure: float = 0.11,
    scale: float = 40.0,
) -> Tensor:
    """t ((1 - l) softmax(k k^T + neighbourhood) + l C) v, no residual, no feed-forward layer [S].

    C (B, heads, 1 + N, 1 + N) is the mean of the query-key attention of blocks 5 to 8 of twelve, head by head
    (residual cross-correlation self-attention). In a tower of another depth they are those at the same
    relative depth [O].

    Where the pass knows words there is a second time with t' ((1 - l') k k^T + l' F) in place of k k^T, where
    F says which patches the first time gave the same word (semantic feedback refinement); see `same_word`.
    Without words the first time is the answer [O].

    Constants are those for COCO-Stuff and COCO-Object; the authors tune them for each data set [S].

    Args:
        tower: the pass.
        cross: t and l.
        feedback: t' and l'.
        sure: fraction of the softmax below which a pixel has no word.
        scale: what cosines are multiplied with before that softmax.

    Returns:
        (B, N, W) tokens of the patches.
    """
    # Before `entering` is asked for, so that the blocks are run once.
    earlier = cross_correlation(tower)
    _, k, v = project_qkv(tower.last, tower.entering)
    near, alike = neighbourhood(tower.grid, k), similarity(k, k)

    def mixed(logits: Tensor) -> Tensor:
        strength, share = cross
        # The rows sum to `strength` and not to one: without a residual only a bias can tell [S].
        weights = strength * ((1 - share) * (logits + near).softmax(-1) + share * earlier)
        return project_out(tower.last, weights @ v)[:, 1:]

    first = mixed(alike)
    if tower.words is None or tower.project is None:
        return first
    with torch.no_grad():
        labels = patch_labels(tower, first, sure=sure, scale=scale)
        same = same_word(labels)[:, None].to(alike.dtype)
    strength, share = feedback
    return mixed(strength * ((1 - share) * alike + share * same))


def resclip_logits(tower: TowerPass, scale: float | Tensor) -> Tensor:
    """Scaled cosines of the second time's patches with the words.

    Args:
        tower: a pass that knows words.
        scale: what cosines are multiplied with.

    Returns:
        (B, N, C) logits.

    Raises:
        ValueError: a pass without words.
    """
    return scale * tower.cosines(resclip(tower))


def cross_correlation(tower: TowerPass) -> Tensor:
    """The mean attention of the blocks in the middle (B, heads, 1 + N, 1 + N), rows sum to one [S]."""
    blocks = len(tower.blocks)
    # Of a tower with fewer than three blocks the last one may be among them [O].
    middle = range(at_depth(FIRST, blocks), at_depth(LAST, blocks) + 1)
    return torch.stack([tower.attention(index) for index in middle]).mean(0)


def patch_labels(tower: TowerPass, tokens: Tensor, *, sure: float, scale: float) -> Tensor:
    """The word of each patch: the one that most of its pixels have, after PAMR [S].

    A pixel whose best word has less than `sure` of the softmax has none, -1, which counts as a word of its
    own [O]: in the authors' code it has the first word of the list, which in some of their lists is the
    background. Where the pass has no pictures each patch is a pixel [O].

    Args:
        tower: a pass that knows words.
        tokens: (B, N, W) of the patches.
        sure, scale: as for `resclip`.

    Returns:
        (B, h, w) int64 places among the words, or -1.
    """
    rows, columns = tower.grid
    maps = tower.cosines(tokens).mT.unflatten(2, tower.grid)
    side = 1
    if tower.images is not None:
        # As many pixels a patch as the picture has; one that the tower stretched is stretched here too.
        height, width = tower.images.shape[-2:]
        side = max(-(-height // rows), -(-width // columns))
        maps = _refined(maps, tower.images.to(maps), (rows * side, columns * side))
    fraction, label = (scale * maps).softmax(1).max(1)
    label = label.masked_fill(fraction < sure, -1)
    votes = label.unflatten(2, (columns, side)).unflatten(1, (rows, side))
    return votes.transpose(2, 3).flatten(3).mode(-1).values


def _refined(maps: Tensor, images: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, C, h, w) enlarged to a size, and refined along the edges of their pictures."""
    images, pamr = _enlarged(images, size), Pamr()
    weights = affinity(images, pamr.dilations)
    return torch.cat([pamr.spread(_enlarged(part, size), weights) for part in maps.split(_WORDS, 1)], 1)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def same_word(labels: Tensor) -> Tensor:
    """Which patches have the same word, smoothed, 1 at most; none with CLS [S].

    One where two patches have the same word; exp(-d / D) where they have but a step between them on the
    straight way has another, d the number of steps (king's moves) and D the largest there is. Then each row
    is smoothed with a Gaussian of std 5 along the patches in reading order, divided by its sum, and all of it
    by the largest.

    The steps between are taken as the code takes them: at fractions 0, 1/D, ..., d/D of the way, so that of a
    way shorter than D only the first part is looked at.

    Args:
        labels: (B, h, w) of `patch_labels`.

    Returns:
        (B, 1 + N, 1 + N) float32.
    """
    flat = labels.flatten(1)  # (B, N)
    same = (flat[:, :, None] == flat[:, None, :]).float()
    through, distance = _walks(labels)
    same = torch.where(through, same, same * (-distance / max(1, max(labels.shape[1:]) - 1)).exp())
    smooth = _smoothed(same)
    smooth = smooth / (smooth.sum(-1, keepdim=True) + 1e-8)
    return F.pad(smooth / smooth.amax((1, 2), keepdim=True), (1, 0, 1, 0))


def _walks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of all pairs of patches: whether the first one's word holds on the way (B, N, N); the steps (N, N)."""
    height, width = labels.shape[1:]
    place = torch.arange(height * width, device=labels.device)
    places = torch.stack([place // width, place % width])  # rows and columns
    start, end = places[:, :, None], places[:, None, :]
    distance = (end - start).abs().amax(0)
    flat = labels.flatten(1)
    through = torch.ones_like(flat[:, :, None] == flat[:, None, :])
    longest = max(height, width) - 1
    for step, part in enumerate(torch.linspace(0, 1, longest + 1, device=labels.device)):
        row, column = (start * (1 - part) + end * part).round().long()
        holds = flat[:, row * width + column] == flat[:, :, None]
        through &= holds | (step > distance)
    return through, distance


def _smoothed(rows: Tensor) -> Tensor:
    """(B, N, N) smoothed along the last axis."""
    # Six deviations wide, and odd; in reading order, where a row's end touches the next one's beginning [S].
    width = min(rows.shape[-1], int(6 * NEIGHBOURHOOD_STD + 1))
    width += 1 - width % 2
    offset = torch.arange(width, device=rows.device) - width // 2
    kernel = torch.exp(-offset.square() / (2 * NEIGHBOURHOOD_STD**2))
    kernel = (kernel / kernel.sum())[None, None]
    return F.conv1d(rows.flatten(0, 1)[:, None], kernel, padding=width // 2)[:, 0].view_as(rows)
