"""Matrix-based Renyi information against closed forms, identities, finite differences and bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoclip_lite.information import (
    cka,
    gaussian_rbf_information,
    gram,
    linear_renyi_entropy,
    renyi_entropy,
    renyi_joint_entropy,
    renyi_mutual_information,
)

F64 = torch.float64
ALPHAS = (0.5, 1.0, 1.01, 2.0, 3.0, 40.0)
seeds = st.integers(0, 2**31)
fast = settings(max_examples=15, deadline=None)


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def delta_grams(counts, repeat=1):
    """Grams of two binary variables with kernel 1 if equal else 0, for joint counts (n00, n01, n10, n11)."""
    x = torch.tensor([0, 0, 1, 1]).repeat_interleave(torch.tensor(counts) * repeat)
    y = torch.tensor([0, 1, 0, 1]).repeat_interleave(torch.tensor(counts) * repeat)
    return [(z[:, None] == z[None]).to(F64) for z in (x, y)]


def by_definition(a, alpha):
    """log2 tr A^alpha / (1 - alpha) from eigenvalues, in the open."""
    values = torch.linalg.eigvalsh(a / a.trace()).clamp_min(0)
    if alpha == 1:
        return -(values * values.clamp_min(1e-300).log2()).sum()
    return (values**alpha).sum().log2() / (1 - alpha)


# --- entropy ---


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entropy_of_n_strangers_is_log_n_and_of_n_copies_is_zero(alpha):
    assert renyi_entropy(torch.eye(8, dtype=F64), alpha).item() == pytest.approx(3, abs=1e-10)
    assert renyi_entropy(torch.ones(8, 8, dtype=F64), alpha).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_entropy_of_a_diagonal_is_the_classical_renyi_entropy(alpha):
    p = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=F64)
    expected = -(p * p.log2()).sum() if alpha == 1 else (p**alpha).sum().log2() / (1 - alpha)
    assert renyi_entropy(torch.diag(p), alpha).item() == pytest.approx(expected.item(), abs=1e-10)


@fast
@given(seeds, st.sampled_from(ALPHAS), st.sampled_from(["linear", "rbf", "poly"]))
def test_entropy_agrees_with_its_definition(seed, alpha, kernel):
    a = gram(normal(9, 12, seed=seed), kernel)
    torch.testing.assert_close(renyi_entropy(a, alpha), by_definition(a, alpha), atol=1e-10, rtol=0)


@fast
@given(seeds, st.sampled_from(ALPHAS))
def test_entropy_lies_between_zero_and_log_rank_and_falls_with_alpha(seed, alpha):
    a = gram(normal(10, 3, seed=seed))
    entropy = renyi_entropy(a, alpha).item()
    assert -1e-10 <= entropy <= math.log2(3) + 1e-10
    assert renyi_entropy(a, alpha + 0.5).item() <= entropy + 1e-10


def test_alpha_one_is_the_limit_from_both_sides():
    a = gram(normal(12, 5), "rbf")
    at_one = renyi_entropy(a, 1.0)
    for step in (1e-3, 1e-6, 1e-9, 1e-13):
        for alpha in (1 - step, 1 + step):
            assert abs(renyi_entropy(a, alpha) - at_one) <= 3 * step + 1e-10


def test_entropy_does_not_care_for_scale_order_or_base():
    a, order = gram(normal(7, 4), "rbf"), torch.randperm(7, generator=torch.Generator().manual_seed(1))
    for alpha in (1.0, 2.0, 3.0):
        torch.testing.assert_close(
            renyi_entropy(a * 1000, alpha), renyi_entropy(a, alpha), atol=1e-10, rtol=0
        )
        torch.testing.assert_close(
            renyi_entropy(a[order][:, order], alpha), renyi_entropy(a, alpha), atol=1e-10, rtol=0
        )
        torch.testing.assert_close(
            renyi_entropy(a, alpha, math.e), renyi_entropy(a, alpha) * math.log(2), atol=1e-10, rtol=0
        )


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_low_rank_path_equals_the_dense_one(alpha):
    z, w = normal(2, 40, 3, seed=3), normal(2, 40, 4, seed=4)
    torch.testing.assert_close(
        linear_renyi_entropy(z, alpha=alpha), renyi_entropy(gram(z), alpha), atol=1e-10, rtol=0
    )
    dense = renyi_joint_entropy(gram(z), gram(w), alpha=alpha)
    torch.testing.assert_close(linear_renyi_entropy(z, w, alpha=alpha), dense, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        linear_renyi_entropy(z.mT, alpha=alpha), renyi_entropy(gram(z.mT), alpha), atol=1e-10, rtol=0
    )


# --- Gram matrices ---


def test_gram_by_hand():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=F64)
    torch.testing.assert_close(gram(x), torch.tensor([[0, 0], [0, 1]], dtype=F64))
    off = math.exp(-25 / (2 * 2.5**2)) / 2
    torch.testing.assert_close(gram(x, "rbf", width=2.5), torch.tensor([[0.5, off], [off, 0.5]], dtype=F64))
    torch.testing.assert_close(gram(x, "rbf"), gram(x, "rbf", width=5.0))  # the only distance is the median
    torch.testing.assert_close(
        gram(x, "poly", degree=2, offset=1), torch.tensor([[1, 1], [1, 676]], dtype=F64) / 677
    )
    torch.testing.assert_close(gram(x + 1, lambda a, b: a @ b.mT), gram(x + 1))
    torch.testing.assert_close(gram(x + 1, "poly", degree=1, offset=0), gram(x + 1))


def test_gram_is_batched_and_normalises():
    x = normal(2, 3, 6, 4)
    for options in (
        {"kernel": "linear"},
        {"kernel": "rbf"},
        {"kernel": "rbf", "width": 0.7},
        {"kernel": "poly"},
    ):
        together = gram(x, **options)
        assert together.shape == (2, 3, 6, 6)
        torch.testing.assert_close(together[1, 2], gram(x[1, 2], **options))
    unit = gram(x, normalize=True)
    torch.testing.assert_close(unit.diagonal(dim1=-2, dim2=-1), torch.full((2, 3, 6), 1 / 6, dtype=F64))
    torch.testing.assert_close(gram(x * torch.rand(2, 3, 6, 1, dtype=F64).add(0.1), normalize=True), unit)


def test_rbf_far_from_the_origin_keeps_its_precision():
    x = normal(20, 3, dtype=torch.float32)
    torch.testing.assert_close(gram(x + 100, "rbf", width=1.0), gram(x, "rbf", width=1.0), atol=1e-5, rtol=0)


# --- mutual information ---


@fast
@given(seeds)
def test_information_at_two_is_the_log_alignment_of_squared_kernels(seed):
    k, m = (gram(normal(11, 3, seed=seed + i), "rbf") * 11 for i in range(2))
    expected = torch.log2((k**2 * m**2).mean() / ((k**2).mean() * (m**2).mean()))
    torch.testing.assert_close(renyi_mutual_information(k, m), expected, atol=1e-10, rtol=0)


@fast
@given(seeds, st.sampled_from(ALPHAS))
def test_information_is_entropies_added_up_symmetric_and_below_either(seed, alpha):
    a, b = gram(normal(8, 3, seed=seed), "rbf"), gram(normal(8, 5, seed=seed + 1), normalize=True)
    information = renyi_mutual_information(a, b, alpha)
    entropies = renyi_entropy(a, alpha), renyi_entropy(b, alpha)
    torch.testing.assert_close(
        information, sum(entropies) - renyi_joint_entropy(a, b, alpha=alpha), atol=1e-10, rtol=0
    )
    torch.testing.assert_close(information, renyi_mutual_information(b, a, alpha), atol=1e-10, rtol=0)
    assert information <= min(entropies) + 1e-10


def test_below_either_entropy_fails_for_linear_kernels_that_are_not_normalised():
    worst = max(
        float(renyi_mutual_information(a, b) - torch.minimum(renyi_entropy(a), renyi_entropy(b)))
        for a, b in ((gram(normal(4, 2, seed=s)), gram(normal(4, 2, seed=s) ** 3)) for s in range(50))
    )
    assert worst > 0.01


def test_information_can_be_negative():
    a, b = delta_grams((18, 11, 11, 0))
    values = [renyi_mutual_information(a, b, alpha).item() for alpha in (1.0, 2.0, 3.0)]
    assert values == pytest.approx([0.154, -0.031, -0.142], abs=5e-4)


def test_delta_kernels_give_the_shannon_information_of_the_table_at_alpha_one():
    p = torch.tensor([[18.0, 11.0], [7.0, 4.0]], dtype=F64) / 40
    shannon = (p * (p / (p.sum(1, keepdim=True) * p.sum(0))).log2()).sum()
    a, b = delta_grams((18, 11, 7, 4))
    torch.testing.assert_close(renyi_mutual_information(a, b, 1.0), shannon, atol=1e-10, rtol=0)


def test_a_constant_partner_adds_nothing():
    a, ones = gram(normal(9, 3), "rbf"), torch.ones(9, 9, dtype=F64)
    for alpha in ALPHAS:
        assert abs(renyi_mutual_information(a, ones, alpha)) <= 1e-10
        torch.testing.assert_close(
            renyi_joint_entropy(a, ones, ones, alpha=alpha), renyi_entropy(a, alpha), atol=1e-10, rtol=0
        )


def test_gaussian_closed_form_is_what_samples_tend_to():
    rho, n, width = 0.75, 4000, 1.0
    truth = gaussian_rbf_information(torch.tensor([[1, rho], [rho, 1]], dtype=F64), 1, width, width)
    values, here = [], []
    for seed in range(8):
        x, noise = normal(2, n, 1, seed=seed, dtype=torch.float32)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        grams = [gram(z, "rbf", width=width) for z in (x, y)]
        values.append(renyi_mutual_information(*grams).item())
        here.append(gaussian_rbf_information(torch.cat([x, y], 1).T.cov(), 1, width, width))
    assert sum(values) / len(values) == pytest.approx(truth, rel=0.02)
    # every single sample, where its own covariance is put into the closed form
    assert values == pytest.approx(here, rel=0.02)


def test_gaussian_closed_form_at_its_known_points():
    covariance = torch.tensor([[1, 0.75], [0.75, 1]], dtype=F64)
    assert gaussian_rbf_information(covariance, 1, 1.0, 1.0) == pytest.approx(0.3219, abs=5e-5)
    shannon = -0.5 * math.log2(1 - 0.75**2)
    assert gaussian_rbf_information(covariance, 1, 1e-4, 1e-4) == pytest.approx(shannon, abs=1e-6)
    assert gaussian_rbf_information(covariance, 1, 1e4, 1e4) == pytest.approx(0, abs=1e-6)
    assert gaussian_rbf_information(covariance, 1, 1.0, 1.0, base=math.e) == pytest.approx(
        0.3219 * math.log(2), abs=5e-5
    )


def test_many_joint_grams_stay_in_range_in_single_precision():
    grams = [gram(normal(300, 2, seed=s, dtype=torch.float32), "rbf") for s in range(8)]
    double = renyi_joint_entropy(*[g.double() for g in grams])
    assert renyi_joint_entropy(*grams).item() == pytest.approx(double.item(), abs=1e-3)


# --- corrections ---


@pytest.mark.parametrize(("n", "d"), [(4, 5), (4, 100), (16, 5), (16, 100)])
def test_correction_takes_the_bias_away(n, d):
    a, b = (gram(normal(1500, n, d, seed=s), "rbf", width=math.sqrt(d / 2)) for s in range(2))
    plain = renyi_mutual_information(a, b).mean().item()
    corrected = renyi_mutual_information(a, b, correction="permutation").mean().item()
    assert plain > 1
    assert abs(corrected) <= 0.01


@pytest.mark.parametrize("normalize", [True, False])
def test_closed_form_null_is_the_mean_over_all_permutations(normalize):
    from itertools import permutations

    a, b = gram(normal(5, 3, seed=1), normalize=normalize), gram(normal(5, 3, seed=2), normalize=normalize)
    orders = [list(p) for p in permutations(range(5))]
    products = torch.stack([a * b[p][:, p] for p in orders])
    traces = products.diagonal(dim1=-2, dim2=-1).sum(-1)
    null = -torch.log2(products.square().sum((-2, -1)).mean() / traces.square().mean())
    expected = null - renyi_joint_entropy(a, b)
    torch.testing.assert_close(
        renyi_mutual_information(a, b, correction="permutation"), expected, atol=1e-10, rtol=0
    )


def test_sampled_null_is_reproducible_and_takes_most_of_the_bias_away():
    a, b = (gram(normal(50, 8, 20, seed=s), normalize=True) for s in range(2))

    def corrected():
        generator = torch.Generator().manual_seed(0)
        return renyi_mutual_information(
            a, b, 1.5, correction="permutation", permutations=40, generator=generator
        )

    assert torch.equal(corrected(), corrected())
    assert renyi_mutual_information(a, b, 1.5).mean() > 1
    assert abs(corrected().mean()) < 0.02


def test_ustatistic_estimates_the_population_value_from_few_samples():
    rho, width = 0.75, 1.0
    x, noise = normal(2, 10000, 8, 1, seed=7)
    y = rho * x + math.sqrt(1 - rho**2) * noise
    a, b = gram(x, "rbf", width=width), gram(y, "rbf", width=width)
    k, m = (g.square().sum((-2, -1)) * 64 - 8 for g in (a, b))  # off-diagonal sums of squared kernels
    joint = (a * b * 64).square().sum((-2, -1)) - 8
    # the U-statistics, averaged before the logarithm
    pooled = torch.log2(joint.mean() * 56 / (k.mean() * m.mean()))
    truth = gaussian_rbf_information(torch.tensor([[1, rho], [rho, 1]], dtype=F64), 1, width, width)
    assert pooled.item() == pytest.approx(truth, abs=0.01)
    single = renyi_mutual_information(a[:1], b[:1], correction="ustatistic")
    torch.testing.assert_close(single, torch.log2(joint[:1] * 56 / (k[:1] * m[:1])), atol=1e-10, rtol=0)
    far = renyi_mutual_information(a[:, :8, :8], b.roll(1, 0), correction="ustatistic").mean()
    assert abs(far) < abs(renyi_mutual_information(a, b.roll(1, 0)).mean()) / 5


# --- batches, precision, gradients ---


@pytest.mark.parametrize("alpha", [1.0, 2.0, 2.5])
def test_batches_equal_loops_and_broadcast(alpha):
    a, b = gram(normal(2, 3, 6, 4), "rbf"), gram(normal(3, 6, 2, seed=1), "rbf")
    together = renyi_mutual_information(a, b, alpha)
    assert together.shape == (2, 3)
    alone = torch.stack(
        [torch.stack([renyi_mutual_information(a[i, j], b[j], alpha) for j in range(3)]) for i in range(2)]
    )
    torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)
    for correction in ("permutation", "ustatistic"):
        pair = renyi_mutual_information(a, b, correction=correction)
        torch.testing.assert_close(
            pair[1, 2], renyi_mutual_information(a[1, 2], b[2], correction=correction), atol=1e-10, rtol=0
        )


def test_gradients_of_broadcast_inputs_are_summed():
    a, b = gram(normal(3, 5, 4), "rbf").requires_grad_(), gram(normal(5, 2), "rbf").requires_grad_()
    renyi_mutual_information(a, b).sum().backward()
    assert a.grad.shape == a.shape
    assert b.grad.shape == b.shape


def test_half_precision_grams_and_autocast():
    x, y = normal(64, 16, dtype=torch.float32), normal(64, 16, seed=1, dtype=torch.float32)
    y = 0.7 * x + 0.7 * y
    x, y = (torch.nn.functional.normalize(z, dim=-1) for z in (x, y))
    exact = renyi_mutual_information(gram(x.double()), gram(y.double())).item()
    low = [gram(z).bfloat16() for z in (x, y)]
    assert low[0].dtype == torch.bfloat16
    assert renyi_mutual_information(*low).item() == pytest.approx(exact, abs=5e-4)
    made = [z.bfloat16() @ z.bfloat16().mT for z in (x, y)]  # here the samples were rounded too
    assert renyi_mutual_information(*made).item() == pytest.approx(exact, abs=2e-3)
    assert renyi_mutual_information(*low).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = renyi_mutual_information(gram(x), gram(y))
        joint = renyi_joint_entropy(gram(x), gram(y), gram(x))
    assert inside.dtype == joint.dtype == torch.float32
    assert inside.item() == pytest.approx(exact, abs=1e-5)


def test_single_precision_keeps_its_digits_in_values_and_gradients():
    a, b = (gram(normal(576, 8, seed=s, dtype=torch.float32), "rbf") for s in range(2))
    single, double = a.clone().requires_grad_(), a.double().requires_grad_()
    values = [renyi_mutual_information(x, b.to(x.dtype), correction="permutation") for x in (single, double)]
    for value in values:
        value.backward()
    assert values[0].item() == pytest.approx(values[1].item(), abs=1e-5)
    assert (single.grad - double.grad).norm() < 5e-5 * double.grad.norm()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.01, 2.0, 3.0])
@pytest.mark.parametrize(
    "options", [{"kernel": "rbf", "width": 1.0}, {"kernel": "poly"}, {"normalize": True}]
)
def test_gradients_are_those_of_finite_differences(alpha, options):
    x, y = normal(5, 6, seed=1).requires_grad_(), normal(5, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: renyi_entropy(gram(u, **options), alpha), x)
    assert torch.autograd.gradcheck(
        lambda u, v: renyi_mutual_information(gram(u, **options), gram(v, **options), alpha), (x, y)
    )


@pytest.mark.parametrize("correction", ["permutation", "ustatistic"])
def test_gradients_of_corrections(correction):
    x, y = normal(2, 5, 3, seed=1).requires_grad_(), normal(2, 5, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda u, v: renyi_mutual_information(gram(u), gram(v), correction=correction), (x, y)
    )


def test_gradients_of_joint_low_rank_and_cka():
    x, y = normal(6, 2, seed=1).requires_grad_(), normal(6, 2, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda u, v: renyi_joint_entropy(gram(u), gram(v), gram(u + v)), (x, y))
    assert torch.autograd.gradcheck(lambda u, v: linear_renyi_entropy(u, v), (x, y))
    assert torch.autograd.gradcheck(lambda u, v: cka(gram(u), gram(v)), (x, y))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("case", ["repeated", "rank one", "one sample"])
def test_gradients_stay_finite_where_eigenvectors_are_not_defined(alpha, case):
    x = {
        "repeated": torch.eye(4, dtype=F64),
        "rank one": torch.ones(4, 2, dtype=F64),
        "one sample": torch.ones(1, 3, dtype=F64),
    }[case]
    x.requires_grad_()
    value = renyi_entropy(gram(x), alpha) + renyi_mutual_information(gram(x), gram(x * 2), alpha)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all()


# --- the cousin ---


def test_cka_of_linear_grams_is_the_feature_space_formula():
    x, y = normal(30, 4, seed=1), normal(30, 6, seed=2)
    cx, cy = x - x.mean(0), y - y.mean(0)
    expected = (cx.T @ cy).norm() ** 2 / ((cx.T @ cx).norm() * (cy.T @ cy).norm())
    torch.testing.assert_close(cka(gram(x), gram(y)), expected, atol=1e-10, rtol=0)
    assert cka(gram(x), gram(3 * x)).item() == pytest.approx(1, abs=1e-10)


# --- bad input ---

GOOD = torch.eye(3, dtype=F64)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gram(torch.tensor([[1.0], [math.nan]])), "NaN or infinite"),
        (lambda: gram(torch.tensor([[1.0], [math.inf]]), "rbf"), "NaN or infinite"),
        (lambda: gram(torch.ones(0, 3)), "n >= 1"),
        (lambda: gram(torch.ones(3, 0)), "d >= 1"),
        (lambda: gram(torch.ones(())), "expected"),
        (lambda: gram(torch.ones(3, 2, dtype=torch.long)), "floating point"),
        (lambda: gram([[1.0]]), "torch.Tensor"),
        (lambda: gram(torch.zeros(3, 2)), "trace"),
        (lambda: gram(torch.ones(3, 2), "rbf"), "constant data"),
        (lambda: gram(torch.randn(3, 2), "rbf", width=0.0), "width = 0"),
        (lambda: gram(torch.randn(3, 2), "rbf", width=-1.0), "> 0"),
        (lambda: gram(torch.randn(3, 2), "rbf", width=math.nan), "width"),
        (lambda: gram(torch.randn(3, 2), "poly", degree=0), "degree"),
        (lambda: gram(torch.randn(3, 2), "cosine"), "linear"),
        (lambda: gram(torch.randn(3, 2), lambda x, y: x), "expected"),
        (lambda: renyi_entropy(GOOD, 0.0), "alpha"),
        (lambda: renyi_entropy(GOOD, -1.0), "alpha"),
        (lambda: renyi_entropy(GOOD, math.nan), "alpha"),
        (lambda: renyi_entropy(GOOD, 2.0, 1.0), "base"),
        (lambda: renyi_entropy(torch.ones(0, 0)), "n >= 1"),
        (lambda: renyi_entropy(torch.ones(2, 3)), "(..., n, n)"),
        (lambda: renyi_entropy(torch.eye(3, dtype=torch.long)), "floating point"),
        (lambda: renyi_entropy(GOOD * math.nan), "NaN or infinite"),
        (lambda: renyi_entropy(GOOD * math.nan, 1.5), "NaN or infinite"),
        (lambda: renyi_entropy(torch.zeros(3, 3)), "trace"),
        (lambda: renyi_entropy(torch.zeros(3, 3), 1.5), "trace"),
        (lambda: renyi_entropy(-GOOD), "trace"),
        (lambda: renyi_entropy(-GOOD, 1.5), "trace"),
        (lambda: renyi_entropy(GOOD + torch.ones(3, 3, dtype=F64).triu(1)), "not symmetric"),
        (
            lambda: renyi_entropy(torch.randn(200, 200, generator=torch.Generator().manual_seed(0)).abs()),
            "not symmetric",
        ),
        (lambda: renyi_entropy(torch.tensor([[1.0, 3.0], [3.0, 1.0]]), 1.0), "below zero"),
        (lambda: renyi_joint_entropy(), "no Gram"),
        (lambda: renyi_joint_entropy(GOOD, torch.eye(4, dtype=F64)), "pair up"),
        (lambda: renyi_mutual_information(GOOD, torch.eye(4, dtype=F64)), "pair up"),
        (lambda: renyi_mutual_information(GOOD, GOOD * math.inf), "Gram matrix 1"),
        (lambda: renyi_mutual_information(GOOD, GOOD, correction="bonferroni"), "permutation"),
        (lambda: renyi_mutual_information(GOOD, GOOD, 1.5, correction="permutation"), "Generator"),
        (lambda: renyi_mutual_information(GOOD, GOOD, 1.5, correction="ustatistic"), "alpha"),
        (lambda: renyi_mutual_information(GOOD[:1, :1], GOOD[:1, :1], correction="ustatistic"), "n >= 2"),
        (lambda: renyi_mutual_information(GOOD, GOOD, correction="ustatistic"), "wider kernel"),
        (lambda: renyi_mutual_information(-GOOD - 1, -GOOD - 1), "trace"),
        (lambda: renyi_mutual_information(-GOOD - 1, -GOOD - 1, correction="permutation"), "trace"),
        (lambda: renyi_mutual_information(-GOOD - 1, GOOD + 1, correction="ustatistic"), "trace"),
        (
            lambda: renyi_mutual_information(
                torch.stack([GOOD, GOOD * math.nan]), GOOD, correction="ustatistic"
            ),
            "NaN or infinite",
        ),
        (lambda: linear_renyi_entropy(), "no features"),
        (lambda: linear_renyi_entropy(torch.ones(3, 2), torch.ones(4, 2)), "pair up"),
        (lambda: linear_renyi_entropy(torch.zeros(3, 2)), "zero"),
        (lambda: cka(torch.ones(3, 3), torch.eye(3)), "constant"),
        (lambda: cka(GOOD * math.nan, GOOD), "NaN or infinite"),
        (lambda: cka(-GOOD, GOOD), "trace"),
        (
            lambda: gaussian_rbf_information(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1, 1.0, 1.0),
            "correlation above one",
        ),
        (lambda: gaussian_rbf_information(torch.eye(2), 1, 0.0, 1.0), "widths"),
        (lambda: gaussian_rbf_information(torch.eye(2), 2, 1.0, 1.0), "dim_x"),
    ],
)
def test_bad_input_is_refused_in_words(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)


def test_documented_limits_of_little_data():
    one = gram(torch.tensor([[2.0]]), "rbf")
    assert one.item() == 1
    for alpha in ALPHAS:
        assert renyi_entropy(one, alpha).item() == 0
    assert renyi_mutual_information(one, one, correction="permutation").item() == 0
    constant = gram(torch.ones(5, 2), "rbf", width=1.0)
    assert renyi_entropy(constant).item() == pytest.approx(0, abs=1e-6)
