"""The furniture catalogue's own facts about a model: its size, and how it is turned upright."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

_FILE = "PluginFurnitureCatalog.properties"


class Furniture(NamedTuple):
    """One entry.

    Attributes:
        size: width, height and depth in centimetres.
        rotation: (3, 3) that turns the file's axes upright and to the front, or None.
    """

    size: tuple[float, float, float]
    rotation: np.ndarray | None


def furniture(model: Path) -> Furniture:
    """The entry of an unpacked model, found in the catalogue of the library that holds it.

    Raises:
        FileNotFoundError: no folder above the model has a catalogue.
        ValueError: the catalogue does not list the model.
    """
    for folder in model.parents:
        if (folder / _FILE).exists():
            entries = _read(folder / _FILE)
            key = f"/{model.relative_to(folder).as_posix()}"
            if key not in entries:
                raise ValueError(
                    f"{folder / _FILE}: got no entry for {key}, expected one of its {len(entries)} models"
                )
            return entries[key]
    raise FileNotFoundError(f"no {_FILE} above {model}; expected an unpacked library of furniture")


@lru_cache(maxsize=8)
def _read(path: Path) -> dict[str, Furniture]:
    numbered: dict[int, dict[str, str]] = {}
    for line in path.read_text("latin-1").splitlines():
        match = re.match(r"(\w+)#(\d+)=(.*)", line)
        if match:
            numbered.setdefault(int(match[2]), {})[match[1]] = match[3].strip()
    entries = {}
    for entry in numbered.values():
        size = (float(entry["width"]), float(entry["height"]), float(entry["depth"]))
        turn = entry.get("modelRotation")
        rotation = np.array([float(number) for number in turn.split()]).reshape(3, 3) if turn else None
        entries[entry["model"]] = Furniture(size, rotation)
    return entries
