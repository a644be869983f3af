"""Traces and squared Frobenius norms with gradients written out: what alpha = 2 costs, and nothing beyond it.

d ||A||^2 / dA = 2 A and d ||A o B||^2 / dA = 2 (A o B) o B: two products each. Left to autograd, the same sums make and add up several
n x n intermediates, which is most of the time at n in the hundreds [O].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def entropy_2(k: Tensor) -> Tensor:
    """(..., n, n) to 2 log tr K - log ||K||^2, the entropy of order 2 in nats (...)."""
    return _Entropy2.apply(k)


def pair_moments(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Diagonals of `a` and `b` (..., n) and the sums of squares of a, b and their elementwise product (...)."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    a, b = torch.broadcast_tensors(a.to(dtype), b.to(dtype))
    return _PairMoments.apply(a, b)


def _squares(k: Tensor) -> Tensor:
    flat = k.flatten(-2)
    return torch.linalg.vecdot(flat, flat)


def _scaled(gradient: Tensor, k: Tensor) -> Tensor:
    return k * (2 * gradient)[..., None, None]


class _Entropy2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, k: Tensor) -> Tensor:
        trace, squares = k.diagonal(dim1=-2, dim2=-1).sum(-1), _squares(k)
        ctx.save_for_backward(k, trace, squares)
        return 2 * trace.log() - squares.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        k, trace, squares = ctx.saved_tensors
        out = _scaled(-gradient / squares, k)
        out.diagonal(dim1=-2, dim2=-1).add_((2 * gradient / trace)[..., None])
        return out


class _PairMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        product = a * b
        ctx.save_for_backward(a, b, product)
        diagonals = [k.diagonal(dim1=-2, dim2=-1).clone() for k in (a, b)]
        return diagonals[0], diagonals[1], _squares(a), _squares(b), _squares(product)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b, product = ctx.saved_tensors
        on_a, on_b, of_a, of_b, of_product = gradients
        shared = _scaled(of_product, product)
        out: list[Tensor | None] = [None, None]
        for i, (k, other, on, of) in enumerate(((a, b, on_a, of_a), (b, a, on_b, of_b))):
            if ctx.needs_input_grad[i]:
                gradient = _scaled(of, k).addcmul_(shared, other)
                gradient.diagonal(dim1=-2, dim2=-1).add_(on)
                out[i] = gradient
        return out[0], out[1]
