"""Figures and tables of Chimera-Seg: what is there is drawn, what is not is left out."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.chimera import (
    contrast_rows,
    cost_rows,
    gamma_rows,
    look_rows,
    paired_rows,
    part_rows,
    plot_contrasts,
    plot_gammas,
    plot_heads,
    try_rows,
    zero_shot_rows,
)
from infoclip_lite.figures.tables import table
from infoclip_lite.studies import chimera_seg

STEPS = (200, 400, 800, 1600, 3200, 4000)
KEYS = ("mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU")


def points(first: float) -> list[dict]:
    return [{"step": step, "mean": first + i / 100, "half": 0.01} for i, step in enumerate(STEPS)]


def heads(*there: str) -> dict:
    curves = {head: {f"test/{key}": points(0.1) for key in KEYS} for head in there}
    gaps = {"test/hIoU": points(-0.02)} if len(there) == 2 else {}
    return {"curves": curves, "differences": gaps}


def parts() -> dict:
    cell = {"mean": 0.2, "half": 0.01, "values": [0.19, 0.21]}
    metrics = {gamma: {"hIoU": value} for gamma, value in (("0.0", 0.20), ("1.0", 0.23), ("2.0", 0.25))}
    row = {"first": "head", "second": "linear", "mean": -0.01, "half": 0.005, "p": 0.01}
    return {
        "table": {"linear": {f"{s}/{k}": cell for s in ("test", "test-known") for k in KEYS}},
        "contrasts": {"test": [{**row, "corrected": 0.04}], "test-known": [{**row, "corrected": 0.06}]},
        "contrasts_over_nouns": {"head - linear": {"mean": -0.01, "low": -0.03, "high": 0.002}},
        "calibration": {
            "linear": {"gamma": "1.0", "sweep": {"test": metrics, "test-known": metrics}},
            "voc: linear": {"gamma": None, "sweep": {"test": metrics, "test-known": metrics}},
        },
    }


def test_both_heads_are_drawn_by_group_and_their_difference_in_points() -> None:
    figure = plot_heads(heads("linear", "head"))
    seen, unseen, stuff, gap = figure.axes
    assert [axis.get_title() for axis in (seen, unseen, stuff)] == ["seen nouns", "unseen nouns", "stuff"]
    assert [text.get_text() for text in seen.get_legend().get_texts()] == ["linear", "head"]
    assert list(gap.get_lines()[1].get_ydata()) == pytest.approx([-2, -1, 0, 1, 2, 3])
    assert list(gap.get_lines()[1].get_xdata()) == list(STEPS) and gap.get_xscale() == "log"
    plt.close("all")


def test_one_head_is_drawn_without_a_difference_and_none_is_refused() -> None:
    figure = plot_heads(heads("linear"))
    assert len(figure.axes[0].get_lines()) == 1 == len(figure.axes[3].get_lines()), "the zero alone"
    with pytest.raises(ValueError, match="without a curve; expected one head with two seeds"):
        plot_heads(heads())
    plt.close("all")


def test_contrasts_have_a_star_where_they_hold_with_all_that_are_planned() -> None:
    report = parts()
    (sure,) = report["contrasts"]["test"]
    report["contrasts"]["test"].append({**sure, "first": "head, GLM", "second": "head", "corrected": 0.06})
    new, known = plot_contrasts(report).axes
    assert [text.get_text() for text in new.get_yticklabels()] == [
        "head minus linear",
        "head, GLM minus head",
    ]
    # p alone is below 0.05 for all; corrected, for the first on new instances. The star stands at its line.
    assert [(star.get_text(), star.xy[1]) for star in new.texts] == [("*", 0)] and not known.texts
    assert new.get_title() == "new instances" and known.get_title() == "known instances"
    with pytest.raises(ValueError, match="without a contrast"):
        plot_contrasts({"contrasts": {"test": [], "test-known": []}})
    plt.close("all")


def test_a_ring_stands_where_validation_scenes_would_have_gamma() -> None:
    (axis,) = plot_gammas(parts(), ["linear", "not there", "voc: linear"]).axes
    curve, ring, voc = axis.get_lines()
    assert list(curve.get_xdata()) == [0, 1, 2] and list(curve.get_ydata()) == pytest.approx([20, 23, 25])
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1], pytest.approx([23]))
    assert len(voc.get_xdata()) == 3, "which has no ring"
    with pytest.raises(ValueError, match="expected some of linear, voc: linear"):
        plot_gammas(parts(), ["not there"])
    plt.close("all")


def test_rows_hold_groups_apart_and_leave_out_what_is_not_there() -> None:
    (row,) = part_rows(parts(), ["linear", "head"])
    assert row["variant"] == "linear" and row["seeds"] == 2
    assert row["unseen nouns, new"] == row["hIoU, known"] == Interval(20.0, 1.0)
    assert list(row)[2:4] == ["seen nouns, new", "seen nouns, known"]
    assert part_rows(parts()) == [row] and part_rows({"table": {}}) == []


def test_differences_are_of_the_same_seeds() -> None:
    def row(*values: float) -> dict:
        return {f"{split}/hIoU": {"values": list(values)} for split in ("test", "test-known")}

    report = {"table": {"five": row(0.3, 0.5, 0.1, 0.9, 0.7), "three": row(0.2, 0.4, 0.0)}}
    (found,) = paired_rows(report, [("three", "five")])
    # Every pair is a tenth apart: the further seeds of one row have no partner.
    assert found["difference"] == "three minus five" and found["seeds"] == 3
    assert found["hIoU, new"].mean == pytest.approx(-10) and found["hIoU, new"].ci95 == pytest.approx(0)
    assert found["unseen nouns, new"] is None


def test_contrasts_as_rows_have_the_interval_over_nouns_where_it_was_drawn() -> None:
    (row,) = contrast_rows(parts())
    assert row["hIoU"] == Interval(-1.0, 0.5) and row["95% over nouns"] == "-3.0 to +0.2"
    assert contrast_rows(parts(), "test-known")[0]["95% over nouns"] == "–"
    assert "-1.00 ± 0.50" in repr(table([row]))


def test_what_gamma_adds_is_told_apart_from_what_fitting_it_would() -> None:
    (row,) = gamma_rows(parts(), ["linear", "voc: linear", "not there"])
    assert row == {
        "variant": "linear",
        "gamma": 1.0,
        "adds, new": pytest.approx(3.0),
        "adds, known": pytest.approx(3.0),
        "fitted to the new": pytest.approx(5.0),
    }


def test_clip_itself_stands_in_the_same_columns_without_seeds() -> None:
    metrics = {"mIoU_seen": 0.2, "mIoU_unseen": 0.3, "hIoU": 0.24}  # stuff was not measured
    report = {**parts(), "zero_shot": {"vanilla": {"test": metrics, "test-known": metrics}}}
    (row,) = zero_shot_rows(report)
    assert list(row) == list(part_rows(report)[0]) and row["seeds"] is None
    assert row["unseen nouns, new"] == pytest.approx(30) and row["stuff, known"] is None
    assert "zero-shot: vanilla" in repr(table([row, *part_rows(report)]))


def test_looks_stand_in_rows_with_their_difference() -> None:
    rows = look_rows(heads("linear", "head"))
    assert [row["step"] for row in rows] == list(STEPS)
    assert list(rows[0]) == ["step", "linear", "head", "head minus linear"]
    assert rows[-1]["linear"] == Interval(pytest.approx(15), 1.0)
    assert rows[0]["head minus linear"] == Interval(-2.0, 1.0)
    assert list(look_rows(heads("linear"))[0]) == ["step", "linear"]


def test_every_try_is_shown_and_two_settings_share_the_one_that_they_begin_with() -> None:
    measured = {label: {"hIoU": i / 100} for i, label in enumerate(chimera_seg.candidates())}
    report = {"measured": measured, "best": chimera_seg.best_tries(measured)}
    rows = {row["setting"]: row for row in try_rows(report)}
    assert list(rows) == list(chimera_seg.TRIES)
    shared = f"{100 * measured['SGD as it begins']['hIoU']:.1f}"
    assert f"3: {shared}" in rows["dense"]["hIoU of each try"]
    assert f"36: {shared}" in rows["smallest"]["hIoU of each try"]
    assert rows["rate, head"]["taken"] == "3"


def test_a_price_is_told_beside_that_of_the_same_size() -> None:
    def row(what: str, model: str, ms: float, **more: int) -> dict:
        return {"what": what, "model": model, "ms_a_picture": ms, "parameters": 4_000_000, "parts": more}

    chimera, clip = cost_rows(
        {"rows": [row("here", "Chimera-Seg", 2.0, frozen=500_000), row("here", "zero-shot CLIP", 5.0, all=1)]}
    )
    assert (chimera["times Chimera-Seg's"], clip["times Chimera-Seg's"]) == (1, 2.5)
    assert (chimera["weights (M)"], chimera["of which frozen"], clip["of which frozen"]) == (4, 0.5, None)
