"""The value path alone."""

from __future__ import annotations

from torch import Tensor

from ..blocks import project_out, project_qkv
from ..tower import TowerPass


def value(tower: TowerPass) -> Tensor:
    """v alone: no attention, no residual, no feed-forward layer.

    What ClearCLIP's authors call MaskCLIP [S]; MaskCLIP's own code keeps both, see `maskclip`.

    Args:
        tower: the pass.

    Returns:
        (B, N, W) tokens of the patches.
    """
    values = project_qkv(tower.last, tower.entering)[2]
    return project_out(tower.last, values)[:, 1:]
