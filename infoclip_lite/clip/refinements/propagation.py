"""PEARL's text-aware Laplacian propagation (2603.21528): sure pixels tell neighbours of their colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Scores, check_counts

# Of red, green and blue [S]; in the code of the normalised picture, whose colours are divided by 68.5, 66.6
# and 70.3. That is nearly a common factor, which does not matter, and is left out here [O].
_GREY = (0.299, 0.587, 0.114)
_TINY = 1e-6  # in quotients [S]
_LEAST_SURE = 0.05  # no pixel counts for less [S]


@dataclass(frozen=True)
class Propagation:
    """The maps F that solve (C + L) F = C Y on a small grid, for all words at once.

    Y are the cosines, p their softmax. C is diagonal: max(p)^2 (1 + agreement), how far a pixel is believed.
    L is the Laplacian of the grid, whose edges weigh exp(-5 g / mean g) (1 + agreement of the two pixels), at
    most 1, with g the step in brightness. Agreement of p and r is p^T diag(S) r, with S the softmax of the
    words' cosines, and ten times one on its diagonal [S].

    The paper has p^T S r, in which like words help each other; in the code a repeated index of an `einsum`
    leaves S's diagonal alone, and published numbers are the code's. `pairs` takes the paper's.

    Attributes:
        name: of the refinement, for reports.
        grid: about how many places a side are solved for; 80 [S].
        iterations: steps of conjugate gradients; 25 [S].
        pairs: whether words help each other.

    Raises:
        ValueError: a grid or iterations below 1.
    """

    name: str = field(default="propagation", init=False)
    grid: int = 80
    iterations: int = 25
    pairs: bool = False

    def __post_init__(self) -> None:
        check_counts(grid=self.grid, iterations=self.iterations)

    def refined(
        self, picture: Tensor, scores: Scores, parts: Sequence[slice], text: Tensor, scale: float
    ) -> Scores:
        """Scores that follow the picture.

        Args:
            picture: (B, 3, H, W) floats in [0, 1].
            scores: (B, c, H, W) of some words.
            parts: slices that together name all words: the solution needs all, at the small size.
            text: (C, D) unit vectors of the words.
            scale: what makes cosines of the scores. Their softmax is taken as they are, without CLIP's
                scale, and so is rather flat [S].

        Returns:
            As `scores`, refined.
        """
        size = (picture.shape[-2], picture.shape[-1])
        step = tuple(max(1, round(side / self.grid)) for side in size)
        # What does not fill a last step is left out, as in the code [S].
        small = torch.cat([F.avg_pool2d(scores(part).float(), step) for part in parts], 1) * scale
        # One picture after the other, whose maps then stay in a processor's cache.
        each = zip(F.avg_pool2d(picture.float(), step).split(1), small.split(1), strict=True)
        solved = torch.cat([self.solved(one, cosines, text) for one, cosines in each]) / scale
        return lambda words: _enlarged(solved[:, words], size)

    def solved(self, picture: Tensor, cosines: Tensor, text: Tensor) -> Tensor:
        """The solution on the small grid.

        Args:
            picture: (B, 3, h, w) in [0, 1].
            cosines: (B, C, h, w).
            text: (C, D) unit vectors.

        Returns:
            (B, C, h, w) float32.
        """
        share = cosines.softmax(1)
        near = self._agreed_with(share, kinship(text))
        believed = share.amax(1, keepdim=True).clamp(min=_LEAST_SURE).square()
        believed = believed * (1 + _product(share, near))
        system = _system(believed, *_edges(picture, share, near))
        return _conjugate_gradients(system, believed * cosines, cosines, self.iterations)

    def _agreed_with(self, share: Tensor, kin: Tensor) -> Tensor:
        """What a pixel's share of each word says for the words, (B, C, h, w) twice."""
        if self.pairs:
            return torch.einsum("cd,bdhw->bchw", kin, share)
        return kin.diagonal()[:, None, None] * share


def kinship(text: Tensor) -> Tensor:
    """How much words speak for each other: softmax of cosines over 0.5, ten added to a word's own [S].

    Args:
        text: (C, D) vectors of words; (C, T, D) are averaged over T templates.

    Returns:
        (C, C) float32, rows sum to one.
    """
    if text.ndim == 3:
        text = text.mean(1)
    unit = F.normalize(text.float(), dim=-1)
    own = 10 * torch.eye(len(unit), device=unit.device)
    kin = (unit @ unit.T / 0.5).softmax(1) + own
    return kin / kin.sum(1, keepdim=True)


def _edges(picture: Tensor, share: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Weights between neighbours in a row (B, 1, h, w - 1), and in a column (B, 1, h - 1, w)."""
    grey = torch.stack([part * picture[:, i] for i, part in enumerate(_GREY)]).sum(0)[:, None]
    in_rows = _weights((grey[..., 1:] - grey[..., :-1]).abs(), _product(share[..., 1:], near[..., :-1]))
    in_columns = _weights(
        (grey[..., 1:, :] - grey[..., :-1, :]).abs(), _product(share[..., 1:, :], near[..., :-1, :])
    )
    return in_rows, in_columns


def _weights(step: Tensor, agreement: Tensor) -> Tensor:
    # Against the mean step of the picture, so that a dull one has edges too.
    step = step / (step.mean((1, 2, 3), keepdim=True) + _TINY)
    return ((-5 * step).exp() * (1 + agreement)).clamp(max=1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of two pixels' words: (B, C, h, w) twice to (B, 1, h, w)."""
    return (a * b).sum(1, keepdim=True)


def _system(believed: Tensor, in_rows: Tensor, in_columns: Tensor) -> Callable[[Tensor], Tensor]:
    """Maps (B, C, h, w) times C + L."""

    def apply(maps: Tensor) -> Tensor:
        total = believed * maps
        # What flows from a place to the next: its end gains what its beginning loses.
        across = in_rows * (maps[..., 1:] - maps[..., :-1])
        total[..., 1:] += across
        total[..., :-1] -= across
        down = in_columns * (maps[..., 1:, :] - maps[..., :-1, :])
        total[..., 1:, :] += down
        total[..., :-1, :] -= down
        return total

    return apply


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor], wanted: Tensor, start: Tensor, iterations: int
) -> Tensor:
    """The x of apply(x) = wanted, nearly; one step width for all words of a picture [S]."""
    found = start
    rest = wanted - apply(found)
    direction, length = rest, _squared(rest)
    for _ in range(iterations):
        image = apply(direction)
        width = length / (_product_of_all(direction, image) + 1e-12)
        found = found + width * direction
        rest = rest - width * image
        length, before = _squared(rest), length
        direction = rest + length / (before + 1e-12) * direction
    return found


def _product_of_all(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)


def _squared(x: Tensor) -> Tensor:
    return _product_of_all(x, x)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
