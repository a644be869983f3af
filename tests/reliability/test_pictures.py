"""Pictures of odd kinds are read as they look; broken ones are refused by name."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image
from reliability.damage import damaged
from reliability.tally import Tally

from infoclip_lite.datasets import Folder
from infoclip_lite.datasets.crops import TrainingCrops
from infoclip_lite.datasets.image import read_image

# What Pillow can write of each kind: (suffix, mode, options).
KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    *((".png", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    (".png", "P", {"transparency": 3}),
    (".png", "RGB", {"transparency": (1, 2, 3)}),
    *((".jpg", mode, {"quality": quality}) for mode in ("L", "RGB", "CMYK") for quality in (5, 95)),
    (".jpg", "RGB", {"progressive": True}),
    (".jpg", "RGB", {"subsampling": 2, "icc_profile": b"no profile at all"}),
    (".jpg", "RGB", {"orientation": 6}),
    *((".webp", mode, {"lossless": lossless}) for mode in ("RGB", "RGBA") for lossless in (True, False)),
    *((".bmp", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *((".tif", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "YCbCr")),
    *((".tif", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    (".tif", "1", {"compression": "group4"}),
)
SIDES = (1, 2, 3, 17, 31, 64, 257)


def drawn(rng: random.Random, mode: str) -> Image.Image:
    """A picture of a mode, of any shape."""
    height, width = rng.choice(SIDES), rng.choice(SIDES)
    noise = np.random.default_rng(rng.getrandbits(32))
    if mode == "I;16":
        return Image.fromarray(noise.integers(0, 2**16, (height, width), dtype=np.uint16))
    if mode == "F":
        return Image.fromarray(noise.random((height, width), dtype=np.float32))
    return Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def write_odd(path: Path, rng: random.Random, mode: str, options: dict[str, object]) -> tuple[int, int]:
    """A file of a kind; height and width as they are stored."""
    picture, options = drawn(rng, mode), dict(options)
    turned = options.pop("orientation", None)
    if turned is not None:
        exif = Image.Exif()
        exif[0x0112] = turned
        options["exif"] = exif
    picture.save(path, **options)
    return picture.height, picture.width


def test_odd_pictures_go_through_every_loader(tally: Tally, tmp_path: Path) -> None:
    count = 1000 if tally.often else len(KINDS)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "names.txt").write_text("ground\nthing\n")
    shapes: list[tuple[int, int]] = []
    for index in range(count):
        suffix, mode, options = KINDS[index % len(KINDS)]
        stem = f"{index:04d}"
        rng = random.Random(index)
        shapes.append(write_odd(tmp_path / "images" / f"{stem}{suffix}", rng, mode, options))
        Image.fromarray(np.full(shapes[-1], index % 2, np.uint8)).save(tmp_path / "masks" / f"{stem}.png")
    data = Folder(tmp_path, "all")
    crops = TrainingCrops(data, 32)
    for sample, shape in zip(data, shapes, strict=True):
        # As it is shown (upright), and as its mask was drawn (as stored).
        shown = read_image(sample.path)
        assert sample.image.shape == (3, *shape) and sorted(shown.shape[1:]) == sorted(shape)
        upright = shown if shown.shape == sample.image.shape else shown.rot90(1, (1, 2))
        assert float((upright - sample.image).abs().max()) <= 1e-6, sample.path
        tally.note(
            "pictures of odd kinds, sizes and modes, through `read_image` and a folder", "read as they look"
        )
    for index in range(count):
        crop = crops[index]
        assert crop.image.shape == (3, 32, 32) and 0 <= crop.image.min() <= crop.image.max() <= 1
        tally.note("crops of them", "whole and in range")


def sound() -> list[bytes]:
    """Small files of the usual kinds."""
    kinds = [("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"), ("JPEG", "CMYK")]
    kinds += [("WEBP", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("TIFF", "F")]
    found = []
    for number, (kind, mode) in enumerate(kinds):
        file = io.BytesIO()
        drawn(random.Random(number), mode).save(file, format=kind)
        found.append(file.getvalue())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # Sizes in a damaged header may be enormous; what is refused as far too large is so at a million pixels.
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 10**6
    yield tmp_path_factory.mktemp("pictures") / "picture"
    Image.MAX_IMAGE_PIXELS = most


@given(damaged(sound()))
def test_damaged_pictures_are_read_or_refused_by_name(tally: Tally, place: Path, content: bytes) -> None:
    place.write_bytes(content)

    def read() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = read_image(place)
            except ValueError as error:
                assert str(place) in str(error), error
                raise
        assert image.shape[0] == 3 and image.numel() and 0 <= image.min() <= image.max() <= 1 + 1e-4

    tally.tried("damaged pictures", read, (ValueError,))
