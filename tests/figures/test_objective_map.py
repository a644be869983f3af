"""The map of InfoCLIP's settings: it shows the report, and its command trains the point that was swept."""

from __future__ import annotations

import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest

from infoclip_lite.core.reports import read_report
from infoclip_lite.figures import objective_map as objectives
from infoclip_lite.figures.objective_map import compute_objective, describe_objective, plot_objective
from infoclip_lite.figures.widgets import explore_objective
from infoclip_lite.studies.objective_sweep import COMPRESSION, SEED, TRANSFER, points
from infoclip_lite.training import run as training
from infoclip_lite.training.recipe import load_recipe


def test_the_point_and_its_plane_are_the_reports() -> None:
    view, report = compute_objective("class", 3.0, 3.0, 10.0), read_report("objective_sweep")
    assert view.here == report["points"]["class, alpha 3, 3, 10"] and view.plain == report["points"]["plain"]
    assert (
        view.plane["hIoU"].shape == (len(COMPRESSION), len(TRANSFER))
        and np.isfinite(view.plane["hIoU"]).all()
    )
    assert (
        view.plane["hIoU"][2, 3] == view.here["hIoU"]
        and view.plane["mIoU_unseen"][0, 0] == view.plain["mIoU_unseen"]
    )


@pytest.mark.parametrize(
    "settings", [("batch", 2.0, 1.0, 3.0), ("class", 1.01, 0.0, 10.0), ("pixel", 3.0, 0.0, 0.0)]
)
def test_the_command_trains_what_was_swept(settings: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    view, asked = compute_objective(*settings), []
    eval(view.command, {"train": lambda recipe, **changes: asked.append(load_recipe(recipe, **changes))})
    label = next(
        label for label, values in read_report("objective_sweep")["points"].items() if values == view.here
    )
    assert asked == [points()[label].load(SEED)] and callable(training.train)
    assert view.command in describe_objective(view) and "one seed" in describe_objective(view)


def test_a_point_that_was_not_run_is_blank_and_cannot_be_chosen() -> None:
    report = copy.deepcopy(read_report("objective_sweep"))
    del report["points"]["pixel, alpha 2, 1, 3"]
    assert np.isnan(compute_objective(report=report).plane["hIoU"]).sum() == 1
    with pytest.raises(ValueError, match="lacks 'pixel, alpha 2, 1, 3'.*benchmark objective_sweep"):
        compute_objective(lambda_2=3.0, report=report)


@pytest.mark.parametrize(
    "wrong", [{"axis": "picture"}, {"alpha": 2.5}, {"lambda_1": 2.0}, {"lambda_2": -1.0}]
)
def test_settings_outside_the_grid_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*expected one of the sweep's"):
        compute_objective(**wrong)


def test_the_figure_frames_the_point_and_names_the_axes() -> None:
    figure = plot_objective(compute_objective("pixel", 2.0, 3.0, 10.0))
    left = figure.axes[0]
    assert (
        left.patches[0].get_xy() == (3, 2)
        and left.get_xlabel() == "lambda_2 (transfer)"
        and left.get_ylabel() == "lambda_1 (compression)"
    )
    plt.close(figure)


def test_a_slider_changes_view_picture_and_words() -> None:
    explorer = explore_objective()
    before, said = explorer.picture.value, explorer.message.value
    explorer.controls["lambda_2"].value = 10.0
    assert (
        explorer.view.lambda_2 == 10.0 and explorer.picture.value != before and explorer.message.value != said
    )
    explorer.controls["axis"].value = "batch"
    assert explorer.view.here == objectives.compute_objective("batch", 2.0, 1.0, 10.0).here
