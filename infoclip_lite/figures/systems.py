"""The trained systems side by side: rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..segmentors import Segmentor


def price_rows(models: Mapping[str, Segmentor], passes: Mapping[str, str]) -> list[dict[str, object]]:
    """What a picture costs at inference.

    Args:
        models: by system; their weights do not matter.
        passes: through CLIP's image tower, in words, by system.

    Returns:
        Weights that a picture meets in millions, of CLIP's image tower and of what is beside it.
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
        }
        rows.append(row)
    return rows
