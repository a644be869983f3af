"""Tables and the figure of the repair show the reports' numbers, in points, best method first."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.repair import (
    calibration_rows,
    contrast_rows,
    plot_repair,
    relation_rows,
    score_rows,
    strength_rows,
)
from infoclip_lite.studies.rows import METRICS, SPLITS


def cell(mean: float, versus: float | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"mean": mean, "half": 0.01, "values": [mean - 0.01, mean + 0.01]}
    return row if versus is None else {**row, "difference": {"mean": versus, "half": 0.02}}


@pytest.fixture
def report() -> dict[str, Any]:
    keys = [f"{split}/{metric}" for split in SPLITS for metric in METRICS]
    pair = {"first": "full: kl", "second": "full: plain", "mean": 0.1, "half": 0.02, "p": 0.01}
    drawn = {"full: kl - full: plain": {"mean": 0.1, "low": -0.03, "high": 0.2}}
    relation = {
        f"{when} {key}_{group}": {"mean": mean, "half": 0.01}
        for when, mean in (("before", 0.6), ("after", 0.7))
        for key in ("auroc", "mIoU")
        for group in ("seen", "unseen")
    }
    return {
        "table": {
            "full: plain": dict.fromkeys(keys, cell(0.2)),
            "full: kl": dict.fromkeys(keys, cell(0.3, 0.1)),
            "full: l2sp": dict.fromkeys(keys, cell(0.25, 0.05)),
            "qv: plain": dict.fromkeys(keys, cell(0.4)),
        },
        "zero_shot": dict.fromkeys(SPLITS, dict.fromkeys(METRICS, 0.15)),
        "contrasts": {"test": [{**pair, "corrected": 0.07}]},
        "contrasts_over_nouns": drawn,
        "contrasts_over_instances": {},
        "calibration": {
            f"full: {method}": {
                "gamma": gamma,
                "sweep": {"test": {"0.0": {"hIoU": 0.2}, gamma: {"hIoU": mean}}},
                "test": {key: [mean - 0.01, mean + 0.01] for key in METRICS},
            }
            for method, gamma, mean in (("plain", "0.0", 0.2), ("kl", "1.5", 0.32))
        },
        "zero_shot_calibrated": {
            "gamma": "0.5",
            "sweep": {"test": {"0.0": {"hIoU": 0.15}}},
            "test": {key: [0.16] for key in METRICS},
        },
        "relation": {"full: infoclip, patches": relation},
    }


def test_methods_come_best_first_after_clip_before_training(report: dict[str, Any]) -> None:
    before, *rows = score_rows(report, "full")
    assert before["seeds"] is None and before["hIoU"] == pytest.approx(15)
    assert [row["method"] for row in rows] == ["kl", "l2sp", "plain"], "of this setting alone"
    assert rows[0]["hIoU"] == Interval(30, 1) and rows[0]["seeds"] == 2


def test_a_strength_is_the_one_that_was_taken_beside_all_that_were_tried() -> None:
    tried = {"0.3": 0.1, "0.4": 0.3, "0.5": 0.2, "0.8": 0.05}
    measured = {f"full: wise | {s}": {**dict.fromkeys(METRICS, h), "hIoU": h} for s, h in tried.items()}
    (row,) = strength_rows({"measured": measured, "best": {"full": {"wise": "0.4"}}}, "full")
    assert row["taken"] == "0.4" and row["hIoU"] == pytest.approx(30)
    assert row["all that was tried"].replace("\N{NO-BREAK SPACE}", "~") == (
        "0.3:~10.0; 0.4:~30.0; 0.5:~20.0; 0.8:~5.0"
    )


def test_a_contrast_has_its_intervals_over_nouns_and_instances_where_they_were_drawn(
    report: dict[str, Any],
) -> None:
    (row,) = contrast_rows(report)
    assert row["question"] == "full: kl − plain" and row["p (Holm)"] == 0.07
    assert row["difference"] == Interval(pytest.approx(10), pytest.approx(2))
    assert (row["over nouns"], row["over instances"]) == ("[-3.0, +20.0]", "")


def test_a_calibrated_row_has_its_gamma_and_what_that_gains(report: dict[str, Any]) -> None:
    before, *rows = calibration_rows(report, "full")
    assert (before["gamma"], before["hIoU"]) == (0.5, pytest.approx(16))
    assert before["hIoU gains"] == pytest.approx(1)
    assert [(row["method"], row["gamma"]) for row in rows] == [("kl", 1.5), ("plain", 0.0)]
    assert rows[0]["hIoU"].mean == pytest.approx(32) and rows[0]["hIoU gains"] == pytest.approx(12)
    assert [row["method"] for row in calibration_rows(report, "qv")] == ["before training"]


def test_the_relation_is_told_once_before_and_for_each_reading_after(report: dict[str, Any]) -> None:
    before, after = relation_rows(report)
    assert before == {"relation": "before LPAM", **dict.fromkeys(list(before)[1:], pytest.approx(60))}
    assert after["AUROC, unseen"] == Interval(pytest.approx(70), pytest.approx(1))


def test_differences_to_plain_are_drawn_in_points_best_first(report: dict[str, Any]) -> None:
    figure = plot_repair(report, "full")
    assert [axis.get_title() for axis in figure.axes] == ["seen", "unseen", "hIoU"]
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["kl", "l2sp"]
    middles = [bar.lines[0].get_xdata()[0] for bar in first.containers]
    assert middles == pytest.approx([10, 5])
    plt.close(figure)
