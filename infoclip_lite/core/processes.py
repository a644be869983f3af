"""How many processes train together, and means over them. One process, the usual case, needs none of this."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Number of processes that were launched together (`accelerate launch`, `torchrun`)."""
    # A torch built without distributed support (some macOS builds) has the module, but not its functions.
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, 0 .. world() - 1."""
    return dist.get_rank() if world() > 1 else 0


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, without gradient; the tensor itself where there is only one.

    Args:
        value: of any shape, the same in every process.
    """
    if world() == 1:
        return value
    # A copy: all_reduce writes into what it is given, and the caller's tensor may be a weight.
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world()


def any_process(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Whether the flag is up in at least one process.

    Args:
        flag: of this process.
        device: where the processes meet; NCCL needs this process's GPU.
    """
    return mean_over_processes(torch.tensor(float(flag), device=device)).item() > 0


def default_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU.

    Raises:
        ValueError: more processes on this machine than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # LOCAL_RANK counts the processes of one machine; the rank counts those of all machines.
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise ValueError(
            f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}; "
            f"expected at most that many, as in `torchrun --nproc-per-node {torch.cuda.device_count()}`"
        )
    return torch.device("cuda", local)


def join_processes() -> None:
    """Let the processes that `torchrun` or `accelerate launch` started know of each other.

    They talk through gloo on a CPU, NCCL on GPUs. Does nothing in a process that was started alone, nor when
    called again.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    # Here, not above: one process alone never needs accelerate, which takes half a second to load.
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
