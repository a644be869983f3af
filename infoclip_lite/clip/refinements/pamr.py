"""PAMR, pixel-adaptive mask refinement (2005.08104): maps follow the edges of their picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Scores, check_counts

# The eight neighbours of a pixel, as steps down and to the right.
_STEPS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))
_SHARPNESS = 0.1  # of the local deviation, that counts as one [S]
_TINY = 1e-8  # where a neighbourhood is of one colour [S]


@dataclass(frozen=True)
class Pamr:
    """A pixel's scores become a mean of its neighbours', those of its own colour first; some times over.

    Nothing of a pixel's own scores is kept in a step [S]. Each word is refined alone, so that a few of them
    can be computed at a time.

    Attributes:
        name: of the refinement, for reports.
        iterations: how often the mean is taken. 10 in PAMR's code and in the read-outs that use it [S].
        dilations: distances of the neighbours in pixels, eight at each. (8, 16) in NACLIP's and ResCLIP's
            code [S], about half a patch of ViT-B/16 and one; PAMR's own are (1, 2, 4, 8, 12, 24) [S].

    Raises:
        ValueError: no iterations or dilations, or one below 1.
    """

    name: str = field(default="pamr", init=False)
    iterations: int = 10
    dilations: tuple[int, ...] = (8, 16)

    def __post_init__(self) -> None:
        if not self.dilations:
            raise ValueError("got no dilations; expected distances in pixels, such as (8, 16)")
        check_counts(iterations=self.iterations, dilations=min(self.dilations))

    def refined(
        self, picture: Tensor, scores: Scores, parts: Sequence[slice], text: Tensor, scale: float
    ) -> Scores:
        """Scores that follow the picture.

        Args:
            picture: (B, 3, H, W) floats in [0, 1].
            scores: (B, c, H, W) of some words.
            parts: not used: no word needs another.
            text: not used.
            scale: not used: a mean is one at any scale.

        Returns:
            As `scores`, refined.
        """
        weights = affinity(picture, self.dilations)  # once for all words
        return lambda words: self.spread(scores(words), weights)

    def spread(self, maps: Tensor, weights: Tensor) -> Tensor:
        """The iterations themselves.

        Args:
            maps: (B, C, H, W), any number of channels.
            weights: (B, P, H, W) of `affinity`, with the same dilations.

        Returns:
            (B, C, H, W) float32.
        """
        # One picture after the other: its maps stay in a processor's cache, which is nine times faster here.
        each = zip(maps.float().split(1), weights.split(1), strict=True)
        return torch.cat([self._spread_one(one, of_one) for one, of_one in each])

    def _spread_one(self, maps: Tensor, weights: Tensor) -> Tensor:
        for _ in range(self.iterations):
            # One neighbour after the other: P copies of all maps at once would be gigabytes.
            total = torch.zeros_like(maps)
            for weight, moved in zip(weights.unbind(1), _neighbours(maps, self.dilations), strict=True):
                total.addcmul_(weight[:, None], moved)
            maps = total
        return maps


def affinity(picture: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much of each neighbour a pixel takes.

    softmax over the P neighbours n of the mean over the colours of -|x - x_n| / (0.1 s), where s is the
    deviation of that colour in the neighbourhood, the pixel itself counted once for each dilation [S].

    Args:
        picture: (B, 3, H, W); what a colour is multiplied with, or what is added to it, does not matter.
        dilations: distances of the neighbours in pixels.

    Returns:
        (B, P, H, W) float32 with P = 8 len(dilations), ones in sum.
    """
    picture = picture.float()
    around = [*_neighbours(picture, dilations), *[picture] * len(dilations)]
    mean = torch.stack(around).mean(0)
    # In two passes: squares first and means after would leave nothing of a small deviation.
    squares = torch.stack([(each - mean).square() for each in around]).sum(0)
    deviation = (squares / (len(around) - 1)).sqrt()
    unit = _TINY + _SHARPNESS * deviation
    closeness = [-((picture - each).abs() / unit).mean(1) for each in _neighbours(picture, dilations)]
    return torch.stack(closeness, 1).softmax(1)


def _neighbours(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """(B, C, H, W) moved so that each pixel holds a neighbour's value; the border's own beyond the border."""
    reach = max(dilations)
    height, width = x.shape[-2:]
    padded = F.pad(x, [reach] * 4, mode="replicate")
    for dilation in dilations:
        for down, right in _STEPS:
            top, left = reach + down * dilation, reach + right * dilation
            yield padded[..., top : top + height, left : left + width]
