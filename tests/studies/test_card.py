"""What the card of collage-mini claims."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip import read_card
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.datasets.collage import all_nouns, photographs
from infoclip_lite.datasets.wordlists import synonyms
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


class Words:
    """A CLIP whose words are unit vectors along axes: a synonym lies where the noun that it means lies."""

    def __init__(self, meaning: dict[str, str], seen: dict[str, str]) -> None:
        self.nouns = all_nouns()
        self.meaning, self.seen = meaning, seen
        self.device = torch.device("cpu")
        self.shown = iter([photograph.file for photograph in photographs()])

    def encode_text(self, words: list[str]) -> torch.Tensor:
        places = [self.nouns.index(self.meaning.get(word, word)) for word in words]
        return torch.eye(len(self.nouns))[places]

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(self.nouns))[[self.nouns.index(self.seen[next(self.shown)])]]


def test_synonyms_that_may_be_distilled_are_told_from_those_that_never_are() -> None:
    wrong = all_nouns()[0]
    meaning = {each.word: each.noun for each in synonyms()}
    meaning |= {each.word: wrong for each in synonyms(held_out=True)}
    found = card_study.score_synonyms(Words(meaning, {}))
    right = sum(each.noun == wrong for each in synonyms(held_out=True)) / len(synonyms(held_out=True))
    assert found["distilled"] == 1 and found["never"] == pytest.approx(right) and right < 0.5
    assert found["nearest"][synonyms()[0].word] == [synonyms()[0].noun] * 2


def test_photographs_are_averaged_by_noun() -> None:
    """Every photograph of the most frequent noun is recognised, and none of any other."""
    nouns = [photograph.noun for photograph in photographs()]
    often = max(set(nouns), key=nouns.count)
    other = next(noun for noun in all_nouns() if noun not in nouns)
    seen = {each.file: often if each.noun == often else other for each in photographs()}
    found = card_study.score_photographs(Words({}, seen))
    assert found["top1"] == pytest.approx(1 / len(set(nouns)))
    assert found["micro"] == pytest.approx(nouns.count(often) / len(nouns)) and found["micro"] > found["top1"]
    assert (found["photographs"], found["nouns"], found["words"]) == (72, 38, len(all_nouns()))


def test_too_few_scenes_are_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="scenes is 99; expected at least 100"):
        card_study.score_clip(tiny, 99)


def test_a_checkpoint_says_how_it_was_made_and_what_that_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_study, "score_clip", lambda clip: {"dense": {}})
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    recipe = {
        "task": "pretrain",
        "name": "small",
        "model": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "stages": [{"steps": 3, "keep": 0.5}],
        "pool": 12,
        "batch": 4,
    }
    out, folder = tmp_path / "clip.safetensors", tmp_path / "run"
    run = card_study.pretrain(recipe, out=out, folder=folder)
    card = read_card(out)
    assert card["recipe"] == asdict(run.recipe) and card["scenes_seen"] == 12
    assert card["final_loss"] == pytest.approx(sum(record["total"] for record in run.log) / 3)
    assert card["cost"]["minutes"] >= 0 and card["cost"]["resumed"] is False
    card_study.pretrain(recipe, out=out, folder=folder)
    assert read_card(out)["cost"]["resumed"] is True
    assert load_clip(str(out)).read_outs == ("cls_value", "value")
