"""Pictures in a grid, and pictures enlarged for the eye."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from infoclip_lite.core.overlay import enlarged, picture_grid, picture_row


def test_a_grid_has_a_title_a_column_and_its_rows_begin_at_the_top() -> None:
    rows = [[np.zeros((4, 6, 3)), Image.new("RGB", (5, 9))], [np.ones((4, 4, 3)), np.ones((8, 8, 3))]]
    figure = picture_grid(rows, ["left", "right"])
    assert [axis.get_title() for axis in figure.axes] == ["left", "right", "", ""]
    assert {axis.get_anchor() for axis in figure.axes} == {"N"}
    assert [axis.images[0].get_array().shape[:2] for axis in figure.axes] == [(4, 6), (9, 5), (4, 4), (8, 8)]
    plt.close(figure)


def test_a_row_is_a_grid_of_one() -> None:
    figure = picture_row({"one": np.zeros((4, 6, 3))}, height=2)
    assert len(figure.axes) == 1 and figure.get_size_inches().tolist() == [2.0, 2.3]
    plt.close(figure)


def test_a_row_without_a_title_for_each_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="got a row of 1 pictures for 2 titles"):
        picture_grid([[np.zeros((4, 4, 3))]], ["a", "b"])


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((96, 96), (384, 384)), ((100, 200), (400, 800)), ((384, 500), (384, 500)), ((10, 4000), (10, 4000))],
)
def test_small_pictures_are_enlarged_by_whole_factors_and_strips_are_not(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert enlarged(Image.new("RGB", size)).size == wanted
