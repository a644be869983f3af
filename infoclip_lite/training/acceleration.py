"""What makes a training fit and run faster: number formats, compiled blocks, recomputed activations, channels
last.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..clip.blocks import attention_kernel
from ..segmentors import Segmentor

_P = ParamSpec("_P")
_R = TypeVar("_R")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(name: str) -> torch.dtype:
    """What a recipe's `dtype` stands for on this machine; "auto" is bfloat16 where the hardware multiplies
    it, and float16 (whose loss is scaled) on older GPUs.
    """
    if name != "auto":
        return DTYPES[name]
    if native_bfloat16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.is_available() else torch.float32


def native_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: a GPU from Ampere on, or a CPU with AMX or
    AVX-512 BF16.
    """
    if torch.cuda.is_available():
        # Older ones, such as the T4 of free notebooks, emulate it, and are slower than in float32.
        return torch.cuda.get_device_capability() >= (8, 0)
    # Neither is a public name: some versions lack one. Who cannot be asked is taken to have said no.
    asked = (
        getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None),
        getattr(torch.cpu, "_is_avx512_bf16_supported", None),
    )
    return all(each is not None and each() for each in asked)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Multiply in `dtype` within this context; float32 leaves everything as it is."""
    return torch.autocast(
        device.type, torch.bfloat16 if dtype == torch.float32 else dtype, enabled=dtype != torch.float32
    )


def accelerate(
    segmentor: Segmentor, *, compile: bool = False, checkpointing: bool = False, channels_last: bool = False
) -> None:
    """Change how a segmentor computes, in place; what it computes stays the same up to rounding.

    Args:
        segmentor: its `stages()` are the modules of the head that are worth it.
        compile: let torch.compile fuse the blocks of both towers and the stages of the head. The first step
            takes a minute longer.
        checkpointing: keep only what enters a block or stage, and compute its inside again for the gradient
            (1604.06174): a forward pass more for much less memory.
        channels_last: store the weights of convolutions with channels last, which tensor cores want.

    Raises:
        ValueError: checkpointing with a body that counts batch statistics: it would count every picture
            twice.
    """
    if checkpointing and any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in segmentor.modules()
    ):
        raise ValueError(
            "got checkpointing with a segmentor that has batch normalisation, "
            "which would count every picture twice; expected false: to save memory raise `accumulate`"
        )
    if channels_last:
        segmentor.to(memory_format=torch.channels_last)
    if not (compile or checkpointing):
        return
    clip = segmentor.clip

    def changed(function: Callable[_P, _R]) -> Callable[_P, _R]:
        function = torch.compile(function) if compile else function
        return _recomputed(function, clip.device) if checkpointing else function

    clip.block = changed(clip.block)
    for module in (*clip.text_blocks, *segmentor.stages()):
        module.forward = changed(module.forward)


def _recomputed(function: Callable[_P, _R], device: torch.device) -> Callable[_P, _R]:
    """The function, whose insides are computed again in the backward pass rather than kept."""

    def again() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), attention_kernel(device)

    @wraps(function)
    def run(*args: _P.args, **options: _P.kwargs) -> _R:
        if not torch.is_grad_enabled():
            return function(*args, **options)
        inside = partial(function, **options)
        return checkpoint(inside, *args, use_reentrant=False, context_fn=again)

    return run
