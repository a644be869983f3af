"""Traces and squared Frobenius norms with gradients written out: what alpha = 2 costs, and nothing beyond.

d ||A||^2 / dA = 2 A and d ||A o B||^2 / dA = 2 (A o B) o B: two products each.
Left to autograd, the same sums make and add up several n x n intermediates, which is most of the time
at n in the hundreds [O].
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Context(Protocol):
    """What autograd hands to both directions of a function."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


def entropy_2(k: Tensor) -> Tensor:
    """(..., n, n) to 2 log tr K - log ||K||^2, the entropy of order 2 in nats (...)."""
    return _Entropy2.apply(k)


def pair_moments(a: Tensor, b: Tensor) -> Tensor:
    """The eight sums that everything at alpha = 2 is made of: two Grams (..., n, n) to one tensor (..., 8).

    In this order: tr A, tr B, tr A o B, ||A||^2, ||B||^2, ||A o B||^2, then the sums of squares of the
    diagonals of A and of B.
    """
    # Autograd does not widen or broadcast inside a function of its own: done before it, gradients come
    # back in the type and shape of what was given.
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
    def forward(ctx: _Context, k: Tensor) -> Tensor:
        trace = k.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = _squares(k)
        ctx.save_for_backward(k, trace, squares)
        return 2 * trace.log() - squares.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> Tensor:
        k, trace, squares = ctx.saved_tensors
        # d log ||K||^2 = 2 K / ||K||^2 everywhere, and d 2 log tr K = 2 / tr K on the diagonal.
        out = _scaled(-gradient / squares, k)
        out.diagonal(dim1=-2, dim2=-1).add_((2 * gradient / trace)[..., None])
        return out


class _PairMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, a: Tensor, b: Tensor) -> Tensor:
        product = a * b
        ctx.save_for_backward(a, b, product)
        da, db = (k.diagonal(dim1=-2, dim2=-1) for k in (a, b))
        # sum adds pairwise: vecdot of a diagonal loses two digits.
        traces = [da.sum(-1), db.sum(-1), (da * db).sum(-1)]
        squares = [_squares(a), _squares(b), _squares(product)]
        diagonal_squares = [(da * da).sum(-1), (db * db).sum(-1)]
        return torch.stack([*traces, *squares, *diagonal_squares], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b, product = ctx.saved_tensors
        of_trace_a, of_trace_b, of_joint_trace, *of_squares, of_diagonal_a, of_diagonal_b = gradient.unbind(
            -1
        )
        of_a, of_b, of_product = of_squares
        # 2 (A o B) is a factor of both gradients: made once, and multiplied by the other matrix in place.
        shared = _scaled(of_product, product)
        out: list[Tensor | None] = [None, None]
        sides = (
            (a, b, of_trace_a, of_a, of_diagonal_a),
            (b, a, of_trace_b, of_b, of_diagonal_b),
        )
        for i, (k, other, of_trace, of_own_squares, of_diagonal) in enumerate(sides):
            # A teacher's Gram wants no gradient, and its n x n products would be thrown away.
            if not ctx.needs_input_grad[i]:
                continue
            result = _scaled(of_own_squares, k).addcmul_(shared, other)
            dk, dother = (m.diagonal(dim1=-2, dim2=-1) for m in (k, other))
            # The three kinds of diagonal sums: tr A, tr A o B and sum A_ii^2, each (..., 1) over (..., n).
            on_diagonal = (
                of_trace[..., None] + of_joint_trace[..., None] * dother + 2 * of_diagonal[..., None] * dk
            )
            result.diagonal(dim1=-2, dim2=-1).add_(on_diagonal)
            out[i] = result
        return out[0], out[1]
