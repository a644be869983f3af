"""A small PointNet++ in plain torch: one embedding in CLIP's joint space for each point of a cloud.

PointNet++ (1706.02413) groups neighbours round chosen centres, level by level, and brings what they say back
to every point. Two things are otherwise: centres are the means of the cells of a grid, as in KPConv
(1904.08889), in place of farthest points, which depend on which point comes first; and groups are nearest
neighbours in place of balls. So the order of the points changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.clouds import check_points

_NEIGHBOURS_BACK = 3  # whose features are mixed on the way back, as in PointNet++ [P: 3.4]


class PointEncoder(nn.Module):
    """Points in, unit vectors out. It takes one cloud at a time, of any number of points.

    Normalisation is by layer and not by batch: a cloud alone has the same features as one among others.

    Args:
        embed_dim: D, of the joint space.
        width: channels of the first level; each further level has half as many more.
        cells: metres of the grid's cells, finest first; one level each.
        neighbours: points of a group.

    Raises:
        ValueError: no cell, cells that do not grow, or numbers that are not above zero.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        width: int = 32,
        cells: Sequence[float] = (0.15, 0.4, 1.0),
        neighbours: int = 8,
    ) -> None:
        super().__init__()
        cells = tuple(cells)
        if not cells or cells[0] <= 0 or any(fine >= coarse for fine, coarse in pairwise(cells)):
            raise ValueError(f"got cells {cells}; expected metres above 0, growing from level to level")
        if width < 1 or neighbours < 1:
            raise ValueError(f"got width={width} and neighbours={neighbours}; expected at least 1 of each")
        self.cells, self.neighbours = cells, neighbours
        widths = [width + level * width // 2 for level in range(len(cells) + 1)]
        # Colour and height over the floor; where in the room a point lies says nothing of what it is.
        self.first = _layers(4, width, width)
        self.down = nn.ModuleList(_layers(3 + fine, coarse, coarse) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(_layers(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.last = nn.Linear(width, embed_dim)

    def forward(self, points: Tensor, colours: Tensor) -> Tensor:
        """Features of one cloud.

        Args:
            points: (N, 3) metres, y points up and the floor lies at 0; one point is enough.
            colours: (N, 3) floats in [0, 1].

        Returns:
            (N, D) unit vectors, in the order of the points.

        Raises:
            ValueError: no point, NaN among them, or colours of another number.
        """
        check_cloud(points, colours)
        features = self.first(torch.cat([colours - 0.5, points[:, 1:2]], 1))
        levels = [(points, features)]
        for cell, layer in zip(self.cells, self.down, strict=True):
            centres = grid_means(points, cell)
            features = self._grouped(layer, centres, points, features, cell)
            points = centres
            levels.append((points, features))
        for (finer, own), layer in zip(levels[-2::-1], reversed(self.up), strict=True):
            features = layer(torch.cat([own, interpolate(finer, points, features)], 1))
            points = finer
        return F.normalize(self.last(features), dim=-1)

    def _grouped(
        self, layer: nn.Module, centres: Tensor, points: Tensor, features: Tensor, cell: float
    ) -> Tensor:
        """Set abstraction: the largest of what each centre's neighbours say, (M, W)."""
        count = min(self.neighbours, len(points))
        nearest = torch.cdist(centres, points).topk(count, largest=False).indices  # (M, k)
        # In cells, so that every level sees numbers of one size.
        beside = (points[nearest] - centres[:, None]) / cell
        said = layer(torch.cat([beside, features[nearest]], -1))
        return said.max(1).values


def grid_means(points: Tensor, cell: float) -> Tensor:
    """The mean of the points in each cell of a grid that holds any.

    Args:
        points: (N, 3) metres.
        cell: metres of a cell's side.

    Returns:
        (M, 3), M at most N, in the order of the cells: whatever the order of the points.

    >>> grid_means(torch.tensor([[0.1, 0.0, 0.0], [0.3, 0.0, 0.0], [1.5, 0.0, 0.0]]), 1.0)[:, 0]
    tensor([0.2000, 1.5000])
    """
    cells = (points / cell).floor().long()
    cells = cells - cells.min(0).values
    _, height, depth = (cells.max(0).values + 1).tolist()
    # One number a cell: several times faster to sort than rows.
    number = (cells[:, 0] * height + cells[:, 1]) * depth + cells[:, 2]
    places, owner = torch.unique(number, return_inverse=True)
    total = points.new_zeros(len(places), 3).index_add(0, owner, points)
    return total / torch.bincount(owner, minlength=len(places))[:, None]


def interpolate(points: Tensor, centres: Tensor, features: Tensor) -> Tensor:
    """Features of centres brought to points: the three nearest, weighted by 1 / distance^2.

    PointNet++, eq. 2, with p = 2 and k = 3.

    Args:
        points: (N, 3).
        centres: (M, 3).
        features: (M, W) of the centres.

    Returns:
        (N, W).
    """
    distance, nearest = torch.cdist(points, centres).topk(min(_NEIGHBOURS_BACK, len(centres)), largest=False)
    weight = 1 / (distance.square() + 1e-6)  # a point on a centre takes that centre's
    weight = weight / weight.sum(1, keepdim=True)
    return (features[nearest] * weight[..., None]).sum(1)


def check_cloud(points: Tensor, colours: Tensor) -> None:
    """Refuse what is no coloured point cloud.

    Raises:
        ValueError: what `check_points` says, or colours that are not one finite triple a point.
    """
    check_points(points)
    if colours.shape != points.shape or not colours.isfinite().all():
        got = "with NaN among them" if colours.shape == points.shape else f"{tuple(colours.shape)}"
        raise ValueError(f"got colours {got}; expected {tuple(points.shape)} finite floats, one row a point")


def _layers(inputs: int, *widths: int) -> nn.Sequential:
    """Linear maps with layer norm and ReLU between them and behind."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers)
