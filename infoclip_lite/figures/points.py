"""A point cloud that can be turned, and its static twin.

The page draws on a plain canvas: 60 lines of script and nine bytes a point. plotly brings 4 MB of script into
every notebook that shows it offline, and three.js 600 kB; a notebook of this series has 300.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from ..core.colours import UNLABELLED, word_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_numbers = count()  # of the page's canvases: a notebook may show several
_PAGE = """<div id="{name}" style="font: 13px sans-serif; width: {side}px">
<canvas width="{side}" height="{side}" style="touch-action: none; cursor: grab; border: 1px solid #ccc"
 role="img" aria-label="{alt}" tabindex="0"></canvas>
<div class="choices"></div><div class="legend"></div></div>
<script>(() => {{
{script}
showPoints(document.getElementById("{name}"), {data});
}})();</script>"""


def points_page(
    points: Tensor,
    colours: Tensor,
    labels: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    side: int = 420,
) -> str:
    """HTML of a cloud that a mouse, a finger or the arrow keys turn; it needs no network and no library.

    Args:
        points: (N, 3) metres, y up.
        colours: (N, 3) floats in [0, 1].
        labels: by what a button calls them ("truth", "frozen CLIP"), (N,) class ids each.
        names: of the classes.
        side: of the canvas in pixels.

    Returns:
        A fragment for `IPython.display.HTML`, or to be written into a file.

    Raises:
        ValueError: no point, or parts of other lengths.
    """
    table = _table(names)
    place = _centred(points)
    looks = {"colour": (colours.clamp(0, 1) * 255).round().byte().numpy()}
    looks |= {name: table[_checked(name, ids, len(points))] for name, ids in labels.items()}
    if len(colours) != len(points):
        raise ValueError(f"got {len(points)} points and {len(colours)} colours; expected the same number")
    present = _present(labels, len(names))
    data = {
        "points": _packed((place / np.abs(place).max().clip(1e-6) * 30000).astype("<i2")),
        "looks": [{"name": name, "colours": _packed(look)} for name, look in looks.items()],
        "legend": [[names[i], ",".join(map(str, table[i]))] for i in present],
    }
    # A name could hold the end of a script.
    content = json.dumps(data).replace("</", "<\\/")
    alt = f"{len(points)} points that can be turned: {', '.join(names[i] for i in present)}"
    return _PAGE.format(
        name=f"points-{next(_numbers)}",
        side=side,
        alt=escape(alt, quote=True),
        script=(files("infoclip_lite") / "figures" / "points.js").read_text(encoding="utf-8"),
        data=content,
    )


def plot_points(
    points: Tensor,
    colours: Tensor,
    labels: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    angles: Sequence[float] = (35.0, 155.0),
) -> Figure:
    """The static twin of `points_page`: a row an angle, a column for the colours and for each labelling.

    Args:
        points, colours, labels, names: as for `points_page`.
        angles: degrees from which the cloud is seen.

    Raises:
        ValueError: as `points_page`.
    """
    table, place = _table(names), _centred(points)
    looks = {"colour": colours.clamp(0, 1).numpy()}
    looks |= {name: table[_checked(name, ids, len(points))] / 255 for name, ids in labels.items()}
    size = (2.2 * len(looks), 2.0 * len(angles) + 0.4)
    figure, axes = plt.subplots(
        len(angles), len(looks), figsize=size, squeeze=False, subplot_kw={"projection": "3d"}
    )
    for row, angle in zip(axes, angles, strict=True):
        for axis, (name, look) in zip(row, looks.items(), strict=True):
            # With soft rims a picture of dots has thousands of shades, and twice the bytes.
            dots = {"s": 3, "depthshade": False, "antialiased": False}
            axis.scatter(place[:, 0], -place[:, 2], place[:, 1], c=look, **dots)
            axis.view_init(elev=28, azim=angle)
            axis.set_box_aspect(np.ptp(place[:, [0, 2, 1]], axis=0).clip(0.1), zoom=1.6)
            axis.set_axis_off()
            axis.set_title(name, fontsize=9)
    present = _present(labels, len(names))
    if present:
        handles = [Patch(color=table[i] / 255, label=names[i]) for i in present]
        figure.legend(handles=handles, loc="lower center", ncols=7, fontsize=8, frameon=False)
    # A line of the legend takes a fifth of an inch.
    lines = -(-len(present) // 7)
    figure.tight_layout(rect=(0, 0.2 * lines / size[1], 1, 1))
    return figure


def _table(names: Sequence[str]) -> np.ndarray:
    """(256, 3) uint8 a colour for each label."""
    table = np.full((256, 3), UNLABELLED, dtype=np.uint8)
    table[: len(names)] = word_colours(names)
    return table


def _present(labels: Mapping[str, Tensor], classes: int) -> list[int]:
    """Ids of the words that some labelling has, for a legend."""
    return sorted({int(i) for ids in labels.values() for i in ids.unique() if 0 <= int(i) < classes})


def _centred(points: Tensor) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"got points {tuple(points.shape)}; expected (N, 3), N at least 1")
    place = points.double().numpy()
    return place - (place.min(0) + place.max(0)) / 2


def _checked(name: str, ids: Tensor, expected: int) -> np.ndarray:
    if ids.shape != (expected,):
        raise ValueError(f"got labels {name!r} {tuple(ids.shape)}; expected one a point, ({expected},)")
    return ids.clamp(0, 255).numpy()


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
