"""Training crops: pure functions of (seed, index), every picture once an epoch, cut as CAT-Seg cuts."""

from __future__ import annotations

import pickle
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import real_data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as V

from infoclip_lite.datasets import Folder, Sample, SegmentationDataset, TrainingCrops, build_dataset
from infoclip_lite.datasets.crops import _nearest, _turned, distort

pytestmark = pytest.mark.filterwarnings("ignore:.*the official .* split has")


class Squares(SegmentationDataset):
    """Pictures whose red says where a pixel is across, green down, blue which picture; labels are halves."""

    def __init__(self, count: int = 7, shape: tuple[int, int] = (40, 60)) -> None:
        super().__init__(("left", "right", "rare"), unseen=(1,), split="train")
        self.count, self.shape, self.read = count, shape, list[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        height, width = self.shape
        across, down = (
            torch.arange(width).expand(height, -1) / width,
            torch.arange(height)[:, None].expand(-1, width) / height,
        )
        image = torch.stack([across, down, torch.full((height, width), index / self.count)])
        return Sample(image, (across >= 0.5).long(), f"{index}.jpg")


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    real_data.write_coco(tmp_path)
    return tmp_path


def damage(root: Path, *stems: str) -> None:
    for stem in stems:
        path = root / "coco-stuff/images/train2017" / f"{stem}.jpg"
        path.write_bytes(path.read_bytes()[:300])


@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_a_crop_depends_on_seed_and_index_alone(seed: int, index: int) -> None:
    first = TrainingCrops(Squares(), 16, seed=seed)[index]
    crops = TrainingCrops(Squares(), 16, seed=seed)
    for other in (0, index // 3, index + 1):
        crops[other]
    random.seed(index)
    torch.manual_seed(index)
    assert same(crops[index], first)
    assert not same(TrainingCrops(Squares(), 16, seed=seed + 1)[index], first)


def test_workers_give_the_same_crops(coco: Path) -> None:
    crops = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16)
    loader = DataLoader(crops, 3, sampler=range(6), num_workers=1, multiprocessing_context="fork")
    expected = torch.stack([crops[i].image for i in range(6)])
    assert torch.equal(torch.cat([batch[0] for batch in loader]), expected)
    sent = pickle.loads(pickle.dumps(crops))  # as workers that are spawned get it
    assert torch.equal(torch.stack([sent[i].image for i in range(6)]), expected)


def test_every_epoch_shows_every_picture_once_in_another_order() -> None:
    squares = Squares(20)
    crops = TrainingCrops(squares, 16)
    for i in range(60):
        crops[i]
    epochs = [squares.read[i : i + 20] for i in (0, 20, 40)]
    assert (
        all(sorted(epoch) == list(range(20)) for epoch in epochs)
        and len({tuple(epoch) for epoch in epochs}) == 3
    )
    assert len(crops) == 20 and (crops.names, crops.unseen, crops.ignore, crops.split) == (
        squares.names,
        (1,),
        255,
        "train",
    )


@pytest.mark.parametrize("shape", [(40, 60), (90, 30), (16, 16), (33, 200)])
def test_image_and_mask_are_cut_together_at_the_size_asked_for(shape: tuple[int, int]) -> None:
    crops = TrainingCrops(Squares(shape=shape), 16, colour=False)
    flipped = 0
    for i in range(40):
        image, mask, *_ = crops[i]
        assert image.shape == (3, 16, 16) and mask.shape == (16, 16) and mask.dtype == torch.int64
        assert image.min() >= 0 and image.max() <= 1
        across = image[0].mean(0)
        flipped += bool(across[0] > across[-1])
        certain = (image[0] - 0.5).abs() > 1.5 / min(shape) + 0.05
        assert torch.equal(mask[certain], (image[0] >= 0.5).long()[certain])
    assert 8 <= flipped <= 32


def test_the_shorter_side_is_resized_to_the_crop() -> None:
    """A picture of 40 x 60 at 16: from top to bottom, two thirds from left to right, at other places."""
    crops = TrainingCrops(Squares(), 16, colour=False)
    spans = [crops[i].image for i in range(30)]
    assert all(image[1].max() - image[1].min() > 0.9 for image in spans)
    assert all(0.55 < image[0].max() - image[0].min() < 0.72 for image in spans)
    assert len({round(image[0].min().item(), 2) for image in spans}) > 4
    larger = [TrainingCrops(Squares(), 16, shorter=(32,), colour=False)[i].image[1] for i in range(10)]
    assert all(0.4 < down.max() - down.min() < 0.55 for down in larger)


def test_what_a_small_picture_lacks_is_ignored() -> None:
    crop = TrainingCrops(Squares(shape=(20, 20)), 32, shorter=(16,), colour=False)[0]
    assert (
        (crop.mask[16:] == 255).all()
        and (crop.mask[:, 16:] == 255).all()
        and (crop.mask[:16, :16] != 255).all()
    )
    assert (crop.image[:, 16:] == 0.5).all()


def test_windows_of_one_class_are_drawn_anew() -> None:
    def alone(category: float) -> int:
        crops = TrainingCrops(Squares(), 16, shorter=(32,), category=category, colour=False)
        return sum(len(crops[i].mask.unique()) == 1 for i in range(60))

    assert alone(1.0) > 20 and alone(0.75) < 10  # 18 of 33 places show one class; ten draws seldom all do


def test_unseen_labels_are_kept() -> None:
    assert any((TrainingCrops(Squares(), 16)[i].mask == 1).any() for i in range(5))


def test_colours_change_each_in_half_of_the_cases_and_stay_in_range() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    same = sum(torch.equal(distort(image, random.Random(i)), image) for i in range(400))
    assert 10 <= same <= 45  # 1 of 16
    drawn = [distort(image, random.Random(i)) for i in range(50)]
    assert all(d.min() >= 0 and d.max() <= 1 for d in drawn)
    grey = torch.full((3, 4, 4), 0.5)
    shifts = [distort(grey, random.Random(i)) for i in range(100)]  # grey has no saturation or hue to change
    assert all((s - s[0]).abs().max() < 1e-6 for s in shifts)
    assert max(s.max().item() for s in shifts) > 0.7 and min(s.min().item() for s in shifts) < 0.28


def test_hue_turns_and_saturation_keeps_the_largest_colour() -> None:
    red = torch.tensor([0.8, 0.4, 0.4])[:, None, None].expand(3, 2, 2)
    drawn = torch.stack([distort(red, random.Random(i))[:, 0, 0] for i in range(400)])
    assert (drawn.argmax(1) == 0).all()  # 36 degrees at most, half of the way to yellow
    assert (drawn[:, 1] - drawn[:, 2]).abs().max() > 0.1
    saturation = 1 - drawn.amin(1) / drawn.amax(1)
    assert saturation.min() < 0.3 and saturation.max() > 0.7


def test_damaged_picture_is_named_and_stops_the_training(coco: Path) -> None:
    damage(coco, "000000000025")
    crops = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16)
    with pytest.raises(ValueError, match=r"000000000025\.jpg cannot be decoded.*skip_corrupt=True"):
        for i in range(3):
            crops[i]


def test_damaged_picture_is_skipped_counted_and_named_only_if_asked(coco: Path) -> None:
    damage(coco, "000000000025")
    crops = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16, skip_corrupt=True)
    with pytest.warns(UserWarning, match="000000000025.jpg") as caught:
        taken = [crops[i] for i in range(6)]
    assert (
        len(caught) == 1 and [len(crop.skipped) for crop in taken].count(1) == 2
    )  # once in each of the two epochs, said once
    assert {Path(name).name for crop in taken for name in crop.skipped} == {"000000000025.jpg"}
    again = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16, skip_corrupt=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(same(again[i], taken[i]) for i in (5, 2, 0, 1, 3, 4))


def test_damaged_labels_are_skipped_and_wrong_ones_are_not(coco: Path) -> None:
    labels = coco / "coco-stuff/annotations/train2017/000000000025.png"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:60])
    crops = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16, skip_corrupt=True)
    with pytest.warns(UserWarning, match=r"000000000025\.png"):
        [crops[i] for i in range(3)]
    Image.fromarray(np.full((24, 32), 200, np.uint8)).save(labels)
    with pytest.raises(ValueError, match=r"000000000025\.png has the labels \[200\]"):
        [crops[i] for i in range(3)]


def test_nothing_to_decode_is_an_error_even_then(coco: Path) -> None:
    damage(coco, "000000000009", "000000000025", "000000000030")
    crops = TrainingCrops(build_dataset("coco_stuff", "train", coco), 16, skip_corrupt=True)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of the 3 pictures can be decoded"):
        crops[0]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 8},
        {"size": 16, "shorter": (0,)},
        {"size": 16, "category": 0.0},
        {"size": 16, "category": 1.5},
    ],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        TrainingCrops(Squares(), **{"size": 16, **options})
    with pytest.raises(ValueError, match="without pictures"):
        TrainingCrops(Squares(0), 16)
    with pytest.raises(IndexError):
        TrainingCrops(Squares(), 16)[-1]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A folder with one photograph of 427 x 640 pixels."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "names.txt").write_text("ground\nthing\n")
    picture = load_sample_image("china.jpg")
    Image.fromarray(picture).save(tmp_path / "images/a.jpg", quality=90)
    Image.fromarray((picture[..., 0] > 128).astype(np.uint8)).save(tmp_path / "masks/a.png")
    return tmp_path


class Whole(Folder):
    """Pictures that are never decoded small."""

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("size", "factor"), [(384, 1), (107, 1), (106, 2), (54, 2), (53, 4), (26, 8), (16, 8)]
)
def test_a_jpeg_is_decoded_as_small_as_its_crop_allows_and_no_smaller(
    photo: Path, size: int, factor: int
) -> None:
    image, mask, _ = Folder(photo, "all").for_crop(0, size)
    assert image.dtype == torch.uint8 and tuple(mask.shape) == (427, 640)
    assert tuple(image.shape[1:]) == (-(-427 // factor), -(-640 // factor)) and min(
        image.shape[1:]
    ) >= size * min(factor, 2)


@pytest.mark.parametrize("size", [224, 106, 64, 40])
def test_a_crop_of_it_shows_what_one_of_the_whole_picture_shows(photo: Path, size: int) -> None:
    """Some two levels of 255 in the mean, where a JPEG of quality 75 changes five."""
    small, whole = (TrainingCrops(kind(photo, "all"), size, colour=False) for kind in (Folder, Whole))
    for index in range(4):
        (image, mask, *_), (wanted, its_mask, *_) = small[index], whole[index]
        difference = 255 * (image - wanted).abs()
        assert difference.mean() <= 2.5 and torch.equal(mask, its_mask)
        assert image.shape == wanted.shape and image.is_contiguous()


def test_other_formats_and_pictures_of_another_size_than_their_labels(photo: Path) -> None:
    with Image.open(photo / "images/a.jpg") as picture:
        picture.save(photo / "images/a.png")
    (photo / "images/a.jpg").unlink()
    assert tuple(Folder(photo, "all").for_crop(0, 16).image.shape) == (3, 427, 640)
    # The file's own size counts, not that at which it is decoded.
    picture.resize((214, 320)).save(photo / "images/a.jpg")
    (photo / "images/a.png").unlink()
    with pytest.raises(ValueError, match=r"\(320, 214\), its labels .* are \(427, 640\)"):
        Folder(photo, "all").for_crop(0, 16)


def test_bytes_are_resized_as_floats_are_but_for_rounding(photo: Path) -> None:
    bytewise, floats = (TrainingCrops(kind(photo, "all"), 384, colour=False) for kind in (Folder, Whole))
    assert (255 * (bytewise[0].image - floats[0].image)).abs().max() <= 1.01


@given(st.floats(-1 / 6, 1 / 6), st.integers(0, 10**6))
def test_hue_is_torchvisions(turn: float, seed: int) -> None:
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed))
    image[:, 0] = image[0, 0]  # greys
    image[1, 1], image[2, 2] = image[0, 1], image[1, 2]  # two equal channels
    assert torch.allclose(_turned(image, turn), V.adjust_hue(image, turn), atol=2e-5)


@pytest.mark.parametrize(("before", "after"), [(480, 384), (7, 16), (333, 224), (16, 16), (5, 1)])
def test_labels_are_those_of_the_nearest_pixels_middle(before: int, after: int) -> None:
    places = torch.tensor([int((i + 0.5) * before / after) for i in range(after)])
    assert torch.equal(_nearest(before, after), places)


def test_labels_are_looked_up_as_bytes_and_as_numbers_alike(photo: Path) -> None:
    data = Folder(photo, "all")
    assert data.for_crop(0, 384).mask.dtype == torch.uint8
    as_bytes, wanted = TrainingCrops(data, 384)[0].mask, Folder(photo, "all")
    wanted._by_byte = None
    assert wanted.for_crop(0, 384).mask.dtype == torch.int32
    assert torch.equal(as_bytes, TrainingCrops(wanted, 384)[0].mask) and len(as_bytes.unique()) == 2
    labels = np.asarray(Image.open(photo / "masks/a.png")).copy()
    labels[5, 7] = 9
    Image.fromarray(labels).save(photo / "masks/a.png")
    with pytest.raises(ValueError, match=r"has the labels \[9\]"):
        data.for_crop(0, 384)
