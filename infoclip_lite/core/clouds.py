"""What a point cloud must be, whoever is handed one."""

from __future__ import annotations

from torch import Tensor


def check_points(points: Tensor) -> None:
    """Refuse what is no point cloud.

    Args:
        points: should be (N, 3), N at least 1, finite.

    Raises:
        ValueError: another shape, no point, or NaN and infinite coordinates; says how many.
    """
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or not points.is_floating_point():
        raise ValueError(
            f"got points {tuple(points.shape)} of {points.dtype}; expected (N, 3) floats in metres, "
            "N at least 1"
        )
    finite = points.isfinite().all(1)
    if not finite.all():
        raise ValueError(
            f"got {int((~finite).sum())} of {len(points)} points with NaN or infinite coordinates; expected "
            "finite metres: keep points[points.isfinite().all(1)], and their labels likewise"
        )
