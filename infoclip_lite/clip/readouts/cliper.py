"""CLIPer's early-layer fusion (2411.13836): where to look is asked of the earlier blocks, not of the last."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blocks import project_out, project_qkv
from ..tower import TowerPass


def cliper(tower: TowerPass) -> Tensor:
    """mean_i(A v(F_i)), no residual, no feed-forward layer (B, N, W) [C].

    A (B, heads, 1 + N, 1 + N) is the sum of the earlier blocks' attention, head by head, cleaned. v are the
    values that the last block makes of F_i (B, 1 + N, W): what each earlier block's attention is given,
    behind that block's own norm, and the tokens that enter the last block. The early ones so pass two norms,
    as in CLIPer's code [C].

    CLIPer compares every A v(F_i) with the words and adds their maps to one that is cut at a threshold; here
    the embeddings are averaged, before ln_post [O]. Its fine-grained compensation is not part of it. A tower
    of a single block has none before it and takes that block's own attention [O].
    """
    attention = tower.attention(0)
    for index in range(1, len(tower.blocks) - 1):
        attention = attention + tower.attention(index)
    *early, entering = tower.states
    inputs = [block.ln_1(tokens) for block, tokens in zip(tower.blocks[:-1], early, strict=True)]
    values = [project_qkv(tower.last, tokens)[2] for tokens in (*inputs, entering)]
    # A and the way out are linear and the same for all, so the mean may be taken of the values.
    return project_out(tower.last, clean(attention) @ torch.stack(values).mean(0))[:, 1:]


def clean(attention: Tensor) -> Tensor:
    """Weights (..., n, n) without what every token looks at; rows sum to one [C].

    CLIPer's code divides in place, and so again at each block; here it is done once [O]. A token that looks
    at nothing more than the others do looks at itself [O].
    """
    balanced = attention / attention.sum(-2, keepdim=True)
    balanced = balanced / balanced.sum(-1, keepdim=True)
    mutual = (balanced + balanced.mT) / 2
    kept = (mutual - mutual.mean(-2, keepdim=True)).clamp(min=0)
    itself = torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)
    kept = torch.where(kept.sum(-1, keepdim=True) > 0, kept, itself)
    return kept / kept.sum(-1, keepdim=True)
