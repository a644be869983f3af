"""A GPU that is not there: tensors that know their shape and device, and raise where devices mix."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

M = TypeVar("M", bound=nn.Module)


@contextmanager
def fake_cuda() -> Iterator[None]:
    """A block in which no tensor has values; what must read one (`.item()`, `bool(...)`) raises.

    One gap: an index on another device than what it indexes passes unseen.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        yield


def on_cuda(module: M) -> M:
    """A copy of a module built before, whose weights are on the GPU that is not there. Inside `fake_cuda` only."""
    twin = copy.copy(module)
    twin.__dict__ = dict(module.__dict__)
    for kind in ("_parameters", "_buffers"):
        moved = {
            name: None if value is None else _moved(value) for name, value in getattr(module, kind).items()
        }
        twin.__dict__[kind] = moved
    twin.__dict__["_modules"] = {
        name: on_cuda(child) for name, child in module._modules.items() if child is not None
    }
    return twin


def _moved(value: Tensor) -> Tensor:
    moved = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return nn.Parameter(moved, requires_grad=False) if isinstance(value, nn.Parameter) else moved
