"""Where a point falls in a picture, and whether the camera sees it: a pinhole, its pose, and its depth map.

Axes are those of the field (OpenCV, ScanNet): a camera looks along +z, x goes right and y down in the
picture; a pose (4, 4) takes camera to world. The middle of the first pixel lies at (0.5, 0.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.clouds import check_points

# Metres that a point may lie behind the surface which a depth map holds and still be seen [O]: float16
# positions are off by 2 mm, and a pixel on a slope is deep itself.
TOLERANCE = 0.04


def project(points: Tensor, intrinsics: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Where points fall in the pictures of several cameras.

    Args:
        points: (N, 3) metres in the world.
        intrinsics: (3, 3) of all cameras, or (V, 3, 3): focal lengths and centre in pixels.
        poses: (V, 4, 4) camera to world.

    Returns:
        Pixels (V, N, 2), x and y, NaN for a point that is not in front of the camera; and depth (V, N) in
        metres along the axis of the camera.

    Raises:
        ValueError: other shapes, or a point that is not finite.
    """
    check_points(points)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or intrinsics.shape[-2:] != (3, 3):
        raise ValueError(
            f"got poses {tuple(poses.shape)} and intrinsics {tuple(intrinsics.shape)}; expected (V, 4, 4) "
            "and (3, 3) or (V, 3, 3): for one camera poses[None]"
        )
    rotation, place = poses[:, :3, :3], poses[:, None, :3, 3]
    # The inverse of a rotation is its transpose: rows times R is R^T times columns.
    local = (points - place) @ rotation  # (V, N, 3)
    depth = local[..., 2]
    flat = local @ intrinsics.mT
    pixels = flat[..., :2] / depth[..., None]
    return pixels.where(depth[..., None] > 0, torch.nan), depth


def sees(pixels: Tensor, depth: Tensor, maps: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Whether each camera sees each point: inside its picture, in front of it, and behind nothing.

    Args:
        pixels: (V, N, 2) of `project`.
        depth: (V, N) of `project`.
        maps: (V, H, W) metres; 0 where nothing was measured, as depth cameras write it, and nothing is seen.
        tolerance: metres behind the measured surface that still count.

    Returns:
        (V, N) booleans; a camera that looks elsewhere sees nothing, which is no error.

    Raises:
        ValueError: other shapes.
    """
    if pixels.ndim != 3 or maps.ndim != 3 or len(maps) != len(pixels) or depth.shape != pixels.shape[:2]:
        raise ValueError(
            f"got pixels {tuple(pixels.shape)}, depth {tuple(depth.shape)} and maps {tuple(maps.shape)}; "
            "expected (V, N, 2), (V, N) and (V, H, W) of the same V cameras"
        )
    height, width = maps.shape[1:]
    inside = inside_picture(pixels, (height, width))
    column, row = pixels.nan_to_num(0).floor().long().unbind(-1)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    measured = maps.flatten(1).gather(1, place)
    return inside & (measured > 0) & (depth <= measured + tolerance)


def inside_picture(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels (..., 2) lie in a picture of `size` (height, width); NaN lies in none."""
    x, y = pixels.unbind(-1)
    return (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])


def back_project(depth: Tensor, intrinsics: Tensor, pose: Tensor) -> Tensor:
    """The points that a depth map shows, pixel by pixel; the inverse of `project`.

    Args:
        depth: (H, W) metres along the axis of the camera.
        intrinsics: (3, 3).
        pose: (4, 4) camera to world.

    Returns:
        (H, W, 3) metres in the world; the camera's own place where depth is 0.
    """
    height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], -1).to(depth) @ torch.linalg.inv(intrinsics).mT
    return (rays * depth[..., None]) @ pose[:3, :3].mT + pose[:3, 3]
