"""Segment any photo with any words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..core.files import whole_file
from ..core.labels import IGNORE
from ..core.overlay import overlay, picture_row
from ..core.words import check_names
from ..datasets.image import Picture, read_image
from ..segmentors import ZeroShotSegmentor
from .predict import best_synonym, encode_words, flatten_synonyms
from .windows import infer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST = 1024  # pixels of the longest side at which labels are decided; larger photos are labelled at this size and enlarged


@dataclass(frozen=True)
class Segmentation:
    """Labels of one picture.

    Attributes:
        labels: (H, W) uint8, an index into `names`; 255 where no word fits (background words or below the threshold).
        scores: (H, W) float32 in [0, 1], the share of the softmax over all words that the best word has.
        names: the words, synonyms as they were given.
        image: (H, W, 3) uint8, the picture.
    """

    labels: np.ndarray
    scores: np.ndarray
    names: list[str]
    image: np.ndarray

    def overlay(self, opacity: float = 0.55, legend: bool = True) -> Image.Image:
        """The picture with coloured labels and a legend."""
        return overlay(self.image, self.labels, self.names, opacity=opacity, legend=legend)

    def show(self) -> Figure:
        """Picture and labels side by side."""
        return picture_row({"picture": self.image, "words": self.overlay()}, height=3.4)

    def save(self, path: str | Path) -> Path:
        """Write the overlay (PNG, JPEG, WebP by its ending), whole or not at all.

        Raises:
            ValueError: an ending that Pillow cannot write.
            OSError: a folder that cannot be written, or a full disk.
        """
        path = Path(path)
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind is None or kind not in Image.SAVE:
            raise ValueError(f"cannot write {path.name!r}: unknown ending {path.suffix!r}; expected .png, .jpg or .webp")
        picture = self.overlay()
        with whole_file(path) as scratch:
            picture.save(scratch, format=kind)
        return path

    def shares(self) -> dict[str, float]:
        """The share of the picture under each word, largest first."""
        counts = {name: float((self.labels == i).mean()) for i, name in enumerate(self.names)}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


@torch.inference_mode()
def segment(
    image: Picture,
    names: Sequence[str],
    model: str | DenseCLIP | Any = "collage-mini",
    background: Sequence[str] | None = None,
    *,
    attention: str | Sequence[str] | None = None,
    threshold: float = 0.0,
    synonyms: str = "mean",
    short_side: int | None = None,
) -> Segmentation:
    """Label each pixel with the word that fits it best.

    Args:
        image: path, PIL image, array or tensor; see `read_image`.
        names: at least one word; "ox|cow" are synonyms of one class.
        model: a name for `load_clip`, a DenseCLIP, or a segmentor with `.clip`.
        background: words that compete but are not drawn, such as ["wall", "floor"].
        attention: the dense read-out, one or several; None takes the model's own (not asked when `model` is a segmentor).
        threshold: a pixel whose best score is below it gets no label; 0 labels every pixel.
        synonyms: "mean" averages embeddings of synonyms, "max" takes the best of them.
        short_side: side to which the shorter side is brought for the model; its training size by default.

    Returns:
        A Segmentation at the picture's own size.

    Raises:
        ValueError: no words, blank or repeated ones, a word longer than the model reads, or no picture.
        FileNotFoundError: no such file.
    """
    hidden = check_names(background) if background else []
    words = check_names([*check_names(names), *hidden])
    if len(names) > IGNORE:
        raise ValueError(f"got {len(names)} words; expected at most {IGNORE}: labels are bytes")
    if synonyms not in ("mean", "max"):
        raise ValueError(f"unknown synonyms {synonyms!r}; expected 'mean' or 'max'")
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side is {short_side}; expected at least 1 pixel")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected 0 .. 1")
    picture = read_image(image)
    if isinstance(model, str):
        model = load_clip(model)
    segmentor = ZeroShotSegmentor(model, attention or model.read_out) if isinstance(model, DenseCLIP) else model
    clip = segmentor.clip
    flat, owners = (words, list(range(len(words)))) if synonyms == "mean" else flatten_synonyms(words)
    text = encode_words(segmentor, flat)
    short = short_side or clip.visual.image_size[0]
    small = _resized(picture, short, clip.patch_size).to(clip.device)
    logits = best_synonym(infer(segmentor, small[None], text, window=_window(small, short)), owners, len(words))
    height, width = picture.shape[1:]
    shrink = min(1.0, _LARGEST / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    scores, labels = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)[0].softmax(0).max(0)
    labels[(labels >= len(names)) | (scores < threshold)] = IGNORE
    labels = _nearest(labels, (height, width)).to(torch.uint8)
    return Segmentation(
        labels.cpu().numpy(),
        _nearest(scores, (height, width)).float().cpu().numpy(),
        words[: len(names)],
        (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),
    )


def _resized(picture: Tensor, short: int, patch: int) -> Tensor:
    """Shorter side to `short` pixels, both sides to whole patches; extreme strips are kept to 8:1."""
    height, width = picture.shape[1:]
    scale = short / min(height, width)
    sides = [min(max(patch, round(side * scale / patch) * patch), 8 * short) for side in (height, width)]
    return F.interpolate(picture[None], sides, mode="bilinear", align_corners=False, antialias=True)[0].clamp(0, 1)


def _window(picture: Tensor, short: int) -> int | None:
    """Square windows for pictures that are much longer than wide, the whole picture otherwise."""
    return short if max(picture.shape[1:]) > 2 * short else None


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None].float(), size, mode="nearest-exact")[0, 0]
