"""The cloud that can be turned: a page of its own, small, without a network; and its twin."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
import torch

from infoclip_lite.core.colours import UNLABELLED, word_colours
from infoclip_lite.figures.points import plot_points, points_page

NAMES = ["chair", "</script>", "wood"]
POINTS = torch.tensor([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
LABELS = {"truth": torch.tensor([0, 1, 255]), "frozen CLIP": torch.tensor([0, 0, 2])}


def data_of(page: str) -> dict:
    (found,) = re.findall(r"showPoints\(document.getElementById\([^)]*\), (.*)\);\n", page)
    return json.loads(found)


def test_a_page_needs_nothing_else_and_holds_every_point_in_every_look() -> None:
    page = points_page(POINTS, COLOURS, LABELS, NAMES)
    assert "http" not in page and "src=" not in page and len(page) < 8000
    assert page.count("</script>") == 1, "a name cannot end the script"
    data = data_of(page)
    place = np.frombuffer(base64.b64decode(data["points"]), "<i2").reshape(-1, 3).astype(int)
    assert (place[1] - place[0]).tolist() == pytest.approx([60000, 30000, 0], abs=2)
    looks = {
        look["name"]: np.frombuffer(base64.b64decode(look["colours"]), np.uint8) for look in data["looks"]
    }
    table = word_colours(NAMES)
    assert looks["colour"].reshape(-1, 3).tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert looks["truth"].reshape(-1, 3).tolist() == [*table[:2].tolist(), list(UNLABELLED)]
    assert [name for name, _ in data["legend"]] == NAMES


def test_two_pages_of_one_notebook_have_canvases_of_their_own() -> None:
    ids = [re.findall(r'<div id="(.*?)"', points_page(POINTS, COLOURS, {}, NAMES))[0] for _ in range(2)]
    assert ids[0] != ids[1]


def test_a_full_cloud_fits_a_notebook() -> None:
    points = torch.rand(1024, 3)
    assert len(points_page(points, points, {"truth": torch.zeros(1024, dtype=torch.long)}, NAMES)) < 40_000


def test_one_point_is_drawn() -> None:
    assert data_of(points_page(POINTS[:1], COLOURS[:1], {}, NAMES))["points"]
    plot_points(POINTS[:1], COLOURS[:1], {}, NAMES, angles=(0.0,))


def test_the_twin_has_a_row_an_angle_and_a_column_a_look() -> None:
    figure = plot_points(POINTS, COLOURS, LABELS, NAMES, angles=(0.0, 90.0))
    assert [axis.get_title() for axis in figure.axes] == ["colour", "truth", "frozen CLIP"] * 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((torch.zeros(0, 3), torch.zeros(0, 3), {}), r"got points \(0, 3\)"),
        ((POINTS, COLOURS[:1], {}), "got 3 points and 1 colours"),
        (
            (POINTS, COLOURS, {"truth": torch.zeros(2)}),
            r"got labels 'truth' \(2,\); expected one a point, \(3,\)",
        ),
    ],
)
def test_parts_of_other_lengths_are_refused(parts: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        points_page(*parts, NAMES)
