"""From where a person would look at a thing: the height of the eyes, the distance, and a few directions."""

from __future__ import annotations

import hashlib
import math

from .renders import View

_AZIMUTHS = {
    "round": (-42.0, 24.0, 70.0, 148.0),  # things that one walks round
    "front": (-38.0, -6.0, 31.0),  # things that stand against a wall
    "turned": (-20.0, 62.0),  # things that look alike from every side
}
STYLES = tuple(_AZIMUTHS)
_EYES = 155.0  # centimetres above the floor


def viewpoints(size: tuple[float, float, float], style: str, name: str, turn: float = 0.0) -> list[View]:
    """The views of one model.

    Args:
        size: width, height, depth in centimetres.
        style: one of STYLES.
        name: of the model; small deviations that differ from model to model come from its hash.
        turn: degrees by which the model's front is off.

    Raises:
        ValueError: unknown style.
    """
    if style not in _AZIMUTHS:
        raise ValueError(f"{name}: got style {style!r}, expected one of {', '.join(STYLES)}")
    width, height, depth = size
    longest = max(size)
    far = max(280.0, 2 * math.hypot(*size))
    views = []
    for number, azimuth in enumerate(_AZIMUTHS[style]):
        noise = hashlib.sha256(f"{name}/{number}".encode()).digest()
        jitter, lift, sun = ((byte / 255 - 0.5) * 2 for byte in noise[:3])
        if longest < 60 and height < 0.3 * max(width, depth):  # lies on a table, seen from above
            elevation = 58 + 10 * lift
        elif longest < 60:  # stands on a table
            elevation = 20 + 8 * lift
        else:
            elevation = math.degrees(math.atan2(_EYES - height / 2, far)) + 3 * lift
        elevation = min(max(elevation, 3.0), 70.0)
        views.append(View(azimuth + turn + 8 * jitter, elevation, sun=-45 + 30 * sun))
    return views
