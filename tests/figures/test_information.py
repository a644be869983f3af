"""Figures on information: equal things look alike, and nothing hides behind something else."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_rgb

from infoclip_lite.figures.information import (
    plot_benchmark,
    plot_lines,
    plot_pairs,
    plot_panels,
)
from infoclip_lite.figures.samples import plot_clusters, plot_neighbours
from infoclip_lite.information.tasks import get_task
from infoclip_lite.studies.rows import EstimatorError, EstimatorReport, KnownTask


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_curve_keeps_its_colour_and_mark_in_another_figure() -> None:
    axes = {"xlabel": "x", "ylabel": "y"}
    first = plot_lines([1, 2], {"a": [0, 1], "b": [1, 2]}, **axes).axes[0].lines
    alone = plot_lines([1, 2], {"b": [1, 2], "c": [0, 0]}, places={"b": 1, "c": 2}, **axes).axes[0].lines
    assert to_rgb(alone[0].get_color()) == to_rgb(first[1].get_color())
    assert alone[0].get_marker() == first[1].get_marker()
    assert to_rgb(alone[1].get_color()) not in {to_rgb(line.get_color()) for line in first}


def test_panels_have_scales_of_their_own_and_names_one_colour() -> None:
    panels = {"large": {"a": [1.0, 9.0], "b": [2.0, 5.0]}, "small": {"b": [0.001, -0.002]}}
    bands = {"small": {"b": ([-0.003, -0.004], [0.002, 0.001])}}
    figure = plot_panels([2, 4], panels, xlabel="n", ylabel="bits", bands=bands, level=("truth", 0.0))
    large, small = figure.axes
    assert large.get_ylim()[1] > 9 and small.get_ylim()[1] < 0.01
    colours = [{line.get_label(): to_rgb(line.get_color()) for line in axis.lines} for axis in (large, small)]
    assert colours[0]["b"] == colours[1]["b"] != colours[0]["a"]
    assert [label.get_text() for label in small.get_xticklabels()] == ["2", "4"]


def test_fineness_is_the_page_s_to_choose() -> None:
    with plt.rc_context({"figure.dpi": 173}):
        assert plot_lines([1, 2], {"a": [0, 1]}, xlabel="x", ylabel="y").dpi == 173


def test_a_variable_of_two_dimensions_is_drawn_in_its_plane() -> None:
    tasks = [(name, *get_task(name).sample(50, seeded(0))) for name in ("normal", "swiss_roll")]
    plain, roll, bar = plot_pairs(tasks).axes
    assert plain.get_ylabel() == "y" and roll.get_ylabel() == "second coordinate of x"
    assert bar.get_ylabel() == "y"
    drawn = torch.as_tensor(roll.collections[0].get_offsets().data)
    assert torch.equal(drawn, tasks[1][1])


def test_errors_that_round_to_zero_have_no_sign_and_gaps_stay_blank() -> None:
    report = EstimatorReport(
        5, [KnownTask("normal", 0.4, 1, 1)], [EstimatorError("normal", "ksg", 10, -0.001, -0.1, 0.1, None)]
    )
    texts = [text.get_text() for text in plot_benchmark(report, 10, ["ksg", "club"]).axes[0].texts]
    assert texts[0] == "0.00" and set(texts[1:]) <= {""}


def test_the_strips_hold_those_that_ksg_counts() -> None:
    x, y = get_task("normal").sample(60, seeded(3))
    figure = plot_neighbours(x, y, sample=40, k=3)
    radius = torch.maximum((x - x[40]).abs(), (y - y[40]).abs())[:, 0].sort().values[3]
    upright, flat = (int(((z - z[40]).abs() < radius).sum()) - 1 for z in (x, y))
    assert figure.axes[0].get_title() == f"others in the strips: {upright} upright, {flat} across"
    # Three neighbours in the square, the last of them on its edge.
    assert len(figure.axes[0].collections[3].get_offsets()) == 3 + 1


def test_samples_stand_beside_their_matrices_in_one_colour_a_group() -> None:
    groups = torch.tensor([0, 0, 1])
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]])
    figure = plot_clusters(
        points, groups, [("one", torch.eye(3)), ("two", torch.ones(3, 3))], radii=(1, 4), unit="u"
    )
    samples, one, two, bar = figure.axes
    assert [circle.get_radius() for circle in samples.patches] == [1, 4]
    assert bar.get_ylabel() == "u" and (one.get_title(), two.get_title()) == ("one", "two")
    dots = [to_rgb(drawn.get_facecolor()[0]) for drawn in samples.collections]
    strip = [to_rgb(patch.get_facecolor()) for patch in one.patches]
    assert strip == [dots[0], dots[0], dots[1]]
