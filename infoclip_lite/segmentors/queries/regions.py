"""What frozen CLIP says of a region of a picture: of a crop, or by a CLS that looks at nothing else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import DenseCLIP
from ...clip.blocks import attend, feed_forward, project_out, project_qkv
from ...clip.tower import TowerPass


def bounding_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each mask.

    Args:
        masks: (..., H, W) bool.

    Returns:
        (..., 4) int64: top, left, bottom, right, the last two not inside; the whole picture around an
        empty mask.
    """
    height, width = masks.shape[-2:]
    box = []
    for axis, length in ((-1, height), (-2, width)):
        touched = masks.any(axis).to(torch.int64)  # rows or columns that have a pixel
        # argmax finds the first of equals: the first touched from the front, and from the back.
        box.append((touched.argmax(-1), length - touched.flip(-1).argmax(-1)))
    (top, bottom), (left, right) = box
    return torch.stack([top, left, bottom, right], -1)


def crops(images: Tensor, masks: Tensor, size: int, fill: Tensor) -> tuple[Tensor, Tensor]:
    """Each mask cut out of its picture by its box, what is outside the mask painted over, at one size.

    As ZSSeg shows regions to CLIP [C]: bicubic, without smoothing, proportions not kept.

    Args:
        images: (B, 3, H, W) floats in [0, 1].
        masks: (B, Q, H, W) bool.
        size: side of the crops in pixels.
        fill: colour outside, broadcast against (3, 1, 1).

    Returns:
        (B, Q, 3, size, size) in [0, 1], and (B, Q) bool, whether there was anything in the mask.
    """
    height, width = images.shape[-2:]
    top, left, bottom, right = bounding_boxes(masks).to(images.dtype).unbind(-1)  # (B, Q) each
    # Where the middle of each pixel of a crop lies in its picture: of all boxes at once, in grid_sample's
    # measure of -1 .. 1 from edge to edge.
    across = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
    rows = (top[..., None] + across * (bottom - top)[..., None]) * 2 / height - 1  # (B, Q, size)
    columns = (left[..., None] + across * (right - left)[..., None]) * 2 / width - 1
    shape = (*rows.shape, size)
    grid = torch.stack([columns[..., None, :].expand(shape), rows[..., None].expand(shape)], -1)
    inside = masks.flatten(0, 1)[:, None].to(images.dtype)
    kept = F.grid_sample(inside, grid.flatten(0, 1), "nearest", "border", align_corners=False)
    kept = kept.unflatten(0, masks.shape[:2])  # (B, Q, 1, size, size)
    # All crops of a picture are one tall grid over it: the picture is not copied for each of them.
    cut = F.grid_sample(images, grid.flatten(1, 2), "bicubic", "border", align_corners=False)
    cut = cut.unflatten(2, (masks.shape[1], size)).transpose(1, 2).clamp(0, 1)
    return cut * kept + fill * (1 - kept), masks.flatten(2).any(-1)


def to_grid(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of each patch a mask covers: (B, K, H, W) of 0 and 1 to (B, K, h, w), 0 .. 1."""
    return F.adaptive_avg_pool2d(masks, grid)


def region_cls(clip: DenseCLIP, tower: TowerPass, regions: Tensor, *, blocks: int = 1) -> Tensor:
    """CLS embeddings of regions: the last blocks again, a CLS for each region that sees its patches alone.

    The CLS also sees itself, as it does in CLIP: of a region that is the whole picture the embedding is
    CLIP's own. An empty region has a CLS that has seen nothing in these blocks [I].

    Args:
        clip: whose tower made the pass.
        tower: the pass.
        regions: (B, K, N) bool.
        blocks: how many; what a CLS has seen before these is the whole picture, however small its region.

    Returns:
        (B, K, D) float32 unit vectors.

    Raises:
        ValueError: more blocks than the pass has, or none.
    """
    if not 1 <= blocks <= len(tower.blocks):
        raise ValueError(f"blocks is {blocks}; expected 1 .. {len(tower.blocks)} of the pass")
    count = regions.shape[1]
    # A region's CLS sees itself and no other region's: (K, K) beside the patches.
    itself = torch.eye(count, dtype=torch.bool, device=regions.device).expand(len(regions), -1, -1)
    unseen = ~torch.cat([itself, regions], -1)
    states = [tower.entering] if blocks == 1 else tower.states[-blocks:]
    cls = states[0][:, :1].expand(-1, count, -1)
    # (B, 1, K, K + N): minus infinity where a CLS must not look, the same for all heads.
    mask = torch.zeros(unseen.shape, dtype=cls.dtype, device=cls.device)
    mask = mask.masked_fill(unseen, -torch.inf)[:, None]
    for block, tokens in zip(tower.blocks[-blocks:], states, strict=True):
        # Patches are those of the pass: they never learn that somebody looks at a part of them.
        q, k, v = project_qkv(block, torch.cat([cls, tokens[:, 1:]], 1))
        mixed = attend(q[:, :, :count], k, v, mask.to(q.dtype))
        cls = feed_forward(block, cls + project_out(block, mixed))
    return clip.project(cls)
