"""Protocols step by step, words in parts, windows in batches, evaluations that are killed, shared out, or run out of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP, evaluate
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation.predict import Words, best_classes, predict
from infoclip_lite.evaluation.protocol import CATSEG, TRAINING_FREE, WHOLE, ZERO_SHOT, Protocol, get_protocol
from infoclip_lite.evaluation.windows import class_pooling, look, resized
from infoclip_lite.segmentors import CostAggregationSegmentor, ZeroShotSegmentor

NAMES = [f"word {i}" for i in range(7)]
G = torch.Generator().manual_seed(0)
PICTURE = torch.rand(1, 3, 30, 45, generator=G)
SMALL: dict[str, Protocol] = {  # every step of the published protocols, at a size that a test can afford
    "catseg": replace(CATSEG, shorter=40, longest=55, square=40, window=24, stride=16, patches=2),
    "training-free": replace(TRAINING_FREE, shorter=20, longest=200, window=14, stride=7),
    "zero-shot": replace(ZERO_SHOT, shorter=24, longest=30, window=24, stride=20),
}


class Clip:
    """What `evaluate` asks of a CLIP."""

    name, patch_size, logit_scale = "toy", 8, torch.tensor(10.0)

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        return torch.eye(len(names))


class Toy(nn.Module):
    """Looks at a pixel and its neighbours: windows and sizes matter, as for a real model."""

    def __init__(self, words: int = len(NAMES)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.clip: Any = Clip()
        self.layer = nn.Conv2d(3, words, 3, padding=1).requires_grad_(False)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return 4 * self.layer(images)[:, : len(text)]


class Item(NamedTuple):
    image: Tensor
    mask: Tensor
    path: str


class Photos:
    """Pictures of unequal sizes."""

    names, unseen, split = tuple(NAMES), (5, 6), "val"

    def __init__(self, count: int = 6, killed_at: int | None = None, wrong_at: int | None = None) -> None:
        self.count, self.killed_at, self.wrong_at = count, killed_at, wrong_at
        self.opened: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if index == self.killed_at:
            raise KeyboardInterrupt
        self.opened.append(index)
        g = torch.Generator().manual_seed(index)
        shape = (24 + 3 * index, 40 - 2 * index)
        mask = torch.randint(len(NAMES), shape, generator=g) + (150 if index == self.wrong_at else 0)
        return Item(torch.rand(3, *shape, generator=g), mask, f"photos/{index}.jpg")


def scaled(images: Tensor, size: Sequence[int], antialias: bool = False) -> Tensor:
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False, antialias=antialias)


def test_the_published_numbers() -> None:
    """METHODS, the sources are beside each constant."""
    assert (CATSEG.shorter, CATSEG.square, CATSEG.window, CATSEG.stride, CATSEG.patches) == (640, 640, 384, 256, 24)
    assert CATSEG.whole and CATSEG.activation == "sigmoid" and CATSEG.pooling == 1 and not CATSEG.false_alarms
    assert (TRAINING_FREE.shorter, TRAINING_FREE.window, TRAINING_FREE.stride, TRAINING_FREE.logit_scale) == (336, 224, 112, 40.0)
    assert TRAINING_FREE.templates is not None and len(TRAINING_FREE.templates) == 80 and TRAINING_FREE.synonyms == "max"
    assert (ZERO_SHOT.shorter, ZERO_SHOT.window, ZERO_SHOT.stride) == (512, 512, 426)
    assert [get_protocol(name).name for name in ("whole", "catseg", "training-free", "zero-shot")] == [
        "whole",
        "catseg",
        "training-free",
        "zero-shot",
    ]


def test_catseg_step_by_step() -> None:
    """To 40 within 55, round to 8 bits, squeeze to 40 x 40, four windows at 16 x 16, sigmoids, their mean, the whole picture."""
    toy, text = Toy(), torch.eye(len(NAMES))
    picture = (scaled(PICTURE, (37, 55), antialias=True) * 255).round() / 255  # 55 / 45 is the smaller scale
    square = scaled(picture, (40, 40))
    total, count = torch.zeros(1, len(NAMES), 40, 40), torch.zeros(40, 40)
    for top in (0, 16):
        for left in (0, 16):
            window = scaled(square[..., top : top + 24, left : left + 24], (16, 16))
            total[..., top : top + 24, left : left + 24] += scaled(toy(window, text), (24, 24)).sigmoid()
            count[top : top + 24, left : left + 24] += 1
    whole = scaled(scaled(toy(scaled(scaled(picture, (24, 24)), (16, 16)), text), (24, 24)).sigmoid(), (40, 40))
    found = look(toy, PICTURE, text, SMALL["catseg"]).scores()
    assert torch.allclose(found, (total / count + whole) / 2, atol=1e-5)


def test_training_free_step_by_step() -> None:
    """Written out: the shorter side to 20, windows of 14 every 7, the mean of logits."""
    toy, text = Toy(), torch.eye(len(NAMES))
    picture = (scaled(PICTURE, (20, 30)) * 255).round() / 255
    total, count = torch.zeros(1, len(NAMES), 20, 30), torch.zeros(20, 30)
    for top in (0, 6):
        for left in (0, 7, 14, 16):
            total[..., top : top + 14, left : left + 14] += toy(picture[..., top : top + 14, left : left + 14], text)
            count[top : top + 14, left : left + 14] += 1
    assert torch.allclose(look(toy, PICTURE, text, SMALL["training-free"]).scores(), total / count, atol=1e-5)


def test_the_longer_side_is_bounded() -> None:
    picture, same = resized(PICTURE, SMALL["zero-shot"])
    assert picture.shape[-2:] == (20, 30) and same is picture  # 24 would make it 36 long
    assert resized(PICTURE, WHOLE)[0] is PICTURE


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("window_batch", [2, 100])
def test_windows_in_batches_are_the_same_windows(name: str, window_batch: int) -> None:
    one, many, text = Toy(), Toy(), torch.eye(len(NAMES))
    wanted = look(one, PICTURE, text, SMALL[name]).scores()
    assert torch.allclose(look(many, PICTURE, text, SMALL[name], window_batch).scores(), wanted, atol=1e-5)
    assert len(many.seen) < len(one.seen) or len(one.seen) == 1


def passes_and_words(protocol: Protocol, words: int = 7) -> tuple[Any, Words]:
    toy = Toy(words)
    owners = torch.arange(words) // 2  # synonyms: two words a class
    return look(toy, PICTURE, torch.eye(words), protocol), Words(torch.eye(words), owners, owners < 2, background=0)


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_words_in_parts_give_the_same_labels(name: str, chunk: int) -> None:
    passes, words = passes_and_words(SMALL[name])
    scores = scaled(passes.scores(), (33, 21))
    threshold = scores.softmax(1).amax(1).median().item() + 1e-5 if name == "training-free" else 0.0  # half become background
    passes = replace(passes, protocol=replace(SMALL[name], threshold=threshold))
    gammas = (0.0,) if threshold else (0.0, 0.4)
    wanted = [words.owners[(scores - gamma * words.seen.float()[:, None, None]).argmax(1)] for gamma in gammas]
    if threshold:
        wanted[0] = wanted[0].masked_fill(scores.softmax(1).amax(1) < threshold, 0)
    found = best_classes(passes, words, (33, 21), gammas=gammas, chunk=chunk)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_only_a_part_of_the_words_is_ever_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, words = passes_and_words(SMALL["zero-shot"])
    largest, enlarge = [0], F.interpolate

    def watched(x: Tensor, *args: Any, **options: Any) -> Tensor:
        result = enlarge(x, *args, **options)
        largest[0] = max(largest[0], result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", watched)
    best_classes(passes, words, (200, 300), chunk=2)
    assert largest[0] == 2 * 200 * 300


def test_class_pooling_is_changed_for_the_block_only(mini: DenseCLIP) -> None:
    head = CostAggregationSegmentor(mini)
    before = [layer.pooling for layer in head.aggregator.classes]
    with pytest.raises(RuntimeError, match="stop"), class_pooling(head, 1):
        assert [layer.pooling for layer in head.aggregator.classes] == [1] * len(before)
        raise RuntimeError("stop")
    assert [layer.pooling for layer in head.aggregator.classes] == before


def strip(report: Any) -> dict[str, Any]:
    """A report without what differs between two runs."""
    content = json.loads(report.to_json())
    for key in ("wall_time_s", "processes", "git"):
        content["details"].pop(key, None)
    return content


@pytest.mark.parametrize("name", list(SMALL))
def test_a_killed_evaluation_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"protocol": SMALL[name], "save_every": 2}
    with pytest.raises(KeyboardInterrupt):
        evaluate(Toy(), Photos(killed_at=4), folder=tmp_path, **options)
    photos = Photos()
    report = evaluate(Toy(), photos, folder=tmp_path, **options)
    assert photos.opened == [4, 5]
    assert strip(report) == strip(evaluate(Toy(), Photos(), **options))
    again = Photos()
    assert strip(evaluate(Toy(), again, folder=tmp_path, **options)) == strip(report) and again.opened == []


def test_a_folder_of_another_evaluation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(Toy(), Photos(), folder=tmp_path, limit=2)
    with pytest.raises(ValueError, match="holds another evaluation, with other .*protocol"):
        evaluate(Toy(), Photos(), folder=tmp_path, limit=2, protocol=SMALL["zero-shot"])
    other = Toy()
    other.layer.weight.mul_(2)
    with pytest.raises(ValueError, match="with other weights"):
        evaluate(other, Photos(), folder=tmp_path, limit=2)
    (tmp_path / "part-1-of-1").rename(tmp_path / "part-1-of-2")
    with pytest.raises(ValueError, match="part-1-of-2 and this is one of 1 processes"):
        evaluate(Toy(), Photos(), folder=tmp_path, limit=2)


SCRIPT = """
import sys
from pathlib import Path
import torch.distributed as dist
sys.path.insert(0, sys.argv[1])
from test_protocols import SMALL, Photos, Toy
from infoclip_lite import evaluate
report = evaluate(Toy(), Photos(7), protocol=SMALL["catseg"], gammas=(0.3,), folder=Path(sys.argv[2]) / "parts")
if dist.get_rank() == 0:
    report.to_json(Path(sys.argv[2]) / "report.json")
"""


def test_two_processes_count_what_one_counts(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, str(script), str(Path(__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    two = json.loads((tmp_path / "report.json").read_text())
    assert two["details"]["processes"] == 2 and sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["part-1-of-2", "part-2-of-2"]
    one = strip(evaluate(Toy(), Photos(7), protocol=SMALL["catseg"], gammas=(0.3,)))
    assert all(two[key] == one[key] for key in ("metrics", "per_class", "calibration", "classes", "confusions", "worst"))


def test_scores_that_are_nan_and_labels_that_are_wrong_are_said() -> None:
    broken = Toy()
    broken.layer.bias[2] = torch.nan
    with pytest.raises(FloatingPointError, match="scores that are NaN.*weights broken"):
        evaluate(broken, Photos(), limit=1)

    with pytest.raises(ValueError, match=r"picture 3 \(photos/3.jpg\): target has labels 150 .. 156"):
        evaluate(Toy(), Photos(wrong_at=3))


def test_out_of_memory_says_what_to_change() -> None:
    class Full(Toy):
        def forward(self, images: Tensor, text: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    item = Photos()[0]
    words = Words(torch.eye(7), torch.arange(7), torch.ones(7, dtype=torch.bool))
    with pytest.raises(MemoryError, match=r"7 words.*window_batch=1 \(saves about 75%.*class_chunk=1 in place of 7"):
        predict(Full(), [item], words, SMALL["catseg"], window_batch=4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": 4, "stride": 5}, "stride <= window"),
        ({"shorter": 0}, "shorter is 0"),
        ({"whole": True, "window": None}, "expected a window"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"activation": "softmax"}, "'none' or 'sigmoid'"),
    ],
)
def test_protocols_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(WHOLE, **changes)


def test_unknown_protocols_and_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown protocol 'cat-seg'; expected whole, catseg"):
        get_protocol("cat-seg")
    with pytest.raises(ValueError, match="no class called 'background'"):
        evaluate(Toy(), Photos(), protocol=replace(WHOLE, threshold=0.1))
    with pytest.raises(ValueError, match="expected one of them"):
        evaluate(Toy(), Photos(), protocol=replace(WHOLE, threshold=0.1), gammas=(1.0,))


def test_the_report_has_classes_mistakes_and_worst_pictures(tmp_path: Path) -> None:
    report = evaluate(Toy(), Photos())
    assert [row["name"] for row in report.classes] == NAMES and [row["seen"] for row in report.classes] == [True] * 5 + [False] * 2
    assert sum(row["pixels"] for row in report.classes) == sum(item.mask.numel() for item in map(Photos().__getitem__, range(6)))
    counts = [row["pixels"] for row in report.confusions]
    assert counts == sorted(counts, reverse=True) and all(row["target"] != row["prediction"] for row in report.confusions)
    scores = [row["mIoU"] for row in report.worst]
    assert scores == sorted(scores) and {row["path"] for row in report.worst} == {f"photos/{i}.jpg" for i in range(6)}
    text = report.to_markdown(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == text + "\n"
    assert all(part in text for part in ("# toy on Photos (val)", "## Most frequent mistakes", "photos/0.jpg", "| word 6 | unseen |"))


def test_a_real_head_under_catsegs_protocol_sees_windows_of_its_own_size(mini: DenseCLIP) -> None:
    protocol = replace(CATSEG, shorter=80, longest=200, square=80, window=48, stride=32, patches=8)
    scenes = Collage("val", 64, length=2)
    reports = [
        evaluate(segmentor, scenes, protocol=protocol, window_batch=batch, class_chunk=chunk)
        for segmentor in (ZeroShotSegmentor(mini, "cls_value"), CostAggregationSegmentor(mini))
        for batch, chunk in ((1, None), (4, 5))
    ]
    for plain, divided in (reports[:2], reports[2:]):
        assert plain.metrics["pAcc"] == pytest.approx(divided.metrics["pAcc"], abs=2e-3)
    assert reports[0].metrics["mIoU"] > 0.05
