"""A machine with a GPU that is not there: tensors know their shape and device, and refuse to be mixed.

What this cannot see: values (nothing is computed; reading one raises), backward passes and optimizers (fake
CUDA has none on a CPU build), and index tensors on another device than what they index, which pass unseen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

CUDA = torch.device("cuda", 0)
_T = TypeVar("_T")


@contextmanager
def fake_machine() -> Iterator[FakeTensorMode]:
    """A machine with a GPU, whose tensors have shapes and devices and no values."""
    if torch.__version__.startswith("2.6."):
        pytest.skip("torch 2.6 asks the driver of a fake device too, and may abort where there is none")
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        yield mode


def moved_in(thing: _T, mode: FakeTensorMode, device: torch.device | str = CUDA) -> _T:
    """A copy of what was built outside: all of its weights, and whatever tensors it holds, are fake."""
    memo: dict[int, object] = {}
    for value in tensors_of(thing, set()):
        fake = mode.from_tensor(value.detach()).to(device)
        memo[id(value)] = nn.Parameter(fake, value.requires_grad) if isinstance(value, nn.Parameter) else fake
    return copy.deepcopy(thing, memo)


def tensors_of(thing: object, met: set[int]) -> Iterator[Tensor]:
    """Every tensor below an object."""
    if id(thing) in met:
        return
    met.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, list | tuple | set | dict):
        for item in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors_of(item, met)
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        yield from tensors_of(vars(thing), met)


def pictures(mode: FakeTensorMode, *shape: int) -> Tensor:
    """A user's pictures: on the CPU."""
    return mode.from_tensor(torch.rand(shape))
