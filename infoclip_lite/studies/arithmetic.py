"""A step's matrix products and convolutions on their own: what no other way of writing it takes away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# Fused attention is softmax too; it is two products first of all, and a fused step has them nowhere else.
_PRODUCTS = (
    _aten.mm,
    _aten.addmm,
    _aten.bmm,
    _aten.baddbmm,
    _aten.convolution,
    _aten.convolution_backward,
    _aten._scaled_dot_product_flash_attention_for_cpu,
)


class _Laid(NamedTuple):
    """A tensor without its numbers: how it lies in memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class _Product(NamedTuple):
    """A call: the operation, and its arguments with tensors as `_Laid`."""

    operation: Callable[..., object]
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]


class _Recorder(TorchDispatchMode):
    """Counts the products that are computed under it, by their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[_Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in _PRODUCTS:
            options = tuple((name, _described(value)) for name, value in (kwargs or {}).items())
            self.products[_Product(func, tuple(map(_described, args)), options)] += 1
        return func(*args, **(kwargs or {}))


def products_of(step: Callable[[], object]) -> Callable[[], None]:
    """A function that computes the matrix products and convolutions of a step, and nothing else of it.

    Each is as large as in the step and lies in memory as there; the numbers are others, drawn beforehand.
    What a step takes beside them is norms, activations, softmax, sums and moves.

    Args:
        step: not under `torch.inference_mode`, which hides what a layer is made of.

    Raises:
        ValueError: a step without any.
    """
    recorder = _Recorder()
    with recorder:
        step()
    if not recorder.products:
        raise ValueError("got a step without matrix product or convolution; expected at least one")
    calls = [(product, count) for product, count in recorder.products.items()]
    # One piece of memory for each place of an argument, as long as the longest that comes there: the step's
    # own tensors together would be all that it ever holds.
    stores: dict[tuple[Any, ...], Tensor] = {}
    ready = [
        (
            product.operation,
            [_made(value, place, stores) for place, value in enumerate(product.arguments)],
            {name: _made(value, name, stores) for name, value in product.options},
            count,
        )
        for product, count in sorted(calls, key=lambda call: -_longest(call[0]))
    ]

    @torch.no_grad()
    def compute() -> None:
        for operation, arguments, options, count in ready:
            for _ in range(count):
                operation(*arguments, **options)

    return compute


def _described(value: object) -> object:
    if isinstance(value, Tensor):
        return _Laid(tuple(value.shape), value.stride(), value.dtype, value.device)
    return tuple(value) if isinstance(value, list) else value


def _made(value: object, place: int | str, stores: dict[tuple[Any, ...], Tensor]) -> object:
    if not isinstance(value, _Laid):
        return value
    key = (place, value.dtype, value.device)
    if key not in stores or len(stores[key]) < _length(value):
        stores[key] = torch.rand(_length(value), dtype=value.dtype, device=value.device)
    return stores[key].as_strided(value.shape, value.stride)


def _length(laid: _Laid) -> int:
    """Numbers from the first to the last."""
    return 1 + sum((size - 1) * step for size, step in zip(laid.shape, laid.stride, strict=True))


def _longest(product: _Product) -> int:
    return max(_length(value) for value in product.arguments if isinstance(value, _Laid))
