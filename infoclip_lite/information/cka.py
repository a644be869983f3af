"""Centred kernel alignment: how alike two descriptions of the same samples are.

Kornblith et al., arXiv 1905.00414. The cosine between two centred Gram matrices, K and L, with H = 1 - 1/n:

    CKA = <HKH, HLH> / (|HKH| |HLH|)                        (eq. 4)
        = |Y^T X|^2 / (|X^T X| |Y^T Y|)    for K = X X^T, L = Y Y^T and columns of mean zero

`cka` is the first form, of any kernel; `linear_cka` the second, which never builds (n, n).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import as_float, check_contents, check_grams
from .renyi import _full_precision


@_full_precision
def cka(a: Tensor, b: Tensor, *, validate: bool = True) -> Tensor:
    """CKA of two Gram matrices of the same samples, eq. 4.

    Args:
        a, b: (..., n, n) as for `renyi_entropy`, n >= 2.
        validate: as for `renyi_entropy`.

    Returns:
        (...) between 0 and 1, no unit.

    Raises:
        ValueError: bad matrices, or a Gram that is constant (its centred version is zero).
    """
    grams = check_grams([a, b], validate=validate)
    if validate:
        check_contents(grams)
    centred = []
    for k in grams:
        # Scaled to trace one, so that the bound below is about rounding and not about the samples' unit.
        k = k / k.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        # HKH without building H: less the means of rows and of columns, and the mean of all, which both took.
        rows, columns = k.mean(-1, keepdim=True), k.mean(-2, keepdim=True)
        centred.append(k - rows - columns + k.mean((-2, -1), keepdim=True))
    norms = [torch.linalg.vector_norm(c, dim=(-2, -1)) for c in centred]
    # A constant Gram leaves rounding behind when it is centred, not zeros: a few units in the last place
    # of a trace of one, and their cosine would be noise.
    if any(bool((n <= 10 * torch.finfo(n.dtype).eps).any()) for n in norms):
        raise ValueError(
            "got a Gram matrix that is constant, expected samples that differ; "
            "hint: CKA of constant data does not exist"
        )
    return (centred[0] * centred[1]).sum((-2, -1)) / (norms[0] * norms[1])


@_full_precision
def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """CKA of two sets of features of the same samples, for linear kernels.

    It is 1 where they agree up to rotation and scale. Equal to `cka(gram(x), gram(y))` at a cost
    of n d^2 in place of n^2 d: the tokens of a batch of pictures are thousands of samples
    of some hundred numbers.

    Args:
        x, y: (..., n, d1) and (..., n, d2) floats. Computed in float64: sums over thousands of samples.

    Returns:
        (...) float64 between 0 and 1, no unit. NaN where the samples of one do not differ: a training
        that collapsed is to be seen in its log, and not to end there.

    Raises:
        ValueError: other shapes, or numbers of samples that differ.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0]])
    >>> round(linear_cka(x, 5 * x.flip(1)).item(), 6)
    1.0
    """
    # Thousands of samples add up in the products below, and a CKA is read by how far below one it is.
    x, y = as_float(x, "x").double(), as_float(y, "y").double()
    if x.ndim < 2 or y.ndim < 2 or x.shape[:-1] != y.shape[:-1] or x.shape[-2] < 2:
        raise ValueError(
            f"got features {tuple(x.shape)} and {tuple(y.shape)}; "
            "expected (..., n, d1) and (..., n, d2): the same n >= 2 samples, in the same order"
        )
    x = x - x.mean(-2, keepdim=True)
    y = y - y.mean(-2, keepdim=True)
    # Products over the samples, (d2, d1), (d1, d1) and (d2, d2): nothing here is n x n.
    across, own_x, own_y = (
        torch.linalg.vector_norm(a.mT @ b, dim=(-2, -1)) for a, b in ((y, x), (x, x), (y, y))
    )
    # No guard: 0 / 0 is the NaN that the docstring promises.
    return across**2 / (own_x * own_y)
