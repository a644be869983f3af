"""Points: coloured point clouds with labels, and the RGB-D cameras that took them: those that ship, of
textured models on a floor, and scanned ones in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...core.lookup import build
from .cameras import back_project, project, sees
from .clouds import SPLITS, PointData, Points, PointScene, check_labels, check_scene
from .scans import ScanNet, Scans

CLOUDS: dict[str, Callable[..., PointData]] = {"points": Points, "scans": Scans, "scannet": ScanNet}


def build_clouds(section: Mapping[str, object], split: str) -> PointData:
    """A split of the clouds that a section of a recipe describes.

    Args:
        section: {"name": one of `CLOUDS`, **options}.
        split: such as "train" or "val".

    Raises:
        ValueError: no such name or option; the nearest is named.
        FileNotFoundError: files are missing; says which.
    """
    return build(CLOUDS, section, split, what="data set of points")


__all__ = [
    "CLOUDS",
    "SPLITS",
    "PointData",
    "PointScene",
    "Points",
    "ScanNet",
    "Scans",
    "back_project",
    "build_clouds",
    "check_labels",
    "check_scene",
    "project",
    "sees",
]
