"""The point encoder and its alignment: order, size, bad clouds; every formula against a written-out one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from clouds import SIDE, VIEWS, seen_from
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.segmentors.points import (
    PointEncoder,
    PointSegmentor,
    ProjectedCLIP,
    fill_unseen,
    global_loss,
    grid_means,
    interpolate,
    lift,
    local_loss,
    pool,
    pseudo_labels,
)


def cloud(count: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 3, generator=generator), torch.rand(count, 3, generator=generator)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def encoder() -> PointEncoder:
    torch.manual_seed(0)
    return PointEncoder(32, width=16, neighbours=4).requires_grad_(False)


# The encoder


def test_features_follow_the_order_of_the_points(encoder: PointEncoder) -> None:
    points, colours = cloud()
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    features = encoder(points, colours)
    assert torch.allclose(encoder(points[order], colours[order]), features[order], atol=1e-5)
    assert features.shape == (60, 32) and torch.allclose(features.norm(dim=1), torch.ones(60))


def test_a_point_looks_at_its_neighbours_and_not_at_where_the_room_is(encoder: PointEncoder) -> None:
    points, colours = cloud()
    features = encoder(points, colours)
    # A multiple of every cell, so that the grid cuts the cloud as before.
    moved = points + torch.tensor([6.0, 0.0, -6.0])
    assert torch.allclose(encoder(moved, colours), features, atol=1e-3)
    repainted = colours.clone()
    repainted[1:] = 1 - repainted[1:]
    assert not torch.allclose(encoder(points, repainted)[0], features[0], atol=1e-3)
    lifted = points + torch.tensor([0.0, 6.0, 0.0])
    assert not torch.allclose(encoder(lifted, colours), features, atol=1e-3), "height over the floor counts"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_points_than_neighbours_are_a_cloud_too(encoder: PointEncoder, count: int) -> None:
    features = encoder(*cloud(count))
    assert features.shape == (count, 32) and features.isfinite().all()


def test_points_on_one_spot_are_a_cloud_too(encoder: PointEncoder) -> None:
    features = encoder(torch.ones(20, 3), torch.ones(20, 3))
    assert features.isfinite().all() and torch.allclose(features, features[:1].expand_as(features), atol=1e-5)


@pytest.mark.parametrize(
    ("points", "colours", "message"),
    [
        (torch.full((2, 3), math.nan), torch.zeros(2, 3), "got 2 of 2 points with NaN .*keep points"),
        (torch.zeros(0, 3), torch.zeros(0, 3), r"got points \(0, 3\)"),
        (torch.zeros(2, 3), torch.zeros(3, 3), r"got colours \(3, 3\); expected \(2, 3\)"),
        (torch.zeros(2, 3), torch.full((2, 3), math.nan), "got colours with NaN among them"),
    ],
)
def test_what_is_no_cloud_is_refused(
    encoder: PointEncoder, points: Tensor, colours: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(points, colours)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": ()}, r"got cells \(\)"),
        ({"cells": (0.3, 0.1)}, "growing from level to level"),
        ({"cells": (0.0, 0.1)}, "metres above 0"),
        ({"neighbours": 0}, "neighbours=0; expected at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointEncoder(8, **options)


def test_cells_below_zero_are_other_cells() -> None:
    points = torch.tensor([[-0.1, 0.0, 0.0], [0.1, 0.0, 0.0], [0.3, 0.0, 0.0]])
    assert grid_means(points, 1.0)[:, 0].tolist() == pytest.approx([-0.1, 0.2])


def test_a_point_takes_the_three_nearest_by_inverse_square_distance() -> None:
    centres = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0, 2.0, 0], [9.0, 9, 9]])
    values = torch.tensor([[1.0], [2.0], [4.0], [100.0]])
    point = torch.tensor([[1.0, 0, 0]])
    weights = [1 / 1, 1 / 4, 1 / 5]
    expected = sum(w * v for w, v in zip(weights, [1.0, 2.0, 4.0], strict=True)) / sum(weights)
    assert interpolate(point, centres, values).item() == pytest.approx(expected, rel=1e-4)
    assert interpolate(centres[:2], centres, values)[:, 0].tolist() == pytest.approx([1.0, 2.0], rel=1e-4)


def test_logits_are_scaled_cosines(encoder: PointEncoder) -> None:
    points, colours = cloud()
    text, model = unit(3, 32), PointSegmentor(encoder, torch.tensor(7.0))
    assert torch.allclose(model(points, colours, text), 7 * encoder(points, colours) @ text.T)
    assert [name for name, _ in model.named_parameters() if not name.startswith("encoder.")] == []


# Alignment


def test_a_point_takes_the_mean_of_what_its_cameras_see() -> None:
    maps = unit(2, 4, 4, 8).permute(0, 3, 1, 2)  # (V, D, h, w): 4 x 4 patches of 8 pixels
    # The middle of patch (row 1, column 2), and of patch (row 3, column 0).
    pixels = torch.tensor([[[20.0, 12.0], [4.0, 28.0]], [[4.0, 28.0], [20.0, 12.0]]])
    visible = torch.tensor([[True, True], [True, False]])
    features, seen = lift(maps, pixels, visible, (32, 32))
    both = F.normalize(maps[0, :, 1, 2] + maps[1, :, 3, 0], dim=0)
    assert torch.allclose(features[0], both, atol=1e-6)
    assert torch.allclose(features[1], maps[0, :, 3, 0], atol=1e-6) and seen.tolist() == [True, True]


def test_between_patches_features_are_interpolated() -> None:
    maps = torch.eye(2).view(1, 2, 1, 2)
    features, _ = lift(maps, torch.tensor([[[16.0, 8.0]]]), torch.tensor([[True]]), (16, 32))
    assert torch.allclose(features[0], torch.tensor([0.5, 0.5]).sqrt(), atol=1e-6)


def test_a_point_behind_all_cameras_is_not_seen_and_not_nan() -> None:
    maps = unit(1, 2, 2, 4).permute(0, 3, 1, 2)
    features, seen = lift(maps, torch.full((1, 1, 2), math.nan), torch.tensor([[False]]), (8, 8))
    assert features.tolist() == [[0.0] * 4] and seen.tolist() == [False]


def test_a_point_that_nobody_sees_takes_its_nearest() -> None:
    points = torch.tensor([[0.0, 0, 0], [5.0, 0, 0], [4.0, 0, 0]])
    features, seen = unit(3, 4), torch.tensor([True, True, False])
    assert torch.equal(fill_unseen(features, seen, points)[2], features[1])
    assert fill_unseen(features, seen | True, points) is features
    with pytest.raises(ValueError, match="no camera sees any of 3 points.*camera to world"):
        fill_unseen(features, seen & False, points)


def test_maps_and_points_of_other_cameras_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .V, D, h, w., .V, N, 2. and .V, N."):
        lift(torch.zeros(2, 4, 2, 2), torch.zeros(3, 5, 2), torch.zeros(3, 5, dtype=torch.bool), (8, 8))


def test_local_loss_is_the_mean_distance_of_the_points_that_are_seen() -> None:
    points, pictures = unit(4, 8), unit(4, 8, seed=1)
    seen = torch.tensor([True, False, True, True])
    expected = torch.stack([1 - F.cosine_similarity(points[i], pictures[i], dim=0) for i in (0, 2, 3)]).mean()
    assert local_loss(points, pictures, seen).item() == pytest.approx(expected.item(), abs=1e-6)
    assert local_loss(points, pictures, seen & False).item() == 0


def test_global_loss_is_infonce_both_ways() -> None:
    clouds, pictures, scale = unit(3, 8), unit(3, 8, seed=1), torch.tensor(5.0)
    logits = scale * clouds @ pictures.T
    rows = -torch.stack([logits[i, i] - logits[i].logsumexp(0) for i in range(3)]).mean()
    columns = -torch.stack([logits[i, i] - logits[:, i].logsumexp(0) for i in range(3)]).mean()
    assert global_loss(clouds, pictures, scale).item() == pytest.approx((rows + columns).item() / 2, abs=1e-5)
    assert global_loss(clouds[:1], pictures[:1], scale).item() == 0, "one pair has nothing to be told from"


def test_a_cloud_is_pooled_over_what_a_camera_sees() -> None:
    features, visible = unit(3, 8), torch.tensor([True, True, False])
    pooled = pool(features, visible)
    assert pooled is not None and torch.allclose(pooled, F.normalize(features[0] + features[1], dim=0))
    assert pool(features, visible & False) is None


def test_pseudo_labels_are_clips_among_the_unseen_words() -> None:
    text = torch.eye(4)
    pictures = F.normalize(torch.tensor([[9.0, 0, 1, 2], [9, 9, 2, 1], [0, 0, 0, 1]]), dim=-1)
    seen = torch.tensor([True, True, False])
    assert pseudo_labels(pictures, seen, text, [2, 3]).tolist() == [3, 2, NO_LABEL]
    assert pseudo_labels(pictures, seen, text, []).tolist() == [NO_LABEL] * 3


def test_every_term_reaches_the_encoder_and_none_the_pictures() -> None:
    torch.manual_seed(0)
    encoder = PointEncoder(8, width=8, neighbours=4)
    pictures = unit(60, 8).requires_grad_(True)
    features = encoder(*cloud())
    everyone = torch.ones(60, dtype=torch.bool)
    pooled = torch.stack(
        [F.normalize(features[:30].mean(0), dim=0), F.normalize(features[30:].mean(0), dim=0)]
    )
    for loss in (
        local_loss(features, pictures.detach(), everyone),
        global_loss(pooled, unit(2, 8), torch.tensor(5.0)),
    ):
        gradients = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


# CLIP itself


def test_projected_clip_says_what_the_pictures_say(tiny: DenseCLIP) -> None:
    points, _ = cloud(20)
    pixels, _ = seen_from(points)
    visible = torch.ones(VIEWS, 20, dtype=torch.bool)
    views = torch.rand(VIEWS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    text = unit(3, tiny.embed_dim)
    projected = ProjectedCLIP(tiny, ("value",))
    dense = tiny.encode_dense(views, "value")
    expected = lift(dense, pixels, visible, (SIDE, SIDE))[0] @ text.T
    assert torch.allclose(projected(points, views, pixels, visible, text), expected, atol=1e-5)
    image = projected.look(views, pixels, visible)[2]
    assert torch.allclose(image, tiny.encode_image(views), atol=1e-5)


def test_clip_that_sees_no_point_says_so(tiny: DenseCLIP, make_tiny: Callable[..., DenseCLIP]) -> None:
    blind = torch.zeros(VIEWS, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="no camera sees any of 5 points"):
        ProjectedCLIP(tiny)(
            torch.zeros(5, 3), torch.rand(VIEWS, 3, SIDE, SIDE), torch.zeros(VIEWS, 5, 2), blind, unit(3, 32)
        )
