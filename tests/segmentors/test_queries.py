"""What mask queries share: masks, matchings and losses against loops, regions against CLIP, and clusters."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.segmentors.queries import (
    MaskDecoder,
    Masks,
    assign,
    bounding_boxes,
    class_loss,
    class_masks,
    classes_present,
    crops,
    dice_cost,
    dice_loss,
    drawn_masks_loss,
    focal_cost,
    merge_centres,
    multi_scale_clusters,
    region_cls,
    semantic_map,
    sigmoid_focal_loss,
    sine_positions,
    spherical_kmeans,
    to_grid,
    window_means,
)
from infoclip_lite.segmentors.queries.decoder import masks_of

MakeTiny = Callable[..., DenseCLIP]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Masks of labels.


def labelled() -> Tensor:
    """Two pictures: classes 3, 0 and 4 by size in the first, nothing known in the second."""
    labels = torch.full((2, 4, 6), NO_LABEL)
    labels[0, :2], labels[0, 2, :4], labels[0, 3, 5] = 3, 0, 4
    return labels


def test_every_class_that_is_there_has_a_mask_the_largest_first() -> None:
    wanted = class_masks(labelled(), 5)
    assert wanted.ids.tolist() == [[3, 0, 4], [0, 0, 0]]
    assert wanted.valid.tolist() == [[True] * 3, [False] * 3]
    assert wanted.masks[0].sum((1, 2)).tolist() == [12, 4, 1] and wanted.masks[1].sum() == 0
    assert torch.equal(wanted.masks[0, 1].bool(), labelled()[0] == 0)
    assert classes_present(labelled(), 5).tolist() == [[4, 0, 0, 12, 1], [0] * 5]


def test_masks_stay_zero_or_one_at_another_size() -> None:
    small = class_masks(labelled(), 5).at((2, 3))
    assert small.shape == (2, 3, 2, 3) and set(small.unique().tolist()) <= {0.0, 1.0}


def test_pictures_without_a_known_class_have_an_empty_slot_and_no_loss() -> None:
    wanted = class_masks(torch.full((2, 4, 4), NO_LABEL), 5)
    assert wanted.valid.shape == (2, 1) and not wanted.valid.any()
    logits = random(2, 3, 2, 2).requires_grad_()
    match = assign(random(2, 3, 1), wanted.valid)
    assert match.tolist() == [[-1], [-1]]
    focal, dice = drawn_masks_loss(logits, wanted, match)
    assert focal == dice == 0
    # All queries should say "nothing".
    said = random(2, 3, 6)
    assert torch.allclose(class_loss(said, wanted.ids, match, 0.1), -said.log_softmax(-1)[..., -1].mean())
    (focal + dice).backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


# Matchings.


def test_costs_of_pairs_are_the_losses_of_pairs() -> None:
    logits, masks = random(2, 4, 3, 5), (random(2, 3, 3, 5, seed=1) > 0).float()
    focal, dice = focal_cost(logits, masks), dice_cost(logits, masks)
    for b, q, k in itertools.product(range(2), range(4), range(3)):
        one, wanted = logits[b, q][None, None], masks[b, k][None, None]
        assert torch.allclose(focal[b, q, k], sigmoid_focal_loss(one, wanted).mean(), atol=1e-6)
        assert torch.allclose(dice[b, q, k], dice_loss(one, wanted)[0, 0], atol=1e-6)


def test_the_matching_is_the_cheapest_of_all() -> None:
    cost = random(3, 5, 3)
    valid = torch.tensor([[True] * 3, [True, False, True], [False] * 3])
    match = assign(cost, valid)
    for one in range(3):
        wanted = valid[one].nonzero().flatten().tolist()
        tried = (
            (sum(cost[one, q, k] for q, k in zip(queries, wanted, strict=True)), queries)
            for queries in itertools.permutations(range(5), len(wanted))
        )
        best = min(tried, key=lambda pair: float(pair[0]))[1]
        assert match[one, wanted].tolist() == list(best)
        assert (match[one, ~valid[one]] == -1).all()


def test_more_masks_than_queries_leave_some_to_nobody() -> None:
    match = assign(torch.tensor([[[3.0, 1.0, 2.0]]]), torch.ones(1, 3, dtype=torch.bool))
    assert match.tolist() == [[-1, 0, -1]]


def test_a_cost_that_is_no_number_is_said() -> None:
    cost = torch.zeros(1, 2, 1).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="expected finite ones: lower the learning rate"):
        assign(cost, torch.ones(1, 1, dtype=torch.bool))
    assert assign(cost, torch.zeros(1, 1, dtype=torch.bool)).tolist() == [[-1]], "nobody looks at it"


# Losses.


def test_the_loss_of_drawn_masks_is_the_mean_over_those_that_are_matched() -> None:
    logits, masks = random(2, 4, 3, 3), (random(2, 2, 6, 6, seed=1) > 0).float()
    valid = torch.tensor([[True, True], [True, False]])
    wanted = Masks(torch.zeros(2, 2, dtype=torch.long), masks * valid[..., None, None], valid)
    match = torch.tensor([[2, 0], [1, -1]])
    focal, dice = drawn_masks_loss(logits, wanted, match)
    found = []
    for b, k in ((0, 0), (0, 1), (1, 0)):
        drawn = F.interpolate(logits[b, match[b, k]][None, None], (6, 6), mode="bilinear")
        mask = masks[b, k][None, None]
        found.append((sigmoid_focal_loss(drawn, mask).mean(), dice_loss(drawn, mask)))
    assert torch.allclose(focal, torch.stack([f for f, _ in found]).mean())
    assert torch.allclose(dice, torch.stack([d.squeeze() for _, d in found]).mean())


def test_queries_without_a_mask_should_say_nothing_and_weigh_less() -> None:
    logits = random(1, 3, 4)
    ids, match = torch.tensor([[2, 1]]), torch.tensor([[2, 0]])
    log = logits.log_softmax(-1)[0]
    expected = -(log[0, 1] + log[2, 2] + 0.1 * log[1, 3]) / 2.1
    assert torch.allclose(class_loss(logits, ids, match, 0.1), expected)


def test_a_map_is_the_sum_of_what_queries_are_of_where_they_are() -> None:
    probabilities, masks = random(1, 3, 2).softmax(-1), random(1, 3, 2, 2, seed=1)
    got = semantic_map(probabilities, masks)
    for c, y, x in itertools.product(range(2), range(2), range(2)):
        expected = sum(probabilities[0, q, c] * torch.sigmoid(masks[0, q, y, x]) for q in range(3))
        assert torch.allclose(got[0, c, y, x], expected)


# The decoder.


def test_queries_look_at_each_other_and_at_places_of_the_picture() -> None:
    torch.manual_seed(0)
    decoder = MaskDecoder(6, width=16, queries=5, layers=2, heads=2, pool=2)
    features = random(2, 6, 4, 6)
    queries, pixels = decoder(features)
    assert queries.shape == (2, 2, 5, 16) and pixels.shape == (2, 16, 4, 6)
    masks = decoder.draw(queries[-1], pixels)
    pens = decoder.pen(queries[-1])
    assert torch.allclose(masks[1, 3, 2, 5], pens[1, 3] @ pixels[1, :, 2, 5], atol=1e-5)
    # Where things are matters, although attention itself knows no order.
    assert not torch.allclose(decoder(features.flip(3))[0], queries, atol=1e-3)
    masks.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


def test_more_queries_than_places_are_no_trouble() -> None:
    queries, pixels = MaskDecoder(4, width=8, queries=30, layers=1, heads=2)(random(1, 4, 2, 2))
    assert queries.shape == (1, 1, 30, 8) and pixels.shape == (1, 8, 2, 2)


def test_more_queries_than_memory_say_what_to_change() -> None:
    pens, pixels = (
        torch.zeros(1, 1, 1).expand(1, 2**24, 1),
        torch.zeros(1, 1, 1, 1).expand(1, 1, 2**12, 2**12),
    )
    with pytest.raises(MemoryError, match=r"16777216 queries .* expected fewer `queries`"):
        masks_of(pens, pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": 0}, "queries is 0; expected 1 or more"),
        ({"layers": 0}, "layers is 0"),
        ({"width": 18, "heads": 2}, "width is 18; expected a multiple of heads=2 and of 4"),
        ({"width": 16, "heads": 3}, "expected a multiple of heads=3"),
    ],
)
def test_a_decoder_that_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskDecoder(4, **options)


def test_positions_tell_rows_from_columns() -> None:
    places = sine_positions(3, 4, 8, torch.device("cpu")).unflatten(0, (3, 4))
    assert places.shape == (3, 4, 8)
    assert torch.equal(places[1, 0, :4], places[1, 3, :4]) and torch.equal(places[0, 2, 4:], places[2, 2, 4:])
    assert len(places.flatten(0, 1).unique(dim=0)) == 12


# Regions.


def test_a_box_is_the_smallest_around_a_mask() -> None:
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1:4, 2] = masks[0, 2, 5] = True
    assert bounding_boxes(masks).tolist() == [[1, 2, 4, 6], [0, 0, 5, 7]], "an empty mask: the picture"


def test_a_crop_at_its_own_size_is_the_picture_inside_and_the_colour_outside() -> None:
    image = torch.rand(1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, 2, 8, 10, dtype=torch.bool)
    masks[0, 0, 2:6, 3:7] = True
    masks[0, 0, 2, 3] = False
    fill = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    cut, there = crops(image, masks, 4, fill)
    assert cut.shape == (1, 2, 3, 4, 4) and there.tolist() == [[True, False]]
    expected = image[0, :, 2:6, 3:7].clone()
    expected[:, 0, 0] = fill[:, 0, 0]
    assert torch.allclose(cut[0, 0], expected, atol=1e-5)
    assert torch.allclose(cut[0, 1], fill.expand(3, 4, 4)), "nothing was in it"


def test_crops_are_enlarged_as_a_bicubic_resize_enlarges() -> None:
    image = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    whole = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    cut, _ = crops(image, whole, 12, torch.zeros(3, 1, 1))
    expected = F.interpolate(image, (12, 12), mode="bicubic", align_corners=False).clamp(0, 1)
    assert torch.allclose(cut[0, 0], expected[0], atol=1e-5)


def test_a_region_that_is_the_whole_picture_is_clips_own_picture(tiny: DenseCLIP) -> None:
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tower = tiny.tower(images)
        whole = torch.ones(2, 1, 12, dtype=torch.bool)
        left = (torch.arange(12) % 4 < 2).expand(2, 1, 12)
        found = region_cls(tiny, tower, torch.cat([whole, left, torch.zeros_like(left)], 1))
        assert torch.allclose(found[:, 0], tiny.encode_image(images), atol=1e-5)
        # The tokens of a region in a pass of their own: what is outside cannot be seen.
        block, tokens = tiny.blocks[-1], tower.entering
        kept = torch.cat([tokens[:, :1], tokens[:, 1:][:, left[0, 0]]], 1)
        assert torch.allclose(found[:, 1], tiny.project(tiny.block(block, kept)[:, 0]), atol=1e-5)
    assert found.isfinite().all(), "an empty region has a CLS that saw itself alone"


def test_in_more_blocks_a_regions_cls_still_sees_nothing_else(tiny: DenseCLIP) -> None:
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tower, depth = tiny.tower(images, keep=True), len(tiny.blocks)
        whole = torch.ones(2, 1, 12, dtype=torch.bool)
        left = (torch.arange(12) % 4 < 2).expand(2, 1, 12)
        found = region_cls(tiny, tower, torch.cat([left, whole], 1), blocks=depth)
        assert torch.allclose(found[:, 1], tiny.encode_image(images), atol=1e-5)
        # Block by block with the patches that the pass had there, those of the region alone.
        cls = tower.states[0][:, :1]
        for block, tokens in zip(tiny.blocks, tower.states, strict=True):
            kept = torch.cat([cls, tokens[:, 1:][:, left[0, 0]]], 1)
            cls = tiny.block(block, kept)[:, :1]
        assert torch.allclose(found[:, 0], tiny.project(cls)[:, 0], atol=1e-5)
        once = region_cls(tiny, tower, left)
    assert not torch.allclose(found[:, 0], once[:, 0], atol=1e-3), "before, it has seen the whole picture"


def test_more_blocks_than_a_pass_has_are_refused(tiny: DenseCLIP) -> None:
    tower = tiny.tower(torch.zeros(1, 3, 16, 16))
    for blocks in (0, len(tiny.blocks) + 1):
        with pytest.raises(ValueError, match=f"blocks is {blocks}; expected 1"):
            region_cls(tiny, tower, torch.ones(1, 1, 4, dtype=torch.bool), blocks=blocks)


def test_a_patch_is_covered_as_far_as_its_pixels_are() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :3] = 1
    assert to_grid(mask, (2, 2)).tolist() == [[[[1.0, 0.5], [1.0, 0.5]]]]


# Clusters.


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(random(*shape, seed=seed), dim=-1)


@pytest.mark.parametrize(("scale", "grid"), [(2, (4, 4)), (4, (4, 6)), (4, (5, 7)), (3, (4, 5))])
def test_seeds_are_the_means_of_windows_half_a_window_apart(scale: int, grid: tuple[int, int]) -> None:
    dense = random(1, 3, *grid)
    got = window_means(dense, scale)
    expected = []
    for y in range(0, grid[0], scale // 2):
        for x in range(0, grid[1], scale // 2):
            expected.append(dense[0, :, y : y + scale, x : x + scale].sum((1, 2)) / scale**2)
    assert torch.allclose(got[0], F.normalize(torch.stack(expected), dim=-1), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 7])
def test_windows_that_do_not_fit_are_refused(scale: int) -> None:
    with pytest.raises(ValueError, match=rf"windows of {scale} patches .* expected 2 \.\. 6"):
        window_means(random(1, 3, 4, 6), scale)


def test_kmeans_is_the_loop_it_stands_for_and_a_lonely_centre_stays() -> None:
    tokens, seeds = unit(1, 12, 4).abs(), unit(1, 3, 4, seed=1).abs()
    seeds[0, 2] = seeds[0, 1]  # of two that are equal the first has all the patches
    got = spherical_kmeans(tokens, seeds, 3)
    centres = seeds[0].clone()
    assert not ((tokens[0] @ centres.T).argmax(1) == 2).any()
    for _ in range(3):
        labels = (tokens[0] @ centres.T).argmax(1)
        for k in range(3):
            if (labels == k).any():
                centres[k] = F.normalize(tokens[0][labels == k].sum(0), dim=0)
    assert torch.allclose(got.centres[0], centres, atol=1e-6)
    assert torch.equal(got.labels[0], (tokens[0] @ centres.T).argmax(1))
    assert torch.equal(got.members.sum(1), torch.ones(1, 12, dtype=torch.long)), "a partition"


def test_more_clusters_than_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="got 5 clusters for 4 patches; expected no more clusters"):
        spherical_kmeans(unit(1, 4, 3), unit(1, 5, 3), 1)
    with pytest.raises(ValueError, match="got no scales"):
        multi_scale_clusters(F.normalize(random(1, 3, 4, 4), dim=1), ())


def test_centres_that_are_alike_become_one_and_each_is_used_once() -> None:
    angles = torch.tensor([0.0, 90.0, 20.0, 35.0, 100.0]) * torch.pi / 180
    centres = torch.stack([angles.cos(), angles.sin()], 1)[None]
    merged, leads = merge_centres(centres, 0.93)  # 21 degrees
    # 35 is near 20, but 20 went to 0, and 35 is too far from 0.
    assert leads.tolist() == [[True, True, False, True, False]]
    assert torch.allclose(merged[0, 0], F.normalize(centres[0, 0] + centres[0, 2], dim=0), atol=1e-6)
    assert torch.allclose(merged[0, 1], F.normalize(centres[0, 1] + centres[0, 4], dim=0), atol=1e-6)


def test_a_picture_of_two_halves_has_two_clusters_at_any_scale() -> None:
    left, right = unit(2, 8)
    dense = torch.empty(8, 6, 8)
    dense[:, :, :4], dense[:, :, 4:] = left[:, None, None], right[:, None, None]
    dense = F.normalize(dense + 0.01 * random(8, 6, 8), dim=0)[None]
    found = multi_scale_clusters(dense, (4, 2), threshold=0.9)
    labels = found.labels[0].unflatten(0, (6, 8))
    assert len(labels.unique()) == 2
    assert len(labels[:, :4].unique()) == len(labels[:, 4:].unique()) == 1
