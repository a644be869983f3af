"""Chapter 13: from pictures to points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.labels import NO_LABEL
from ...datasets.points import back_project
from ...segmentors.points import local_loss, pseudo_labels
from . import exercise
from .compare import Case, Wrong, close_each, same_tensor, tensor, varies


class _Camera(NamedTuple):
    """A depth picture and who took it.

    Attributes:
        depth: (H, W) metres, 0 where nothing was measured.
        intrinsics: (3, 3).
        pose: (4, 4) camera to world.
    """

    depth: Tensor
    intrinsics: Tensor
    pose: Tensor


def _camera(seed: int) -> _Camera:
    """A picture that is no square, with holes, of a camera that is turned and away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    height, width = 5 + seed, 8 - seed
    depth = 2 + torch.rand(height, width, generator=generator)
    depth[torch.rand(height, width, generator=generator) < 0.25] = 0
    depth[0, 0], depth[1, 2] = 2.0, 0.0
    intrinsics = torch.tensor([[6.0, 0, width / 2], [0, 6.0, height / 2], [0, 0, 1]])
    # A rotation is what is left of any matrix after its lengths and angles are taken out.
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    rotation = rotation * torch.linalg.det(rotation).sign()
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, torch.randn(3, generator=generator)
    return _Camera(depth, intrinsics, pose)


@exercise("13.1", "A pixel is a ray; its depth says where on the ray the point lies.")
def unproject(answer: Callable[..., object]) -> None:
    """The answer is a function: depth, intrinsics, pose -> (N, 3), the points of the pixels with a depth."""
    cameras = [_camera(seed) for seed in (0, 1, 2)]
    given = [answer(*(each.clone() for each in camera)) for camera in cameras]
    varies(given, what="the points of this depth picture")
    for got, camera in zip(given, cameras, strict=True):
        depth, intrinsics, pose = camera
        measured = depth > 0
        every = back_project(depth, intrinsics, pose)
        count = f"{int(measured.sum())} of {depth.numel()} pixels were measured (depth above 0): one row each"
        same_tensor(
            got,
            every[measured],
            what="the points of a depth picture",
            shape=f"(N, 3), row by row: {count}",
            traps=[(trap[measured], mistake) for trap, mistake in _unproject_traps(camera)],
        )


def _unproject_traps(camera: _Camera) -> list[tuple[Tensor, str]]:
    depth, intrinsics, pose = camera
    local = back_project(depth, intrinsics, torch.eye(4))
    rotation, place = pose[:3, :3], pose[:3, 3]
    rays = back_project(torch.ones_like(depth), intrinsics, torch.eye(4))
    corner = intrinsics.clone()
    corner[:2, 2] += 0.5
    swapped = back_project(depth.T, intrinsics, torch.eye(4)).transpose(0, 1)
    return [
        (back_project(depth, corner, pose), "the middle of the first pixel lies at (0.5, 0.5): add a half"),
        (swapped @ rotation.mT + place, "x goes with the column, y with the row: you exchanged them"),
        (local, "those points are in the camera's axes: apply the pose"),
        ((local - place) @ rotation, "that is the way into the camera: a pose goes from camera to world"),
        (local @ rotation + place, "rows times R is R^T times columns: multiply by R.T"),
        (local @ rotation.mT - place, "add the camera's place, do not subtract it"),
        (
            (F.normalize(rays, dim=-1) * depth[..., None]) @ rotation.mT + place,
            "depth is along the camera's axis, and not along the ray: do not normalise the ray",
        ),
    ]


@exercise("13.2", "A camera sees a point if it looks there and nothing nearer is in the way.")
def seen_from(answer: Callable[..., object]) -> None:
    """The answer is a function: points, depth, intrinsics, pose, tolerance -> (N,) booleans."""
    scenes = [_before_and_behind(seed) for seed in (0, 1, 2)]
    tolerance = 0.1
    given = [
        answer(points.clone(), *(each.clone() for each in camera), tolerance) for points, camera in scenes
    ]
    varies(given, what="which of these points the camera sees")
    for got, (points, camera) in zip(given, scenes, strict=True):
        inside, before, behind, far, near = _where(points, camera, tolerance)
        # Only what the picture measured can hide a point, or show it.
        truth = inside & before & ~behind
        traps = [
            (inside & before, "a point behind a surface is hidden: compare its depth with the measured one"),
            (before & ~behind, "a point beside the picture is not seen, whatever its border shows"),
            (inside & ~behind, "a point behind the camera has no pixel: its depth is below 0"),
            (inside & before & ~behind & ~near, "a point before the surface hides nothing and is seen"),
            (inside & before & ~far, "a little behind the surface still counts: add the tolerance"),
            (inside & before & behind, "that is what is hidden: take the rest"),
        ]
        same_tensor(
            got,
            truth,
            what="which points the camera sees",
            shape="(N,), one truth value a point",
            traps=traps,
            otherwise="find pixel and depth of each point first, and compare them with the ones of the hint",
        )


def _before_and_behind(seed: int) -> tuple[Tensor, _Camera]:
    """Points on the surface that a camera sees, a little and far behind it, before it, and out of sight."""
    whole = _camera(seed)
    camera = whole._replace(depth=whole.depth + 0.5)  # all measured
    generator = torch.Generator().manual_seed(100 + seed)
    on = back_project(camera.depth, camera.intrinsics, torch.eye(4)).flatten(0, 1)  # in the camera's axes
    moves = torch.tensor([0.0, 0.05, 0.3, -0.3])
    chosen = moves[torch.randint(4, (len(on),), generator=generator)]
    moved = on * (1 + chosen / on[:, 2])[:, None]
    beside = torch.tensor([[4.0, 0.1, 2.0], [0.1, -4.0, 2.0], [-3.0, 0.2, 1.5]])
    local = torch.cat([moved, beside, -on[:3]])
    local = local[torch.randperm(len(local), generator=generator)]
    return local @ camera.pose[:3, :3].mT + camera.pose[:3, 3], camera


def _where(
    points: Tensor, camera: _Camera, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(N,) each: in the picture, before the camera, behind the tolerance, behind the surface, before it."""
    depth, intrinsics, pose = camera
    height, width = depth.shape
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    far = local[:, 2]
    pixels = (local @ intrinsics.mT)[:, :2] / far[:, None]
    column, row = pixels.floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    measured = depth[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    behind = far > measured + tolerance
    return inside, far > 0, behind, far > measured + 1e-3, far < measured - tolerance


@exercise("13.3", "A point asks the cameras that see it, and no other.")
def mean_over_views(answer: Callable[..., object]) -> None:
    """The answer is a function: features (V, N, D), visible (V, N) -> (N, D)."""
    cases = [_views(seed) for seed in (0, 1, 2)]
    given = [answer(features.clone(), visible.clone()) for features, visible in cases]
    varies(given, what="what these views say of the points")
    for got, (features, visible) in zip(given, cases, strict=True):
        seen = visible[..., None].float()
        total = (features * seen).sum(0)
        first = features[visible.float().argmax(0), torch.arange(features.shape[1])]
        means = total / seen.sum(0).clamp(min=1)
        rows = tensor(
            got,
            tuple(total.shape),
            what="what the views say of the points",
            perhaps="the views are averaged away: (N, D) is left",
        )
        if rows.isnan().any():
            raise Wrong(
                "NaN for some points",
                "zeros where no camera sees a point",
                "you divided by the number of cameras, which may be 0: F.normalize needs no such number",
            )
        same_tensor(
            rows,
            F.normalize(total, dim=-1),
            what="what the views say of the points",
            shape="(N, D)",
            traps=[
                (F.normalize(features.sum(0), dim=-1), "a camera that does not see the point has no say"),
                (means, "a cosine is asked of it next: bring it to length 1"),
                (total, "a cosine is asked of it next: bring it to length 1"),
                (first * visible.any(0)[:, None], "that is the first camera that sees it: take the mean"),
            ],
        )


def _views(seed: int) -> tuple[Tensor, Tensor]:
    """Three views of six points; no camera sees the last."""
    generator = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(3, 6, 4, generator=generator), dim=-1)
    visible = torch.rand(3, 6, generator=generator) < 0.6
    visible[:, 0], visible[:, 5] = True, False
    visible[:2, 1] = torch.tensor([True, False])
    return features, visible


@exercise("13.4", "Far from all that is chosen is not far from the last one: keep the nearest distance.")
def farthest(answer: Callable[..., object]) -> None:
    """The answer is a function: points, count -> the places of the chosen points, the first one first."""
    clouds = [
        (torch.randn(24 + seed, 3, generator=torch.Generator().manual_seed(seed)), 5 + seed)
        for seed in (0, 1, 2)
    ]
    given = [answer(points.clone(), count) for points, count in clouds]
    varies(given, what="which points of this cloud are chosen")
    for got, (points, count) in zip(given, clouds, strict=True):
        nearest = _chosen(points, count, lambda rows: rows.amin(0))
        traps = [
            (
                _chosen(points, count, lambda rows: rows[-1]),
                "far from the last one only: ask all chosen ones",
            ),
            (
                _chosen(points, count, lambda rows: rows.sum(0)),
                "a sum of distances runs to the rim: take the least",
            ),
            (
                _chosen(points, count, lambda rows: rows.amax(0)),
                "the largest distance to a chosen point: take the least",
            ),
            (
                _chosen(points, count, lambda rows: -rows.amin(0)),
                "that takes the nearest: argmax, not argmin",
            ),
            (torch.arange(count), "those are the first ones: choose by distance"),
            (nearest.sort().values, "return them in the order in which they were chosen"),
        ]
        same_tensor(
            got,
            nearest,
            what=f"the places of {count} points",
            shape=f"{count} places, the first of which is 0",
            traps=traps,
            tolerance=0.1,
        )


def _chosen(points: Tensor, count: int, far: Callable[[Tensor], Tensor]) -> Tensor:
    """Places chosen one after the other, by what `far` makes of (K, N) distances to those chosen before."""
    table = torch.cdist(points, points)
    places = [0]
    while len(places) < count:
        score = far(table[places])
        score[places] = -math.inf
        places.append(int(score.argmax()))
    return torch.tensor(places)


@exercise("13.5", "Each point is held to its own pixel, where there is one.")
def local_alignment(answer: Callable[..., object]) -> None:
    """The answer is a function: points (N, D), pictures (N, D), seen (N,) -> a scalar."""
    cases = []
    for seed in (0, 1, 2):
        points, pictures, seen = _pairs(seed)
        cosine = F.cosine_similarity(points, pictures, dim=-1)
        truth = local_loss(F.normalize(points, dim=-1), F.normalize(pictures, dim=-1), seen)
        product = 1 - (points * pictures).sum(-1)
        apart = (points - pictures).square().sum(-1)
        traps = [
            (float((1 - cosine).mean()), "a point that no camera sees has no pixel: leave it out"),
            (float(((1 - cosine) * seen).mean()), "divide by the points that are seen, and not by all"),
            (float((1 - cosine)[seen].sum()), "that is the sum: take the mean"),
            (float(cosine[seen].mean()), "that grows as they agree: a loss is 1 - cosine"),
            (float(product[seen].mean()), "these vectors have any length: a cosine divides by both"),
            (float(apart[seen].mean()), "that is a squared distance: take 1 - cosine"),
        ]
        cases.append(Case(f"cloud {seed + 1}", answer(points, pictures, seen), float(truth), traps))
    close_each(cases, tolerance=1e-4)
    points, pictures, seen = _pairs(3)
    nobody = answer(points, pictures, torch.zeros_like(seen))
    value = float(tensor(nobody, (), what="the loss where no point is seen", perhaps="return one number"))
    if value != 0:
        raise Wrong(
            f"{value:.2f} for a cloud that no camera sees",
            "0",
            "you divided by 0 points: `clamp(min=1)` makes 0 / 1 of it",
        )


def _pairs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points, pictures = 2 * torch.randn(2, 7, 5, generator=generator)
    seen = torch.rand(7, generator=generator) < 0.6
    seen[0], seen[1] = True, False
    return points, pictures, seen


@exercise(
    "13.6",
    "A pseudo label fills a gap among the words that nobody labelled; where there is a label it has no say.",
)
def filled(answer: Callable[..., object]) -> None:
    """The answer is a function: labels, cosines, seen, unseen words -> labels with the gaps filled."""
    cases = [_gaps(seed) for seed in (0, 1, 2)]
    given = [
        answer(labels.clone(), cosines.clone(), seen.clone(), list(unseen))
        for labels, cosines, seen, unseen in cases
    ]
    varies(given, what="the labels of this cloud")
    for got, (labels, cosines, seen, unseen) in zip(given, cases, strict=True):
        gap = labels == NO_LABEL
        # Cosines with the unit vectors of C axes are the entries themselves.
        best = pseudo_labels(cosines, seen, torch.eye(cosines.shape[1]), unseen)
        place = cosines[:, unseen].argmax(1)
        traps = [
            (
                cosines.argmax(1).where(seen, NO_LABEL).where(gap, labels),
                "only words that nobody labelled compete",
            ),
            (best, "where there is a label it stays: CLIP has no say there"),
            (
                place.where(seen, NO_LABEL).where(gap, labels),
                "those count in your list of unseen words: take their ids",
            ),
            (torch.tensor(unseen)[place].where(gap, labels), "no camera sees some of the points: -1 stays"),
            (labels, "nothing is filled: look where labels are -1"),
        ]
        same_tensor(
            got,
            best.where(gap, labels),
            what="the labels of a cloud",
            shape="(N,), one id a point",
            traps=traps,
            tolerance=0.1,
        )


def _gaps(seed: int) -> tuple[Tensor, Tensor, Tensor, Sequence[int]]:
    """Labels of ten points with gaps, cosines with six words, which points are seen, the unseen words."""
    generator = torch.Generator().manual_seed(seed)
    unseen = [(1, 4), (2, 5), (3, 5)][seed]
    words = torch.tensor([word for word in range(6) if word not in unseen])
    labels = words[torch.randint(len(words), (10,), generator=generator)]
    labels[torch.randperm(10, generator=generator)[:6]] = NO_LABEL
    seen = torch.rand(10, generator=generator) < 0.7
    gap = (labels == NO_LABEL).nonzero()[:, 0]
    seen[gap[:3]], seen[gap[3]] = True, False
    cosines = torch.rand(10, 6, generator=generator)
    cosines[gap[0], words[0]] = 1.0  # a seen word is best of all where nobody labelled
    return labels, cosines, seen, unseen
