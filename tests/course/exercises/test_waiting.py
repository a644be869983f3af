"""Exercises whose chapter is not there yet: judged as `test_exercises` judges those of the notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import pytest

from infoclip_lite.core.statistics import interval, paired_interval
from infoclip_lite.course.exercises import judge

Curve = Mapping[int, Sequence[float]]


def right(linear: Curve, head: Curve) -> float:
    found = math.inf
    for step in sorted(linear, reverse=True):
        if paired_interval(head[step], linear[step]).low <= 0:
            break
        found = step
    return found


def by_means(linear: Curve, head: Curve) -> float:
    found = math.inf
    for step in sorted(linear, reverse=True):
        if fmean(head[step]) <= fmean(linear[step]):
            break
        found = step
    return found


def first_time(linear: Curve, head: Curve) -> float:
    sure = (step for step in linear if paired_interval(head[step], linear[step]).low > 0)
    return next(sure, math.inf)


def unpaired(linear: Curve, head: Curve) -> float:
    found = math.inf
    for step in sorted(linear, reverse=True):
        if interval(head[step]).low <= interval(linear[step]).high:
            break
        found = step
    return found


def test_the_first_sure_step_that_stays_sure_is_right() -> None:
    assert judge("11.5", right).passed


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (by_means, "looks at means alone"),
        (first_time, "falls behind again later"),
        (unpaired, "not paired"),
        (lambda linear, head: 1600, "does not look at what it is given"),
        (lambda linear, head: math.inf, "does not look at what it is given"),
        (lambda linear, head: {}, ""),
    ],
    ids=["means", "first", "unpaired", "a step", "never", "nothing"],
)
def test_wrong_answers_get_their_explanation(answer: Callable[..., object], says: str) -> None:
    verdict = judge("11.5", answer)
    assert not verdict.passed and says in verdict.text, verdict.text


def test_no_answer_is_not_answered() -> None:
    assert "not answered yet" in judge("11.5", lambda linear, head: None).text
