"""Queries that look at a picture, and each draw one mask of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MaskDecoder(nn.Module):
    """A transformer decoder whose queries look at pixel features; a mask is where pixels are like a query.

    In the manner of DETR and MaskFormer (2107.06278): a query's content begins at zero, its learnt place is
    added to queries and keys, norms come after the residuals. Nothing is left out at random (no dropout):
    a training that was stopped and goes on gives the same numbers [O].

    Args:
        channels: of the features.
        width: W of queries and mask features.
        queries: Q.
        layers: L.
        heads: of the attentions.
        pool: queries look at means over squares of this many features a side; masks are as fine as the
            features. MaskFormer looks at its backbone's coarsest map [S]; a mean is our reading [O].

    Raises:
        ValueError: a number below 1, or heads that do not divide the width.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 256,
        queries: int = 100,
        layers: int = 6,
        heads: int = 8,
        pool: int = 1,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "queries": queries, "layers": layers, "heads": heads, "pool": pool}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; expected 1 or more")
        if width % heads or width % 4:
            raise ValueError(f"width is {width}; expected a multiple of heads={heads} and of 4")
        self.width, self.queries = width, queries
        self.pool = nn.AvgPool2d(pool, ceil_mode=True)
        self.memory = nn.Conv2d(channels, width, 1)
        self.pixels = nn.Conv2d(channels, width, 1)
        self.places = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(QueryLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.pen = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What queries become, and what masks are read from.

        Args:
            features: (B, channels, h, w).

        Returns:
            Queries (L, B, Q, W) after each layer, the last of which is the answer and the others are for
            deep supervision; mask features (B, W, h, w).
        """
        seen = self.memory(self.pool(features))  # (B, W, h', w')
        places = sine_positions(seen.shape[2], seen.shape[3], self.width, seen.device).to(seen.dtype)
        memory = seen.flatten(2).mT  # (B, N, W)
        content = torch.zeros_like(self.places).expand(len(features), -1, -1)
        answers = []
        for layer in self.layers:
            content = layer(content, self.places, memory, places)
            answers.append(self.norm(content))
        return torch.stack(answers), self.pixels(features)

    def draw(self, queries: Tensor, pixels: Tensor) -> Tensor:
        """Mask logits: inner products of each query's pen with each pixel.

        Args:
            queries: (B, Q, W), one layer's of `forward`.
            pixels: (B, W, h, w).

        Returns:
            (B, Q, h, w) float32; a sigmoid of each says whether the pixel is in the mask.

        Raises:
            MemoryError: Q masks do not fit; says what to change.
        """
        return masks_of(self.pen(queries), pixels)


def masks_of(pens: Tensor, pixels: Tensor) -> Tensor:
    """(B, Q, W) and (B, W, h, w) to inner products (B, Q, h, w) float32.

    Raises:
        MemoryError: they do not fit.
    """
    try:
        return torch.einsum("bqd,bdhw->bqhw", pens, pixels).float()
    except RuntimeError as error:
        # A GPU's OutOfMemoryError is a RuntimeError as well; a CPU's allocator has no class of its own.
        if not isinstance(error, torch.OutOfMemoryError) and "alloc" not in str(error):
            raise
        size = f"{len(pixels)} pictures of {pixels.shape[2]} x {pixels.shape[3]} features"
        raise MemoryError(
            f"{pens.shape[1]} queries have a mask each in {size}, more than there is memory for; "
            "expected fewer `queries`, a smaller batch or smaller pictures"
        ) from error


class QueryLayer(nn.Module):
    """Queries look at each other, then at the picture, then a feed-forward layer.

    Args:
        width: W.
        heads: of both attentions.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.among = nn.MultiheadAttention(width, heads, batch_first=True)
        self.across = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, content: Tensor, places: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        """One round.

        Args:
            content: (B, Q, W).
            places: (Q, W), added to queries, and to keys among them.
            memory: (B, N, W).
            positions: (N, W), added to its keys.

        Returns:
            Like content.
        """
        placed = content + places
        content = self.norms[0](content + self.among(placed, placed, content, need_weights=False)[0])
        found = self.across(content + places, memory + positions, memory, need_weights=False)[0]
        content = self.norms[1](content + found)
        return self.norms[2](content + self.mlp(content))


def sine_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Where each place of a grid is, as sines and cosines of its row and column (DETR, 2005.12872).

    Args:
        height, width: of the grid.
        channels: a multiple of 4: half say the row, half the column.
        device: where the numbers are wanted.

    Returns:
        (height width, channels) float32, row by row.
    """
    quarter = channels // 4
    rate = torch.exp(-math.log(10_000) * torch.arange(quarter, device=device) / quarter)
    axes = []
    for length in (height, width):
        # From 0 to a full turn, whatever the size of the grid.
        place = (torch.arange(length, device=device) + 1) / length * 2 * math.pi
        angle = place[:, None] * rate
        axes.append(torch.cat([angle.sin(), angle.cos()], 1))  # (length, channels / 2)
    rows, columns = axes
    both = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(both, -1).flatten(0, 1)
