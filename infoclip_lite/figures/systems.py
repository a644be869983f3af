"""The trained systems side by side: rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.statistics import Row

if TYPE_CHECKING:
    from ..segmentors import Segmentor


def price_rows(
    models: Mapping[str, Segmentor], passes: Mapping[str, str], speed: Mapping[str, Row]
) -> list[dict[str, object]]:
    """What a picture costs at inference.

    Args:
        models: by system; their weights do not matter.
        passes: through CLIP's image tower, in words, by system.
        speed: "backends" of `infoclip-lite benchmark systems_speed`, by system.

    Returns:
        Weights that a picture meets in millions, of CLIP's image tower and of what is beside it; time in
        passes of CLIP, and memory beside weights in 10^6 bytes.
    """
    rows: list[dict[str, object]] = []
    for name, model in models.items():
        parts = model.weights_at_inference()
        tower = parts.pop("image tower", 0)
        row = {
            "system": name,
            "CLIP's image tower (M)": tower / 1e6,
            "beside it (M)": sum(parts.values()) / 1e6,
            "passes through the tower": passes[name],
            "time (CLIP's = 1)": float(speed[name]["ratio"]),
            "memory (MB)": float(speed[name]["mb"]),
        }
        rows.append(row)
    return rows
