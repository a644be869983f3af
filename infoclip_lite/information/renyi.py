"""Matrix-based Renyi entropy: information measured on Gram matrices, with no density anywhere.

Sanchez Giraldo, Rao and Principe, "Measures of entropy from data using infinitely divisible kernels"
(arXiv 1211.2459), and, for several variables, Yu et al. (arXiv 1808.07912). With A = K / tr K:

    S_alpha(A) = log(tr A^alpha) / (1 - alpha)
    S(A, B)    = S(A o B / tr(A o B))
    I(A; B)    = S(A) + S(B) - S(A, B)

Every function is batched over leading dimensions, differentiable once, and computes in float32
or float64 even inside autocast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal, ParamSpec

import torch
from torch import Tensor

from ._checks import (
    BELOW_ZERO,
    check_alpha,
    check_contents,
    check_grams,
    check_result,
    check_samples,
    check_trace,
    require_finite,
)
from ._moments import entropy_2, pair_moments

Kernel = Literal["linear", "rbf", "poly"] | Callable[[Tensor, Tensor], Tensor]
Correction = Literal["permutation", "ustatistic"]
_P = ParamSpec("_P")


def _full_precision(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Run with autocast off: sums of squares in half precision overflow or lose the answer [O]."""

    # A context is opened only where autocast is on: an objective calls these functions at every step.
    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        device = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        if not torch.is_autocast_enabled(device):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return wrapped


@_full_precision
def gram(
    x: Tensor,
    kernel: Kernel = "linear",
    *,
    width: float | Tensor | None = None,
    degree: int = 2,
    offset: float = 1.0,
    normalize: bool = False,
    validate: bool = True,
) -> Tensor:
    """Gram matrix of samples: entry (i, j) says how alike samples i and j are; scaled to trace one.

    Args:
        x: (..., n, d) floats, n samples of d numbers; (n,) is read as (n, 1).
        kernel: "linear" <x, y>; "rbf" exp(-|x - y|^2 / (2 width^2)); "poly" (<x, y> + offset)^degree;
            or a function that takes (..., n, d) twice and gives (..., n, n). "poly" of degree 1
            and offset 0 is the linear kernel.
        width: of the RBF kernel, in the units of `x`; None takes the median distance between two
            samples, through which no gradient flows.
        degree, offset: of the polynomial kernel.
        normalize: scale every sample to length one first, as the papers before InfoCLIP do [S].
            A sample of length zero stays zero.
        validate: look for NaN, asymmetry and traces that are not positive; cheap, but on a GPU
            it waits for the result.

    Returns:
        (..., n, n), symmetric, trace one.

    Raises:
        ValueError: samples that are not finite floats, n = 0, a width that is not positive, constant
            data where the median distance is asked for, a trace that is not positive (all samples zero).

    >>> gram(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    x = check_samples(x, validate=validate)
    if normalize:
        # The root of the smallest number: its square, which the gradient divides by, is not yet zero.
        smallest = torch.finfo(x.dtype).tiny ** 0.5
        x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(smallest)
    if kernel == "linear":
        k = x @ x.mT
    elif kernel == "rbf":
        k = _rbf(x, width)
    elif kernel == "poly":
        if degree < 1 or int(degree) != degree or offset < 0:
            raise ValueError(
                f"got degree = {degree}, offset = {offset}; expected a whole degree >= 1 and offset >= 0"
            )
        k = (x @ x.mT + offset) ** int(degree)
    elif callable(kernel):
        k = kernel(x, x)
    else:
        raise ValueError(f'got kernel = {kernel!r}, expected "linear", "rbf", "poly" or a function of (x, y)')
    (k,) = check_grams([k], validate=validate)
    if validate:
        require_finite(k, "kernel")
        check_trace(k)
    if k.shape[-1] != x.shape[-2]:
        raise ValueError(
            f"got a kernel that gave {tuple(k.shape)} for samples {tuple(x.shape)}, expected (..., n, n)"
        )
    return k / _trace(k)[..., None, None]


@_full_precision
def renyi_entropy(a: Tensor, alpha: float = 2.0, base: float = 2.0, *, validate: bool = True) -> Tensor:
    """Entropy of a Gram matrix: log of the effective number of distinct samples, between 0 and log n.

    At alpha = 2 it is -log ||A||_F^2, n^2 work and no eigenvalues; elsewhere eigvalsh, n^3.
    alpha = 1 is the limit, von Neumann's entropy. Gradients need eigenvalues only,
    so they stay finite when some repeat; directions of zero eigenvalue get gradient zero
    (for alpha <= 1 the true slope there is infinite) [O].

    Args:
        a: (..., n, n) symmetric positive semi-definite, of any positive trace; half precision is widened.
        alpha: order, > 0.
        base: of the logarithm; 2 gives bits, math.e nats.
        validate: look for NaN, asymmetry and traces that are not positive; cheap, but on a GPU
            it waits for the result.

    Returns:
        (...) entropies in units of log `base`.

    Raises:
        ValueError: a bad matrix, alpha or base.

    >>> float(renyi_entropy(torch.eye(8)))
    3.0
    """
    check_alpha(alpha, base)
    return _entropy(check_grams([a], validate=validate), alpha, base, validate)


@_full_precision
def renyi_joint_entropy(
    *grams: Tensor, alpha: float = 2.0, base: float = 2.0, validate: bool = True
) -> Tensor:
    """Joint entropy of any number of variables seen on the same samples.

    The entropy of the elementwise product of their Grams (arXiv 1808.07912, the definition of joint entropy).

    Args:
        grams: each (..., n, n) as for `renyi_entropy`; leading dimensions broadcast.
        alpha, base, validate: as for `renyi_entropy`.

    Returns:
        (...) entropies in units of log `base`.

    Raises:
        ValueError: a bad matrix, different n, bad alpha or base.
    """
    check_alpha(alpha, base)
    return _entropy(check_grams(grams, validate=validate), alpha, base, validate)


@_full_precision
def renyi_mutual_information(
    a: Tensor,
    b: Tensor,
    alpha: float = 2.0,
    base: float = 2.0,
    correction: Correction | None = None,
    *,
    permutations: int = 32,
    generator: torch.Generator | None = None,
    validate: bool = True,
) -> Tensor:
    """I(A; B) = S(A) + S(B) - S(A, B).

    Not Shannon's number: kernel, width and n decide it, and for alpha other than 1 it may be negative [O].

    Few samples of many dimensions look dependent whether they are or not
    (independent data, n = 4, d = 100: 1.8 of at most 2 bits) [O]. `correction` removes that:

    - "permutation": subtract what a random pairing of the samples would give. At alpha = 2 exactly,
      in n^2 work, no permutation drawn; other orders average `permutations` random ones drawn
      from `generator` (required then). At alpha = 2, with sums ' over i != j and divided
      by the expected squared trace [O]:

          E ||A o PBP^T||_F^2 = sum A_ii^2 sum B_ii^2 / n + sum' A_ij^2 sum' B_ij^2 / (n (n - 1))

      The log of a mean is not the mean of the logs: with constant diagonals (RBF, normalised samples)
      the difference is nil to a few thousandths of a bit, but where diagonals vary
      (linear kernel, normalize=False) tr(A o B) and the diagonal's share of ||A o B||^2 hang on who
      meets whom, and the result stays up to a tenth of a bit below zero on independent samples of few
      dimensions [O]. Normalise.
    - "ustatistic": alpha = 2 only; every mean leaves the pairs i = j out, which estimates the population
      value without that bias [O].

    Args:
        a, b: (..., n, n) as for `renyi_entropy`.
        alpha, base, validate: as for `renyi_entropy`.
        correction: see above. None is the papers' plug-in value.
        permutations, generator: used only by "permutation" at alpha other than 2.

    Returns:
        (...) in units of log `base`.

    Raises:
        ValueError: bad matrices, orders or options; "ustatistic" at n < 2, or where the products off the
            diagonal all vanish.
    """
    check_alpha(alpha, base)
    a, b = check_grams([a, b], validate=validate)
    if correction not in (None, "permutation", "ustatistic"):
        raise ValueError(f'got correction = {correction!r}, expected None, "permutation" or "ustatistic"')
    if correction == "ustatistic":
        nats = _without_diagonal(a, b, alpha, validate)
    elif alpha == 2:
        nats = _information_2(a, b, permuted=correction == "permutation")
    elif correction is None:
        nats = _nats(a, alpha) + _nats(b, alpha) - _nats(_product([a, b]), alpha)
    else:
        # S(A) and S(B) are the same for every pairing, and cancel.
        nats = _permuted(a, b, alpha, permutations, generator) - _nats(_product([a, b]), alpha)
    return (check_result(nats, [a, b]) if validate else nats) / math.log(base)


@_full_precision
def linear_renyi_entropy(*features: Tensor, alpha: float = 2.0, base: float = 2.0) -> Tensor:
    """(Joint) entropy of linear Gram matrices without forming them, for many samples of few dimensions.

    Z Z^T (n x n) and Z^T Z (d x d) have the same non-zero eigenvalues, so the smaller one will do:
    n d^2 work in place of n^2 d. The product of the Grams of Z and W is the Gram of all products z_k
    w_l, so several features work too while the product of their widths stays below n.

    Args:
        features: each (..., n, d_i) floats.
        alpha, base: as for `renyi_entropy`.

    Returns:
        (...) equal to renyi_joint_entropy(*[gram(z) for z in features], alpha, base).

    Raises:
        ValueError: samples that are not finite floats, different n, all samples zero, bad alpha or base.
    """
    check_alpha(alpha, base)
    if not features:
        raise ValueError("got no features, expected at least one (..., n, d) tensor")
    z = check_samples(features[0], "features 0")
    for i, other in enumerate(features[1:], start=1):
        other = check_samples(other, f"features {i}")
        if other.shape[-2] != z.shape[-2]:
            raise ValueError(
                f"features {i}: got {other.shape[-2]} samples, expected {z.shape[-2]}; "
                "hint: rows must pair up"
            )
        # All products z_k w_l of a sample: (..., n, d1, d2), and flat again.
        z = (z[..., :, None] * other[..., None, :]).flatten(-2)
    small = z.mT @ z if z.shape[-1] < z.shape[-2] else z @ z.mT
    return _entropy([small], alpha, base, True)


def gaussian_rbf_information(
    covariance: Tensor, dim_x: int, width_x: float, width_y: float, base: float = 2.0
) -> float:
    """What I_2 tends to as n grows, for Gaussian data and RBF kernels; to test and to teach with [O].

        I_2 = 1/2 log[ det(1 + 4 Sx/wx^2) det(1 + 4 Sy/wy^2) / det(1 + 4 L S) ],   L = diag(1/wx^2, 1/wy^2)

    It rises to Shannon's value as the widths go to zero, and falls to zero as they grow.
    A sample strays from it like 1/sqrt(n), mostly because its covariance is not S:
    held against the closed form at the sample's own covariance, most of the deviation is gone [O].
    No correction can take sampling noise away.

    Args:
        covariance: (d, d) of x and y together, x first.
        dim_x: how many of the d are x.
        width_x, width_y: of the kernels, > 0, in the units of x and y.
        base: of the logarithm; 2 gives bits.

    Returns:
        I_2 in units of log `base`.

    Raises:
        ValueError: shapes or widths that cannot be.
    """
    s = check_samples(covariance, "covariance").double()
    if s.ndim != 2 or s.shape[0] != s.shape[1] or not 0 < dim_x < s.shape[0]:
        raise ValueError(
            f"got covariance {tuple(s.shape)} and dim_x = {dim_x}, expected (d, d) and 0 < dim_x < d"
        )
    # A correlation of one is a case to teach, so the smallest eigenvalue may be zero;
    # and rounding may put it a little below.
    lowest = -1e-9 * s.diagonal().abs().max()
    if not torch.allclose(s, s.T) or bool(torch.linalg.eigvalsh(s)[0] < lowest):
        raise ValueError(
            "got a covariance that is not symmetric and positive semi-definite; "
            "hint: is a correlation above one?"
        )
    if not (0 < width_x < math.inf and 0 < width_y < math.inf):
        raise ValueError(f"got widths {width_x}, {width_y}; expected positive numbers")
    inverse = torch.tensor([width_x**-2] * dim_x + [width_y**-2] * (s.shape[0] - dim_x), dtype=s.dtype)
    m = torch.eye(s.shape[0], dtype=s.dtype) + 4 * inverse[:, None] * s
    logdets = [torch.linalg.slogdet(block)[1] for block in (m[:dim_x, :dim_x], m[dim_x:, dim_x:], m)]
    return float(logdets[0] + logdets[1] - logdets[2]) / 2 / math.log(base)


def _rbf(x: Tensor, width: float | Tensor | None) -> Tensor:
    # |x|^2 + |y|^2 - 2 x y cancels where samples are near each other and far from zero: centred, the
    # distances are the same, and their rounding is smaller.
    x = x - x.mean(-2, keepdim=True)
    norms = x.square().sum(-1)
    squared = (norms[..., :, None] + norms[..., None, :] - 2 * x @ x.mT).clamp_min(0)
    # A sample is at distance zero from itself, exactly: diagonals that are not quite one cost I_2 its bounds.
    squared = squared * (1 - torch.eye(x.shape[-2], dtype=x.dtype, device=x.device))
    if width is None:
        width = _median_distance(squared.detach())
    width = torch.as_tensor(width, dtype=x.dtype, device=x.device)
    require_finite(width, "width")
    if not bool((width > 0).all()):
        raise ValueError(
            f"got width = {width.min().item():.3g}, expected > 0; "
            "hint: constant data have median distance zero: give a width"
        )
    return torch.exp(squared / (-2 * width.square()[..., None, None]))


def _median_distance(squared: Tensor) -> Tensor:
    n = squared.shape[-1]
    if n == 1:  # no pair: the Gram matrix is [[1]] whatever the width
        return torch.ones(squared.shape[:-2], dtype=squared.dtype, device=squared.device)
    rows, columns = torch.triu_indices(n, n, 1, device=squared.device)
    return squared[..., rows, columns].median(-1).values.sqrt()


def _trace(k: Tensor) -> Tensor:
    return k.diagonal(dim1=-2, dim2=-1).sum(-1)


def _product(grams: list[Tensor]) -> Tensor:
    product = grams[0]
    for i, g in enumerate(grams[1:]):
        # Entries of a Gram of trace one are about 1/n. The scale cancels in the entropy, but the squares
        # of a product of three and more would reach float32's floor.
        product = product * g if i == 0 else product * (g * g.shape[-1])
    return product


def _entropy(grams: list[Tensor], alpha: float, base: float, validate: bool) -> Tensor:
    nats = _nats(_product(grams), alpha)
    return (check_result(nats, grams) if validate else nats) / math.log(base)


def _nats(k: Tensor, alpha: float) -> Tensor:
    """Entropy of one Gram matrix in nats; divides by the trace as it goes, so that no scaled copy is made."""
    if alpha == 2:
        return entropy_2(k)
    # Looked at whether the caller wants it or not: eigvalsh of what is not finite fails inside LAPACK.
    require_finite(k, "Gram matrix")
    check_trace(k)
    # Never eigh: the gradient of eigenvectors is NaN where two eigenvalues are equal [O].
    values = torch.linalg.eigvalsh(k)
    largest = values[..., -1:].detach()
    if bool((values[..., 0] < -BELOW_ZERO * largest[..., 0]).any()):
        raise ValueError(
            "got a matrix with eigenvalues well below zero, expected positive semi-definite; "
            "hint: is the kernel a valid one?"
        )
    # What is left of a zero eigenvalue is rounding, of either sign: the usual bound of a numerical rank.
    alive = values > largest * (k.shape[-1] * torch.finfo(k.dtype).eps)
    values = torch.where(alive, values, 0)
    values = values / values.sum(-1, keepdim=True)
    # The logarithm never sees a zero: masked out after it, its infinite slope would make the gradient NaN.
    logs = torch.where(alive, values, 1).log()
    if alpha == 1:
        return -(values * logs).sum(-1)
    if abs(alpha - 1) < 0.5:
        # tr A^alpha = 1 + sum l (l^(alpha - 1) - 1): no cancellation as alpha goes to 1.
        return torch.log1p((values * torch.expm1((alpha - 1) * logs)).sum(-1)) / (1 - alpha)
    # Powers of small eigenvalues underflow at a large alpha; their logarithms do not.
    return torch.logsumexp((alpha * logs).masked_fill(~alive, -math.inf), -1) / (1 - alpha)


def _information_2(a: Tensor, b: Tensor, *, permuted: bool) -> Tensor:
    """I_2 in nats; `permuted`: log of ||A o B||^2 over E ||A o B_pi||^2, each by its squared trace."""
    n = a.shape[-1]
    moments = pair_moments(a, b)
    # Sums and differences of logarithms, so that no product of small traces underflows.
    log_trace_a, log_trace_b, log_joint_trace, log_a, log_b, log_product = moments[..., :6].log().unbind(-1)
    joint = log_product - 2 * log_joint_trace
    if not permuted:
        return joint - (log_a + log_b) + 2 * (log_trace_a + log_trace_b)
    log_traces = 2 * (log_trace_a + log_trace_b - math.log(n))
    trace_a, trace_b, _, squares_a, squares_b, _, on_a, on_b = moments.unbind(-1)
    # A random pairing puts each diagonal entry of A on one of B's n, each other on one of the n (n - 1).
    expected = on_a * on_b / n + (squares_a - on_a) * (squares_b - on_b) / max(n * (n - 1), 1)
    # tr(A o B_pi) varies too: E tr^2 = (tr A tr B / n)^2 + this, which is zero for constant diagonals.
    spread = (on_a - trace_a.square() / n) * (on_b - trace_b.square() / n) / max(n - 1, 1)
    return joint - expected.log() + log_traces + torch.log1p(spread / (trace_a * trace_b / n).square())


def _permuted(
    a: Tensor, b: Tensor, alpha: float, permutations: int, generator: torch.Generator | None
) -> Tensor:
    """Joint entropy in nats, averaged over random pairings."""
    if generator is None or permutations < 1:
        raise ValueError(
            f"got generator = {generator}, permutations = {permutations}; expected a "
            "torch.Generator and at least one permutation; hint: only alpha = 2 has a closed form"
        )
    total = torch.zeros((), dtype=a.dtype, device=a.device)
    for _ in range(permutations):
        # Drawn where the generator lives, and then moved: the same pairings on every device.
        order = torch.randperm(a.shape[-1], generator=generator, device=generator.device).to(b.device)
        total = total + _nats(a * b[..., order, :][..., order], alpha)
    return total / permutations


def _without_diagonal(a: Tensor, b: Tensor, alpha: float, validate: bool) -> Tensor:
    """I_2 in nats from the pairs i != j only."""
    n = a.shape[-1]
    if alpha != 2 or n < 2:
        raise ValueError(
            f'got alpha = {alpha}, n = {n}; "ustatistic" is defined at alpha = 2 and n >= 2; '
            'hint: correction="permutation"'
        )
    if validate:
        # What the plug-in sees in the result alone is here divided away by the diagonals.
        check_contents([a, b])
    off_a, off_b, off = (_off_diagonal(k) for k in (a, b, a * b))
    # The logarithm of zero shows in the result; on a GPU this look, too, waits for the device.
    if validate and not bool((off > 0).all()):
        raise ValueError(
            "got kernels whose off-diagonal products are all zero: their logarithm does not exist; "
            "hint: a wider kernel"
        )
    # The mean over n (n - 1) pairs of products, by the product of the two means.
    return torch.log(off * (n * (n - 1))) - torch.log(off_a * off_b)


def _off_diagonal(k: Tensor) -> Tensor:
    """Sum of squares off the diagonal, with the mean diagonal entry scaled to one."""
    k = k * (k.shape[-1] / _trace(k)[..., None, None])
    return (k - torch.diag_embed(k.diagonal(dim1=-2, dim2=-1))).square().sum((-2, -1))
