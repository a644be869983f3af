"""Points: coloured point clouds of textured models on a floor, with the RGB-D cameras that took them."""

from .cameras import back_project, project, sees
from .clouds import SPLITS, Points, PointScene, check_labels, check_scene

__all__ = ["SPLITS", "PointScene", "Points", "back_project", "check_labels", "check_scene", "project", "sees"]
