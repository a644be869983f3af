"""Similarity maps: which patches of a scene resemble one patch, or a word, under every read-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from ..clip import DenseCLIP
from ..clip.readouts import READ_OUTS
from ..datasets import Collage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_COLUMNS = 6


@dataclass(frozen=True)
class SimilarityView:
    """What `compute_similarity` found on one scene.

    Attributes:
        image: (3, H, W) floats in [0, 1].
        patch: row and column of the patch asked about; None where a word was asked.
        word: the word asked about, or "".
        maps: read-out -> (h, w) cosines.
    """

    image: Tensor
    patch: tuple[int, int] | None
    word: str
    maps: dict[str, Tensor]


@torch.no_grad()
def compute_similarity(
    clip: DenseCLIP,
    scene: int = 0,
    patch: tuple[int, int] = (3, 3),
    word: str = "",
    *,
    size: int = 64,
) -> SimilarityView:
    """Cosine of every patch with one patch, or with a word if one is given, under every read-out.

    Args:
        clip: the model.
        scene: index of a scene of Collage's "val".
        patch: row and column on CLIP's grid.
        word: asked instead of the patch unless blank.
        size: side of the scene in pixels, a multiple of CLIP's patch.

    Raises:
        ValueError: a patch outside the grid, or a word without letters.
        IndexError: a scene that the split does not have.
    """
    side, word = size // clip.patch_size, word.strip()
    if not all(0 <= i < side for i in patch):
        raise ValueError(f"got patch {patch}; expected a row and a column from 0 to {side - 1}")
    if word and not any(letter.isalpha() for letter in word):
        raise ValueError(f"got {word!r}; expected a word with letters, such as sheep")
    image = Collage("val", size=size)[scene].image
    text = clip.encode_text([word])[0] if word else None
    maps = {}
    # One pass through the tower for all of them.
    for name, (dense,) in zip(READ_OUTS, clip.encode_each(image[None], list(READ_OUTS)), strict=True):
        query = dense[:, patch[0], patch[1]] if text is None else text
        maps[name] = torch.einsum("dhw,d->hw", dense, query).cpu()
    return SimilarityView(image, None if word else patch, word, maps)


def describe_similarity(view: SimilarityView) -> str:
    """One sentence on the figure, for those who do not see it."""
    asked = f'the word "{view.word}"'
    if view.patch is not None:
        row, column = view.patch
        asked = f"the patch in row {row}, column {column}"
    spread = {name: float(values.std()) for name, values in view.maps.items()}
    widest = max(spread, key=lambda name: spread[name])
    maps = f"{len(view.maps)} read-outs"
    return f"Cosine of every patch with {asked} under {maps}; patches differ most under {widest}."


def plot_similarity(view: SimilarityView, *, height: float = 1.9) -> Figure:
    """The scene with the patch framed, and one map for each read-out, each on its own colour scale.

    Args:
        view: of `compute_similarity`.
        height: of a panel in inches.
    """
    panels = len(view.maps) + 1
    # At most this many side by side: more would be too small on a page.
    columns = min(panels, _COLUMNS)
    rows = -(-panels // columns)
    size = (height * columns, (height + 0.5) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    first, *others = axes.flat
    side = view.image.shape[-1]
    first.imshow(view.image.permute(1, 2, 0).numpy(), extent=(0, side, side, 0))
    first.set_title(f'"{view.word}"' if view.word else "the patch", fontsize=10)
    for axis, (name, values) in zip(others, view.maps.items(), strict=False):
        axis.imshow(values.numpy(), cmap="viridis", extent=(0, side, side, 0))
        axis.set_title(f"{name}\n{values.min():.2f} to {values.max():.2f}", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    if view.patch is not None:
        step = side / next(iter(view.maps.values())).shape[0]
        corner = (view.patch[1] * step, view.patch[0] * step)
        for axis in list(axes.flat)[:panels]:
            axis.add_patch(plt.Rectangle(corner, step, step, fill=False, linewidth=2, edgecolor="white"))
    return figure
