"""Segment many photos with the same words: a mask each, and one JSON about all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from ..core.colours import UNLABELLED, word_colours
from ..core.files import whole_file
from ..core.labels import IGNORE
from ..datasets.listing import existing, list_pictures

if TYPE_CHECKING:
    from .segment import Segmentation

SUMMARY = "segments.json"


@dataclass(frozen=True)
class SegmentedFolder:
    """What was written.

    Attributes:
        summary: the JSON file.
        fractions: picture -> word -> fraction of its pixels.
        unreadable: picture -> why there is no mask of it.
    """

    summary: Path
    fractions: Mapping[str, Mapping[str, float]]
    unreadable: Mapping[str, str]


def segment_folder(
    folder: Path, out: Path, label: Callable[[Path], Segmentation], *, progress: bool = False
) -> SegmentedFolder:
    """Write a mask for every picture below a folder, and a JSON that says what is in which.

    A mask is a palette PNG of the picture's size at the picture's own path below `out`: a pixel says the
    place of its word in the JSON's "names", or 255 where no word fits. A picture that cannot be read is
    noted and passed over: the others are worth the same without it.

    Args:
        folder: of the pictures, in it or in folders below.
        out: made if it is not there.
        label: labels one file, `segment` with its words and its model.
        progress: show a bar.

    Returns:
        A SegmentedFolder.

    Raises:
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: two pictures that differ in their suffix alone, or none that can be read.
        OSError: `out` cannot be written.
    """
    # Masks of an earlier call are no pictures, if they lie in the same folder.
    pictures = list_pictures(existing(folder), without=out)
    names: list[str] = []
    rows: dict[str, dict[str, object]] = {}
    fractions: dict[str, dict[str, float]] = {}
    unreadable: dict[str, str] = {}
    for stem, name in tqdm(sorted(pictures.items()), desc="segment", unit=" pictures", disable=not progress):
        try:
            found = label(folder / name)
        except (ValueError, OSError) as error:
            # A mistake about the words is one about every picture, and no picture's fault.
            if str(folder / name) not in str(error):
                raise
            unreadable[name] = str(error)
            continue
        _write_mask(found.labels, found.names, out / f"{stem}.png")
        names, fractions[name] = found.names, found.fractions()
        rows[name] = {"mask": f"{stem}.png", "size": list(found.labels.shape), "fractions": fractions[name]}
    if not rows:
        raise ValueError(
            f"none of the {len(pictures)} pictures can be read; {next(iter(unreadable.values()))}"
        )
    content = {"names": names, "unlabelled": IGNORE, "pictures": rows, "unreadable": unreadable}
    with whole_file(out / SUMMARY) as scratch:
        scratch.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return SegmentedFolder(out / SUMMARY, fractions, unreadable)


def _write_mask(labels: np.ndarray, names: Sequence[str], path: Path) -> None:
    """(H, W) uint8 as a palette PNG in the colours of the overlays."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(names)], colours[IGNORE] = word_colours(names), UNLABELLED
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette(colours.tobytes())
    with whole_file(path) as scratch:
        picture.save(scratch, format="PNG")
