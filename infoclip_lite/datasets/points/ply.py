"""The vertices of a PLY file: as much of the format as scanned scenes need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

_ORDERS: dict[str, Literal["<", ">", "="]] = {
    "binary_little_endian": "<",
    "binary_big_endian": ">",
    "ascii": "=",
}
_LONGEST = 4096  # bytes of a line of the header
_TYPES = {
    "char": "int8",
    "uchar": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "int": "int32",
    "uint": "uint32",
    "float": "float32",
    "double": "float64",
}


def read_vertices(path: Path, properties: Sequence[str]) -> np.ndarray:
    """Some properties of a file's vertices, such as x, y, z, red, green, blue and label.

    Args:
        path: of the file, ascii or binary; faces and whatever else follows the vertices is passed over.
        properties: their names.

    Returns:
        (N, P) of the widest type among them, in the order of `properties`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no PLY file, its vertices do not come first, lack a property or are not all there.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected a PLY file with {', '.join(properties)}")
    with path.open("rb") as file:
        order, count, fields = _header(path, file, properties)
        kind = np.dtype(fields).newbyteorder(_ORDERS[order])
        try:
            if order == "ascii":
                vertices = np.loadtxt(file, dtype=kind, max_rows=count, ndmin=1)
            else:
                # Not as many bytes as a damaged header says: no more than there are.
                there = min(count * kind.itemsize, path.stat().st_size)
                vertices = np.frombuffer(file.read(there), dtype=kind)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); expected {count} whole vertices") from error
    if len(vertices) != count:
        raise ValueError(f"{path} ends after {len(vertices)} vertices; expected {count}, as its header says")
    return np.stack([vertices[name] for name in properties], 1)


def _header(path: Path, file: BinaryIO, properties: Sequence[str]) -> tuple[str, int, list[tuple[str, str]]]:
    """The byte order's name, the number of vertices, and (property, type) of each; the file is behind it."""
    order, count, fields, element = "", -1, [], ""
    if file.readline().strip() != b"ply":
        raise ValueError(f"{path} does not begin with ply; expected a PLY file")
    while True:
        text = file.readline(_LONGEST)
        words = text.decode("ascii", "replace").split() or ["comment"]
        if not text:
            raise ValueError(f"{path} ends in its header; expected end_header")
        if words[0] == "end_header":
            break
        if words[0] == "format" and len(words) > 1:
            order = words[1]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal():
            element = words[1]
            if count < 0 and element != "vertex":
                raise ValueError(f"{path} begins with {element}; expected its vertices first")
            count = int(words[2]) if element == "vertex" else count
        elif words[0] == "property" and element == "vertex":
            kind = _TYPES.get(words[1], words[1]) if len(words) == 3 else ""
            if kind not in _TYPES.values():
                raise ValueError(f"{path} has {text!r}; expected one number a property of a vertex")
            fields.append((words[2], kind))
    names = [name for name, _ in fields]
    lacking = [name for name in properties if name not in names]
    if order not in _ORDERS or count < 0 or lacking or len(set(names)) < len(names):
        got = f"format {order or 'none'}, {count} vertices with {', '.join(names) or 'nothing'}"
        raise ValueError(f"{path} has {got}; expected {', '.join(_ORDERS)}, with {', '.join(properties)}")
    return order, count, fields
