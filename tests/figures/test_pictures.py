"""Figures: colours that can be told apart, labelled axes, one scale for maps that are compared."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from infoclip_lite.core.colours import UNLABELLED, shades, verdict_shades, word_colours
from infoclip_lite.core.overlay import colourise, overlay, picture_row
from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.pictures import (
    band,
    curves_with_bands,
    difference_plot,
    heat_maps,
    label_maps,
    patch_grid,
)
from infoclip_lite.figures.relation import WordView, relation_figure
from infoclip_lite.studies.rows import Point

NAMES = ["cow", "grass", "sky"]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_lines_have_colours_that_differ_and_none_of_the_first_is_yellow() -> None:
    """A yellow line on white paper cannot be seen."""
    found = shades(52)
    assert len(set(found)) == 52 and shades(3) == found[:3] and shades(0) == []
    assert all(blue > 0.35 or red < 0.85 or green < 0.6 for red, green, blue in found[:9])


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_labels_get_their_colours_and_others_grey(dtype: type) -> None:
    labels = np.array([[0, 1], [2, 255]], dtype=dtype)
    colours = word_colours(NAMES)
    assert np.array_equal(
        colourise(labels, NAMES), np.array([[colours[0], colours[1]], [colours[2], UNLABELLED]])
    )
    assert (colourise(np.array([[-1, 3, 255]]), NAMES) == UNLABELLED).all()


def test_opacity_blends_picture_and_labels() -> None:
    image, labels = np.full((400, 400, 3), 200, np.uint8), np.zeros((400, 400), np.uint8)
    for opacity in (0.0, 0.4, 1.0):
        wanted = (1 - opacity) * 200 + opacity * word_colours(NAMES)[0].astype(float)
        got = np.asarray(overlay(image, labels, NAMES, opacity=opacity, legend=False))
        assert np.allclose(got, wanted, atol=1)


def test_legend_lies_below_and_shows_the_words_that_occur() -> None:
    image, labels = np.full((400, 500, 3), 255, np.uint8), np.zeros((400, 500), np.uint8)
    labels[:, 250:] = 2
    drawn = overlay(image, labels, NAMES)
    legend = np.asarray(drawn)[400:].reshape(-1, 3).tolist()
    assert drawn.width == 500 and drawn.height > 410
    colours = word_colours(NAMES).tolist()
    assert colours[0] in legend and colours[2] in legend and colours[1] not in legend
    labels[:] = 255
    assert list(UNLABELLED) in np.asarray(overlay(image, labels, NAMES))[400:].reshape(-1, 3).tolist()


def test_many_words_wrap_into_rows_inside_the_picture() -> None:
    names = [f"a rather long word {i}" for i in range(12)]
    labels = np.repeat(np.arange(12), 40)[:, None].repeat(480, 1).astype(np.uint8)
    few, many = (
        overlay(np.zeros((480, 480, 3), np.uint8), np.minimum(labels, last), names) for last in (0, 11)
    )
    assert many.height > few.height + 5 * 20 and many.width == 480
    assert np.asarray(many)[480:, -2:].min() > 200, "nothing may be cut at the border"


def test_small_pictures_are_enlarged_evenly() -> None:
    drawn = overlay(np.zeros((10, 20, 3), np.uint8), np.zeros((10, 20), np.uint8), NAMES, legend=False)
    assert min(drawn.size) >= 384 and drawn.width == 2 * drawn.height


def test_overlay_leaves_its_arguments_alone() -> None:
    image, labels = np.full((8, 8, 3), 7, np.uint8), np.ones((8, 8), np.uint8)
    overlay(image, labels, NAMES)
    assert (image == 7).all() and (labels == 1).all()


def test_picture_row_has_a_title_each_and_no_axes() -> None:
    figure = picture_row({"one": np.zeros((4, 6, 3)), "two": Image.new("RGB", (5, 5))})
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    assert not any(axis.axison for axis in figure.axes)
    assert figure.axes[0].images[0].get_array().shape == (4, 6, 3)


def test_heat_maps_share_one_labelled_scale() -> None:
    maps = {"a": np.array([[0.1, 0.2]]), "b": np.array([[-0.5, 0.9]])}
    figure = heat_maps(np.zeros((4, 4, 3)), maps)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["picture", "a", "b"]
    assert {axis.images[0].get_clim() for axis in figure.axes[1:3]} == {(-0.5, 0.9)}
    assert figure.axes[-1].get_ylabel() == "cosine"


def test_many_heat_maps_stand_in_two_rows() -> None:
    figure = heat_maps(np.zeros((4, 4, 3)), {name: np.eye(2) for name in "abcd"})
    tops = [axis.get_subplotspec().rowspan.start for axis in figure.axes[:6]]
    assert tops == [0, 0, 0, 1, 1, 1]
    assert not any(axis.axison for axis in figure.axes[:6]), "the sixth place is empty"


def test_band_draws_mean_and_interval() -> None:
    axis = plt.figure().add_subplot()
    band(axis, [Point(1.0, 0.1, 0), Point(2.0, 0.2, 10), Point(3.0, 0.3, 20)], "plain", 0)
    line, shade = axis.lines[0], axis.collections[0].get_paths()[0].get_extents()
    assert line.get_label() == "plain" and line.get_ydata().tolist() == [1, 2, 3]
    assert (shade.y0, shade.y1) == pytest.approx((0.9, 3.3)) and (shade.x0, shade.x1) == (0, 20)


def test_label_maps_share_colours_and_one_legend() -> None:
    first, second = np.zeros((6, 6), np.int64), np.full((6, 6), 1)
    first[:, 3:], second[:, 3:] = 2, 255
    figure = label_maps({"truth": first, "guess": second}, NAMES, image=np.zeros((6, 6, 3)))
    assert [axis.get_title() for axis in figure.axes] == ["picture", "truth", "guess"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(words) == ["cow", "grass", "other", "sky"]
    truth, guess = (axis.images[0].get_array() for axis in figure.axes[1:])
    assert (
        tuple(guess[0, 5]) == UNLABELLED
        and len({tuple(truth[0, 0]), tuple(truth[0, 5]), tuple(guess[0, 0])}) == 3
    )
    handles = dict(zip(words, figure.legends[0].get_patches(), strict=True))
    assert np.allclose(np.array(handles["cow"].get_facecolor()[:3]) * 255, truth[0, 0], atol=1)


def test_label_maps_go_on_in_a_second_row() -> None:
    maps = {f"map {i}": np.full((6, 6), i % 3) for i in range(5)}
    figure = label_maps(maps, NAMES, columns=3)
    assert [axis.get_title() for axis in figure.axes] == [*maps, ""]
    places = [axis.get_subplotspec() for axis in figure.axes]
    assert [place.rowspan.start for place in places] == [0, 0, 0, 1, 1, 1]
    assert not figure.axes[-1].images and not figure.axes[-1].axison


def test_patch_grid_frames_the_patches_asked_for() -> None:
    figure = patch_grid(np.zeros((32, 48, 3)), 8, mark={"here": (1, 2)})
    (axis,) = figure.axes
    frame = axis.patches[0]
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (16, 8, 8, 8)
    assert (
        axis.texts[0].get_text() == "here" and "pixels" in axis.get_xlabel() and "pixels" in axis.get_ylabel()
    )
    assert list(axis.get_xticks()) == list(range(0, 49, 8)) and list(axis.get_yticks()) == list(
        range(0, 33, 8)
    )
    assert not list(patch_grid(np.zeros((16, 16, 3)), 8).axes[0].patches)


def test_curves_have_a_panel_each_metric_and_a_band_each_training() -> None:
    records = [Point(0.2, 0.01, 0), Point(0.3, 0.02, 50)]
    summaries = {"full": {"mIoU": records, "margin": records}, "qv": {"mIoU": records[:1], "margin": records}}
    figure = curves_with_bands(
        summaries, {"mIoU": "dense", "margin": "margin of the right word"}, ylabel="share"
    )
    assert [axis.get_title() for axis in figure.axes] == ["dense", "margin of the right word"]
    assert all(axis.get_xlabel() == "training step" and len(axis.lines) == 2 for axis in figure.axes)
    assert figure.axes[0].get_ylabel() == "share"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "qv"]


def test_differences_are_points_in_order_with_a_colour_for_certainty() -> None:
    rows = {"up": Interval(0.02, 0.01), "down": Interval(-0.03, 0.01), "unsure": Interval(0.01, 0.02)}
    axis = plt.figure().subplots()
    difference_plot(axis, rows)
    assert [t.get_text() for t in axis.get_yticklabels()] == list(rows)
    points = np.array([(c[0].get_xdata()[0], c[0].get_ydata()[0]) for c in axis.containers])
    assert np.allclose(points, [(2, 0), (-3, 1), (1, 2)])
    assert tuple(c[0].get_color() for c in axis.containers) == verdict_shades()
    assert axis.yaxis_inverted(), "the first row is on top"
    bars = [segment for c in axis.containers for segment in c[2][0].get_segments()]
    assert np.allclose([(s[0][0], s[1][0]) for s in bars], [(1, 3), (-4, -2), (-1, 3)])


def test_a_words_maps_are_standardised_and_scored() -> None:
    truth = np.zeros((24, 24), dtype=bool)
    truth[:, 12:] = True
    right = np.array([[0.0, 1.0], [0.0, 1.0]])
    view = WordView(np.zeros((3, 24, 24)), "cow", truth, {"good": 5 + 100 * right, "bad": -right})
    axes = relation_figure([view]).axes
    assert [a.get_title() for a in axes[:2]] == ['"cow"', "good: 1.00"]
    assert float(axes[2].get_title().removeprefix("bad: ")) < truth.mean(), "worse than chance"
    shown = [np.asarray(a.images[0].get_array()) for a in axes[1:]]
    assert np.allclose(shown[0], -shown[1], atol=1e-4), "scale and offset are gone"
