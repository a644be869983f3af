"""The map of fine-tuning: a panel for each cell, grounds by what the intervals say."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.degradation_map import GROUNDS, plot_map, rate_rows

CURVES = {"seen": "seen nouns", "unseen": "unseen nouns"}


def cell(verdict: str, seen: float, unseen: float) -> dict:
    def points(change: float) -> list[dict]:
        return [{"step": s, "mean": 0.3 + change * s / 800, "half": 0.01} for s in (0, 400, 800)]

    return {
        "verdict": {"test": verdict, "test-known": "kept"},
        "curves": {"seen": points(seen), "unseen": points(unseen)},
    }


def report() -> dict:
    cells = {
        "full/1e-05": cell("kept", 0.1, 0.05),
        "full/0.001": cell("broken", -0.2, -0.2),
        "full/0.0001": cell("forgetting", 0.1, -0.1),
        "head/0.01": cell("no gain", 0.0, 0.0),
        "head/0.003": cell("lost", 0.0, -0.1),
    }
    return {
        "cells": cells,
        "usable": {"full": "0.0001", "head": "0.01"},
        "zero_shot": dict.fromkeys(CURVES, 0.3),
    }


def test_cells_stand_by_tuning_and_rate_on_the_ground_of_their_verdict() -> None:
    figure = plot_map(report(), CURVES, split="test", ylabel="points")
    shown = {axis.get_title(): axis for axis in figure.axes if axis.axison}
    assert list(shown) == ["rate 1e-5", "rate 1e-4 ★", "rate 1e-3", "rate 3e-3", "rate 1e-2 ★"]
    assert to_hex(shown["rate 1e-4 ★"].get_facecolor()) == GROUNDS["forgetting"]
    seen, unseen = (line.get_ydata() for line in shown["rate 1e-4 ★"].get_lines()[1:])
    assert list(seen) == pytest.approx([0, 5, 10]) and list(unseen) == pytest.approx([0, -5, -10])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["seen nouns", "unseen nouns"] and len(texts) == 2 + 5
    known = plot_map(report(), CURVES, split="test-known", ylabel="points")
    assert {to_hex(axis.get_facecolor()) for axis in known.axes if axis.axison} == {GROUNDS["kept"]}
    plt.close("all")


def test_a_map_without_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="without a finished cell"):
        plot_map({"cells": {}, "usable": {}, "zero_shot": {}}, CURVES, split="test", ylabel="points")


def test_rows_hold_what_validation_says_and_the_changes_on_both_sorts_of_scenes() -> None:
    metrics = [f"{split}/mIoU_{group}" for split in ("test", "test-known") for group in ("seen", "unseen")]
    differences = {metric: {"mean": 0.01 * i, "half": 0.002} for i, metric in enumerate(metrics)}
    curves = {"mIoU_seen": [{"step": 0, "mean": 0.2, "half": 0.0}, {"step": 8, "mean": 0.25, "half": 0.01}]}
    cells = {"full/0.0001": {"seeds": 2, "differences": differences, "curves": curves}}
    (row,) = rate_rows({"cells": cells}, ["full/0.0001", "qv/0.0001"])
    assert (row["tuned"], row["rate"], row["seeds"]) == ("every weight", "1e-4", 2)
    assert row["validation, seen"] == Interval(25.0, 1.0)
    shown = [row[key].mean for key in ("seen, new", "unseen, new", "seen, known", "unseen, known")]
    assert shown == pytest.approx([0, 1, 2, 3])
