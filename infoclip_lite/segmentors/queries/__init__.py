"""What segmentors that ask for masks share: queries that draw them, matchings, losses, regions and clusters.

A mask classifier (MaskFormer, 2107.06278) does not label pixels: each of its queries draws one mask and says
what it is of. Which query answers for which mask of the truth is decided anew at every step, by a matching.
"""

from __future__ import annotations

from .clusters import Clusters, merge_centres, multi_scale_clusters, spherical_kmeans, window_means
from .decoder import MaskDecoder, sine_positions
from .losses import (
    class_loss,
    dice_loss,
    drawn_masks_loss,
    semantic_map,
    sigmoid_focal_loss,
)
from .matching import assign, dice_cost, focal_cost
from .regions import bounding_boxes, crops, region_cls, to_grid
from .targets import Masks, class_masks, classes_present

__all__ = [
    "Clusters",
    "MaskDecoder",
    "Masks",
    "assign",
    "bounding_boxes",
    "class_loss",
    "class_masks",
    "classes_present",
    "crops",
    "dice_cost",
    "dice_loss",
    "drawn_masks_loss",
    "focal_cost",
    "merge_centres",
    "multi_scale_clusters",
    "region_cls",
    "semantic_map",
    "sigmoid_focal_loss",
    "sine_positions",
    "spherical_kmeans",
    "to_grid",
    "window_means",
]
