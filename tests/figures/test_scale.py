"""The arithmetic and the figures of chapter 12."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from infoclip_lite.core.statistics import seed_interval
from infoclip_lite.figures.scale import hours, plot_hours, plot_seeds, plot_ways, step_cost

FORWARD = {"image tower": 2.0, "text tower": 5.0, "aggregation": 1.0}
ROWS = [
    {"what": "float32", "ratio": 1.0, "kept_mb": 2000.0},
    {"what": "bfloat16, compiled", "ratio": 2.5, "kept_mb": None},
]


def test_a_step_is_three_forward_passes_and_a_teachers_one() -> None:
    assert step_cost(FORWARD, batch=4, teacher=False) == 3 * (4 * 3 + 5)
    assert step_cost(FORWARD, batch=4) == 3 * (4 * 3 + 5) + 4 * 2


def test_hours_are_work_by_rate() -> None:
    assert hours(3600, 10.0, 100.0, 0.5) == pytest.approx(0.2)
    assert (np.diff(hours(10, 1.0, np.array([1.0, 2.0, 4.0]), 0.3)) < 0).all()


def test_the_interval_is_students() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0, 9.0])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert seed_interval(values.std(ddof=1), 5) == pytest.approx((high - low) / 2)


def test_the_figures_say_what_they_show() -> None:
    figure = plot_ways(ROWS)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["float32", "bfloat16, compiled"]
    assert "not measured" in figure.axes[1].texts[0].get_text() and math.isnan(figure.axes[1].patches[1].get_width())
    lines = plot_hours(100.0, 1000, {"measured": 0.4, "half": 0.2}).axes[0]
    assert [t.get_text() for t in lines.get_legend().get_texts()] == ["measured: 40% of the peak", "half: 20% of the peak"]
    enough = next(n for n in range(2, 50) if seed_interval(1.0, n) <= 0.6)
    assert f"{enough} seeds" in plot_seeds(1.0, 0.6).axes[0].texts[0].get_text()
    assert not plot_seeds(5.0, 0.1).axes[0].texts
    plt.close("all")
