"""Centred kernel alignment: identities that must hold, of Gram matrices and of features."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infoclip_lite.information import cka, gram, linear_cka

seeds = st.integers(0, 10_000)


def features(seed: int, samples: int = 40, width: int = 6) -> Tensor:
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seeds)
def test_cka_of_features_with_themselves_is_one(seed: int) -> None:
    x = features(seed)
    assert linear_cka(x, x).item() == pytest.approx(1)


@given(seeds, st.floats(0.01, 100), st.floats(-10, 10))
def test_cka_ignores_rotation_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    x, y = features(seed), features(seed + 1)
    rotation = torch.linalg.qr(features(seed + 2, 6))[0]
    assert linear_cka(x, scale * x @ rotation + shift).item() == pytest.approx(1)
    assert linear_cka(x, scale * y @ rotation + shift).item() == pytest.approx(linear_cka(x, y).item())


@given(seeds)
def test_cka_is_symmetric_between_zero_and_one_and_the_same_of_features_and_grams(seed: int) -> None:
    x, y = features(seed), features(seed + 1, width=9)
    y[:, :3] += x[:, :3]
    value = linear_cka(x, y).item()
    assert value == pytest.approx(linear_cka(y, x).item()) and 0 < value < 1
    assert value == pytest.approx(cka(gram(x), gram(y)).item())
    centre = torch.eye(40, dtype=torch.float64) - 1 / 40
    k, m = (centre @ z @ z.T @ centre for z in (x, y))
    assert value == pytest.approx(((k * m).sum() / (k.norm() * m.norm())).item())


def test_cka_falls_with_noise() -> None:
    x = features(0, 400)
    values = [linear_cka(x, x + noise * features(1, 400)).item() for noise in (0.1, 0.5, 1, 3)]
    assert values == sorted(values, reverse=True) and values[0] > 0.95 and values[-1] < 0.3


def test_cka_of_batches_is_that_of_each() -> None:
    x, y = torch.stack([features(0), features(1)]), torch.stack([features(2, width=3), features(3, width=3)])
    assert torch.allclose(linear_cka(x, y), torch.stack([linear_cka(x[0], y[0]), linear_cka(x[1], y[1])]))


def test_half_precision_is_widened_and_autocast_kept_out() -> None:
    x, y = features(0).float(), features(1).float()
    assert linear_cka(x.bfloat16(), y.bfloat16()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_cka(x, y).item() == pytest.approx(linear_cka(x, y).item())
        inside = linear_cka(x, y)
    assert torch.equal(inside, linear_cka(x, y))


def test_features_that_do_not_differ_have_none() -> None:
    """A training that collapses is to be seen in its log, and not to end there."""
    assert math.isnan(linear_cka(torch.ones(5, 3), features(0, 5)).item())


@pytest.mark.parametrize("shapes", [((4, 2), (5, 2)), ((4,), (4,)), ((1, 3), (1, 3)), ((2, 4, 3), (4, 3))])
def test_features_of_other_samples_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="the same n >= 2 samples"):
        linear_cka(torch.rand(shapes[0]), torch.rand(shapes[1]))


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="x: got dtype"):
        linear_cka(torch.ones(3, 2, dtype=torch.long), torch.rand(3, 2))
