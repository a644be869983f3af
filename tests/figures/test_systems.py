"""Tables and figures of the systems' study, on a report that is made up."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from infoclip_lite.core.statistics import Interval
from infoclip_lite.figures.systems import (
    ablation_rows,
    chosen_rows,
    plot_rates,
    plot_systems,
    price_rows,
    system_rows,
)
from infoclip_lite.figures.tables import table
from infoclip_lite.studies.rows import SPLITS
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
        FREE: cells(0.15, 0.0),
    }
    lost = cells(0.08, values=[0.08, 0.08], difference={"mean": -0.02, "half": 0.01})
    return {
        "labels": {PIXELS: "masks", "PACL": "captions", FREE: "nothing"},
        "table": rows,
        "ablations": {"PACL: mean of the patches": lost},
    }


def grid() -> dict:
    """Content with the keys of `studies.systems.tune`."""

    def scores(first: float) -> dict[str, float]:
        return {metric: first + place / 100 for place, metric in enumerate(METRICS)}

    measured = {"PACL | 0.01": 0.1, f"{PIXELS} | 0.001": 0.2, "PACL | 0.003": 0.12, f"{PIXELS} | 0.003": 0.18}
    return {
        "labels": {PIXELS: "masks", "PACL": "captions"},
        "measured": {label: scores(first) for label, first in measured.items()},
        "best": {PIXELS: 0.001, "PACL": 0.003},
        "read_outs": {"value": scores(0.15), "vanilla": scores(0.01)},
        "read_out": "value",
    }


def test_chosen_rates_stand_best_first_beside_the_best_read_out() -> None:
    pixels, free, captions = chosen_rows(grid())
    assert [row["system"] for row in (pixels, free, captions)] == [PIXELS, "CLIP as it is: value", "PACL"]
    assert [row["rate"] for row in (pixels, free, captions)] == ["0.001", None, "0.003"]
    assert captions["hIoU"] == pytest.approx(15) and captions["seen nouns"] == pytest.approx(12)
    assert captions["told"] == "captions" and captions["rates tried"] == 2


def test_rates_are_drawn_lowest_first_and_the_chosen_one_stands_out() -> None:
    figure = plot_rates(grid())
    (axis,) = figure.axes
    first, second = axis.collections
    assert first.get_offsets()[:, 0].tolist() == pytest.approx([23, 21])
    assert second.get_offsets()[:, 0].tolist() == pytest.approx([15, 13])
    colours = second.get_facecolors()
    assert (colours[0] == first.get_facecolors()[0]).all() and (colours[0] != colours[1]).any()
    assert axis.lines[-1].get_xdata()[0] == pytest.approx(18)
    undecided = plot_rates({**grid(), "best": {}}).axes[0].collections[0].get_facecolors()
    assert (undecided == undecided[0]).all()
    with pytest.raises(ValueError, match="without a training"):
        plot_rates({**grid(), "measured": {}})
    plt.close("all")


def test_rows_say_what_was_told_and_keep_groups_apart() -> None:
    pixels, captions, free = system_rows(made_up())
    assert [row["told"] for row in (pixels, captions, free)] == ["masks", "captions", "nothing"]
    # Keys of the made-up row stand in the order of the splits, known ones first.
    assert pixels["seen nouns"] == Interval(pytest.approx(24.0), 1.0)
    assert pixels["unseen nouns"].mean == pytest.approx(25.0) and pixels["stuff"].mean == pytest.approx(26.0)
    assert system_rows(made_up(), "test-known")[0]["hIoU"].mean == pytest.approx(23.0)


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


def test_systems_are_drawn_by_group_best_read_from_above() -> None:
    figure = plot_systems(made_up())
    assert [axis.get_title() for axis in figure.axes] == ["seen nouns", "unseen nouns", "stuff", "hIoU"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == list(made_up()["table"]) and figure.axes[0].yaxis_inverted()
    new, known = (container.lines[0] for container in figure.axes[0].containers)
    assert new.get_xdata() == pytest.approx([24, 14, 19])
    assert known.get_xdata() == pytest.approx([20, 10, 15])
    assert all(a < b for a, b in zip(new.get_ydata(), known.get_ydata(), strict=True))
    with pytest.raises(ValueError, match="without a row"):
        plot_systems({"table": {}})
    plt.close("all")


def test_the_price_tells_clip_from_what_is_beside_it() -> None:
    def model(**parts: int) -> SimpleNamespace:
        named = {name.replace("_", " "): count for name, count in parts.items()}
        return SimpleNamespace(weights_at_inference=lambda: dict(named))

    models = {
        "with CLIP": model(image_tower=3_000_000, head=500_000),
        "without": model(body=2_000_000, head=1_000_000),
    }
    speed = {"with CLIP": {"ratio": 1.5, "mb": 9.0}, "without": {"ratio": 0.25, "mb": 3.0}}
    rows = price_rows(models, {"with CLIP": "1", "without": "0"}, speed)
    assert [(row["time (CLIP's = 1)"], row["memory (MB)"]) for row in rows] == [(1.5, 9.0), (0.25, 3.0)]
    assert [(row["CLIP's image tower (M)"], row["beside it (M)"]) for row in rows] == [(3, 0.5), (0, 3)]
    assert [row["passes through the tower"] for row in rows] == ["1", "0"]
