"""Figures of the leaderboard: scores with intervals in the order of their ranks, and quality over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

from ..core.colours import Shade, shades
from ..core.statistics import pareto_front, surely_better
from ..studies.rows import SPLITS, Leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def plot_ranking(board: Leaderboard, labels: Sequence[str], *, split: str = SPLITS[0]) -> Figure:
    """Mean hIoU of some methods with its 95% interval, best first, and beside it the ranks that are possible.

    Args:
        board: of `read_leaderboard`.
        labels: the methods to draw; ranks are those among all, as the paired intervals allow, and paler under
            these those that are left when all pairs together are to hold (Holm).
        split: "test-known" (known instances) or "test" (new ones).

    Raises:
        ValueError: a method that is not in the report.
    """
    unknown = [label for label in labels if label not in board.methods]
    if unknown:
        known = next(iter(board.methods))
        raise ValueError(f"got {', '.join(unknown)}; expected methods of the leaderboard, such as {known!r}")
    looks, count = _looks(board), len(board.methods)
    ordered = sorted(labels, key=lambda label: board.methods[label].ranks[split].rank)
    size = (9, 0.9 + 0.27 * len(ordered))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, width_ratios=(3, 2))
    figure.set_layout_engine("constrained")
    for place, label in enumerate(ordered):
        method = board.methods[label]
        colour, marker = looks[method.family]
        score, ranks = method.scores[split]["hIoU"], method.ranks[split]
        left.errorbar(100 * score.mean, place, xerr=100 * score.ci95, fmt=marker, color=colour, capsize=2.5)
        # Under the others: they are never narrower.
        right.plot(
            ranks.corrected, [place, place], color=colour, linewidth=9, alpha=0.25, solid_capstyle="butt"
        )
        possible = [ranks.best, ranks.worst]
        right.plot(possible, [place, place], color=colour, linewidth=5, solid_capstyle="butt")
        right.plot(ranks.rank, place, marker, color="black", markersize=4)
    left.set_yticks(range(len(ordered)), ordered, fontsize=9)
    left.invert_yaxis()
    left.set(xlabel="hIoU (%)", xlim=(0, None))
    right.set(xlabel=f"ranks that are possible, among {count}", xlim=(0, count + 1))
    sns.despine(figure)
    return figure


def plot_price(board: Leaderboard, *, split: str = SPLITS[0]) -> Figure:
    """hIoU over time, in forward passes of CLIP; methods that none surely beats in less time are named.

    Args:
        board: of `read_leaderboard`.
        split: "test-known" (known instances) or "test" (new ones).
    """
    times = {label: board.time_of(label) for label in board.methods}
    points = {label: 100 * score.mean for label, score in board.scores(split).items()}
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for family, (colour, marker) in _looks(board).items():
        mine = [label for label, method in board.methods.items() if method.family == family]
        x, y = [times[label] for label in mine], [points[label] for label in mine]
        axis.plot(x, y, marker, color=colour, label=family, alpha=0.8)
    # One name for each way of inference: its methods stand in one column, and more names would lie on each
    # other.
    named: dict[str, str] = {}
    for label in price_front(board, split=split):
        named.setdefault(board.methods[label].backend, label)
    for label in named.values():
        at = (times[label], points[label])
        # Names at the right edge grow to the left, or they would be cut.
        side = "center" if times[label] < 0.7 * max(times.values()) else "right"
        axis.annotate(label, at, xytext=(0, 8), textcoords="offset points", fontsize=8, ha=side)
    axis.set(xlabel="time of a picture (1 = CLIP's own forward pass)", ylabel="hIoU (%)", xlim=(0, None))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    axis.margins(y=0.12)
    axis.set_ylim(0, None)
    sns.despine(figure)
    return figure


def price_front(board: Leaderboard, *, split: str = SPLITS[0]) -> list[str]:
    """Methods that no other surely beats in the same time or less, fastest first, then best mean first.

    Args:
        board: of `read_leaderboard`.
        split: "test-known" (known instances) or "test" (new ones).
    """
    better = surely_better(board.scores(split))
    by_rank = sorted(board.methods, key=lambda label: board.methods[label].ranks[split].rank)
    times = {label: board.time_of(label) for label in by_rank}
    return pareto_front(times, lambda a, b: (a, b) in better)


def _looks(board: Leaderboard) -> dict[str, tuple[Shade, str]]:
    """Colour and mark of each family that is on the leaderboard, by name: a new family gets the next."""
    # Zero-shot first, as in every table; the others by name, so that new rows change nobody's colour for
    # another order of ranks.
    names = {method.family for method in board.methods.values()}
    families = sorted(names, key=lambda name: (name != "zero-shot", name.lower()))
    colours = shades(len(families))
    return {family: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, family in enumerate(families)}
