"""The map of fine-tuning as one figure: what is tuned by learning rate, curves in every cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import Row, read_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TUNINGS: Mapping[str, str] = {
    "stem": "every weight\nand the stem",
    "full": "every weight",
    "image": "image tower",
    "qv": "queries\nand values",
    "head": "a head alone",
    "background": "every weight,\nunseen called\nbackground",
}
# The ground of a cell says what its intervals say; pale, so that curves of any colour stand out.
GROUNDS: Mapping[str, str] = {
    "kept": "#e3f1e3",
    "forgetting": "#fbdcd6",
    "lost": "#fdf0d2",
    "broken": "#d9d9de",
    "no gain": "#ffffff",
}
_MEANINGS: Mapping[str, str] = {
    "kept": "seen up, unseen not below",
    "forgetting": "seen up, unseen below: forgetting",
    "lost": "seen neither, unseen below",
    "broken": "seen below: broken",
    "no gain": "neither moved, or unseen up alone",
}


def short_rate(rate: float) -> str:
    """A learning rate as prose and recipes write it.

    >>> short_rate(0.0003), short_rate(0.01)
    ('3e-4', '1e-2')
    """
    return f"{rate:.0e}".replace("e-0", "e-")


def plot_map(
    report: Row, curves: Mapping[str, str], *, split: str, ylabel: str, height: float = 1.35
) -> Figure:
    """A panel for each tuning and rate: changes from zero-shot over training steps, with 95% bands.

    Args:
        report: of `infoclip-lite benchmark degradation_map`.
        curves: {measure: label}, keys of a cell's "curves"; fractions, drawn in points.
        split: of the test scenes whose verdict colours the ground.
        ylabel: of the first column.
        height: of a panel in inches.

    Raises:
        ValueError: a report without a finished cell.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    cells: Mapping[str, Row] = report["cells"]
    tunings = [tuning for tuning in TUNINGS if any(label.startswith(f"{tuning}/") for label in cells)]
    if not tunings:
        raise ValueError("got a map without a finished cell; expected at least one")
    rates = {t: sorted((c.split("/")[1] for c in cells if c.startswith(f"{t}/")), key=float) for t in tunings}
    columns = max(len(each) for each in rates.values())
    size = (1.35 * height * columns + 1, height * len(tunings) + 0.8)
    figure, axes = plt.subplots(
        len(tunings), columns, figsize=size, squeeze=False, sharex=True, sharey=True, layout="constrained"
    )
    for line, tuning in zip(axes, tunings, strict=True):
        for axis in line[len(rates[tuning]) :]:
            axis.axis("off")
        for axis, rate in zip(line, rates[tuning], strict=False):
            cell = cells[f"{tuning}/{rate}"]
            axis.set_facecolor(GROUNDS[cell["verdict"][split]])
            used = " ★" if report["usable"].get(tuning) == rate else ""
            axis.set_title(f"rate {short_rate(float(rate))}{used}", fontsize=8)
            _changes(axis, cell["curves"], curves, report["zero_shot"])
        line[0].set_ylabel(f"{TUNINGS[tuning]}\n{ylabel}", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8)
    handles = axes[0][0].get_legend_handles_labels()[0]
    found = {cell["verdict"][split] for cell in cells.values()}
    handles += [
        Patch(facecolor=GROUNDS[each], edgecolor="grey", label=_MEANINGS[each])
        for each in GROUNDS
        if each in found
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    sns.despine(figure)
    return figure


def rate_rows(report: Row, cells: Sequence[str]) -> list[dict[str, object]]:
    """Some cells as rows of a table: what validation says of seen nouns, and the changes on test scenes.

    Args:
        report: of `infoclip-lite benchmark degradation_map`.
        cells: "tuning/rate"; those that are not finished are left out.

    Returns:
        Percent and points, with 95% intervals.
    """
    rows: list[dict[str, object]] = []
    for label in cells:
        if label not in report["cells"]:
            continue
        cell, (tuning, rate) = report["cells"][label], label.split("/")
        changes = {
            f"{group}, {sort}": read_interval(cell["differences"][f"{split}/mIoU_{group}"]).percent
            for sort, split in (("new", "test"), ("known", "test-known"))
            for group in ("seen", "unseen")
        }
        rows.append(
            {
                "tuned": TUNINGS[tuning].replace("\n", " "),
                "rate": short_rate(float(rate)),
                "seeds": cell["seeds"],
                "validation, seen": read_interval(cell["curves"]["mIoU_seen"][-1]).percent,
                **changes,
            }
        )
    return rows


def _changes(
    axis: Axes, measured: Mapping[str, list[Row]], curves: Mapping[str, str], zero_shot: Mapping[str, float]
) -> None:
    """Curves of one cell, each less what it is before any training."""
    axis.axhline(0, color="black", linewidth=0.6)
    looks = zip(shades(len(curves)), cycle(("-", "-", ":")), strict=False)
    for (key, label), (shade, line) in zip(curves.items(), looks, strict=False):
        points, start = measured[key], zero_shot[key]
        steps = [point["step"] for point in points]
        middle = [100 * (point["mean"] - start) for point in points]
        half = [100 * point["half"] for point in points]
        axis.plot(steps, middle, line, color=shade, label=label, linewidth=1.3, marker="o", markersize=2)
        low, high = ([m + sign * h for m, h in zip(middle, half, strict=True)] for sign in (-1, 1))
        axis.fill_between(steps, low, high, color=shade, alpha=0.2, linewidth=0)
    axis.tick_params(labelsize=7)
