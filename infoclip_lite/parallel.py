"""How many processes train together, and means over them. One process, the usual case, needs nothing of this."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Number of processes that were launched together (`accelerate launch`, `torchrun`)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, 0 .. world() - 1."""
    return dist.get_rank() if world() > 1 else 0


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes; the tensor itself where there is one. No gradient flows through it."""
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def any_process(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether the flag is up in at least one process."""
    return mean_over_processes(torch.tensor(float(flag), device=device)).item() > 0
