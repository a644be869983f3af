"""Windows cover every pixel, protocols step by step, Pillow's resizing, sigmoids only where they belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from toy_segmentors import PICTURE, SMALL, Colours, Constant, Neighbours, PerPixel, scaled

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation import EvaluationProtocol
from infoclip_lite.evaluation.protocol import WHOLE, photo_protocol
from infoclip_lite.evaluation.windows import resized, run_windows
from infoclip_lite.segmentors import CostAggregationSegmentor, ZeroShotSegmentor
from infoclip_lite.segmentors.base import Encoded

WORDS = 7
sides = st.integers(1, 40)


def scores(segmentor: Any, images: Tensor, words: int = 3, **changes: Any) -> Tensor:
    return run_windows(segmentor, images, torch.eye(words), replace(WHOLE, **changes)).scores()


def by_pillow(picture: Tensor, size: tuple[int, int]) -> Tensor:
    array = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    resized = Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)[None].float() / 255


@given(sides, sides, st.integers(2, 50), st.data())
def test_windows_cover_every_pixel(height: int, width: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.none() | st.integers(1, window))
    got = scores(Constant(), torch.zeros(2, 3, height, width), window=window, stride=stride)
    wanted = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(2, 3, height, width)
    assert torch.allclose(got, wanted, atol=1e-5)


@given(sides, sides, st.integers(2, 50), st.data())
def test_windows_put_every_pixel_in_its_place(
    height: int, width: int, window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    images = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height * width))
    assert torch.allclose(scores(Colours(window), images, window=window, stride=stride), images, atol=1e-5)


def test_a_window_as_large_as_the_picture_is_the_whole_picture(tiny: DenseCLIP) -> None:
    segmentor, text = ZeroShotSegmentor(tiny, "value"), tiny.encode_text(["cow", "lion", "grass", "sky"])
    images = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(0))
    whole = run_windows(segmentor, images, text).scores()
    assert torch.equal(whole, segmentor(images, text)) and whole.shape == (2, 4, 32, 24)
    for window in (32, 100):
        assert torch.allclose(
            run_windows(segmentor, images, text, replace(WHOLE, window=window)).scores(), whole, atol=1e-6
        )
    cut = run_windows(segmentor, images, text, replace(WHOLE, window=16)).scores()
    assert not torch.allclose(cut, whole, atol=1e-3)


def test_overlapping_windows_are_averaged() -> None:
    class Counter(PerPixel):
        calls = 0

        def logits(self, images: Tensor, text: Tensor) -> Tensor:
            self.calls += 1
            return torch.full((1, 1, *images.shape[-2:]), float(self.calls))

    got = scores(Counter(), torch.zeros(1, 3, 4, 8), 1, window=4, stride=2)
    assert got[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2.5, 2.5, 3, 3]


def test_small_logits_of_a_window_are_enlarged_to_it_and_not_to_the_picture() -> None:
    class Halved(PerPixel):
        def logits(self, images: Tensor, text: Tensor) -> Tensor:
            return images[..., ::2, ::2]

    images = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(2))
    left, right = (scaled(images[..., part][..., ::2, ::2], (8, 8)) for part in (slice(0, 8), slice(8, 16)))
    assert torch.allclose(scores(Halved(), images, window=8, stride=8), torch.cat([left, right], -1))


def test_catseg_step_by_step() -> None:
    """To 40 within 55 by Pillow, squeezed to 40 x 40, four windows at 16 x 16, sigmoids, mean, whole."""
    toy, text = Neighbours(), torch.eye(WORDS)
    picture = by_pillow(PICTURE, (37, 55))  # 55 / 45 is the smaller scale
    square = scaled(picture, (40, 40))
    total, count = torch.zeros(1, WORDS, 40, 40), torch.zeros(40, 40)
    for top in (0, 16):
        for left in (0, 16):
            window = scaled(square[..., top : top + 24, left : left + 24], (16, 16))
            activated = scaled(toy.logits(window, text), (24, 24)).sigmoid()
            total[..., top : top + 24, left : left + 24] += activated
            count[top : top + 24, left : left + 24] += 1
    small = scaled(scaled(picture, (24, 24)), (16, 16))
    whole = scaled(scaled(toy.logits(small, text), (24, 24)).sigmoid(), (40, 40))
    found = run_windows(toy, PICTURE, text, SMALL["catseg"]).scores()
    assert torch.allclose(found, (total / count + whole) / 2, atol=1e-5)


def test_training_free_step_by_step() -> None:
    """Written out: the shorter side to 20, windows of 14 every 7, the mean of logits."""
    toy, text = Neighbours(), torch.eye(WORDS)
    picture = (scaled(PICTURE, (20, 30)) * 255).round() / 255
    total, count = torch.zeros(1, WORDS, 20, 30), torch.zeros(20, 30)
    for top in (0, 6):
        for left in (0, 7, 14, 16):
            window = picture[..., top : top + 14, left : left + 14]
            total[..., top : top + 14, left : left + 14] += toy.logits(window, text)
            count[top : top + 14, left : left + 14] += 1
    found = run_windows(toy, PICTURE, text, SMALL["training-free"]).scores()
    assert torch.allclose(found, total / count, atol=1e-5)


def test_a_side_that_is_no_multiple_of_the_patch_is_cut_padded_or_left_to_the_model(tiny: DenseCLIP) -> None:
    seen: list[Tensor] = []

    class Watching(ZeroShotSegmentor):
        def encode(self, images: Tensor) -> Encoded:
            seen.append(images)
            return super().encode(images)

    segmentor, text = Watching(tiny), tiny.encode_text(["cow", "sky"])
    images = torch.rand(1, 3, 30, 45, generator=torch.Generator().manual_seed(0))
    for partial in ("stretch", "cut", "pad"):
        found = run_windows(segmentor, images, text, replace(WHOLE, partial=partial)).scores()
        assert found.shape == (1, 2, 30, 45)
    stretched, cut, padded = seen
    assert torch.equal(stretched, images) and torch.equal(cut, images[..., :24, :40])
    assert padded.shape == (1, 3, 32, 48) and torch.equal(padded[..., :30, :45], images)
    # CLIP's mean, which its normalisation makes zeros of.
    assert torch.equal(padded[0, :, 31, 47], tiny.mean.flatten())
    assert torch.equal(padded[0, :, 0, 45], tiny.mean.flatten())
    whole = images[..., :24, :40]
    for partial in ("cut", "pad"):
        run_windows(segmentor, whole, text, replace(WHOLE, partial=partial))
        assert torch.equal(seen[-1], whole)


def test_positions_are_the_protocols_as_long_as_it_looks(tiny: DenseCLIP) -> None:
    segmentor, text = ZeroShotSegmentor(tiny), tiny.encode_text(["cow", "sky"])
    images = torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    by_size = run_windows(segmentor, images, text, WHOLE).scores()
    by_factor = run_windows(segmentor, images, text, replace(WHOLE, positions="factor")).scores()
    assert tiny.positions == "size" and not torch.equal(by_size, by_factor)
    assert torch.allclose(by_size, by_factor, rtol=0.3, atol=0.3)
    with pytest.raises(RuntimeError):
        run_windows(segmentor, images, text[:, :3], replace(WHOLE, positions="factor"))
    assert tiny.positions == "size", "put back after an error too"


def test_the_longer_side_is_bounded() -> None:
    picture, same = resized(PICTURE, SMALL["zero-shot"], 8)
    assert picture.shape[-2:] == (20, 30) and same is picture  # 24 would make it 36 long
    assert resized(PICTURE, WHOLE, 8)[0] is PICTURE


@pytest.mark.parametrize(
    ("height", "width", "wanted"), [(30, 45, (32, 48)), (96, 96, (32, 32)), (3, 400, (32, 256))]
)
def test_photos_become_whole_patches_and_strips_are_squeezed(
    height: int, width: int, wanted: tuple[int, int]
) -> None:
    assert resized(torch.rand(1, 3, height, width), photo_protocol(32), 8)[0].shape[-2:] == wanted


@pytest.mark.parametrize(("width", "passes"), [(64, 1), (65, 4)])
def test_photos_more_than_two_windows_long_are_cut(width: int, passes: int) -> None:
    toy = Neighbours()
    run_windows(
        toy, torch.rand(1, 3, 32, width), torch.eye(WORDS), replace(photo_protocol(32), whole_patches=False)
    )
    assert len(toy.seen) == passes


def natural(index: int) -> Tensor:
    """A scene of photographs, as a file would hold it."""
    return (Collage("val", 96)[index].image[None] * 255).round() / 255


@pytest.mark.parametrize("shorter", [48, 97, 336, 640])
@pytest.mark.parametrize("kind", ["random", "natural"])
def test_smooth_resizing_to_bytes_is_pillows(shorter: int, kind: str) -> None:
    noise = torch.randint(256, (1, 3, 75, 96), generator=torch.Generator().manual_seed(1)) / 255
    picture = noise if kind == "random" else natural(0)[..., :75, :]
    found = resized(picture, EvaluationProtocol("p", shorter=shorter, antialias=True), 8)[0]
    assert torch.equal(found, by_pillow(picture, (shorter, int(96 * shorter / 75 + 0.5))))


def test_pictures_of_a_batch_are_resized_each_for_itself() -> None:
    both = torch.cat([natural(0), natural(1)])
    protocol = EvaluationProtocol("p", shorter=50, antialias=True)
    assert torch.equal(resized(both, protocol, 8)[0][1:], resized(both[1:], protocol, 8)[0])


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("window_batch", [2, 100])
def test_windows_in_batches_are_the_same_windows(name: str, window_batch: int) -> None:
    one, many, text = Neighbours(), Neighbours(), torch.eye(WORDS)
    wanted = run_windows(one, PICTURE, text, SMALL[name]).scores()
    assert torch.allclose(
        run_windows(many, PICTURE, text, SMALL[name], window_batch).scores(), wanted, atol=1e-5
    )
    assert len(many.seen) < len(one.seen) or len(one.seen) == 1


def test_cosines_take_no_sigmoid_and_one_sigmoid_a_word_does() -> None:
    """Of 100 times a cosine the sigmoid is 1.0 for every word, and the first would win everywhere."""
    toy, text = Neighbours(), torch.eye(WORDS)
    protocol = replace(WHOLE, activation="sigmoid")
    logits = toy.logits(PICTURE, text)
    assert torch.allclose(run_windows(toy, PICTURE, text, protocol).scores(), logits.sigmoid())
    toy.independent = False
    assert torch.allclose(run_windows(toy, PICTURE, text, protocol).scores(), logits)


def test_who_has_one_sigmoid_a_word(mini: DenseCLIP) -> None:
    assert CostAggregationSegmentor(mini).independent and not ZeroShotSegmentor(mini, "value").independent


def test_class_pooling_is_an_argument_and_changes_no_layer(mini: DenseCLIP) -> None:
    head = CostAggregationSegmentor(mini).eval()
    text = head.encode_text(["cow", "lion", "grass", "sky"])
    images = natural(0)
    before = [layer.pooling for layer in head.aggregator.classes]
    plain = run_windows(head, images, text).scores()
    pooled = run_windows(head, images, text, replace(WHOLE, pooling=1)).scores()
    assert (
        not torch.allclose(plain, pooled) and [layer.pooling for layer in head.aggregator.classes] == before
    )
    assert torch.equal(run_windows(head, images, text, replace(WHOLE, pooling=before[0])).scores(), plain)
