"""From pictures to points: what CLIP says of the pixel that a point falls on, and losses that teach it.

CLIP's knowledge into point clouds (2312.07221): features are aligned at a local and a global level, and
frozen CLIP's labels stand in for those of unseen classes [A]. Which formulas these are is our reading [I]: no
code is public.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.labels import NO_LABEL


def lift(maps: Tensor, pixels: Tensor, visible: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What the pictures' dense features say of each point: the mean over the cameras that see it.

    Args:
        maps: (V, D, h, w) dense features of the views, unit vectors along D.
        pixels: (V, N, 2) x and y of each point in each view.
        visible: (V, N) booleans.
        size: (H, W) of the views in pixels.

    Returns:
        (N, D) unit vectors, zeros for a point that no camera sees; and (N,) booleans, whether one does.

    Raises:
        ValueError: other shapes.
    """
    count = len(maps)
    if pixels.shape[:1] != (count,) or pixels.shape[2:] != (2,) or visible.shape != pixels.shape[:2]:
        raise ValueError(
            f"got maps {tuple(maps.shape)}, pixels {tuple(pixels.shape)} and visible {tuple(visible.shape)}; "
            "expected (V, D, h, w), (V, N, 2) and (V, N)"
        )
    height, width = size
    # From pixels to [-1, 1], the picture's borders; NaN stands for "behind the camera", which is not visible.
    place = pixels.nan_to_num(0) * 2 / pixels.new_tensor([width, height]) - 1
    sampled = F.grid_sample(maps, place[:, None], padding_mode="border", align_corners=False)
    seen = visible[..., None].to(sampled)
    total = (sampled[:, :, 0].mT * seen).sum(0)  # (N, D)
    return F.normalize(total, dim=-1), visible.any(0)


def fill_unseen(features: Tensor, seen: Tensor, points: Tensor) -> Tensor:
    """Features (N, D) in which a point that no camera sees has those of the nearest point that one does.

    Args:
        features: (N, D).
        seen: (N,) booleans.
        points: (N, 3) metres.

    Raises:
        ValueError: no camera sees any point.
    """
    if not seen.any():
        raise ValueError(
            f"no camera sees any of {len(points)} points; expected at least one: are poses camera to world, "
            "and lengths in metres?"
        )
    if seen.all():
        return features
    nearest = torch.cdist(points[~seen], points[seen]).argmin(1)
    filled = features.clone()
    filled[~seen] = features[seen][nearest]
    return filled


def local_loss(points: Tensor, pictures: Tensor, seen: Tensor) -> Tensor:
    """Local alignment: 1 - cosine of a point's feature and its pixel's, mean over the points that are seen.

    Args:
        points: (N, D) unit vectors of the point encoder.
        pictures: (N, D) of `lift`.
        seen: (N,) booleans.

    Returns:
        A scalar, 0 .. 2; zero where no point is seen.
    """
    distance = (1 - (points * pictures).sum(-1)) * seen
    return distance.sum() / seen.sum().clamp(min=1)


def global_loss(pooled: Tensor, pictures: Tensor, scale: Tensor) -> Tensor:
    """Global alignment: InfoNCE of clouds and pictures of one batch, both ways, as CLIP's own loss.

    Args:
        pooled: (B, D) unit vectors, one a cloud.
        pictures: (B, D) CLS embeddings of the picture of each, unit vectors.
        scale: CLIP's logit scale, a scalar.

    Returns:
        A scalar in nats; zero for one pair, which has nothing to be told from.
    """
    logits = scale * pooled @ pictures.T
    own = torch.arange(len(pooled), device=pooled.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def pool(points: Tensor, visible: Tensor) -> Tensor | None:
    """The mean (D,) of the features of the points that a camera sees, of unit length; None if it sees none.

    Args:
        points: (N, D) unit vectors.
        visible: (N,) booleans.
    """
    return F.normalize(points[visible].mean(0), dim=-1) if visible.any() else None


def pseudo_labels(pictures: Tensor, seen: Tensor, text: Tensor, candidates: Sequence[int]) -> Tensor:
    """What frozen CLIP calls each point, among the words that nobody labelled.

    Args:
        pictures: (N, D) of `lift`.
        seen: (N,) booleans.
        text: (C, D) embeddings of all words, unit vectors.
        candidates: ids of the unseen classes.

    Returns:
        (N,) int64 ids among `candidates`; NO_LABEL where no camera sees the point, and everywhere if there
        are no candidates.
    """
    if not len(candidates):
        return torch.full((len(pictures),), NO_LABEL, device=pictures.device)
    ids = torch.as_tensor(candidates, device=pictures.device)
    best = ids[(pictures @ text[ids].T).argmax(-1)]
    return best.where(seen, NO_LABEL)
