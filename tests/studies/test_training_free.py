"""Reading without training: rows are what segmentors say, contrasts ask for one thing, counts are kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import Score
from infoclip_lite.evaluation import SegmentationMetrics
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies import training_free as study
from infoclip_lite.studies.by_scene import mean_score, redrawn_scores, tally
from infoclip_lite.studies.rows import SPLITS, shown_metrics
from infoclip_lite.studies.training_free import ATTENTIONS, PLANNED, REFINED, WORDLESS, systems

WORDS = ("cat", "dog", "grass")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def logits(tiny: DenseCLIP, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every row, off one pass."""
    tower, text = tiny.tower(images), tiny.encode_text(WORDS)
    with torch.no_grad():
        return {name: read(tower, text, tiny.logit_scale) for name, read in systems().items()}


def test_a_row_is_what_the_segmentor_of_that_read_out_says(
    tiny: DenseCLIP, images: torch.Tensor, logits: dict[str, torch.Tensor]
) -> None:
    text = tiny.encode_text(WORDS)
    for name in READ_OUTS:
        model = ZeroShotSegmentor(tiny, name)
        with torch.no_grad():
            said = model.decode(model.encode(images), text)
        assert torch.allclose(logits[name], said, atol=1e-3), name


def test_parts_put_together_as_a_read_out_has_them_are_that_read_out(
    logits: dict[str, torch.Tensor],
) -> None:
    pairs = {"vanilla": "qk + x + ffn", "value": "v", "maskclip": "v + x + ffn", "clearclip": "qq"}
    for name, parts in pairs.items():
        assert torch.allclose(logits[name], logits[parts], atol=1e-3), name


def test_what_looks_at_words_says_otherwise_without_them(logits: dict[str, torch.Tensor]) -> None:
    assert all(not torch.allclose(logits[name], logits[plain]) for name, plain in WORDLESS.items())


def test_a_question_names_rows_that_are_measured_and_changes_one_part() -> None:
    measured = {*systems(), *(study.refined_label(n, r) for r, names in REFINED.items() for n in names)}
    for question in PLANNED:
        assert {*question.first, *question.second} <= measured, question.asks
        assert len(question.first) == len(question.second), question.asks
    for asks, part in (("residual", " + x"), ("feed-forward", " + ffn")):
        (question,) = (each for each in PLANNED if asks in each.asks)
        assert len(question.first) == 2 * len(ATTENTIONS)
        # Without the part, the first side's rows are the second's.
        assert {label.replace(part, "") for label in question.first} == set(question.second)


def test_tallies_say_what_the_metrics_say_and_draws_are_other_scenes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, masks = (torch.randint(0, 5, (9, 8, 8), generator=generator) for _ in range(2))
    masks[0, :4] = 255  # not counted
    labels[labels == 4] = 3  # a class that is never called
    groups = {"seen": (0, 1), "unseen": (2, 3), "stuff": (4,)}
    metrics = SegmentationMetrics(5, (2, 3), groups=groups)
    metrics.update(labels, masks)
    wanted, found = metrics.compute(), redrawn_scores(tally(labels, masks, 5), groups, draws=40)
    assert list(found) == list(shown_metrics(wanted))
    for key, score in found.items():
        assert score.mean == pytest.approx(wanted[key]) and len(score.draws) == 40
    assert found["mIoU_seen"].ci95 > 0 and len(set(found["mIoU_seen"].draws)) > 30


def test_a_group_of_which_nothing_is_there_has_no_score() -> None:
    shown = torch.zeros(3, 4, 4, dtype=torch.int64)
    found = redrawn_scores(tally(shown, shown, 2), {"seen": (0,), "unseen": (1,)}, draws=5)
    metrics = SegmentationMetrics(2, (1,))
    metrics.update(shown, shown)
    assert found["mIoU_seen"].mean == 1 and math.isnan(metrics.compute()["hIoU"])
    assert math.isnan(found["hIoU"].mean) and math.isnan(found["mIoU_unseen"].mean)


def test_a_mean_of_scores_has_the_means_of_their_draws() -> None:
    found = mean_score([Score(0.2, 0, draws=(0.1, 0.3)), Score(0.4, 0, draws=(0.5, 0.3))])
    assert found.mean == pytest.approx(0.3) and found.draws == pytest.approx((0.3, 0.3))


def test_a_stopped_measurement_goes_on_and_counts_of_another_clip_are_refused(
    tiny: DenseCLIP, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "BATCH", 2)
    monkeypatch.setattr(study, "REFINED", {"pamr": ("value",)})
    begun: list[int] = []
    counted = study._counted

    def noted(clip: DenseCLIP, data: object, first: int, text: torch.Tensor) -> object:
        begun.append(first)
        return counted(clip, data, first, text)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "_counted", noted)
    study.split_scores(tiny, "test", 2, tmp_path)
    found = study.split_scores(tiny, "test", 4, tmp_path)
    assert begun == [0, 2] and found.scenes_refined == 2, "the first batch was counted before"
    assert study.refined_label("value", "pamr") in found.part and set(found.all) == set(systems())
    with torch.no_grad():
        tiny.visual.proj.add_(0.1)
    with pytest.raises(ValueError, match="holds counts of another CLIP.*expected those of now"):
        study.split_scores(tiny, "test", 4, tmp_path)


def test_the_report_that_ships_has_every_row_and_every_answer() -> None:
    report = read_report("training_free")
    assert list(report["rows"]) == list(systems())
    for split in SPLITS:
        rows = {label: row[split] for label, row in report["rows"].items()}
        assert all(0 <= row["hIoU"]["mean"] <= 1 and row["hIoU"]["half"] >= 0 for row in rows.values())
        asked = report["contrasts"][split]
        assert [row["asks"] for row in asked] == [question.asks for question in PLANNED]
        assert all(row["p"] <= row["corrected"] <= 1 for row in asked)
        nearness = next(row for row in asked if "nearness" in row["asks"])
        apart = rows["naclip"]["hIoU"]["mean"] - rows["kk"]["hIoU"]["mean"]
        assert nearness["mean"] == pytest.approx(apart)
    assert set(READ_OUTS) <= set(report["speed"]["read_outs"])
