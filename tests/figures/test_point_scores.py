"""The study on points as tables and a figure: what is there is shown, what has no seeds has no interval."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.point_scores import noun_rows, plot_scores, score_rows
from infoclip_lite.studies.points import FROZEN

KEYS = ("mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU")


def report() -> dict:
    seeds = {"mean": 0.2, "half": 0.01, "values": [0.19, 0.21]}
    never_trained = {"mean": 0.3, "half": 0.0}

    def row(cell: dict) -> dict:
        return {f"{split}/{key}": cell for split in ("test", "test-known") for key in KEYS}

    return {
        "table": {"seen labels": row(seeds), FROZEN: row(never_trained)},
        "nouns": {
            FROZEN: {"chair": 0.5, "desk": 0.1},
            "seen labels": [{"chair": 0.1, "desk": 0.0}, {"chair": 0.3, "desk": 0.0}],
        },
        "pseudo_labels": {"desk": {"right": 0.6}},
    }


def test_frozen_clip_comes_first_and_has_no_interval() -> None:
    frozen, trained = score_rows(report())
    assert frozen["variant"] == FROZEN and frozen["unseen nouns, new"] == pytest.approx(30)
    assert trained["hIoU, known"] == Interval(20.0, 1.0)
    assert list(frozen) == list(trained) and len(frozen) == 9


def test_a_noun_has_the_mean_of_its_seeds() -> None:
    row, unseen = noun_rows(report(), "seen labels")
    found = row["seen labels"]
    assert row["word"] == "chair" and row[FROZEN] == 50
    assert isinstance(found, Interval) and found.mean == pytest.approx(20) and found.ci95 > 10
    assert row["called so in training"] is None and unseen["called so in training"] == pytest.approx(60)
    for label in ("+ local", FROZEN):
        with pytest.raises(ValueError, match=f"got '.*{label[-5:]}'; expected one of seen labels"):
            noun_rows(report(), label)


def test_a_panel_a_group_and_a_line_a_variant() -> None:
    figure = plot_scores(report())
    assert [axis.get_title() for axis in figure.axes] == ["seen nouns", "unseen nouns", "stuff"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["seen labels", FROZEN]
    new, known = figure.axes[1].containers
    assert list(new[0].get_xdata()) == pytest.approx([20, 30])
    assert (new.get_label(), known.get_label()) == ("new instances", "known instances")
    plt.close("all")


def test_the_report_that_ships_is_shown_whole() -> None:
    shipped = read_report("points")
    assert {row["variant"] for row in score_rows(shipped)} == set(shipped["table"])
    plot_scores(shipped)
    plt.close("all")
