"""Points that learn CLIP's words: an encoder of point clouds, its alignment with pictures, a classifier.

Reads tensors, not data sets: points, colours, and where each point falls in which picture.
"""

from __future__ import annotations

from .alignment import fill_unseen, global_loss, lift, local_loss, pool, pseudo_labels
from .encoder import PointEncoder, check_cloud, grid_means, interpolate
from .segmentor import PointSegmentor, ProjectedCLIP

__all__ = [
    "PointEncoder",
    "PointSegmentor",
    "ProjectedCLIP",
    "check_cloud",
    "fill_unseen",
    "global_loss",
    "grid_means",
    "interpolate",
    "lift",
    "local_loss",
    "pool",
    "pseudo_labels",
]
