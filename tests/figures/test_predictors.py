"""Figures of the report on probes: every training a point, every probe a line."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.figures.predictors import plot_correlations, plot_kept, stopping_rows

POINTS = [
    {
        "tuning": tuning,
        "cell": f"{tuning}/1",
        "seed": 0,
        "step": 50,
        "kept": kept,
        "bits": bits,
        "margin": 0.1,
    }
    for tuning, kept, bits in (("full", -0.1, 0.2), ("full", 0.0, 0.4), ("qv", 0.05, 0.3))
]


def rho(value: float) -> dict[str, float]:
    return {"rho": value, "low": value - 0.1, "high": value + 0.2}


def rule(mean: float) -> dict:
    one = {"mean": mean, "half": 0.01}
    return {"seen": one, "unseen": one, "hIoU": one, "difference": {"mean": mean - 0.2, "half": 0.02}}


def test_every_training_is_a_point_of_its_tuning() -> None:
    figure = plot_kept({"points": POINTS}, ["bits", "margin"])
    full, qv = figure.axes[0].get_lines()[1:]
    assert list(full.get_xdata()) == [0.2, 0.4] and list(full.get_ydata()) == pytest.approx([-10, 0])
    assert list(qv.get_ydata()) == pytest.approx([5]) and full.get_marker() != qv.get_marker()
    assert [axis.get_xlabel() for axis in figure.axes] == ["bits", "margin"]
    plt.close(figure)


def test_every_probe_is_a_line_with_both_scopes() -> None:
    rows = {name: {"all": rho(0.5), "within": rho(-0.3), "full": rho(0)} for name in ("bits", "margin")}
    figure = plot_correlations({"correlation": rows})
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["bits", "margin"]
    drawn = [float(c.lines[0].get_xdata()[0]) for c in axis.containers]
    assert drawn == pytest.approx([0.5, 0.5, -0.3, -0.3])
    low, high = axis.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((0.4, 0.7))
    plt.close(figure)


def test_rules_come_best_first_with_their_intervals() -> None:
    rows = stopping_rows({"stopping": {"last step": rule(0.2), "bits": rule(0.31)}})
    assert [row["stop by"] for row in rows] == ["bits", "last step"]
    assert rows[0]["hIoU"] == "31.0 ± 1.0" and rows[0]["hIoU less the last step's"] == "+11.0 ± 2.0"
