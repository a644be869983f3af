"""Who says what a point is: an encoder whose classifier is CLIP's words, and CLIP itself, projected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...clip import DenseCLIP
from .alignment import fill_unseen, lift
from .encoder import PointEncoder


class PointSegmentor(nn.Module):
    """A point encoder and a classifier of cosines with words; at inference neither pictures nor CLIP's image
    tower.

    Args:
        encoder: what learns.
        scale: what cosines are multiplied by: CLIP's logit scale, frozen.
    """

    def __init__(self, encoder: PointEncoder, scale: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.scale: Tensor
        self.register_buffer("scale", scale.detach().clone().float())

    def classify(self, features: Tensor, text: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D) and words (C, D), both unit vectors."""
        return self.scale * features @ text.T

    def forward(self, points: Tensor, colours: Tensor, text: Tensor) -> Tensor:
        """What each point of a cloud is.

        Args:
            points: (N, 3) metres, y up.
            colours: (N, 3) floats in [0, 1].
            text: (C, D) embeddings of the words, unit vectors.

        Returns:
            Logits (N, C).

        Raises:
            ValueError: no cloud; see `PointEncoder`.
        """
        device = self.scale.device  # whoever computes brings the cloud along
        return self.classify(self.encoder(points.to(device), colours.to(device)), text.to(device))


class ProjectedCLIP:
    """Frozen CLIP on points, which learns nothing: each point asks the pixels that it falls on.

    Args:
        clip: the model.
        read_outs: whose dense embeddings are averaged; None takes the model's own.
    """

    def __init__(self, clip: DenseCLIP, read_outs: Sequence[str] | None = None) -> None:
        self.clip = clip
        self.read_outs = clip.read_outs if read_outs is None else tuple(read_outs)

    @torch.no_grad()
    def look(self, views: Tensor, pixels: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the pictures of a scene say.

        Args:
            views: (V, 3, H, W) floats in [0, 1].
            pixels: (V, N, 2) x and y of each point in each view.
            visible: (V, N) booleans.

        Returns:
            Features (N, D) of the points and whether a camera sees them (N,), as `lift`; and the CLS
            embedding of each view (V, D).
        """
        image, dense = self.clip.encode_both(views, self.read_outs)
        height, width = views.shape[2:]
        features, seen = lift(dense, pixels.to(dense), visible.to(dense.device), (height, width))
        return features, seen, image

    @torch.no_grad()
    def __call__(
        self, points: Tensor, views: Tensor, pixels: Tensor, visible: Tensor, text: Tensor
    ) -> Tensor:
        """Cosines (N, C) of each point with words (C, D).

        A point that no camera sees has those of the nearest one that a camera does.

        Raises:
            ValueError: no camera sees any point.
        """
        features, seen, _ = self.look(views, pixels, visible)
        return fill_unseen(features, seen, points.to(features)) @ text.T
