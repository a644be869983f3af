"""Figures of reading without training show the report's numbers."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.figures.training_free import plot_contrasts, plot_parts

ATTENTIONS = ("qk", "v")
SPLITS = ("test", "test-known")


@pytest.fixture
def report() -> dict[str, Any]:
    kept = ("", " + x", " + ffn", " + x + ffn")
    labels = [attention + part for attention in ATTENTIONS for part in kept]
    rows = {
        label: {split: {"hIoU": {"mean": 0.01 * i, "half": 0.002}} for split in SPLITS}
        for i, label in enumerate(labels)
    }
    asked = [{"asks": f"question {i}", "mean": 0.01 * (i - 1), "half": 0.005} for i in range(3)]
    return {"rows": rows, "contrasts": dict.fromkeys(SPLITS, asked)}


def test_each_cell_of_the_parts_says_its_number_and_interval(report: dict[str, Any]) -> None:
    figure = plot_parts(report, ATTENTIONS)
    for axis in figure.axes:
        texts = [text.get_text() for text in axis.texts]
        assert texts == [f"{i:.1f}\n± 0.2" for i in range(8)]
        assert [label.get_text() for label in axis.get_yticklabels()] == list(ATTENTIONS)
    plt.close(figure)


def test_each_question_has_a_line_in_each_panel(report: dict[str, Any]) -> None:
    figure = plot_contrasts(report)
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == [f"question {i}" for i in range(3)]
    for axis in (first, second):
        middles = [bar.lines[0].get_xdata()[0] for bar in axis.containers]
        assert middles == pytest.approx([-1, 0, 1])
    plt.close(figure)
