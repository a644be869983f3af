"""Time and memory of what runs on a CPU or a GPU."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def take_turns(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    in_a_row: int = 1,
    device: torch.device | None = None,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each function, all in turns in one run, so that a machine's moods meet all alike.

    Args:
        functions: what is timed, by label; called without arguments.
        rounds: turns of each function that count.
        warmup: rounds before those, which do not count: caches fill, kernels are compiled.
        in_a_row: timed calls in one turn. With more than one, a call that does not count comes first, so
            that caches hold the function's own data and not those of the one before.
        device: what they compute on; its queue is waited for before every reading of the clock. None waits
            for every GPU that this process uses.
        clock: seconds; None is the wall's. `one_thread` gives the processor's own, which stands still while
            others compute.

    Returns:
        label -> rounds * in_a_row seconds, in the order of measuring; the same place of two labels is of
        the same round.

    Raises:
        ValueError: nothing to time, or no round.
    """
    if not functions or rounds < 1 or in_a_row < 1:
        got = f"{len(functions)} functions, {rounds} rounds, {in_a_row} calls"
        raise ValueError(f"got {got}; expected at least one of each")
    seconds: dict[str, list[float]] = {label: [] for label in functions}
    for turn in range(-warmup, rounds):
        # Back and forth: whoever goes first in a round meets what the end of the last one left in caches
        # and clocks.
        order = list(functions) if turn % 2 == 0 else list(functions)[::-1]
        for label in order:
            if in_a_row > 1:
                functions[label]()
            taken = [seconds_of(functions[label], device, clock) for _ in range(in_a_row)]
            if turn >= 0:
                seconds[label] += taken
    return seconds


def seconds_of(
    function: Callable[[], object],
    device: torch.device | None = None,
    clock: Callable[[], float] | None = None,
) -> float:
    """Seconds of one call, the work that it queues on a GPU included.

    Args:
        function: what is timed.
        device: what it computes on; see `take_turns`.
        clock: likewise.
    """
    read = clock or time.perf_counter
    synchronise(device)
    started = read()
    function()
    synchronise(device)
    return read() - started


@contextmanager
def one_thread(device: torch.device) -> Iterator[Callable[[], float]]:
    """One thread on a CPU as long as the block lasts, and the clock that suits it.

    Args:
        device: what is computed on; a GPU has the wall's clock and leaves threads alone.

    Returns:
        On a CPU the seconds that this process computed: a machine that does other things beside does not
        stretch them.
    """
    if device.type != "cpu":
        yield time.perf_counter
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield time.process_time
    finally:
        torch.set_num_threads(before)


def synchronise(device: torch.device | None = None) -> None:
    """Wait until a GPU has done what it was told; a CPU has when the call returns.

    Args:
        device: the one to wait for; None is every GPU that this process has used, and costs nothing without
            one.
    """
    if device is None:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)
    elif device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each label of `take_turns`.

    A pause of the machine moves a mean, and the best of many turns is luck.

    >>> medians({"a": [3.0, 1.0, 2.0]})
    {'a': 2.0}
    """
    return {label: median(values) for label, values in seconds.items()}


def ratios(seconds: Mapping[str, Sequence[float]], reference: str) -> dict[str, list[float]]:
    """Time of each label by that of the reference in the same turn: what slows a whole round down cancels.

    Args:
        seconds: of `take_turns`.
        reference: the label to divide by.

    >>> ratios({"a": [2.0, 4.0], "b": [1.0, 1.0]}, "b")
    {'a': [2.0, 4.0], 'b': [1.0, 1.0]}
    """

    def by_round(own: Sequence[float]) -> list[float]:
        return [ours / other for ours, other in zip(own, seconds[reference], strict=True)]

    return {label: by_round(values) for label, values in seconds.items()}


def kept_for_gradient(loss: Callable[[], Tensor], module: nn.Module, *, forget: bool = False) -> int:
    """Bytes that autograd keeps between a forward and its backward pass: each storage once, no weights.

    Args:
        loss: gives a scalar; both passes are done.
        module: whose weights are left out of the count.
        forget: count and do not keep, where there is no memory for it: the backward pass meets zeros of the
            same sizes, and its gradients mean nothing.
    """
    owned = {StorageWeakRef(p.untyped_storage()) for p in module.parameters()}
    # A weak reference frees a storage's bytes and keeps its address from being given to another.
    kept: dict[StorageWeakRef, int] = {}

    def pack(tensor: Tensor) -> Tensor | tuple[Any, ...]:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference not in owned:
            kept[reference] = storage.nbytes()
        if reference in owned or not forget:
            return tensor
        return tensor.size(), tensor.stride(), tensor.dtype, tensor.device

    def unpack(packed: Tensor | tuple[Any, ...]) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        size, stride, dtype, device = packed
        # As long as the strides reach: those of an expanded tensor are 0, and it is shorter than its size.
        length = max(1, 1 + sum((side - 1) * step for side, step in zip(size, stride, strict=True)))
        return torch.zeros(length, dtype=dtype, device=device).as_strided(size, stride)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        total = loss()
    total.backward()
    return sum(kept.values())


class _Alive(TorchDispatchMode):
    """Counts the bytes of what operations made and nobody has dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.met: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {
            tensor.untyped_storage() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)
        }
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            # A view, or what was written in place, is not new.
            if storage not in given and storage not in self.met:
                self.met.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._dropped, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _dropped(self, size: int) -> None:
        self.now -= size


def alive_at_most(function: Callable[[], object]) -> int:
    """The most bytes of tensors that a call has at once, beside what was there before; the same everywhere.

    What an operation needs inside is not counted: `peak_memory` has that, on a GPU.

    Args:
        function: called once, without arguments.
    """
    with _Alive() as alive:
        function()
    return alive.most


def peak_memory() -> int:
    """The most bytes so far: allocated on the GPU, or without one taken by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        # Linux, of this program alone: getrusage begins with the peak of the one that started it.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows has no such module; psutil comes with accelerate
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    # Linux, if it got here, counts in kilobytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def all_memory() -> int:
    """Bytes of the GPU, or without one of this machine; 0 where nobody says it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, other systems other names
        return 0
