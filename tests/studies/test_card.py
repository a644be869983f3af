"""What the card of collage-mini claims."""

from __future__ import annotations

import importlib

import pytest

from infoclip_lite.clip import read_card
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.studies import card as card_study
from infoclip_lite.studies.rows import SPLITS


@pytest.fixture(scope="module")
def card() -> dict:
    found = read_card()
    if "dense" not in found:
        pytest.skip("the checkpoint was not scored yet")
    return found


def test_card_reports_known_and_new_instances(card: dict) -> None:
    for split in SPLITS:
        scores = [*card["retrieval"][split].values(), card["noun_recognition"][split]]
        assert {"image_to_text", "text_to_image"} <= card["retrieval"][split].keys()
        assert all(0 <= score <= 1 for score in scores)


def test_every_read_out_that_was_measured_is_reported(card: dict) -> None:
    assert {"+".join(names) for names in card_study.MEASURED} == card["dense"].keys()
    for scores in card["dense"].values():
        for split in SPLITS:
            assert {"pAcc", "mIoU", "mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU"} <= scores[split].keys()
            assert 0 <= scores[split]["mIoU_unseen"] <= 1 and 0 <= scores[split]["mIoU"] <= 1


def test_card_says_what_it_cost_and_where_it_was_measured(card: dict) -> None:
    assert card["scenes"] >= 100 and card["scenes_seen"] > 0
    assert card["recipe"]["name"] == "collage-mini" and card["environment"]["torch"]


def test_scores_reach_the_aim(card: dict) -> None:
    assert max(scores["test-known"]["mIoU"] for scores in card["dense"].values()) > 0.35
    assert card["retrieval"]["test-known"]["image_to_text"] > 0.6


def test_a_read_out_that_nobody_measured_adds_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READ_OUTS, "brand_new", READ_OUTS["value"])
    assert not any("brand_new" in names for names in importlib.reload(card_study).MEASURED)
