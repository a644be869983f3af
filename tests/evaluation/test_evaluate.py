"""Evaluation: windows cover every pixel, known answers give known metrics, reports survive being written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from infoclip_lite import DenseCLIP, Report, evaluate
from infoclip_lite.core.environment import environment
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation.predict import best_synonym, flatten_synonyms
from infoclip_lite.evaluation.windows import infer
from infoclip_lite.segmentors import ZeroShotSegmentor

NAMES = ["cow", "lion", "grass", "sky"]
sides = st.integers(1, 40)


class Words:
    """A text tower that gives each name its own axis."""

    name = "words"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        self.asked = list(names)
        return torch.eye(len(names))


class Reader(nn.Module):
    """Reads the label off the red channel, 0.1 a class, and gives it a logit of 1; green is a rival worth 0.6."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = Words()

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        red, green = (nn.functional.one_hot((images[:, c] * 10).round().long(), 11).movedim(-1, 1).float() for c in (0, 1))
        return (red + 0.6 * green * (1 - red))[:, : len(text)]


class Painted:
    """Pictures that say what the Reader will answer, and masks that say what is right."""

    def __init__(self, answers: Tensor, rivals: Tensor, masks: Tensor, unseen: Sequence[int] = (1,)) -> None:
        self.answers, self.rivals, self.masks, self.names, self.unseen = answers, rivals, masks, NAMES, unseen

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = torch.stack([self.answers[index] / 10, self.rivals[index] / 10, torch.zeros(self.masks[index].shape)])
        return image, self.masks[index]


def painted(count: int = 5, unseen: Sequence[int] = (1,)) -> Painted:
    g = torch.Generator().manual_seed(0)
    answers, rivals, masks = (torch.randint(0, 4, (count, 8, 8), generator=g) for _ in range(3))
    return Painted(answers, rivals, masks, unseen)


class Constant(nn.Module):
    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        return torch.arange(1.0, 1 + len(text))[None, :, None, None].expand(len(images), -1, *images.shape[-2:])


class Pixels(nn.Module):
    """Looks at one pixel at a time, so windows must change nothing; refuses windows that are too large."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        assert max(images.shape[-2:]) <= self.largest and min(images.shape[-2:]) >= 1
        return images[:, : len(text)]


@given(sides, sides, st.integers(2, 50), st.data())
def test_windows_cover_every_pixel(height: int, width: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.none() | st.integers(1, window))
    got = infer(Constant(), torch.zeros(2, 3, height, width), torch.zeros(3, 4), window=window, stride=stride)
    assert torch.allclose(got, torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(2, 3, height, width), atol=1e-5)


@given(sides, sides, st.integers(2, 50), st.data())
def test_windows_put_every_pixel_in_its_place(height: int, width: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    assert torch.allclose(infer(Pixels(window), images, torch.zeros(3, 4), window=window, stride=stride), images, atol=1e-5)


def test_a_window_as_large_as_the_picture_is_the_whole_picture(tiny: DenseCLIP) -> None:
    segmentor, text = ZeroShotSegmentor(tiny), tiny.encode_text(NAMES)
    images = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    whole = infer(segmentor, images, text)
    assert torch.equal(whole, segmentor(images, text)) and whole.shape == (2, 4, 32, 24)
    for window in (32, 100):
        assert torch.allclose(infer(segmentor, images, text, window=window), whole, atol=1e-6)
    assert not torch.allclose(infer(segmentor, images, text, window=16), whole, atol=1e-3)


def test_overlapping_windows_are_averaged() -> None:
    class Counter(nn.Module):
        calls = 0

        def forward(self, images: Tensor, text: Tensor) -> Tensor:
            self.calls += 1
            return torch.full((1, 1, *images.shape[-2:]), float(self.calls))

    got = infer(Counter(), torch.zeros(1, 3, 4, 8), torch.zeros(1, 2), window=4, stride=2)
    assert got[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3]


@pytest.mark.parametrize(("window", "stride"), [(8, 9), (8, 0), (8, -1), (0, 0), (-4, 1)])
def test_windows_that_leave_gaps_are_refused(window: int, stride: int) -> None:
    with pytest.raises(ValueError, match="1 <= stride <= window"):
        infer(Constant(), torch.zeros(1, 3, 16, 16), torch.zeros(1, 2), window=window, stride=stride)


def test_known_answers_give_known_metrics() -> None:
    data = painted()
    report = evaluate(Reader(), data)
    right = data.answers == data.masks
    iou = [((data.answers == c) & (data.masks == c)).sum() / ((data.answers == c) | (data.masks == c)).sum() for c in range(4)]
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
    first = Painted(data.answers[:2], data.rivals[:2], data.masks[:2])
    assert evaluate(Reader(), data, limit=2).metrics == evaluate(Reader(), first).metrics
    assert evaluate(Reader(), data, limit=99).details["scenes"] == 5


@pytest.mark.parametrize("limit", [0, -3])
def test_no_scenes_are_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(Reader(), painted(), limit=limit)
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(Reader(), painted(0))


def test_calibration_takes_gamma_from_seen_classes_only() -> None:
    data = painted()
    report = evaluate(Reader(), data, gammas=(0.3, 0.5, 2.0, -2.0))
    assert set(report.calibration) == {"0.3", "0.5", "2.0", "-2.0"}
    assert report.metrics == evaluate(Reader(), data).metrics, "metrics are those without calibration"
    assert report.calibration["0.3"] == report.metrics, "the rival is 0.4 below"
    flipped = torch.where((data.answers != 1) & (data.rivals == 1), 1, data.answers)  # answer - 0.5 < rival 0.6
    assert report.calibration["0.5"] == pytest.approx(evaluate(Reader(), Painted(flipped, data.rivals, data.masks)).metrics)
    assert report.calibration["2.0"]["pAcc"] == pytest.approx((data.masks == 1).float().mean().item())
    assert report.calibration["-2.0"]["mIoU_unseen"] < report.metrics["mIoU_unseen"]


def test_gamma_zero_may_be_part_of_the_sweep() -> None:
    report = evaluate(Reader(), painted(), gammas=(0.0, 0.5))
    assert report.calibration["0.0"] == report.metrics and "0.5" in report.calibration


def test_classes_that_do_not_occur_are_none() -> None:
    zeros = torch.zeros(1, 4, 4, dtype=torch.long)
    report = evaluate(Reader(), Painted(zeros, zeros, zeros))
    assert report.per_class == {"cow": 1.0, "lion": None, "grass": None, "sky": None}


def test_synonyms_are_flattened_in_order() -> None:
    assert flatten_synonyms(["ox|cow", "grass", "a, b,c"]) == (["ox", "cow", "grass", "a", "b", "c"], [0, 0, 1, 2, 2, 2])


def test_best_synonym_is_the_maximum_of_each_class() -> None:
    logits = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    got = best_synonym(logits, [0, 0, 1, 2, 2], 3)
    assert torch.equal(got, torch.stack([logits[:, :2].amax(1), logits[:, 2], logits[:, 3:].amax(1)], 1))
    assert torch.equal(best_synonym(logits, range(5), 5), logits)


def test_max_over_synonyms_lets_either_word_find_the_class() -> None:
    answers = torch.tensor([[[0, 1], [2, 3]]])  # the Reader speaks of words, of which the first class has two
    data = Painted(answers, answers, torch.tensor([[[0, 0], [1, 2]]]))
    data.names, data.unseen = ["ox|cow", "grass", "sky"], ()
    reader = Reader()
    assert evaluate(reader, data, synonyms="max").metrics["pAcc"] == 1 and reader.clip.asked == ["ox", "cow", "grass", "sky"]
    evaluate(reader, Painted(*[torch.zeros(1, 2, 2, dtype=torch.long)] * 3), synonyms="mean")
    assert reader.clip.asked == NAMES


def test_a_run_is_evaluated_by_its_model() -> None:
    class Run:
        model = Reader()

    assert evaluate(Run(), painted()).metrics == evaluate(Reader(), painted()).metrics


def test_a_real_model_gives_the_same_numbers_twice(tiny: DenseCLIP) -> None:
    data = Collage("val", 32, length=6)
    first, second = (evaluate(ZeroShotSegmentor(tiny, ["value", "cls_value"]), data, window=16) for _ in range(2))
    assert first.metrics == second.metrics and first.per_class.keys() == set(data.names)
    assert first.details["attention"] == ("value", "cls_value") and first.details["window"] == 16


def test_report_comes_back_from_json(tmp_path: Path) -> None:
    report = evaluate(Reader(), painted(), gammas=(0.5,))
    text = report.to_json(tmp_path / "reports" / "a.json")
    written = (tmp_path / "reports" / "a.json").read_text()
    assert json.loads(text) == json.loads(written)
    back = Report(**json.loads(written))
    assert (back.metrics, back.per_class, back.calibration) == (report.metrics, report.per_class, report.calibration)
    assert back.details == json.loads(json.dumps(report.details))


def test_report_is_strict_json_even_where_nothing_was_counted() -> None:
    """NaN is no JSON: browsers and other languages refuse the whole file."""
    report = evaluate(Reader(), painted(unseen=()))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in a JSON file")

    back = json.loads(report.to_json(), parse_constant=refuse)
    assert back["metrics"]["mIoU_unseen"] is None and back["metrics"]["pAcc"] == report.metrics["pAcc"]


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, full_disk: Callable) -> None:
    (tmp_path / "a.json").write_text("old")
    report = Report({}, {f"class {i}": None for i in range(1000)})
    with pytest.raises(OSError, match="cannot write"), full_disk():
        report.to_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_details_say_where_and_with_what() -> None:
    details = environment()
    assert {"hardware", "threads", "python", "torch", "open_clip_torch", "infoclip-lite", "git"} <= details.keys()
    assert details["torch"] == torch.__version__.split("+")[0] or details["torch"] == torch.__version__
    assert {"dataset", "scenes", "model", "wall_time_s"} <= evaluate(Reader(), painted()).details.keys()


@pytest.mark.parametrize("attention", ["nothing", ["value", "nothing"], []])
def test_an_unknown_read_out_is_refused(tiny: DenseCLIP, attention: object) -> None:
    with pytest.raises(ValueError, match="expected one or more of vanilla"):
        ZeroShotSegmentor(tiny, attention)


def test_zero_shot_logits_are_scaled_cosines(tiny: DenseCLIP) -> None:
    images, text = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0)), tiny.encode_text(NAMES)
    logits = (both := ZeroShotSegmentor(tiny, ["value", "sclip"])).decode(both.encode(images), text)
    mean = (tiny.encode_dense(images, "value") + tiny.encode_dense(images, "sclip")) / 2
    for row in range(4):
        for column in range(5):
            assert torch.allclose(logits[0, :, row, column], text @ mean[0, :, row, column] / 0.07, atol=1e-4)
    assert ZeroShotSegmentor(tiny)(images, text).shape == (1, 4, 32, 40)
