"""Refinements against their formulas with loops over pixels, and against a dense system of equations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite.clip.refinements import REFINEMENTS, Pamr, Propagation, Refinement, get_refinement
from infoclip_lite.clip.refinements.pamr import affinity
from infoclip_lite.clip.refinements.propagation import kinship

WORDS = 4


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


PICTURE, MAPS = noise(2, 3, 6, 7), noise(2, WORDS, 6, 7, seed=1)
TEXT = F.normalize(torch.randn(WORDS, 8, generator=torch.Generator().manual_seed(2)), dim=-1)
WHOLE = [slice(0, WORDS)]


def refined(
    refinement: Refinement,
    picture: Tensor = PICTURE,
    maps: Tensor = MAPS,
    parts: list[slice] = WHOLE,
    scale: float = 1.0,
) -> Tensor:
    found = refinement.refined(picture, lambda words: maps[:, words], parts, TEXT, scale)
    return torch.cat([found(part) for part in parts], 1)


def around(
    row: int, column: int, dilations: tuple[int, ...], height: int, width: int
) -> list[tuple[int, int]]:
    """Places of the neighbours; beyond the border the border itself."""
    return [
        (min(max(row + down * d, 0), height - 1), min(max(column + right * d, 0), width - 1))
        for d in dilations
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if (down, right) != (0, 0)
    ]


def naive_pamr(
    picture: np.ndarray, maps: np.ndarray, dilations: tuple[int, ...], iterations: int
) -> np.ndarray:
    """One picture (3, H, W), its maps (C, H, W)."""
    _, height, width = picture.shape
    places = [(r, c) for r in range(height) for c in range(width)]
    weights = {}
    for r, c in places:
        neighbours = around(r, c, dilations, height, width)
        logits = []
        for place in neighbours:
            distances = []
            for colour in picture:
                values = [colour[p] for p in neighbours] + [colour[r, c]] * len(dilations)
                mean = sum(values) / len(values)
                deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
                distances.append(abs(colour[r, c] - colour[place]) / (1e-8 + 0.1 * deviation))
            logits.append(-sum(distances) / 3)
        powers = [math.exp(x - max(logits)) for x in logits]
        weights[r, c] = [x / sum(powers) for x in powers]
    for _ in range(iterations):
        after = np.zeros_like(maps)
        for r, c in places:
            neighbours = around(r, c, dilations, height, width)
            for weight, (a, b) in zip(weights[r, c], neighbours, strict=True):
                after[:, r, c] += weight * maps[:, a, b]
        maps = after
    return maps


@pytest.mark.parametrize(("dilations", "iterations"), [((1,), 1), ((1, 3), 3), ((8, 16), 10)])
def test_pamr_takes_the_mean_of_neighbours_of_its_own_colour(
    dilations: tuple[int, ...], iterations: int
) -> None:
    got = refined(Pamr(dilations=dilations, iterations=iterations))
    for picture, maps, found in zip(PICTURE.double(), MAPS.double(), got, strict=True):
        wanted = naive_pamr(picture.numpy(), maps.numpy(), dilations, iterations)
        assert np.allclose(found.numpy(), wanted, atol=1e-5)


def test_pamr_as_it_is_used_with_read_outs_is_the_default() -> None:
    assert (Pamr().iterations, Pamr().dilations) == (10, (8, 16))


def test_pamr_keeps_to_its_side_of_an_edge() -> None:
    """A noisy map of two halves becomes even, and the border between the colours stays where it is."""
    picture = torch.full((1, 3, 12, 12), 0.1)
    picture[..., 5:] = 0.9
    truth = (torch.arange(12) >= 5).float().expand(1, 1, 12, 12)
    maps = 0.4 * truth + 0.6 * noise(1, 1, 12, 12, seed=4)
    even = refined(Pamr(dilations=(1, 2)), picture, maps, [slice(0, 1)])
    right = (even > even.mean()) == truth.bool()
    assert right.float().mean() > 0.97 > ((maps > maps.mean()) == truth.bool()).float().mean()


def test_weights_do_not_depend_on_brightness_and_contrast() -> None:
    weights = affinity(PICTURE, (1, 2))
    assert weights.shape == (2, 16, 6, 7) and torch.allclose(weights.sum(1), torch.ones(2, 6, 7), atol=1e-6)
    factors, offsets = torch.tensor([3.0, 0.5, 1.5]), torch.tensor([0.4, -0.2, 2.0])
    other = PICTURE * factors[:, None, None] + offsets[:, None, None]
    assert torch.allclose(affinity(other, (1, 2)), weights, atol=1e-4)


def test_in_one_colour_all_neighbours_count_alike() -> None:
    assert torch.equal(affinity(torch.full((1, 3, 4, 4), 0.3), (1,)), torch.full((1, 8, 4, 4), 1 / 8))


def naive_system(picture: np.ndarray, maps: np.ndarray, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """One picture (3, h, w), its cosines (C, h, w): the matrix C + L (h w, h w) and the weights C (h w,)."""
    _, height, width = picture.shape
    kin = kinship(TEXT).double().numpy()
    kin = kin if pairs else np.diag(np.diag(kin))
    share = np.exp(maps) / np.exp(maps).sum(0)
    grey = 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]
    place = {(r, c): r * width + c for r in range(height) for c in range(width)}
    believed = np.zeros(height * width)
    for (r, c), i in place.items():
        p = share[:, r, c]
        believed[i] = max(p.max(), 0.05) ** 2 * (1 + p @ kin @ p)
    matrix = np.diag(believed)
    for down, right in ((0, 1), (1, 0)):
        edges = [((r, c), (r + down, c + right)) for r, c in place if (r + down, c + right) in place]
        steps = [abs(grey[b] - grey[a]) for a, b in edges]
        mean = sum(steps) / len(steps)
        for (a, b), step in zip(edges, steps, strict=True):
            p, r = share[:, b[0], b[1]], share[:, a[0], a[1]]
            weight = min(1.0, math.exp(-5 * step / (mean + 1e-6)) * (1 + p @ kin @ r))
            i, j = place[a], place[b]
            matrix[[i, j], [i, j]] += weight
            matrix[[i, j], [j, i]] -= weight
    return matrix, believed


@pytest.mark.parametrize("pairs", [False, True])
def test_propagation_solves_its_system(pairs: bool) -> None:
    got = refined(Propagation(iterations=300, pairs=pairs), scale=0.5)
    for picture, maps, found in zip(PICTURE.double().numpy(), 0.5 * MAPS.double().numpy(), got, strict=True):
        matrix, believed = naive_system(picture, maps, pairs)
        flat = maps.reshape(WORDS, -1).T
        wanted = np.linalg.solve(matrix, believed[:, None] * flat).T.reshape(maps.shape)
        assert np.allclose(found.numpy(), wanted / 0.5, atol=1e-4)


def test_propagation_as_pearls_code_has_it_is_the_default() -> None:
    assert Propagation() == Propagation(grid=80, iterations=25, pairs=False)


def test_words_help_each_other_where_that_is_asked() -> None:
    assert (refined(Propagation()) - refined(Propagation(pairs=True))).abs().max() > 1e-5


@pytest.mark.parametrize("iterations", [1, 4])
def test_its_steps_are_those_of_conjugate_gradients_for_all_words_at_once(iterations: int) -> None:
    got = refined(Propagation(iterations=iterations))
    for picture, maps, found in zip(PICTURE.double().numpy(), MAPS.double().numpy(), got, strict=True):
        matrix, believed = naive_system(picture, maps, False)
        x = maps.reshape(WORDS, -1).T
        rest = believed[:, None] * x - matrix @ x
        direction, length = rest, (rest**2).sum()
        for _ in range(iterations):
            image = matrix @ direction
            width = length / (direction * image).sum()
            x, rest = x + width * direction, rest - width * image
            length, before = (rest**2).sum(), length
            direction = rest + length / before * direction
        assert np.allclose(found.numpy(), x.T.reshape(maps.shape), atol=1e-5)


def test_large_pictures_are_solved_small_and_enlarged() -> None:
    picture, maps = noise(1, 3, 13, 22, seed=5), noise(1, WORDS, 13, 22, seed=6)
    # 13 / 6 and 22 / 6 to the nearest: steps of 2 and 4, and what does not fill a last one is left out.
    small = [F.avg_pool2d(x[..., :12, :20], (2, 4)) for x in (picture, maps)]
    assert small[0].shape[-2:] == (6, 5)
    wanted = F.interpolate(
        refined(Propagation(grid=6), *small), (13, 22), mode="bilinear", align_corners=False
    )
    assert torch.allclose(refined(Propagation(grid=6), picture, maps), wanted, atol=1e-5)


def test_kin_are_words_that_are_alike() -> None:
    cosines = TEXT @ TEXT.T
    for i in range(WORDS):
        powers = [math.exp(float(cosines[i, j]) / 0.5) for j in range(WORDS)]
        row = [p / sum(powers) + (10 if i == j else 0) for j, p in enumerate(powers)]
        assert torch.allclose(kinship(TEXT)[i], torch.tensor(row) / (11 + 1e-6), atol=1e-6)
    templates = torch.stack([TEXT, TEXT], 1)  # (C, T, D)
    assert torch.allclose(kinship(templates), kinship(TEXT), atol=1e-6)


@pytest.mark.parametrize("name", REFINEMENTS)
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (1, 5)])
def test_words_in_parts_and_pictures_alone_give_the_same(name: str, size: tuple[int, int]) -> None:
    refinement = get_refinement(name)
    assert refinement is not None and refinement.name == name
    picture, maps = noise(2, 3, *size, seed=7), noise(2, WORDS, *size, seed=8)
    before = maps.clone()
    wanted = refined(refinement, picture, maps)
    assert wanted.shape == maps.shape and wanted.isfinite().all() and torch.equal(maps, before)
    parts = [
        slice(0, 1),
        slice(1, 3),
        slice(3, 6),
    ]  # the last one reaches beyond the words, as in `best_words`
    assert torch.allclose(refined(refinement, picture, maps, parts), wanted, atol=1e-6)
    alone = [refined(refinement, picture[b : b + 1], maps[b : b + 1]) for b in range(2)]
    assert torch.allclose(torch.cat(alone), wanted, atol=1e-5)


def test_refinements_are_found_by_name_and_pass_through() -> None:
    own = Pamr(dilations=(1, 2))
    assert get_refinement(own) is own and get_refinement(None) is None and get_refinement("none") is None
    assert get_refinement("pamr") == Pamr() and get_refinement("propagation") == Propagation()
    with pytest.raises(ValueError, match="unknown refinement 'pmar'; did you mean 'pamr'"):
        get_refinement("pmar")


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (Pamr, {"iterations": 0}, "iterations is 0"),
        (Pamr, {"dilations": ()}, "got no dilations"),
        (Pamr, {"dilations": (8, 0)}, "dilations is 0"),
        (Propagation, {"grid": 0}, "grid is 0"),
        (Propagation, {"iterations": -1}, "iterations is -1"),
    ],
)
def test_what_cannot_be_done_is_refused(kind: type, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**options)
