"""How many processes train together, and means over them. One process, the usual case, needs nothing of this."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from accelerate import PartialState
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


def default_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU.

    Raises:
        ValueError: more processes on this machine than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise ValueError(
            f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}; "
            f"expected at most that many, as in `torchrun --nproc-per-node {torch.cuda.device_count()}`"
        )
    return torch.device("cuda", local)


def join_processes() -> None:
    """Where `torchrun` or `accelerate launch` started several processes, let them know of each other (gloo on a CPU, NCCL on GPUs)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        PartialState(cpu=not torch.cuda.is_available())
