"""The arithmetic and the figures of chapter 15."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.statistics import ci95_of_mean
from infoclip_lite.figures.scale import hours, plot_hours, plot_seeds, plot_ways, step_cost
from infoclip_lite.studies.rows import TrainingWay

FORWARD = {"image tower": 2.0, "text tower": 5.0, "aggregation": 1.0}
ROWS = [
    TrainingWay("float32", 0.4, 1.0, 2000.0, 0.7),
    TrainingWay("bfloat16, compiled", 1.0, 2.5, None, 0.8),
]


def test_a_step_is_three_forward_passes_and_a_teachers_one() -> None:
    assert step_cost(FORWARD, batch=4, teacher=False) == 3 * (4 * 3 + 5)
    assert step_cost(FORWARD, batch=4) == 3 * (4 * 3 + 5) + 4 * 2


def test_hours_are_work_by_rate() -> None:
    assert hours(3600, 10.0, 100.0, 0.5) == pytest.approx(0.2)
    assert hours(10, 1.0, 4.0, 0.3) == hours(10, 1.0, 1.0, 0.3) / 4


def test_the_figures_say_what_they_show() -> None:
    figure = plot_ways(ROWS)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["float32", "bfloat16, compiled"]
    assert "not measured" in figure.axes[1].texts[0].get_text() and math.isnan(
        figure.axes[1].patches[1].get_width()
    )
    lines = plot_hours(100.0, 1000, {"measured": 0.4, "half": 0.2}).axes[0]
    assert [t.get_text() for t in lines.get_legend().get_texts()] == [
        "measured: 40% of the peak",
        "half: 20% of the peak",
    ]
    enough = next(n for n in range(2, 50) if ci95_of_mean(1.0, n) <= 0.6)
    assert f"{enough} seeds" in plot_seeds(1.0, 0.6).axes[0].texts[0].get_text()
    assert not plot_seeds(5.0, 0.1).axes[0].texts
    plt.close("all")
