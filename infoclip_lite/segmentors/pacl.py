"""PACL (2212.04994): patches that captions alone have aligned with words, on a CLIP that stays as it is.

    picture -> frozen tower -> ln_post -> embedder (trained) -> patches
    caption -> frozen text tower --------------------------> words

The embedder is a linear map and, beside it, a layer with one hidden one [P]. It learns from captions (a
recipe's `supervision: {name: captions}`): for every picture and every sentence of a batch the patches are
pooled by how well they fit that sentence [P]. Its tokens are those behind ln_post [N: a re-implementation];
that the pooling takes the embeddings as long as they are, and the temperature CLIP's own, is our reading [I].
At test the paper shifts patches by 4 pixels for finer tokens [P]; that is left out, an evaluation's windows
do it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from .base import Encoded, Segmentor, check_text, scaled_cosines


class PACL(Segmentor):
    """Cosines of words with what an embedder makes of a frozen CLIP's patches.

    Args:
        clip: the model; it stays frozen.
        templates: the prompt that class names are put in.
        hidden: width of the embedder's hidden layer; None is the joint space's, as in the paper.

    Raises:
        ValueError: a hidden width below 1.
    """

    tunable = False  # both towers stay frozen [P]

    def __init__(
        self,
        clip: DenseCLIP,
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if hidden is not None and hidden < 1:
            raise ValueError(f"hidden is {hidden}; expected 1 or more, or None for the joint space's width")
        width, joint = clip.width, clip.embed_dim
        hidden = joint if hidden is None else hidden
        self.clip, self.templates, self.read_outs = clip, tuple(templates), ("vanilla",)
        self.straight = nn.Linear(width, joint)
        self.bent = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, joint))

    def encode(self, images: Tensor) -> Encoded:
        """Embeddings of patches.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            (B, D, h, w), not of unit length, as `dense`.
        """
        with torch.no_grad():
            tower = self.clip.tower(images)
            tokens = self.clip.visual.ln_post(tower.leaving[:, 1:])
        patches = self.straight(tokens) + self.bent(tokens)
        return Encoded(patches.float().mT.unflatten(2, tower.grid))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Cosines times CLIP's logit scale.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.

        Raises:
            ValueError: text of another width than CLIP's.
        """
        check_text(self.clip, text)
        return scaled_cosines(self.clip, F.normalize(encoded.dense, dim=1), text)


def text_pooled_cosines(patches: Tensor, text: Tensor, sharpness: float = 1.0) -> Tensor:
    """How well every picture fits every sentence, its patches pooled by how well they fit that sentence.

    s = cos(e_i, t); a = softmax over patches of s; v = sum a_i e_i; phi = cos(v, t) [P, equations 2 and 3].

    Args:
        patches: (B, N, D) embeddings, of any length.
        text: (n, D) unit vectors.
        sharpness: what s is multiplied with before the softmax; 1 as written [P].

    Returns:
        (B, n), of all pairs.
    """
    dots = torch.einsum("bid,jd->bij", patches, text)
    weights = (sharpness * dots / patches.norm(dim=-1, keepdim=True).clamp(min=1e-6)).softmax(1)
    # v itself would be (B, n, D): |v|^2 = a^T (e e^T) a has only (B, N, n) numbers on the way.
    gram = patches @ patches.mT
    square = (weights * (gram @ weights)).sum(1)
    return (weights * dots).sum(1) / square.clamp(min=1e-12).sqrt()
