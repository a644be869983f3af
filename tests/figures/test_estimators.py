"""The playground of estimators: its truth is exact, its bias and limits are the ones that are known."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from infoclip_lite.figures.estimators import (
    DRAWS,
    ESTIMATORS,
    MATRIX,
    compute_information,
    describe_information,
    plot_information,
)
from infoclip_lite.figures.widgets import explore_information


@pytest.mark.parametrize("name", ESTIMATORS)
def test_truth_is_exact_and_every_draw_is_another(name: str) -> None:
    view = compute_information(name, n=60, dim=2, rho=0.5)
    assert view.truth == pytest.approx(-np.log1p(-np.square(view.rho)))  # -d/2 ln(1 - rho^2), d = 2
    assert view.rho[view.chosen] == 0.5 and view.estimates.shape == (DRAWS, len(view.rho))
    assert np.isfinite(view.estimates).all() and (view.estimates[:, view.chosen].std() > 0)


def test_the_right_model_has_no_bias_and_the_others_have_theirs() -> None:
    def bias(name: str, **settings: float) -> float:
        view = compute_information(name, **settings)
        return float((view.estimates.mean(0) - view.truth)[view.chosen])

    gaussian = compute_information("Gaussian", n=300, rho=0.8)
    standard_error = gaussian.estimates[:, gaussian.chosen].std(ddof=1) / math.sqrt(DRAWS)
    assert 0 < standard_error < 0.03 and abs(bias("Gaussian", n=300, rho=0.8)) < 3 * standard_error
    assert bias("KSG", n=100, dim=10, rho=0.95) < -3  # neighbours are of no use in 20 dimensions
    assert bias("CLUB, perfect critic", n=300, rho=0.9) > 2  # rho^2 / (1 - rho^2) is what it tends to
    assert bias(MATRIX, n=10, dim=10, rho=0.0) > 0.5  # few samples of many dimensions look dependent


def test_limits_are_those_of_the_samples() -> None:
    view = compute_information("InfoNCE, perfect critic", n=10, dim=10, rho=0.95)
    assert (
        view.limit == pytest.approx(math.log(10))
        and view.estimates.max() <= view.limit < view.truth[view.chosen]
    )
    assert compute_information("KSG").limit is None


def test_width_and_alpha_move_the_matrix_based_one_alone() -> None:
    assert (
        compute_information("KSG", width=0.1, alpha=3.0).estimates == compute_information("KSG").estimates
    ).all()
    wide, narrow = (compute_information(MATRIX, n=300, width=width) for width in (1.0, 0.3))
    assert (
        narrow.population is not None and (narrow.population[1:] > wide.population[1:]).all()
    )  # to Shannon's as the width goes to zero
    assert np.abs(wide.estimates.mean(0) - wide.population).max() < 0.05
    twice = compute_information(MATRIX, n=300, dim=2)
    assert (
        twice.population == pytest.approx(2 * wide.population)
        and np.abs(twice.estimates.mean(0) - twice.population).max() < 0.1
    )
    assert compute_information(MATRIX, alpha=3.0).population is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"estimator": "ksg"}, "KSG"),
        ({"rho": 1.0}, "in \\[0, 1\\)"),
        ({"n": 3, "dim": 5, "estimator": "Gaussian"}, "samples"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        compute_information(**wrong)


def test_the_figure_shows_truth_bias_and_limit() -> None:
    figure = plot_information(compute_information("InfoNCE, perfect critic", n=30, dim=2))
    labels = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert {
        "truth",
        "bias",
        "InfoNCE, perfect critic, mean",
        f"all {DRAWS} draws",
        "it cannot say more: 3.40",
    } == labels
    plt.close(figure)


def test_controls_move_numbers_picture_and_words() -> None:
    explorer = explore_information()
    before, said = explorer.picture.value, explorer.message.value
    explorer.controls["estimator"].value = "Gaussian"
    explorer.controls["rho"].value = 0.3
    assert explorer.view.estimator == "Gaussian" and explorer.view.rho[explorer.view.chosen] == 0.3
    assert explorer.picture.value != before and explorer.message.value != said
    assert f"truth {-0.5 * math.log(1 - 0.09):.2f} nats" in describe_information(explorer.view)
    explorer.controls["n"].value, explorer.controls["dim"].value = (
        10,
        10,
    )  # too few samples for ten dimensions
    assert "alert" in explorer.message.value and explorer.view.n == 10 and explorer.view.dim == 1
