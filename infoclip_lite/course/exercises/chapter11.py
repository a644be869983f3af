"""Chapter 11: the leaderboard."""

from __future__ import annotations

from typing import Any

from ...core.reports import read_report
from ...core.statistics import surely_better
from . import exercise
from .compare import Wrong, answered, choice, close


@exercise("11.1", "A place in a table is not a result: ask which places the intervals allow.")
def possible_winners(answer: Any) -> None:
    """The answer is a function: rows -> how many methods may be first."""
    rows = read_report("leaderboard")["rows"]
    truth = sum(row["ranks"]["test"]["from"] == 1 for row in rows.values())
    corrected = sum(row["ranks"]["test"]["corrected"][0] == 1 for row in rows.values())
    new = sum(row["ranks"]["test-new"]["from"] == 1 for row in rows.values())
    traps = [
        (1, "that is the place by the mean; ask for the best place that the intervals allow, `from`"),
        (corrected, "that holds for all pairs together (`corrected`); here the uncorrected `from` is asked for"),
        (new, 'those are the new photographs; take "test"'),
    ]
    close(answer(rows), truth, what="the methods that may be first", tolerance=0.5, traps=traps, otherwise="count rows whose `from` is 1")


@exercise("11.2", "A sure difference can be small, and a large one unsure: pairs of seeds decide, not the gap of the means.")
def beats_plain(answer: Any) -> None:
    """The answer is a list: the methods with all weights tuned that are surely better than plain fine-tuning."""
    rows = read_report("leaderboard")["rows"]
    prefix = "CAT-Seg, all weights: "
    better = surely_better({label: row["test"]["hIoU"] for label, row in rows.items()})
    truth = {label for label in rows if label.startswith(prefix) and (label, prefix + "plain") in better}
    found = answered(answer)
    if not isinstance(found, list | tuple | set):
        raise Wrong(f"a {type(found).__name__}", "a list of names", "collect the names in a list")
    extra, lacking = sorted(set(found) - truth), sorted(truth - set(found))
    above = {n for n in rows if n.startswith(prefix) and rows[n]["test"]["hIoU"]["mean"] > rows[prefix + "plain"]["test"]["hIoU"]["mean"]}
    if set(found) == above:
        raise Wrong(
            f"{len(found)} methods",
            f"{len(truth)} methods",
            "those have a higher mean; surely better means that the paired interval excludes 0",
        )
    if extra or lacking:
        raise Wrong(
            f"{len(found)} methods, {len(extra)} too many and {len(lacking)} too few",
            f"{len(truth)} methods",
            f"look at {(extra or lacking)[0]!r} again",
        )


@exercise("11.3", "New photographs reorder the table: what was chosen on one kind of scene need not be best on another.")
def same_order(answer: Any) -> None:
    """The answer is a function: rows -> share of pairs of methods that stand in the same order on both splits."""
    rows = read_report("leaderboard")["rows"]
    means = [[row[split]["hIoU"]["mean"] for row in rows.values()] for split in ("test", "test-new")]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    agree = sum((means[0][i] > means[0][j]) == (means[1][i] > means[1][j]) for i, j in pairs)
    traps = [
        (agree, "that is the number of pairs: divide by how many pairs there are"),
        (2 * agree / len(pairs) - 1, "that is Kendall's tau: it counts disagreement as minus one; here a share is asked for"),
        (agree / len(rows) ** 2, "divide by the number of pairs, n (n - 1) / 2, and not by n squared"),
    ]
    close(
        answer(rows),
        agree / len(pairs),
        what="the share of pairs",
        tolerance=0.004,
        traps=traps,
        otherwise="compare hIoU means pair by pair",
    )


@exercise("11.4", "Which method is best depends on what a second is worth to you.")
def for_a_budget(answer: Any) -> None:
    """The answer is a function: rows, speed, budget -> the method of the highest mean hIoU whose time is within the budget."""
    report = read_report("leaderboard")
    rows, speed = report["rows"], report["speed"]
    for budget in (0.7, 1.3, 2.5, 10.0):
        times = {label: speed["engines"][row["engine"]]["ratio"] for label, row in rows.items()}
        inside = [label for label in rows if times[label] <= budget]
        right = max(inside, key=lambda label: rows[label]["test"]["hIoU"]["mean"])
        found = answered(answer(rows, speed, budget))
        if found not in rows:
            raise Wrong(repr(found), "the name of a method", "return the key of the row")
        slow = f"it takes {times[found]:.1f} forward passes of CLIP"
        low = f"its hIoU is {100 * rows[found]['test']['hIoU']['mean']:.1f}, and another within the budget has more"
        reasons = {label: slow if times[label] > budget else low for label in rows if label != right}
        choice(found, right, list(rows), what=f"a budget of {budget:g}", reasons=reasons)
