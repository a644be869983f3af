"""Time and memory of what runs on a CPU or a GPU."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn


def kept_for_gradient(loss: Callable[[], Tensor], module: nn.Module) -> int:
    """Bytes that autograd keeps between a forward and its backward pass, both of which are done; each storage once, weights aside."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total = loss()
    total.backward()
    owned = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return sum(size for pointer, size in kept.items() if pointer not in owned)


def peak_memory() -> int:
    """The most bytes so far: allocated on the GPU, or without one taken by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
