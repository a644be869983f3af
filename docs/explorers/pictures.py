"""Explorers of validation scenes: what a patch or a word is similar to, and which patches are selected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from credits import credits_table
from PIL import Image
from torch import Tensor

from infoclip_lite import DenseCLIP, load_clip
from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.core.reports import JsonObject
from infoclip_lite.core.statistics import interval
from infoclip_lite.datasets import Collage
from infoclip_lite.figures.selection import SelectionView, compute_selection
from infoclip_lite.objectives.chimera import Schedule, positions_kept

SIZE = 64  # pixels, as in the notebooks' explorers
SCENES = 6  # the first of the validation split, where the notebooks' explorers begin
MEASURED = 40  # scenes over which the selection is measured: an interval of a few hundredths [O]
SMALLEST = 16  # positions at the end, the default of `compute_selection`
STOPS = 20  # of the slider of progress
SCALE = 10_000  # cosines are stored as whole numbers of this; a page shows two digits
DIGITS = 6  # of shares and cosines as text: a page rounds once more


@dataclass(frozen=True)
class Shown:
    """A scene on a page.

    Attributes:
        file: of its picture, relative to the modules.
        title: what it shows.
        sources: files of the pack that it is made of.
    """

    file: str
    title: str
    sources: tuple[str, ...]


def scenes(folder: Path) -> list[Shown]:
    """The scenes that both explorers show, written as pictures.

    Args:
        folder: of the explorers.
    """
    data = Collage("val", size=SIZE)
    shown = []
    for index in range(SCENES):
        image, _, _, nouns = data[index]
        file = f"scene-{index}.png"
        Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy()).save(folder / file)
        shown.append(Shown(file, ", ".join(nouns), tuple(data.sources(index))))
    return shown


@torch.no_grad()
def similarity(folder: Path) -> JsonObject:
    """Cosines of all patches with one another and with words, under every read-out: `compute_similarity`.

    Each scene's are in a file of their own, similarity-I.bin: int16, times `SCALE`; for each read-out the
    lower triangle of patches by patches, row by row, and then words by patches.

    Args:
        folder: of the explorers.
    """
    clip, data, shown = load_clip(), Collage("val", size=SIZE), scenes(folder)
    words = list(dict.fromkeys(word for index in range(SCENES) for word in data[index].nouns))
    text = clip.encode_text(words)
    for index in range(SCENES):
        stored = b"".join(_cosines(clip, data[index].image, text))
        (folder / f"similarity-{index}.bin").write_bytes(stored)
    side = SIZE // clip.patch_size
    return {
        "side": side,
        "patch": [3, 3],  # where the notebook begins
        "read_outs": list(READ_OUTS),
        "words": words,
        "scale": SCALE,
        **_about(shown),
    }


def _cosines(clip: DenseCLIP, image: Tensor, text: Tensor) -> list[bytes]:
    found = []
    for dense in clip.encode_each(image[None], list(READ_OUTS)):
        patches = dense[0].flatten(1)  # (D, N)
        among = (patches.T @ patches)[np.tril_indices(patches.shape[1])]
        every = torch.cat([among, (text @ patches).flatten()]).numpy()
        found.append((every * SCALE).round().astype("<i2").tobytes())
    return found


def selection(folder: Path) -> JsonObject:
    """Which patches are most similar to CLS, how many are kept, and what they show: `compute_selection`.

    Args:
        folder: of the explorers.
    """
    clip, shown = load_clip(), scenes(folder)
    choices = [("averaged", clip.read_outs), *((name, (name,)) for name in clip.read_outs)]
    views = {
        name: [compute_selection(clip, index, read_outs=read_outs) for index in range(MEASURED)]
        for name, read_outs in choices
    }
    first = views["averaged"]
    positions = first[0].kept.numel()
    progress = [stop / STOPS for stop in range(STOPS + 1)]
    kept = {
        schedule: [positions_kept(each, positions, SMALLEST, schedule) for each in progress]
        for schedule in get_args(Schedule)
    }
    return {
        "side": first[0].kept.shape[0],
        "positions": positions,
        "progress": progress,
        "kept": kept,
        "measured": MEASURED,
        "outlines": [_rows(view.outline) for view in first[:SCENES]],
        "chances": [round(view.chance, DIGITS) for view in first[:SCENES]],
        "similarity": {
            name: [_numbers(view.similarity) for view in each[:SCENES]] for name, each in views.items()
        },
        # From the most similar patch on: which it is, and what the first K of them show.
        "order": {name: [_order(view).tolist() for view in each[:SCENES]] for name, each in views.items()},
        "on_objects": {
            name: [[round(share, DIGITS) for share in _shares(view)] for view in each[:SCENES]]
            for name, each in views.items()
        },
        "over_scenes": {name: _over_scenes(each) for name, each in views.items()},
        "chance_over_scenes": _interval([view.chance for view in first]),
        **_about(shown),
    }


def _order(view: SelectionView) -> Tensor:
    # `select` sorts with topk: as many as there are gives them all, in its order.
    return view.similarity.flatten().topk(view.kept.numel(), sorted=True).indices


def _shares(view: SelectionView) -> list[float]:
    """For K = 1, 2, ... the share of the K kept patches' area that shows a noun."""
    ordered = view.objects.flatten()[_order(view)]
    return (ordered.cumsum(0) / torch.arange(1, len(ordered) + 1)).tolist()


def _over_scenes(views: list[SelectionView]) -> list[list[float]]:
    return [_interval(list(each)) for each in zip(*(_shares(view) for view in views), strict=True)]


def _interval(values: list[float]) -> list[float]:
    """Mean and half-width of the 95% interval."""
    found = interval(values)
    return [round(found.mean, DIGITS), round(found.ci95, DIGITS)]


def _numbers(grid: Tensor) -> list[float]:
    return [round(value, DIGITS) for value in grid.flatten().tolist()]


def _rows(outline: Tensor) -> list[str]:
    """A mask as text, a digit a pixel."""
    return ["".join(str(int(pixel)) for pixel in row) for row in outline.tolist()]


def _about(shown: list[Shown]) -> JsonObject:
    return {
        "scenes": [{"file": each.file, "title": each.title} for each in shown],
        "credits": credits_table(shown),
    }
