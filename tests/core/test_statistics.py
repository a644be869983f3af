"""Intervals, paired differences, corrected p-values, contrasts, ranks: against formulas and scipy."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from infoclip_lite.core.statistics import (
    Interval,
    Score,
    ci95_of_mean,
    contrasts,
    difference,
    holm,
    interval,
    paired_interval,
    pareto_front,
    rank_ranges,
    seeds_needed,
    surely_better,
)

SEEDED = Score(2.0, 0.0, values=(1.0, 2.0, 3.0))
VALUES = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=3, max_size=8)


def test_an_interval_is_students() -> None:
    """Four values: mean 5, deviation sqrt(20 / 3), t(0.975, 3) = 3.1824."""
    got = interval([2.0, 4.0, 6.0, 8.0])
    assert got.mean == 5 and got.ci95 == pytest.approx(3.1824 * math.sqrt(20 / 3) / 2, rel=1e-4)
    assert (got.low, got.high) == (got.mean - got.ci95, got.mean + got.ci95)
    assert got.excludes_zero is (got.low > 0)
    with pytest.raises(ValueError, match="got 1 values; expected at least 2 seeds"):
        interval([3.0])


def test_the_half_width_is_scipys_at_every_number_of_seeds() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0, 9.0])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert ci95_of_mean(values.std(ddof=1), 5) == pytest.approx((high - low) / 2)


@given(VALUES, VALUES)
def test_a_difference_by_seed_is_scipys_paired_t_test(first: list[float], second: list[float]) -> None:
    count = min(len(first), len(second))
    a, b = first[:count], second[:count]
    deviation = np.std(np.subtract(a, b), ddof=1)
    if deviation < 1e-3:
        return
    wanted = stats.ttest_rel(a, b)
    found = difference(Score(0.0, 0.0, values=tuple(a)), Score(0.0, 0.0, values=tuple(b)))
    bounds = wanted.confidence_interval(0.95)
    given, expected = (found.low, found.high, found.p), (bounds.low, bounds.high, wanted.pvalue)
    assert given == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert paired_interval(a, b) == Interval(found.mean, found.ci95)


def test_the_same_luck_in_both_cancels() -> None:
    """Paired: two methods that go up and down together differ surely, however much they vary."""
    worse, better = Score(5.0, 0.0, values=(0.0, 5.0, 10.0)), Score(6.0, 0.0, values=(1.0, 6.1, 10.9))
    found = difference(better, worse)
    assert found.mean == pytest.approx(1.0) and 0 < found.ci95 < 0.3 and found.p < 0.01
    assert surely_better({"a": worse, "b": better}) == {("b", "a")}


def test_untrained_methods_are_paired_by_draw() -> None:
    a, b = Score(1.0, 0.0, draws=(0.9, 1.1, 1.0)), Score(0.5, 0.0, draws=(0.4, 0.6, 0.5))
    assert difference(a, b).p == 0.0, "every draw says the same"
    other = Score(0.5, 0.0, draws=(0.6, 0.4, 0.5))
    found = difference(a, other)
    assert found.ci95 == pytest.approx(1.96 * 0.2, rel=1e-3) and found.mean == 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Score(1.0, 0.0, draws=(1.0, 2.0)), Score(1.0, 0.0)),
        (SEEDED, Score(1.0, 0.0, values=(1.0,))),
        (SEEDED, Score(1.0, 0.0, values=(1.0, 2.0))),
    ],
)
def test_scores_that_cannot_be_paired_are_refused(one: Score, other: Score) -> None:
    with pytest.raises(ValueError, match="expected"):
        difference(one, other)


def test_corrected_p_values_are_holms() -> None:
    """0.001 x 4, 0.02 x 3, 0.03 x 2 (no smaller than the one before), 0.9 x 1."""
    assert holm([0.001, 0.03, 0.02, 0.9]) == pytest.approx([0.004, 0.06, 0.06, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []


def test_contrasts_that_are_not_measured_yet_make_the_others_no_surer() -> None:
    scores = {"ours": SEEDED, "plain": Score(0.0, 0.0, values=(0.0, 0.1, 0.0))}
    (alone,), (one_of_four,) = (contrasts(scores, [("ours", "plain")], planned=n) for n in (1, 4))
    assert alone.corrected == alone.p and one_of_four.corrected == pytest.approx(min(1, 4 * alone.p))
    with pytest.raises(ValueError, match="got 1 contrasts, of which 0 were planned"):
        contrasts(scores, [("ours", "plain")], planned=0)


def test_contrasts_are_corrected_for_those_that_were_planned() -> None:
    scores = {
        "plain": Score(1.0, 0.0, values=(1.0, 1.1, 0.9)),
        "ours": Score(2.0, 0.0, values=(2.0, 2.2, 1.8)),
        "theirs": Score(1.1, 0.0, values=(1.2, 1.0, 1.1)),
        "unplanned": Score(9.0, 0.0, values=(9.0, 9.1, 9.2)),
    }
    found = contrasts(scores, [("ours", "plain"), ("theirs", "plain")])
    assert [(c.first, c.second) for c in found] == [("ours", "plain"), ("theirs", "plain")]
    assert [c.p for c in found] == [difference(scores[c.first], scores["plain"]).p for c in found]
    assert [c.corrected for c in found] == holm([c.p for c in found]) and found[0].corrected == 2 * found[0].p
    assert found[0].holds and not found[1].holds
    assert found[0].to_json().keys() == {"first", "second", "mean", "half", "p", "corrected"}
    with pytest.raises(ValueError, match="got a contrast with 'best'; expected methods .*: plain, ours"):
        contrasts(scores, [("best", "plain")])


def test_ties_share_their_ranks() -> None:
    better = {("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")}
    assert rank_ranges(["a", "b", "c", "d"], better) == {"a": (1, 2), "b": (1, 2), "c": (3, 4), "d": (3, 4)}


def test_pareto_keeps_whoever_is_not_beaten_in_less_time() -> None:
    score = {"fast": 1.0, "slow": 2.0, "slower": 2.0, "worse": 0.5}
    times = {"slower": 9.0, "slow": 8.0, "fast": 1.0, "worse": 2.0}
    assert pareto_front(times, lambda a, b: score[a] > score[b]) == ["fast", "slow", "slower"]


@pytest.mark.parametrize(
    "row",
    [
        {"mean": 0.5, "half": 0.1},
        {"mean": 0.5, "half": 0.1, "values": [0.4, 0.6], "difference": {"mean": 0.1, "half": 0.2}},
        {"mean": 0.5, "half": 0.1, "draws": [0.4, 0.6]},
    ],
)
def test_a_score_is_read_and_written_as_reports_hold_it(row: dict) -> None:
    assert Score.from_json(row).to_json() == row


def test_reading_scores_loads_no_scipy() -> None:
    """This room alone is looked at: the face of the package may load what it likes."""
    import infoclip_lite

    code = f"""
import sys, types
package = types.ModuleType("infoclip_lite")
package.__path__ = {list(infoclip_lite.__path__)!r}
sys.modules["infoclip_lite"] = package
from infoclip_lite.core.statistics import Score
Score.from_json({{"mean": 1.0, "half": 0.0}})
print(sorted({{name.split(".")[0] for name in sys.modules}} & {{"scipy", "torch", "numpy"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("effect", [0.5, 1.0, 3.0])
def test_as_many_seeds_as_are_needed_find_a_difference_four_times_in_five(effect: float) -> None:
    """Against trials: normal differences of that mean, in deviations."""
    pairs = [effect - 0.5**0.5, effect + 0.5**0.5]  # deviation one
    needed = seeds_needed(pairs)
    assert needed is not None
    rng = np.random.default_rng(0)

    def found(count: int) -> float:
        draws = effect + rng.standard_normal((4000, count))
        return float((stats.ttest_1samp(draws, 0.0, axis=1).pvalue <= 0.05).mean())

    assert found(needed) > 0.78 and (needed == 2 or found(needed - 1) < 0.82)


def test_what_does_not_differ_is_not_told_apart_and_what_always_does_is() -> None:
    assert seeds_needed([1.0, -1.0]) is None and seeds_needed([1.0, 1.0, 1.0]) == 2
    assert seeds_needed([1e-4 - 1, 1e-4 + 1]) is None, "more than a thousand"
