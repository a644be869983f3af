"""From whatever picture a user has to a float tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

Picture = str | Path | Image.Image | np.ndarray | Tensor


def read_image(picture: Picture) -> Tensor:
    """Any picture as (3, H, W) float32 in [0, 1].

    Photos are turned upright by their EXIF tag, grey ones get three equal channels, transparent ones a white
    ground, 16-bit ones are scaled to their full range.

    Args:
        picture: a path, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4), uint8, uint16 or float in
            [0, 1], or a tensor (3, H, W) of floats in [0, 1].

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a picture, truncated, or of a shape or range that is none of the above.
    """
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
            got = f"a tensor {tuple(picture.shape)} of {picture.dtype}"
            raise ValueError(f"got {got}; expected (3, H, W) floats in [0, 1]")
        return _checked(picture.float())
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return from_pil(picture)
    path = Path(picture)
    if not path.is_file():
        raise FileNotFoundError(f"no picture {path}; expected an image file")
    try:
        with Image.open(path) as file:
            return from_pil(file)
    except UnidentifiedImageError as error:
        expected = "JPEG, PNG, WebP or the like"
        raise ValueError(f"{path} is not a picture that Pillow can read; expected {expected}") from error
    except Exception as error:  # Pillow raises a dozen kinds for broken files
        hint = "it is truncated, damaged or far too large"
        raise ValueError(f"{path} cannot be decoded ({error}); {hint}") from error


def from_pil(picture: Image.Image, *, upright: bool = True) -> Tensor:
    """A PIL image as (3, H, W) float32 in [0, 1]; see `read_image`.

    Args:
        picture: of any mode.
        upright: turn it by its EXIF tag; False leaves it as it is stored, where its labels were drawn.

    Raises:
        ValueError: values that are no picture's.
    """
    return as_floats(stored_pixels(picture, upright=upright))


def stored_pixels(picture: Image.Image, *, upright: bool = False) -> Tensor:
    """A PIL image as (3, H, W): uint8 where it has 8 bits, else float32 in [0, 1]; see `read_image`.

    Who reduces a picture does it in bytes, a quarter of what floats are.

    Args:
        picture: of any mode.
        upright: turn it by its EXIF tag; False leaves it as it is stored, where its labels were drawn.

    Raises:
        ValueError: values that are no picture's.
    """
    # Upright: a model that learnt from upright pictures sees a turned one as another scene.
    picture = ImageOps.exif_transpose(picture) if upright else picture
    if picture.mode.startswith("I") or picture.mode == "F":
        array = np.asarray(picture)
        if picture.mode == "F":
            return _from_array(array.astype(np.float32))
        # Pillow reads 16 bits into 32: back to 16, whose full range is white.
        return _from_array(np.clip(array, 0, 65535).astype(np.uint16))
    # White, as browsers and papers show it: what a file stores under full transparency is arbitrary.
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    # Nothing to convert is the usual case, and `convert` would copy all the same.
    pixels = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def as_floats(image: Tensor) -> Tensor:
    """Bytes (3, H, W) as float32 in [0, 1]; what is float is left as it is.

    Raises:
        ValueError: a picture without pixels.
    """
    if image.dtype != torch.uint8:
        return image
    # Put in order as bytes, a quarter of what floats are; never out of range.
    planes = image.contiguous().float().div_(255)
    return planes if planes.numel() else _checked(planes)


def _from_array(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] not in (3, 4):
        raise ValueError(f"got an array of shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype not in (np.uint8, np.uint16) and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"got an array of {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    if array.dtype == np.uint8 and array.shape[2] == 3:
        # Nearly every picture.
        return as_floats(torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))))
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float32) / np.iinfo(array.dtype).max
    image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(2, 0, 1)
    if len(image) == 4:
        image = image[:3] * image[3] + 1 - image[3]
    return _checked(image)


def _checked(image: Tensor) -> Tensor:
    # A little room: resizing and colour conversion of others overshoot by rounding.
    low, high = (image.min().item(), image.max().item()) if image.numel() else (0.0, 0.0)
    if not image.numel() or not (low >= -1e-4 and high <= 1 + 1e-4):  # a NaN fails both
        got = f"{image.numel()} values in {low:.3g} .. {high:.3g}"
        raise ValueError(f"got {got}; expected a picture with values in 0 .. 1")
    return image.contiguous()
