"""The leaderboard as tables, scores with intervals in the order of their ranks, and quality over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

from ..core.colours import Shade, shades
from ..core.statistics import pareto_front, surely_better
from ..studies.rows import REPORTED, SHORT, Leaderboard, shown_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")


def board_rows(board: Leaderboard, group: str, *, split: str = REPORTED) -> list[dict[str, object]]:
    """The methods of one group, best mean hIoU first, with their places among all; percent.

    Args:
        board: of `read_leaderboard`.
        group: what a method was told of scenes, such as "training-free".
        split: "test" (new instances) or "test-known".

    Returns:
        Rows {"method", "labels", "seen", "unseen", "stuff", "hIoU", "rank", "may be", "may be (Holm)"}:
        means, of hIoU with its interval, and ranks as of `Method`.
    """
    found = [(label, method) for label, method in board.methods.items() if method.group == group]
    rows: list[dict[str, object]] = []
    for label, method in sorted(found, key=lambda pair: pair[1].ranks[split].rank):
        scores, ranks = method.scores[split], method.ranks[split]
        cells: dict[str, object] = {SHORT[key]: 100 * scores[key].mean for key in shown_metrics(scores)}
        cells["hIoU"] = scores["hIoU"].percent
        places = {"may be": (ranks.best, ranks.worst), "may be (Holm)": ranks.corrected}
        said = {name: f"{best} to {worst}" for name, (best, worst) in places.items()}
        rows.append({"method": label, "labels": method.labels, **cells, "rank": ranks.rank, **said})
    return rows


def separation_rows(board: Leaderboard, *, split: str = REPORTED) -> list[dict[str, object]]:
    """How many seeds would tell a trained method from the next one; points of hIoU.

    Args:
        board: of `read_leaderboard`.
        split: "test" (new instances) or "test-known".

    Returns:
        Rows {"better by its mean", "next", "difference", "seeds"}; a number of seeds that nobody would train
        is text.
    """
    return [
        {
            "better by its mean": row["first"],
            "next": row["second"],
            "difference": 100 * row["mean"],
            "seeds": "over 1,000" if row["seeds"] is None else str(row["seeds"]),
        }
        for row in board.separation[split]
    ]


def cost_rows(board: Leaderboard, *, split: str = REPORTED) -> list[dict[str, object]]:
    """What a picture costs in each way of inference, fastest first, and the best method that goes that way.

    Args:
        board: of `read_leaderboard`.
        split: "test" (new instances) or "test-known".

    Returns:
        Rows {"best method", "hIoU", "time", "memory (MB)", "weights (M)", "trained (M)", "labelled scenes"}:
        the time in forward passes of CLIP.
    """
    best: dict[str, str] = {}
    for label in sorted(board.methods, key=lambda each: board.methods[each].ranks[split].rank):
        best.setdefault(board.methods[label].backend, label)
    rows: list[dict[str, object]] = []
    for backend in sorted(best, key=lambda each: board.speed[each].ratio):
        method, speed = board.methods[best[backend]], board.speed[backend]
        rows.append(
            {
                "best method": best[backend],
                "hIoU": 100 * method.scores[split]["hIoU"].mean,
                "time": speed.ratio,
                "memory (MB)": speed.mb,
                "weights (M)": method.parameters["inference"] / 1e6,
                "trained (M)": method.parameters["trained"] / 1e6,
                "labelled scenes": method.labelled_scenes,
            }
        )
    return rows


def plot_ranking(board: Leaderboard, labels: Sequence[str], *, split: str = REPORTED) -> Figure:
    """Mean hIoU of some methods with its 95% interval, best first, and beside it the ranks that are possible.

    Args:
        board: of `read_leaderboard`.
        labels: the methods to draw; ranks are those among all, as the paired intervals allow, and paler under
            these those that are left when all pairs together are to hold (Holm).
        split: "test" (new instances) or "test-known".

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


def plot_price(board: Leaderboard, *, split: str = REPORTED) -> Figure:
    """hIoU over time, in forward passes of CLIP; methods that none surely beats in less time are named.

    Args:
        board: of `read_leaderboard`.
        split: "test" (new instances) or "test-known".
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
    last, rise = (-math.inf, -math.inf), 0
    for label in named.values():
        at = (times[label], points[label])
        # Names grow away from the nearer edge, or they would be cut; neighbours stand on each other.
        left = times[label] < 0.7 * max(times.values())
        near = at[0] - last[0] < 0.1 * max(times.values()) and abs(at[1] - last[1]) < 2
        last, rise = at, rise + 12 if near else 0
        place = (-6 if left else 0, 10 + rise)
        axis.annotate(
            label, at, xytext=place, textcoords="offset points", fontsize=8, ha="left" if left else "right"
        )
    axis.set(xlabel="time of a picture (1 = CLIP's own forward pass)", ylabel="hIoU (%)", xlim=(0, None))
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    axis.margins(y=0.12)
    axis.set_ylim(0, None)
    sns.despine(figure)
    return figure


def price_front(board: Leaderboard, *, split: str = REPORTED) -> list[str]:
    """Methods that no other surely beats in the same time or less, fastest first, then best mean first.

    Args:
        board: of `read_leaderboard`.
        split: "test" (new instances) or "test-known".
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
