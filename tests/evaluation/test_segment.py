"""segment(): any photo, any words, and files that are written whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infoclip_lite import DenseCLIP, Segmentation, load_clip, segment
from infoclip_lite.clip.refinements import Pamr
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.image import read_image
from infoclip_lite.segmentors import ZeroShotSegmentor

WORDS = ["cow", "grass", "sky"]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def result(tiny: DenseCLIP, photo: np.ndarray) -> Segmentation:
    return segment(photo, WORDS, tiny)


def test_labels_and_scores_have_the_size_of_the_picture(result: Segmentation, photo: np.ndarray) -> None:
    assert result.labels.shape == result.scores.shape == (60, 80)
    assert result.labels.dtype == np.uint8 and set(np.unique(result.labels)) <= {0, 1, 2}
    assert (
        result.scores.dtype == np.float32 and result.scores.min() >= 1 / 3 - 1e-6 and result.scores.max() <= 1
    )
    assert result.names == WORDS and np.array_equal(result.image, photo)


def test_every_way_to_hand_over_a_picture_gives_the_same(
    tiny: DenseCLIP, result: Segmentation, photo: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.png")
    for picture in (
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        Image.fromarray(photo),
        read_image(photo),
    ):
        again = segment(picture, WORDS, tiny)
        assert np.array_equal(again.labels, result.labels) and np.allclose(
            again.scores, result.scores, atol=1e-5
        )


def test_every_way_to_hand_over_a_model_gives_the_same(tiny_checkpoint: Path, photo: np.ndarray) -> None:
    clip = load_clip(str(tiny_checkpoint))
    wanted = segment(photo, WORDS, str(tiny_checkpoint), read_outs="value").labels
    for model in (clip, ZeroShotSegmentor(clip, "value")):
        assert np.array_equal(segment(photo, WORDS, model, read_outs="value").labels, wanted)


def test_labels_follow_the_photo_where_that_is_asked(
    tiny: DenseCLIP, result: Segmentation, photo: np.ndarray
) -> None:
    own = segment(photo, WORDS, tiny, refine=Pamr())
    assert np.array_equal(segment(photo, WORDS, tiny, refine="pamr").scores, own.scores)
    assert not np.array_equal(own.scores, result.scores)
    other = segment(photo, WORDS, tiny, refine=Pamr(dilations=(1,)))
    assert not np.array_equal(own.scores, other.scores)
    with pytest.raises(ValueError, match="unknown refinement 'pmar'"):
        segment(photo, WORDS, tiny, refine="pmar")


def test_the_models_own_read_out_is_the_default(tiny_checkpoint: Path, photo: np.ndarray) -> None:
    clip = load_clip(str(tiny_checkpoint))
    own = segment(photo, WORDS, clip)
    assert np.array_equal(own.scores, segment(photo, WORDS, clip, read_outs=("value", "cls_value")).scores)
    assert not np.array_equal(own.scores, segment(photo, WORDS, clip, read_outs="sclip").scores)


def test_labels_at_training_size_are_the_segmentors_own(tiny: DenseCLIP) -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    logits = ZeroShotSegmentor(tiny, "sclip")(image[None], tiny.encode_text(WORDS))[0]
    got = segment(image, WORDS, tiny, read_outs="sclip")
    assert np.array_equal(got.labels, logits.argmax(0).numpy())
    assert np.allclose(got.scores, logits.softmax(0).amax(0).numpy(), atol=1e-5)


def test_scenes_of_collage_are_cut_into_their_words(mini: DenseCLIP) -> None:
    data, right = Collage("val", objects=(1, 1), scale=(0.6, 0.8)), []
    for index in range(10):
        scene = data[index]
        got = segment(scene.image, scene.nouns, mini)
        truth = np.array([scene.nouns.index(name) if name in scene.nouns else 255 for name in data.names])[
            scene.mask.numpy()
        ]
        right.append((got.labels == truth)[truth < 255].mean())
    assert np.mean(right) > 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 400), (31, 33)])
def test_odd_sizes_come_back_in_their_size(tiny: DenseCLIP, size: tuple[int, int]) -> None:
    got = segment(np.full((*size, 3), 100, np.uint8), WORDS, tiny)
    assert (
        got.labels.shape == got.scores.shape == size
        and (got.labels < 3).all()
        and np.isfinite(got.scores).all()
    )


def test_twelve_megapixels(tiny: DenseCLIP, tmp_path: Path) -> None:
    left = np.zeros((3000, 4000, 3), np.uint8)
    left[:, 2000:] = 255
    Image.fromarray(left).save(tmp_path / "large.jpg", quality=90)
    got = segment(tmp_path / "large.jpg", WORDS, tiny)
    small = segment(left[::50, ::50], WORDS, tiny)
    assert got.labels.shape == (3000, 4000)
    assert (got.labels[25::50, 25::50] == small.labels).mean() > 0.9


def test_grey_transparent_deep_and_turned_photos(tiny: DenseCLIP, tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise.integers(0, 256, (20, 30), dtype=np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(noise.integers(0, 256, (20, 30, 4), dtype=np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(noise.integers(0, 65536, (20, 30), dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(noise.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(
        tmp_path / "turned.jpg", exif=exif
    )
    for path in sorted(tmp_path.iterdir()):
        got = segment(path, WORDS, tiny)
        assert got.labels.shape == (20, 30) and got.image.shape == (20, 30, 3), path.name
        assert got.image.std() > 10, path.name


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ([], "no words"),
        (["cow", ""], "blank"),
        (["cow", "cow"], "more than once"),
        (["ox|cow", "cow"], "more than once"),
        ("cow, grass", "list of words"),
        (["cow " * 40], "tokens long"),
    ],
)
def test_words_that_cannot_be_used_are_refused(
    tiny: DenseCLIP, photo: np.ndarray, names: list[str], hint: str
) -> None:
    with pytest.raises(ValueError, match=hint):
        segment(photo, names, tiny)


def test_background_that_repeats_a_word_is_refused(tiny: DenseCLIP, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="cow more than once"):
        segment(photo, WORDS, tiny, background=["cow"])


def test_a_string_as_background_is_refused_and_not_read_letter_by_letter(
    tiny: DenseCLIP, photo: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="list of words"):
        segment(photo, ["cow", "grass"], tiny, background="sky")


def test_more_words_than_labels_can_hold_are_refused(tiny: DenseCLIP) -> None:
    with pytest.raises(ValueError, match="255"):
        segment(np.zeros((8, 8, 3), np.uint8), [f"word {i}" for i in range(256)], tiny)


def test_pictures_that_are_none_are_refused(tiny: DenseCLIP, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.jpg is not a picture"):
        segment(tmp_path / "notes.jpg", WORDS, tiny)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        segment(tmp_path / "nowhere.jpg", WORDS, tiny)


def test_background_words_compete_and_are_not_drawn(tiny: DenseCLIP, photo: np.ndarray) -> None:
    everything = segment(photo, [*WORDS, "wood", "sand"], tiny)
    got = segment(photo, WORDS, tiny, background=["wood", "sand"])
    assert got.names == WORDS
    assert np.array_equal(got.labels, np.where(everything.labels > 2, 255, everything.labels))
    assert np.allclose(got.scores, everything.scores)
    assert (segment(photo, ["cow"], tiny, background=[]).labels == 0).all()


def test_threshold_leaves_out_what_is_unsure(
    tiny: DenseCLIP, photo: np.ndarray, result: Segmentation
) -> None:
    middle = float(np.median(result.scores))
    got = segment(photo, WORDS, tiny, threshold=middle)
    assert np.array_equal(got.labels, np.where(result.scores < middle, 255, result.labels))
    assert 0.2 < (got.labels == 255).mean() < 0.8
    assert (segment(photo, WORDS, tiny, threshold=1.0).labels[result.scores < 1] == 255).all()


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_zero_and_one_are_refused(
    tiny: DenseCLIP, photo: np.ndarray, threshold: float
) -> None:
    with pytest.raises(ValueError, match=r"expected 0 \.\. 1"):
        segment(photo, WORDS, tiny, threshold=threshold)


def test_best_synonym_finds_what_each_word_finds_alone(tiny: DenseCLIP, photo: np.ndarray) -> None:
    apart = segment(photo, ["ox", "cow", "grass"], tiny)
    joined = segment(photo, ["ox|cow", "grass"], tiny, synonyms="max")
    mean = segment(photo, ["ox|cow", "grass"], tiny, synonyms="mean")
    assert joined.names == mean.names == ["ox|cow", "grass"]
    assert (joined.labels == np.maximum(apart.labels.astype(int) - 1, 0)).mean() > 0.97, (
        "only upsampling may move a border"
    )
    assert not np.allclose(joined.scores, mean.scores)


def test_fractions_add_up_and_begin_with_the_largest(
    tiny: DenseCLIP, photo: np.ndarray, result: Segmentation
) -> None:
    fractions = result.fractions()
    assert sum(fractions.values()) == pytest.approx(1) and list(fractions.values()) == sorted(
        fractions.values(), reverse=True
    )
    assert fractions["cow"] == pytest.approx((result.labels == 0).mean())
    assert sum(segment(photo, WORDS, tiny, threshold=1.0).fractions().values()) < 1


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG", ".webp"])
def test_overlay_is_saved_by_its_ending(result: Segmentation, tmp_path: Path, ending: str) -> None:
    path = result.save(tmp_path / "new" / f"out{ending}")
    with Image.open(path) as picture:
        assert picture.format == {".png": "PNG", ".webp": "WEBP"}.get(ending, "JPEG")
        assert picture.size == result.overlay().size
    assert os.listdir(tmp_path / "new") == [f"out{ending}"]


@pytest.mark.parametrize("name", ["out", "out.txt", "out.docx", "out."])
def test_endings_that_are_no_pictures_are_refused(result: Segmentation, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"expected \.png, \.jpg or \.webp"):
        result.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_picture(
    result: Segmentation, tmp_path: Path, full_disk: Callable
) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    with pytest.raises(OSError, match=r"cannot write .*out\.png.*free space"), full_disk():
        result.save(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"old" and os.listdir(tmp_path) == ["out.png"]


def test_a_disk_that_fills_up_while_renaming_leaves_the_old_picture(
    result: Segmentation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "out.png").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"old" and os.listdir(tmp_path) == ["out.png"]


def test_overlay_names_the_words_and_show_draws_both(result: Segmentation) -> None:
    with_legend, without = result.overlay(), result.overlay(legend=False)
    assert with_legend.height > without.height and with_legend.width == without.width
    figure = result.show()
    assert [axis.get_title() for axis in figure.axes] == ["picture", "words"]


def test_a_thin_strip_is_not_blown_up(tiny: DenseCLIP) -> None:
    picture = segment(np.full((4, 1200, 3), 90, np.uint8), WORDS, tiny).overlay()
    assert max(picture.size) <= 20_000, "JPEG ends at 65,500 pixels and memory not far beyond"
