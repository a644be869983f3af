"""CLIPer's early-layer fusion (2411.13836): where to look is asked of the earlier blocks, not of the last.

Its other half, fine-grained compensation, sharpens maps with the self-attention of Stable Diffusion, a second
and much larger network: it is not part of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks import project_out, project_qkv
from ..tower import TowerPass


def cliper(tower: TowerPass) -> Tensor:
    """mean_i(A v(F_i)), no residual, no feed-forward layer (B, N, W) [S].

    A (B, heads, 1 + N, 1 + N) is the sum of the earlier blocks' attention, head by head, cleaned. v are the
    values that the last block makes of F_i (B, 1 + N, W): what each earlier block's attention is given,
    behind that block's own norm, and the tokens that enter the last block. The early ones so pass two norms,
    as in CLIPer's code [S].

    CLIPer compares every A v(F_i) with the words; `cliper_logits` does so, where words are known. Embeddings
    of patches, which a pass without words can have alone, are averaged here, before ln_post [O]. A tower of a
    single block has none before it and takes that block's own attention [O].

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    attention = clean(fused_attention(tower))
    # A and the way out are linear and the same for all, so the mean may be taken of the values.
    values = torch.stack(layer_values(tower)).mean(0)
    return project_out(tower.last, attention @ values)[:, 1:]


def cliper_logits(tower: TowerPass, scale: float | Tensor, *, threshold: float = 0.2) -> Tensor:
    """CLIPer's maps of the words: mean_i(S_i) + A^T S_last [S].

    S_i (B, N, C) is what A v(F_i) says: the softmax of its scaled cosines with all words and one more, their
    mean, which takes what is like all of them and is left out after it. In S_last, that of the tokens which
    enter the last block, what is less than `threshold` of a word's largest is zero.

    In the authors' code the mean is that of the words of a foreground, beside words of a background; here all
    words are alike [I]. What comes out is a fraction and no cosine, so it is multiplied with `scale` too, and
    maps of several read-outs may be averaged [O].

    Args:
        tower: a pass that knows words.
        scale: what cosines are multiplied with. The authors take 100 with ViT-B/16, which is that CLIP's own,
            and 50 for COCO-Stuff [S].
        threshold: 0.2, and 0.1 for VOC [S].

    Returns:
        (B, N, C) logits.

    Raises:
        ValueError: a pass without words.
    """
    attention, maps = fused_attention(tower), []
    told = tower.told(with_their_mean(tower.known_words()))
    for values in layer_values(tower):
        # In the code the divisions stay in place, so that each layer's attention is divided once more [S].
        attention = balanced(attention)
        standing = mutual(attention)
        tokens = project_out(tower.last, standing @ values)[:, 1:]
        maps.append((scale * told.cosines(tokens)).softmax(-1)[..., :-1])
    last = maps[-1]
    last = last.masked_fill(last < threshold * last.amax(1, keepdim=True), 0)
    # To each patch from all that look at it, and not from those that it looks at [S].
    spread = standing.mean(1)[:, 1:, 1:].mT.to(last.dtype) @ last
    return scale * (spread + torch.stack(maps).mean(0))


def with_their_mean(words: Tensor) -> Tensor:
    """Words (C, D), and behind them their mean, of unit length: (C + 1, D)."""
    return torch.cat([words, F.normalize(words.mean(0, keepdim=True), dim=-1)])


def fused_attention(tower: TowerPass) -> Tensor:
    """The sum of the attention of all blocks but the last (B, heads, 1 + N, 1 + N) [S]."""
    attention = tower.attention(0)
    for index in range(1, len(tower.blocks) - 1):
        attention = attention + tower.attention(index)
    return attention


def layer_values(tower: TowerPass) -> list[Tensor]:
    """What the last block makes of every block's input, the last one's own at the end [S].

    Returns:
        As many as blocks, (B, heads, 1 + N, W / heads) each.
    """
    *early, entering = tower.states
    inputs = [block.ln_1(tokens) for block, tokens in zip(tower.blocks[:-1], early, strict=True)]
    return [project_qkv(tower.last, tokens)[2] for tokens in (*inputs, entering)]


def clean(attention: Tensor) -> Tensor:
    """Weights (..., n, n) without what every token looks at; rows sum to one [S].

    CLIPer's code divides in place, and so again at each layer; here it is done once [O].
    """
    return mutual(balanced(attention))


def balanced(attention: Tensor) -> Tensor:
    """Columns, and then rows, divided by their sums (..., n, n) [S]."""
    attention = attention / attention.sum(-2, keepdim=True)
    return attention / attention.sum(-1, keepdim=True)


def mutual(attention: Tensor) -> Tensor:
    """What two tokens look at each other more than others do (..., n, n), rows sum to one [S].

    A token that looks at nothing more than the others do looks at itself [O].
    """
    both = (attention + attention.mT) / 2
    kept = (both - both.mean(-2, keepdim=True)).clamp(min=0)
    itself = torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)
    kept = torch.where(kept.sum(-1, keepdim=True) > 0, kept, itself)
    return kept / kept.sum(-1, keepdim=True)
