"""Which models of open_clip, of whichever version, are computed here as they compute themselves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

# What a residual block is made of, in every version from 2.29 to the one after 3.3.
_PARTS = ("ln_1", "attn", "ls_1", "ln_2", "mlp", "ls_2")


def unfit(model: nn.Module) -> str | None:
    """What keeps the image tower of an open_clip model from being read patch by patch; None: nothing.

    Blocks are never called here, their weights are read (see `blocks`): whatever a block has beside those
    would be left out in silence, and is refused instead.

    Args:
        model: of open_clip, with an image tower `visual`.
    """
    visual = getattr(model, "visual", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    # A tower that pools by attention or by a mean never trained its CLS to say what the picture is.
    pooled = getattr(visual, "attn_pool", None) is None and getattr(visual, "pool_type", "tok") == "tok"
    if not blocks or not pooled or not hasattr(visual, "class_embedding"):
        return f"the image tower is {type(visual).__name__}"
    for number, block in enumerate(blocks):
        odd = _odd(block)
        if odd is not None:
            where = f"block {number} of {type(visual).__name__}, open_clip {_version()}"
            return f"{odd} ({where}), which is not computed here"
    return None


def _odd(block: Any) -> str | None:
    """What a block lacks, or has beside what CLIP's own have."""
    lacking = [part for part in _PARTS if not hasattr(block, part)]
    if lacking:
        return f"a block without {lacking[0]}"
    attention = block.attn
    weight, heads = getattr(attention, "in_proj_weight", None), getattr(attention, "num_heads", None)
    kind = type(attention).__name__
    if not isinstance(weight, Tensor) or not isinstance(heads, int):
        return f"attention {kind} without queries, keys and values in one in_proj_weight"
    width = weight.shape[1]
    if tuple(weight.shape) != (3 * width, width) or width % heads:
        return f"attention {kind} with an in_proj_weight {tuple(weight.shape)} and {heads} heads"
    if not hasattr(getattr(attention, "out_proj", None), "weight"):
        return f"attention {kind} without out_proj"
    return _beside(block)


def _beside(block: Any) -> str | None:
    """Norms and scales that open_clip's own variants of the block have."""
    attention = block.attn
    for name in ("logit_scale", "head_scale"):
        if getattr(attention, name, None) is not None:
            return f"attention with {name}"
    norms = {name: getattr(attention, name, None) for name in ("ln_q", "ln_k", "ln_inner")}
    for name, norm in {**norms, "ln_attn": getattr(block, "ln_attn", None)}.items():
        if norm is not None and not isinstance(norm, nn.Identity):
            return f"attention with {name}"
    return None


def _version() -> str:
    try:
        return version("open_clip_torch")
    except PackageNotFoundError:
        return "of an unknown version"
