"""Figures of the leaderboard: scores with intervals in the order of their ranks, and quality over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import seaborn as sns

from ..core.statistics import pareto_front, surely_better

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILIES = ("zero-shot", "cosine head", "CAT-Seg", "Chimera-Seg")
_MARKERS = ("o", "s", "D", "^")


def plot_ranking(rows: Mapping[str, Mapping[str, Any]], labels: Sequence[str], *, split: str = "test") -> Figure:
    """Mean hIoU of some methods with its 95% interval, best first, and beside it the ranks among all that the paired intervals allow.

    Args:
        rows: of the report "leaderboard".
        labels: the methods to draw.
        split: "test" or "test-new".

    Raises:
        ValueError: a method that is not in the report.
    """
    unknown = [label for label in labels if label not in rows]
    if unknown:
        raise ValueError(f"got {', '.join(unknown)}; expected methods of the leaderboard, such as {next(iter(rows))!r}")
    ordered = sorted(labels, key=lambda label: rows[label]["ranks"][split]["rank"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 0.9 + 0.27 * len(ordered)), sharey=True, layout="constrained", width_ratios=(3, 2)
    )
    for place, label in enumerate(ordered):
        row = rows[label]
        colour, marker = _look(row["family"])
        score, ranks = row[split]["hIoU"], row["ranks"][split]
        left.errorbar(100 * score["mean"], place, xerr=100 * score["half"], fmt=marker, color=colour, capsize=2.5)
        right.plot([ranks["from"], ranks["to"]], [place, place], color=colour, linewidth=5, solid_capstyle="butt")
        right.plot(ranks["rank"], place, marker, color="black", markersize=4)
    left.set_yticks(range(len(ordered)), ordered, fontsize=9)
    left.invert_yaxis()
    left.set(xlabel="hIoU (%)", xlim=(0, None))
    right.set(xlabel=f"ranks that are possible, among {len(rows)}", xlim=(0, len(rows) + 1))
    sns.despine(figure)
    return figure


def plot_price(rows: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any], *, split: str = "test") -> Figure:
    """hIoU over time, in forward passes of CLIP; methods that none surely beats in less time are named.

    Args:
        rows, speed: of the report "leaderboard".
        split: "test" or "test-new".
    """
    times = {label: speed["engines"][row["engine"]]["ratio"] for label, row in rows.items()}
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for family in FAMILIES:
        colour, marker = _look(family)
        mine = [label for label, row in rows.items() if row["family"] == family]
        axis.plot(
            [times[n] for n in mine], [100 * rows[n][split]["hIoU"]["mean"] for n in mine], marker, color=colour, label=family, alpha=0.8
        )
    best: dict[str, str] = {}
    for label in front(rows, speed, split=split):
        best.setdefault(rows[label]["engine"], label)
    for label in best.values():
        axis.annotate(
            label,
            (times[label], 100 * rows[label][split]["hIoU"]["mean"]),
            xytext=(0, 8),
            textcoords="offset points",
            fontsize=8,
            ha="center" if times[label] < 0.7 * max(times.values()) else "right",
        )
    axis.set(xlabel="time of a picture (1 = CLIP's own forward pass)", ylabel="hIoU (%)", xlim=(0, None))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    axis.margins(y=0.12)
    axis.set_ylim(0, None)
    sns.despine(figure)
    return figure


def front(rows: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any], *, split: str = "test") -> list[str]:
    """Methods that no other surely beats in the same time or less, fastest first, and the best mean first among equals.

    Args:
        rows, speed: of the report "leaderboard".
        split: "test" or "test-new".
    """
    better = surely_better({label: row[split]["hIoU"] for label, row in rows.items()})
    times = {label: speed["engines"][row["engine"]]["ratio"] for label, row in rows.items()}
    ordered = {label: times[label] for label in sorted(rows, key=lambda n: rows[n]["ranks"][split]["rank"])}
    return pareto_front(ordered, lambda a, b: (a, b) in better)


def _look(family: str) -> tuple[tuple[float, float, float], str]:
    place = FAMILIES.index(family)
    return sns.color_palette("colorblind")[(0, 1, 2, 4)[place]], _MARKERS[place]
