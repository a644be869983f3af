"""What every function of this room asks of its input.

Floats, finite, of the right shape; or an error that says what to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Both are limits of what rounding (bfloat16 included) is believed to explain; beyond them the matrix is
# wrong, and a number made of it would be.
ASYMMETRY = 1e-2  # largest ||A - A^T|| / ||A||
BELOW_ZERO = 0.1  # largest -lambda_min / lambda_max


def as_float(x: Tensor, name: str) -> Tensor:
    """`x` in float32 or float64; half precision is widened, what is no real floating tensor refused."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"{name}: got {type(x).__name__}, expected a torch.Tensor; hint: torch.as_tensor(...)"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"{name}: got dtype {x.dtype}, expected real floating point; "
            "hint: call .double() or .float() first"
        )
    # A Gram in bfloat16 costs I_2 2e-4 bits but I_1.01 0.83 of them, sums in float16 overflow from some
    # 256 samples on, and eigvalsh has no kernel for either [O].
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def require_finite(x: Tensor, name: str) -> None:
    """Refuse NaN and infinity."""
    # A sum carries NaN and infinity along, at a tenth of the cost of looking at each entry.
    total = x.detach().sum().item()
    if not math.isfinite(total):
        raise ValueError(
            f"{name}: got NaN or infinite entries, expected finite numbers; "
            "hint: look for a division or an overflow upstream"
        )


def check_samples(x: Tensor, name: str = "x", *, minimum: int = 1, validate: bool = True) -> Tensor:
    """(..., n, d) floats of at least `minimum` samples, with `validate` finite; (n,) is read as (n, 1)."""
    x = as_float(x, name)
    if x.ndim == 1:
        x = x.unsqueeze(-1)
    if x.ndim < 2 or x.shape[-2] < minimum or x.shape[-1] < 1:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, expected (..., n, d) with n >= {minimum} samples and d >= 1"
        )
    if validate:
        require_finite(x, name)
    return x


def check_grams(grams: Sequence[Tensor], *, validate: bool = True) -> list[Tensor]:
    """Gram matrices of one size and dtype, with `validate` also symmetric."""
    if not grams:
        raise ValueError("got no Gram matrix, expected at least one; hint: information.gram(x)")
    checked = [as_float(g, f"Gram matrix {i}") for i, g in enumerate(grams)]
    size = checked[0].shape[-1] if checked[0].ndim else 0
    for i, g in enumerate(checked):
        if g.ndim < 2 or g.shape[-1] != g.shape[-2] or g.shape[-1] < 1:
            raise ValueError(
                f"Gram matrix {i}: got shape {tuple(g.shape)}, expected (..., n, n) with n >= 1; "
                "hint: information.gram(x)"
            )
        if g.shape[-1] != size:
            raise ValueError(
                f"Gram matrix {i}: got {g.shape[-1]} samples, expected {size} as in the first; "
                "hint: rows must pair up"
            )
        if validate:
            _check_symmetry(g.detach(), i)
    return checked


def check_result(result: Tensor, grams: Sequence[Tensor]) -> Tensor:
    """`result`, if it is finite; if not, say which Gram matrix is to blame."""
    # NaN, infinity and bad traces cannot but show in the result: one look at it in place of one at each
    # matrix, which on a GPU would wait for the device each time.
    if math.isfinite(result.detach().sum().item()):
        return result
    check_contents(grams)
    raise ValueError(
        "the sums of squares left the range of the numbers; "
        "hint: scale every Gram matrix to trace one, or use float64"
    )


def check_contents(grams: Sequence[Tensor]) -> None:
    """Refuse what division by the trace would hide: NaN, infinity, a trace that is zero or negative."""
    for i, g in enumerate(grams):
        require_finite(g, f"Gram matrix {i}")
        check_trace(g, i)


def check_trace(g: Tensor, index: int = 0) -> None:
    """Refuse a trace that is zero or negative."""
    trace = g.detach().diagonal(dim1=-2, dim2=-1).sum(-1)
    # Not `any(trace <= 0)`: NaN is neither below zero nor above it, and would pass.
    if not bool((trace > 0).all()):
        raise ValueError(
            f"Gram matrix {index}: got a trace of {trace.min().item():.3g}, expected > 0; "
            "hint: are all samples zero?"
        )


def check_alpha(alpha: float, base: float) -> None:
    """alpha > 0 and a base that a logarithm can have."""
    if not 0 < alpha < float("inf"):
        raise ValueError(
            f"got alpha = {alpha}, expected 0 < alpha < infinity; "
            "hint: 2 needs no eigenvalues, 1 is von Neumann's entropy"
        )
    if not 0 < base < float("inf") or base == 1:
        raise ValueError(
            f"got base = {base}, expected base > 0 other than 1; hint: 2 for bits, math.e for nats"
        )


def _check_symmetry(g: Tensor, index: int) -> None:
    """Compare entries with their mirror images, of large matrices a part of them."""
    # All of them up to 63 samples, above that some 32 rows by 32 columns, spread evenly:
    # what is wrong with a kernel is wrong nearly everywhere, and looking at n^2 entries would cost
    # as much as the entropy.
    step = max(1, g.shape[-1] // 32)
    some = g[..., ::step, ::step]
    if bool(torch.linalg.vector_norm(some - some.mT) > ASYMMETRY * torch.linalg.vector_norm(some)):
        raise ValueError(
            f"Gram matrix {index}: got a matrix that is not symmetric; "
            "hint: give K(x, x), or (A + A.mT) / 2 against rounding"
        )
