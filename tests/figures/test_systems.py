"""Tables and figures of the systems' study, on a report that is made up."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.systems import (
    ablation_rows,
    contrast_rows,
    plot_contrasts,
    plot_systems,
    price_rows,
    system_rows,
)
from infoclip_lite.figures.tables import table
from infoclip_lite.studies.rows import SPLITS, Speed
from infoclip_lite.studies.systems import FREE, PIXELS

METRICS = ("mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU")


def cells(first: float, half: float = 0.01, **more: object) -> dict:
    """A row of the table: every measure a hundredth above the one before it."""
    keys = [f"{split}/{metric}" for split in SPLITS for metric in METRICS]
    return {key: {"mean": first + place / 100, "half": half, **more} for place, key in enumerate(keys)}


def made_up() -> dict:
    """Content with the keys of `studies.systems.report`."""
    rows = {
        PIXELS: cells(0.2, values=[0.19, 0.21]),
        "PACL": cells(0.1, values=[0.09, 0.11]),
        "CLIP tuned, q and v": cells(0.3, values=[0.29, 0.31]),
        FREE: cells(0.15, 0.0),
    }
    lost = cells(0.08, values=[0.08, 0.08], difference={"mean": -0.02, "half": 0.01})
    contrast = {"first": PIXELS, "second": FREE, "mean": 0.05, "half": 0.02, "p": 0.01}
    return {
        "labels": {PIXELS: "masks", "PACL": "captions"},
        "table": rows,
        "ablations": {"PACL: mean of the patches": lost},
        "contrasts": {
            "test-known": [{**contrast, "corrected": 0.04}],
            "test": [
                {**contrast, "corrected": 0.06},
                {**contrast, "first": "PACL", "mean": -0.05, "corrected": 1.0},
            ],
        },
        "seconds": {PIXELS: [10.0, 30.0, 20.0], "PACL": [5.0, 7.0]},
    }


def test_rows_say_what_was_told_and_keep_groups_apart() -> None:
    pixels, captions, borrowed, free = system_rows(made_up())
    assert [row["told"] for row in (pixels, captions, borrowed, free)] == [
        "masks",
        "captions",
        "masks",
        "nothing",
    ]
    # Keys of the made-up row stand in the order of the splits, known ones first.
    assert pixels["seen nouns"] == Interval(pytest.approx(24.0), 1.0)
    assert pixels["unseen nouns"].mean == pytest.approx(25.0) and pixels["stuff"].mean == pytest.approx(26.0)
    assert system_rows(made_up(), "test-known")[0]["hIoU"].mean == pytest.approx(23.0)
    assert (pixels["seeds"], pixels["training (s)"]) == (2, 20.0)
    assert free["seeds"] is borrowed["training (s)"] is None


def test_what_is_not_trained_has_a_number_and_no_interval() -> None:
    free = system_rows(made_up())[-1]
    assert free["seen nouns"] == pytest.approx(19.0)
    line = repr(table(system_rows(made_up()), digits=1)).splitlines()[-1]
    assert "19.0" in line and "±" not in line


def test_ablations_are_differences_to_the_whole_system_in_points() -> None:
    (row,) = ablation_rows(made_up())
    assert (row["system"], row["changed"], row["seeds"]) == ("PACL", "mean of the patches", 2)
    assert row["unseen nouns"] == row["hIoU"] == Interval(-2.0, 1.0)
    assert "-2.0 ± 1.0" in repr(table([row], digits=1))


def test_contrasts_show_both_kinds_of_instances_and_a_dash_where_one_is_missing() -> None:
    both, one = contrast_rows(made_up())
    assert both["contrast"] == f"{PIXELS} minus {FREE}"
    assert both["hIoU, new"] == both["hIoU, known"] == Interval(5.0, 2.0)
    assert (both["p, new"], both["p, known"]) == (0.06, 0.04), "those with all planned ones counted"
    assert one["hIoU, new"].mean == -5.0 and one["hIoU, known"] is one["p, known"] is None
    assert contrast_rows({"contrasts": {}}) == []
    table([both, one])  # refuses rows with other columns


def test_contrasts_have_a_star_where_they_hold_with_all_that_were_planned() -> None:
    new, known = plot_contrasts(made_up()).axes
    assert not any("*" in text.get_text() for text in new.get_yticklabels())
    assert [text.get_text()[-1] for text in known.get_yticklabels()] == ["*"]
    assert (new.get_title(), known.get_title()) == ("new instances", "known instances")
    with pytest.raises(ValueError, match="without a contrast"):
        plot_contrasts({"contrasts": {"test": []}})
    plt.close("all")


def test_systems_are_drawn_by_group_best_read_from_above() -> None:
    figure = plot_systems(made_up())
    assert [axis.get_title() for axis in figure.axes] == ["seen nouns", "unseen nouns", "stuff", "hIoU"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == list(made_up()["table"]) and figure.axes[0].yaxis_inverted()
    new, known = (container.lines[0] for container in figure.axes[0].containers)
    assert new.get_xdata() == pytest.approx([24, 14, 34, 19])
    assert known.get_xdata() == pytest.approx([20, 10, 30, 15])
    assert all(a < b for a, b in zip(new.get_ydata(), known.get_ydata(), strict=True))
    with pytest.raises(ValueError, match="without a row"):
        plot_systems({"table": {}})
    plt.close("all")


def test_the_price_tells_clip_from_what_is_beside_it() -> None:
    def model(backend: str, **parts: int) -> SimpleNamespace:
        named = {name.replace("_", " "): count for name, count in parts.items()}
        return SimpleNamespace(backend=backend, weights_at_inference=lambda: dict(named))

    models = {
        "with CLIP": model("a", image_tower=3_000_000, head=500_000),
        "without": model("b", body=2_000_000, head=1_000_000),
    }
    passes = {"with CLIP": "1", "without": "0"}
    plain = price_rows(models, passes)
    assert [(row["CLIP's image tower (M)"], row["beside it (M)"]) for row in plain] == [(3, 0.5), (0, 3)]
    timed = price_rows(models, passes, {"a": Speed(8.0, 1.5, 1.4, 1.6)})
    assert [row["time (CLIP's pass = 1)"] for row in timed] == [1.5, None]
    assert list(plain[0]) == list(timed[0])[:-1] == ["system", *list(plain[0])[1:]]
