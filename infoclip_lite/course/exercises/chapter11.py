"""Chapter 11: the leaderboard."""

from __future__ import annotations

from collections.abc import Callable

from ...core.statistics import surely_better
from ...studies.rows import SPLITS, read_leaderboard
from . import exercise
from .compare import Wrong, answered, choice, close


@exercise("11.1", "A place in a table is not a result: ask which places the intervals allow.")
def possible_winners(answer: Callable[..., object]) -> None:
    """The answer is a function: methods -> how many of them may be first."""
    methods = read_leaderboard().methods
    known, fresh = ([method.ranks[split] for method in methods.values()] for split in SPLITS)
    truth = sum(ranks.best == 1 for ranks in known)
    corrected = sum(ranks.corrected[0] == 1 for ranks in known)
    new = sum(ranks.best == 1 for ranks in fresh)
    traps = [
        (1, "that is the place by the mean; ask for the best place that the intervals allow, `best`"),
        (
            corrected,
            "that holds for all pairs together (`corrected`); here the uncorrected `best` is asked for",
        ),
        (new, 'those are the new instances; take "test-known"'),
    ]
    otherwise = "count methods whose `best` is 1"
    close(
        answer(methods),
        truth,
        what="the methods that may be first",
        tolerance=0.5,
        traps=traps,
        otherwise=otherwise,
    )


@exercise(
    "11.2",
    "A sure difference can be small, and a large one unsure: pairs of seeds decide, not the gap of "
    "the means.",
)
def beats_plain(answer: object) -> None:
    """The answer is a list: the methods with all weights tuned that are surely better than plain."""
    scores = read_leaderboard().scores(SPLITS[0])
    prefix = "CAT-Seg, all weights: "
    better, plain = surely_better(scores), prefix + "plain"
    truth = {label for label in scores if label.startswith(prefix) and (label, plain) in better}
    found = answered(answer)
    if not isinstance(found, list | tuple | set):
        raise Wrong(f"a {type(found).__name__}", "a list of names", "collect the names in a list")
    extra, lacking = sorted(set(found) - truth), sorted(truth - set(found))
    above = {n for n, score in scores.items() if n.startswith(prefix) and score.mean > scores[plain].mean}
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


@exercise(
    "11.3",
    "New instances reorder the table: what was chosen on one kind of scene need not be best on another.",
)
def same_order(answer: Callable[..., object]) -> None:
    """The answer is a function: methods -> share of pairs that stand in the same order on both splits."""
    board = read_leaderboard()
    means = [[score.mean for score in board.scores(split).values()] for split in SPLITS]
    count = len(board.methods)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    agree = sum((means[0][i] > means[0][j]) == (means[1][i] > means[1][j]) for i, j in pairs)
    traps = [
        (agree, "that is the number of pairs: divide by how many pairs there are"),
        (
            2 * agree / len(pairs) - 1,
            "that is Kendall's tau: it counts disagreement as minus one; here a share is asked for",
        ),
        (agree / count**2, "divide by the number of pairs, n (n - 1) / 2, and not by n squared"),
    ]
    close(
        answer(board.methods),
        agree / len(pairs),
        what="the share of pairs",
        tolerance=0.004,
        traps=traps,
        otherwise="compare hIoU means pair by pair",
    )


@exercise("11.4", "Which method is best depends on what a second is worth to you.")
def for_a_budget(answer: Callable[..., object]) -> None:
    """The answer is a function: methods, speed, budget -> the highest mean hIoU within the budget."""
    board = read_leaderboard()
    times, scores = {label: board.time_of(label) for label in board.methods}, board.scores(SPLITS[0])
    # In forward passes of CLIP, from less than one to many.
    for budget in (0.7, 1.3, 2.5, 10.0):
        inside = [label for label in scores if times[label] <= budget]
        right = max(inside, key=lambda label: scores[label].mean)
        found = answered(answer(board.methods, board.speed, budget))
        if found not in scores:
            raise Wrong(repr(found), "the name of a method", "return the key of the method")
        slow = f"it takes {times[found]:.1f} forward passes of CLIP"
        low = f"its hIoU is {100 * scores[found].mean:.1f}, and another within the budget has more"
        reasons = {label: slow if times[label] > budget else low for label in scores if label != right}
        choice(found, right, list(scores), what=f"a budget of {budget:g}", reasons=reasons)
