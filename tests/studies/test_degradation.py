"""Curves over seeds: means and intervals at each step, and what a seed changed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from infoclip_lite.core.reports import read_report
from infoclip_lite.studies import runs as running
from infoclip_lite.studies.degradation import degradation, paired_difference, peak_step, summarise
from infoclip_lite.studies.rows import Point, curves_json, degradation_curves

RUNS = {
    "0": [{"step": 0, "mIoU": 0.1}, {"step": 10, "mIoU": 0.4}, {"step": 20, "mIoU": 0.2}],
    "1": [{"step": 0, "mIoU": 0.3}, {"step": 10, "mIoU": 0.5}, {"step": 20, "mIoU": 0.2}],
}


def test_curves_are_means_over_seeds_with_their_intervals() -> None:
    """Values 0.1 and 0.3: mean 0.2, deviation sqrt(0.02), t(0.975, 1) = 12.706."""
    (points,) = summarise(RUNS).values()
    assert [point.step for point in points] == [0, 10, 20]
    assert points[0].mean == pytest.approx(0.2)
    assert points[0].ci95 == pytest.approx(12.7062 * math.sqrt(0.02) / math.sqrt(2), rel=1e-4)
    assert peak_step(points) == 10


def test_a_change_is_of_each_seed_against_itself() -> None:
    found = paired_difference(RUNS, "mIoU", 0, 10)
    assert found.mean == pytest.approx(0.25) and found.ci95 == pytest.approx(12.7062 * 0.05, rel=1e-4)
    with pytest.raises(ValueError, match=r"got steps 0 and 15; expected two of \[0, 10, 20\]"):
        paired_difference(RUNS, "mIoU", 0, 15)


def test_the_report_that_ships_holds_the_summary_of_its_curves() -> None:
    report, read = read_report("degradation"), degradation_curves()
    assert read.keys() == report["curves"].keys()
    for name, runs in report["curves"].items():
        found = summarise(runs)
        assert found.keys() == read[name].keys()
        for metric, points in found.items():
            assert [_numbers(p) for p in points] == [pytest.approx(_numbers(p)) for p in read[name][metric]]
    assert {name: curves_json(curves) for name, curves in read.items()} == report["summary"]


def _numbers(point: Point) -> tuple[float, float, float]:
    return point.step, point.mean, point.ci95


def test_every_recipe_is_followed_with_every_seed_and_never_run_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tmp_path / "short.yaml"
    recipe.write_text(
        "base: mini/plain-few\nname: short\nsteps: 1\nbatch: 2\n"
        "data: {size: 32}\nevaluation: {at: [0, 1], scenes: 30}\n"
    )
    report = degradation([str(recipe)], seeds=2, folder=tmp_path, out=tmp_path / "a.json")
    assert report["curves"]["short"].keys() == {"0", "1"}
    assert [record["step"] for record in report["curves"]["short"]["1"]] == [0, 1]
    assert report["recipes"]["short"]["steps"] == 1 and report["recipes"]["short"]["data"]["size"] == 32
    assert report["summary"]["short"] == curves_json(summarise(report["curves"]["short"]))
    monkeypatch.setattr(running, "train", None)
    again = degradation([str(recipe)], seeds=2, folder=tmp_path, out=tmp_path / "b.json")
    assert again["curves"] == report["curves"]
