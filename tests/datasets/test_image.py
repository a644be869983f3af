"""read_image: whatever a user has, as floats in [0, 1], or a sentence that says what is wrong."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infoclip_lite.datasets import read_image

ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def planes(array: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 as what read_image should give."""
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff"])
def test_lossless_files_come_back_exactly(noise: np.ndarray, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path, **({"lossless": True} if ending == "webp" else {}))
    for picture in (path, str(path)):
        assert torch.equal(read_image(picture), planes(noise))


def test_all_kinds_of_input_agree(noise: np.ndarray) -> None:
    wanted = planes(noise)
    for picture in (
        noise,
        Image.fromarray(noise),
        noise.astype(np.float32) / 255,
        noise.astype(np.uint16) * 257,
        wanted,
        wanted.double(),
    ):
        got = read_image(picture)
        assert got.dtype == torch.float32 and torch.allclose(got, wanted, atol=1e-6)


def test_grey_photos_get_three_equal_channels(noise: np.ndarray, tmp_path: Path) -> None:
    grey = noise[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    for picture in (tmp_path / "grey.png", grey):
        assert torch.equal(read_image(picture), planes(np.stack([grey] * 3, -1)))


def test_black_and_white_and_palette_files(noise: np.ndarray, tmp_path: Path) -> None:
    bits = Image.fromarray(noise[..., 0]).convert("1")
    bits.save(tmp_path / "bits.png")
    assert torch.equal(read_image(tmp_path / "bits.png"), planes(np.asarray(bits.convert("RGB"))))
    palette = Image.fromarray(noise).quantize(16)
    palette.save(tmp_path / "palette.gif")
    assert torch.equal(read_image(tmp_path / "palette.gif"), planes(np.asarray(palette.convert("RGB"))))


def test_sixteen_bit_photos_keep_their_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 70).reshape(7, 10).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    wanted = torch.from_numpy(ramp.astype(np.float32) / 65535).expand(3, -1, -1)
    for picture in (tmp_path / "deep.png", ramp):
        assert torch.allclose(read_image(picture), wanted, atol=1e-6)


def test_transparent_pixels_are_white(noise: np.ndarray, tmp_path: Path) -> None:
    alpha = np.zeros((7, 11, 1), dtype=np.uint8)
    alpha[:, 4:7], alpha[:, 7:] = 51, 255
    rgba = np.concatenate([noise, alpha], -1)
    Image.fromarray(rgba).save(tmp_path / "cut.png")
    share = alpha.astype(np.float32) / 255
    wanted = (
        planes(noise) * torch.from_numpy(share).permute(2, 0, 1)
        + 1
        - torch.from_numpy(share).permute(2, 0, 1)
    )
    for picture in (tmp_path / "cut.png", rgba):
        assert torch.allclose(read_image(picture), wanted, atol=1.5 / 255)


def test_transparent_palette_is_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    got = read_image(tmp_path / "p.png")
    assert torch.equal(got[:, 0, 0], torch.tensor([0.0, 0.0, 1.0])) and torch.equal(
        got[:, 1:], torch.ones(3, 3, 4)
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_photos_are_turned_upright(noise: np.ndarray, tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(
        read_image(tmp_path / "turned.png"), planes(np.ascontiguousarray(ORIENTATIONS[orientation](noise)))
    )


def test_a_phones_jpeg_is_turned_upright(tmp_path: Path) -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    got = read_image(tmp_path / "phone.jpg")
    assert got.shape == (3, 32, 16) and got[:, :14].min() > 0.9 and got[:, 18:].max() < 0.1


def test_one_pixel_and_twelve_megapixels(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (0, 128, 255)).save(tmp_path / "dot.png")
    assert torch.allclose(read_image(tmp_path / "dot.png").flatten(), torch.tensor([0.0, 128 / 255, 1.0]))
    Image.new("RGB", (4000, 3000), (0, 128, 255)).save(tmp_path / "large.jpg", quality=90)
    large = read_image(tmp_path / "large.jpg")
    assert large.shape == (3, 3000, 4000) and abs(large[1, 1500, 2000].item() - 0.5) < 0.02


def test_a_text_file_named_jpg_is_refused(tmp_path: Path) -> None:
    for name, content in (("notes.jpg", b"Dear diary, this is no picture."), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a picture"):
            read_image(tmp_path / name)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(ValueError, match="half"):
        read_image(path)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.full((4, 4, 3), 2.0),
        np.full((4, 4, 3), -0.5),
        np.full((4, 4, 3), np.nan),
        torch.zeros(1, 3, 4, 4),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 255.0),
    ],
    ids=lambda p: f"{type(p).__name__}-{tuple(p.shape)}-{p.dtype}",
)
def test_arrays_of_another_shape_or_range_are_refused(picture: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_image(picture)


def test_integers_of_another_width_are_refused_or_read_as_bytes(noise: np.ndarray) -> None:
    """Bytes in int64, as numpy makes them by default, must not come out as a black picture."""
    try:
        got = read_image(noise.astype(np.int64))
    except ValueError:
        return
    assert torch.allclose(got, planes(noise), atol=1e-6)
