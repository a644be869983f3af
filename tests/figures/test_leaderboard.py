"""The leaderboard's tables: what a row says is what the board holds, in the order of its ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infoclip_lite.core.statistics import Score, interval
from infoclip_lite.figures.leaderboard import board_rows, cost_rows, plot_price, plot_ranking, separation_rows
from infoclip_lite.studies.leaderboard import FREE, MASKS, ranked, separation
from infoclip_lite.studies.rows import SPLITS, Leaderboard, Method, Speed

METRICS = ("mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU")


def method(backend: str, group: str, values: dict[str, tuple[float, ...]], **more: Any) -> Method:
    """A row whose metrics differ: mIoUs lie above and below hIoU."""
    scores = {
        split: {
            metric: Score(*vars(interval([v + shift for v in own])).values(), values=[v + shift for v in own])
            for metric, shift in zip(METRICS, (0.05, -0.05, 0.2, 0.0), strict=True)
        }
        for split, own in values.items()
    }
    sizes = {"total": 9_000_000, "trained": 2_000_000, "inference": 4_000_000}
    return Method("cosine head", "nothing", backend, sizes, 3200, scores, group=group, **more)


@pytest.fixture
def board() -> Leaderboard:
    """Two methods that share a way of inference and a slow third, another order on either split."""
    a, b, c = (
        {"test": new, "test-known": known}
        for new, known in (
            ((0.30, 0.31, 0.322), (0.1, 0.1, 0.2)),
            ((0.40, 0.41, 0.42), (0.2, 0.2, 0.1)),
            ((0.20, 0.213, 0.22), (0.3, 0.3, 0.3)),
        )
    )
    methods = ranked(
        {
            "a": method("once", MASKS, a, labels="masks"),
            "b": method("once", MASKS, b, labels="masks"),
            "c": method("slow", FREE, c),
        }
    )
    speed = {"once": Speed(1.0, 1.5, 1.4, 1.6, 2.5), "slow": Speed(3.0, 4.5, 4.4, 4.6, 7.5)}
    apart = {split: separation(methods, split) for split in SPLITS}
    return Leaderboard(96, 200, 60, ["chair"], 3, methods, speed, apart)


def test_a_groups_rows_come_best_first_with_places_among_all(board: Leaderboard) -> None:
    rows = board_rows(board, MASKS)
    assert [row["method"] for row in rows] == ["b", "a"] and [row["rank"] for row in rows] == [1, 2]
    assert [row["seen"] for row in rows] == pytest.approx([46, 36], abs=0.1) and rows[0][
        "stuff"
    ] == pytest.approx(61)
    assert rows[0]["hIoU"].mean == pytest.approx(41) and rows[0]["labels"] == "masks"
    assert rows[1]["may be"] == "2 to 2" and board_rows(board, FREE)[0]["may be"] == "3 to 3"
    assert [row["method"] for row in board_rows(board, MASKS, split="test-known")] == ["b", "a"]
    assert board_rows(board, FREE, split="test-known")[0]["rank"] == 1


def test_ranks_that_hold_for_all_pairs_stand_beside_those_of_each(board: Leaderboard) -> None:
    ranks = replace(board.methods["a"].ranks["test"], corrected=(1, 3))
    row = replace(board.methods["a"], ranks={"test": ranks})
    found = board_rows(replace(board, methods={"a": row}), MASKS)[0]
    assert (found["may be"], found["may be (Holm)"]) == ("2 to 2", "1 to 3")


def test_neighbours_stand_with_their_difference_and_the_seeds_it_needs(board: Leaderboard) -> None:
    rows = separation_rows(board)
    assert [(row["better by its mean"], row["next"]) for row in rows] == [("b", "a"), ("a", "c")]
    assert rows[0]["difference"] == pytest.approx(100 * (0.41 - 0.932 / 3)) and int(rows[0]["seeds"]) <= 3
    known = separation_rows(board, split="test-known")
    assert {row["seeds"] for row in known} <= {"over 1,000", *map(str, range(2, 1001))}


def test_each_way_of_inference_stands_once_with_its_best_method(board: Leaderboard) -> None:
    rows = cost_rows(board)
    assert [(row["best method"], row["time"], row["memory (MB)"]) for row in rows] == [
        ("b", 1.5, 2.5),
        ("c", 4.5, 7.5),
    ]
    assert rows[0]["weights (M)"] == 4.0 and rows[0]["trained (M)"] == 2.0


def test_figures_draw_the_ranks_of_the_split_that_was_asked_for(board: Leaderboard) -> None:
    def names(split: str) -> list[str]:
        figure = plot_ranking(board, list("abc"), split=split)
        return [text.get_text() for text in figure.axes[0].get_yticklabels()]

    assert names("test") == ["b", "a", "c"] and names("test-known")[0] == "c"
    told = [text.get_text() for text in plot_price(board).axes[0].texts]
    assert told == ["b"], "the slow one is surely beaten in less time"
    with pytest.raises(ValueError, match="got nobody"):
        plot_ranking(board, ["nobody"])
