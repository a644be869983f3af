"""Evaluation: known answers give known metrics; limits, batches, calibration; what is no segmentor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toy_segmentors import Neighbours, Painted, Photos, Reader

from infoclip_lite import DenseCLIP, evaluate
from infoclip_lite.clip.refinements import Pamr
from infoclip_lite.core.environment import environment
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation import get_protocol
from infoclip_lite.evaluation.protocol import WHOLE
from infoclip_lite.evaluation.published import CATSEG
from infoclip_lite.segmentors import CostAggregationSegmentor, ZeroShotSegmentor

NAMES = ["cow", "lion", "grass", "sky"]


def painted(count: int = 5) -> Painted:
    g = torch.Generator().manual_seed(0)
    answers, rivals, masks = (torch.randint(0, 4, (count, 8, 8), generator=g) for _ in range(3))
    return Painted(answers, rivals, masks, NAMES, unseen=(1,))


def test_known_answers_give_known_metrics() -> None:
    data = painted()
    report = evaluate(Reader(), data)
    right = data.answers == data.masks
    iou = [
        ((data.answers == c) & (data.masks == c)).sum() / ((data.answers == c) | (data.masks == c)).sum()
        for c in range(4)
    ]
    seen, unseen = torch.stack([iou[0], iou[2], iou[3]]).mean(), iou[1]
    wanted = {
        "pAcc": right.float().mean(),
        "mIoU": torch.stack(iou).mean(),
        "mIoU_seen": seen,
        "mIoU_unseen": unseen,
        "hIoU": 2 * seen * unseen / (seen + unseen),
    }
    assert report.metrics == pytest.approx({k: v.item() for k, v in wanted.items()}, abs=1e-6)
    assert report.per_class == pytest.approx(dict(zip(NAMES, [v.item() for v in iou], strict=True)), abs=1e-6)
    assert report.details["scenes"] == 5 and report.calibration == {}


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_batch_size_does_not_matter(batch: int) -> None:
    assert evaluate(Reader(), painted(), batch_size=batch).metrics == evaluate(Reader(), painted()).metrics


def test_limit_takes_the_first_scenes() -> None:
    data = painted(5)
    first = Painted(data.answers[:2], data.rivals[:2], data.masks[:2], NAMES, unseen=(1,))
    assert evaluate(Reader(), data, limit=2).metrics == evaluate(Reader(), first).metrics
    assert evaluate(Reader(), data, limit=99).details["scenes"] == 5


@pytest.mark.parametrize("limit", [0, -3])
def test_no_scenes_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(Reader(), painted(), limit=limit)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(Reader(), painted(0))


@pytest.mark.parametrize("option", ["batch_size", "window_batch", "class_chunk", "save_every"])
def test_nothing_at_a_time_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=-1.*expected 1 or more"):
        evaluate(Reader(), painted(), **{option: -1})


def test_calibration_takes_gamma_from_seen_classes_only() -> None:
    data = painted()
    report = evaluate(Reader(), data, gammas=(0.3, 0.5, 2.0, -2.0))
    assert set(report.calibration) == {"0.3", "0.5", "2.0", "-2.0"}
    assert report.metrics == evaluate(Reader(), data).metrics, "metrics are those without calibration"
    assert report.calibration["0.3"] == report.metrics, "the rival is 0.4 below"
    flipped = torch.where(
        (data.answers != 1) & (data.rivals == 1), 1, data.answers
    )  # answer - 0.5 < rival 0.6
    wanted = evaluate(Reader(), Painted(flipped, data.rivals, data.masks, NAMES, unseen=(1,))).metrics
    assert report.calibration["0.5"] == pytest.approx(wanted)
    assert report.calibration["2.0"]["pAcc"] == pytest.approx((data.masks == 1).float().mean().item())
    assert report.calibration["-2.0"]["mIoU_unseen"] < report.metrics["mIoU_unseen"]


def test_gamma_zero_may_be_part_of_the_sweep() -> None:
    report = evaluate(Reader(), painted(), gammas=(0.0, 0.5))
    assert report.calibration["0.0"] == report.metrics and "0.5" in report.calibration


@pytest.mark.parametrize("name", ["threshold", "area"])
def test_a_threshold_and_a_sweep_are_refused_together(name: str) -> None:
    with pytest.raises(ValueError, match="expected one of them"):
        evaluate(Reader(), painted(), protocol=replace(WHOLE, **{name: 0.1}), gammas=(1.0,))


def test_what_no_word_fits_becomes_the_class_called_background() -> None:
    data = painted()
    data.names = ("background", *NAMES[1:])
    report = evaluate(Reader(), data, protocol=replace(WHOLE, threshold=1.0))
    assert report.metrics["pAcc"] == pytest.approx((data.masks == 0).float().mean().item())


def test_classes_that_do_not_occur_are_none() -> None:
    zeros = torch.zeros(1, 4, 4, dtype=torch.long)
    report = evaluate(Reader(), Painted(zeros, zeros, zeros, NAMES))
    assert report.per_class == {"cow": 1.0, "lion": None, "grass": None, "sky": None}


def test_max_over_synonyms_lets_either_word_find_the_class() -> None:
    answers = torch.tensor([[[0, 1], [2, 3]]])  # the Reader speaks of words, of which the first class has two
    data = Painted(answers, answers, torch.tensor([[[0, 0], [1, 2]]]), ["ox|cow", "grass", "sky"])
    reader = Reader()
    assert evaluate(reader, data, protocol=replace(WHOLE, synonyms="max")).metrics["pAcc"] == 1
    assert reader.clip.asked == ["ox", "cow", "grass", "sky"]


def test_words_of_a_data_set_speak_for_the_classes_they_belong_to() -> None:
    answers = torch.tensor([[[0, 1], [2, 2]]])
    data = Painted(answers, answers, torch.tensor([[[0, 1], [0, 0]]]), ["cow", "grass"])
    data.words, data.owners = ("calf", "meadow", "bull"), (0, 1, 0)
    reader = Reader()
    assert evaluate(reader, data).metrics["pAcc"] == 1 and reader.clip.asked == ["calf", "meadow", "bull"]


def test_a_run_is_evaluated_by_its_model() -> None:
    class Run:
        model = Reader()

    assert evaluate(Run(), painted()).metrics == evaluate(Reader(), painted()).metrics


class Logits(nn.Module):
    """Answers, but has no `encode` and `decode`."""

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        return images


def test_what_is_no_segmentor_is_refused(tiny: DenseCLIP) -> None:
    """It would be run, with all words at the size of the picture in memory, and nobody would know."""
    with pytest.raises(
        ValueError, match=r"got Logits; expected a Segmentor.*derives from segmentors\.Segmentor"
    ):
        evaluate(Logits(), painted())
    with pytest.raises(ValueError, match=r"got DenseCLIP; .*wrap a CLIP as ZeroShotSegmentor"):
        evaluate(tiny, painted())


def test_what_is_no_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="got a list without names, unseen, ignore"):
        evaluate(Reader(), [painted()[0]])


def test_a_real_model_gives_the_same_numbers_twice(tiny: DenseCLIP) -> None:
    data = Collage("val", 32, length=6)
    cut = replace(WHOLE, window=16)
    first, second = (
        evaluate(ZeroShotSegmentor(tiny, ["value", "cls_value"]), data, protocol=cut) for _ in range(2)
    )
    assert first.metrics == second.metrics and first.per_class.keys() == set(data.names)
    assert first.details["read_outs"] == ("value", "cls_value") and first.details["protocol"]["window"] == 16


def test_a_report_says_how_scores_were_refined(tiny: DenseCLIP) -> None:
    segmentor, data = ZeroShotSegmentor(tiny, "value"), Collage("val", size=64, length=2)
    plain = evaluate(segmentor, data)
    report = evaluate(segmentor, data, protocol=replace(WHOLE, refine=Pamr(dilations=(1, 2))))
    assert plain.details["protocol"]["refine"] is None
    assert report.details["protocol"]["refine"] == {"name": "pamr", "iterations": 10, "dilations": (1, 2)}
    assert report.metrics != plain.metrics


def test_details_say_where_and_with_what() -> None:
    details = environment()
    assert {
        "hardware",
        "threads",
        "python",
        "torch",
        "open_clip_torch",
        "infoclip-lite",
        "git",
    } <= details.keys()
    assert details["torch"] == torch.__version__.split("+")[0] or details["torch"] == torch.__version__
    asked = {"dataset", "split", "data", "scenes", "model", "read_outs", "activation", "wall_time_s"}
    assert asked <= evaluate(Reader(), painted()).details.keys()


def test_pictures_of_unequal_sizes_are_counted_each_at_its_own() -> None:
    report = evaluate(Neighbours(), Photos())
    assert sum(row.pixels for row in report.classes) == sum(Photos()[i].mask.numel() for i in range(6))


def test_labels_that_are_wrong_are_said_with_their_picture() -> None:
    with pytest.raises(ValueError, match=r"picture 3 \(photos/3.jpg\): target has labels 150 .. 156"):
        evaluate(Neighbours(), Photos(wrong_at=3))


def test_cosines_under_catsegs_protocol_find_more_than_the_first_class(mini: DenseCLIP) -> None:
    """With OpenAI's scale of 100, a sigmoid is 1.0 for all words that are not plainly wrong."""
    segmentor = ZeroShotSegmentor(mini, "cls_value")
    protocol = replace(CATSEG, shorter=80, longest=200, square=80, window=48, stride=32, patches=8)
    scenes = Collage("val", 64, length=3)

    class Sharp(ZeroShotSegmentor):
        def decode(self, *args: object, **options: object) -> Tensor:
            return 10 * super().decode(*args, **options)

    sharp = evaluate(Sharp(mini, "cls_value"), scenes, protocol=protocol)
    plain = evaluate(segmentor, scenes, protocol=protocol)
    assert (
        sharp.metrics["mIoU"] == pytest.approx(plain.metrics["mIoU"], abs=0.01)
        and plain.metrics["mIoU"] > 0.05
    )
    assert sharp.details["activation"] == "none" and sharp.details["protocol"]["activation"] == "sigmoid"


def test_a_real_head_under_catsegs_protocol_sees_windows_of_its_own_size(mini: DenseCLIP) -> None:
    protocol = replace(
        get_protocol("catseg"), shorter=80, longest=200, square=80, window=48, stride=32, patches=8
    )
    scenes = Collage("val", 64, length=2)
    for segmentor in (ZeroShotSegmentor(mini, "cls_value"), CostAggregationSegmentor(mini)):
        plain, divided = (
            evaluate(segmentor, scenes, protocol=protocol, window_batch=batch, class_chunk=chunk)
            for batch, chunk in ((1, None), (4, 5))
        )
        assert plain.metrics["pAcc"] == pytest.approx(divided.metrics["pAcc"], abs=2e-3)
        assert plain.details["activation"] == ("sigmoid" if segmentor.independent else "none")
