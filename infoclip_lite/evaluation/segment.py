"""Segment any photo with any words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..clip.refinements import Refinement, get_refinement
from ..core.files import whole_file
from ..core.labels import IGNORE
from ..core.overlay import overlay, picture_row
from ..core.words import check_names
from ..datasets.image import Picture, read_image
from ..segmentors import ZeroShotSegmentor
from .predict import predict
from .protocol import photo_protocol
from .subject import Trained, as_segmentor
from .vocabulary import encode_vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..segmentors.base import Segmentor


@dataclass(frozen=True)
class Segmentation:
    """Labels of one picture.

    Attributes:
        labels: (H, W) uint8, an index into `names`; 255 where no word fits (background words or below
            the threshold).
        scores: (H, W) float32 in [0, 1], the fraction of the softmax over all words that the best word
            has.
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
            raise ValueError(
                f"cannot write {path.name!r}: unknown ending {path.suffix!r}; expected .png, .jpg or .webp"
            )
        picture = self.overlay()
        with whole_file(path) as scratch:
            picture.save(scratch, format=kind)
        return path

    def fractions(self) -> dict[str, float]:
        """The fraction of the picture under each word, largest first."""
        counts = {name: float((self.labels == i).mean()) for i, name in enumerate(self.names)}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


@torch.inference_mode()
def segment(
    image: Picture,
    names: Sequence[str],
    model: str | DenseCLIP | Segmentor | Trained = "collage-mini",
    background: Sequence[str] | None = None,
    *,
    read_outs: str | Sequence[str] | None = None,
    threshold: float = 0.0,
    synonyms: Literal["mean", "max"] = "mean",
    short_side: int | None = None,
    refine: Refinement | str | None = None,
) -> Segmentation:
    """Label each pixel with the word that fits it best.

    Args:
        image: path, PIL image, array or tensor; see `read_image`.
        names: at least one word; "ox|cow" are synonyms of one class.
        model: a name for `load_clip`, a DenseCLIP, a segmentor, or a Run of `train`.
        background: words that compete but are not drawn, such as ["wall", "floor"].
        read_outs: the dense read-out, one or several; None takes the model's own (not asked when
            `model` is a segmentor).
        threshold: a pixel whose best score is below it gets no label; 0 labels every pixel.
        synonyms: "mean" averages embeddings of synonyms, "max" takes the best of them.
        short_side: side to which the shorter side is brought for the model; its training size by
            default.
        refine: makes labels follow the picture's edges: "pamr", "propagation", or a refinement with other
            settings.

    Returns:
        A Segmentation at the picture's own size.

    Raises:
        ValueError: no words, blank or repeated ones, a word longer than the model reads, no picture, no
            model, or an unknown refinement.
        FileNotFoundError: no such file.
    """
    # words first: a mistake in them is said before a large picture is read or a model loaded
    words, labels = _words(names, background)
    refinement = get_refinement(refine)
    picture = read_image(image)
    segmentor = _segmentor(model, read_outs)
    # the size of training, where position embeddings need no interpolation
    trained: int = segmentor.clip.visual.image_size[0]
    protocol = photo_protocol(
        trained if short_side is None else short_side,
        synonyms=synonyms,
        refine=refinement,
        threshold=threshold,
    )
    vocabulary = encode_vocabulary(segmentor, words, labels, protocol, background=IGNORE)
    found = predict(segmentor, picture[None], vocabulary, protocol, confidence=True)
    return Segmentation(
        found.labels[0][0].to(torch.uint8).numpy(),
        _numpy(found.confidence),
        words[: len(names)],
        (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy(),
    )


def _words(names: Sequence[str], background: Sequence[str] | None) -> tuple[list[str], list[int]]:
    """All words that compete, and the label that each gives."""
    hidden = check_names(background) if background else []
    words = check_names([*check_names(names), *hidden])
    if len(names) > IGNORE:
        raise ValueError(f"got {len(names)} words; expected at most {IGNORE}: labels are bytes")
    # background words win like all others, and give the label that is not drawn
    return words, [*range(len(names)), *[IGNORE] * len(hidden)]


def _segmentor(
    model: str | DenseCLIP | Segmentor | Trained, read_outs: str | Sequence[str] | None
) -> Segmentor:
    clip = load_clip(model) if isinstance(model, str) else model
    if isinstance(clip, DenseCLIP):
        # the read-outs that the model's card recommends: the right ones differ from model to model
        return ZeroShotSegmentor(clip, read_outs or clip.read_outs)
    return as_segmentor(clip)


def _numpy(confidence: Tensor | None) -> np.ndarray:
    if confidence is None:
        raise ValueError("got no confidence; expected one, since it was asked for")
    return confidence[0].numpy()
