"""ADE20K: A-150 (the SceneParsing release) and A-847 (the full release; the papers test 847 of its classes).

ADEChallengeData2016.zip:

    root/ADEChallengeData2016/{images,annotations}/{training,validation}, sceneCategories.txt

Behind a registration:

    root/ADE20K_2021_17_01/images/ADE/{training,validation}/.../*.jpg, *_seg.png
    root/ADE20K_2021_17_01/index_ade20k.pkl

A-150's PNGs say 0 (not labelled) and 1..150. The full release paints object masks in colours: the class is
R // 10 * 256 + G of the picture's _seg.png, and 0 is not labelled.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.labels import IGNORE, IGNORE_MANY
from ..fetching.files import check_files, missing, read_list, split_of
from ..pictures import Pictures, lookup_table
from .classes import class_table

_FOLDERS = {"train": "training", "val": "validation"}
_LARGEST = 25 * 256 + 255


def ade20k_150(root: Path, split: str, *, synonyms: bool = False) -> Pictures:
    """A-150: 20,210 pictures of train, 2,000 of val.

    Args:
        root: folder of the data sets.
        split: "train" or "val".
        synonyms: encode ADE20K's synonyms beside the first words, which the papers encode.

    Raises:
        FileNotFoundError: files are missing; says which, and how to get them.
        ValueError: unknown split.
    """
    folder = _FOLDERS[split_of(split)]
    ade = root / "ADEChallengeData2016"
    listed = read_list(ade / "sceneCategories.txt", "ade20k", root)
    stems = [f"{folder}/{stem}" for stem in listed if stem.startswith(f"ADE_{split}_")]
    files = [(f"{ade}/images/{stem}.jpg", f"{ade}/annotations/{stem}.png") for stem in stems]
    check_files(files, "ade20k", root)
    table = class_table("ade150")
    lookup = lookup_table({label: i for i, label in enumerate(table.labels)}, [0], IGNORE)
    words = table.synonyms if synonyms else table.words
    return Pictures(files, table.names, lookup, split=split, words=words)


def ade20k_847(root: Path, split: str, *, synonyms: bool = False, shorter: int | None = 512) -> Pictures:
    """A-847: 25,574 pictures of train, 2,000 of val.

    The papers encode the first word of each class, and ten classes share theirs with an earlier one ("bag"):
    equal scores, of which the earlier class wins, and the others are never predicted. A protocol says
    whether such a word is encoded once or as often as it is there.

    Args:
        root: folder of the data sets.
        split: "train" or "val".
        synonyms: encode ADE20K's synonyms beside the first words, which the papers encode.
        shorter: larger pictures and labels are reduced to this shorter side, as in the files that MaskFormer
            and CAT-Seg test on (which went through JPEG once more); None keeps every size.

    Raises:
        FileNotFoundError: files are missing; says which, and how to get them.
        ValueError: unknown split, or an index file that holds anything but lists and numbers.
    """
    names = read_index(root)
    wanted = f"ADE_{split_of(split)}_"
    stems = [f"{root}/{folder}/{name[:-4]}" for folder, name in names if name.startswith(wanted)]
    files = [(f"{stem}.jpg", f"{stem}_seg.png") for stem in stems]
    check_files(files, "ade20k_full", root)
    table = class_table("ade847")
    ids = {label: i for i, label in enumerate(table.labels)}
    # The full release labels thousands of kinds: those that are none of the 847 do not count, as in papers.
    lookup = lookup_table(ids, sorted(set(range(_LARGEST + 1)) - set(ids)), IGNORE_MANY, _LARGEST + 1)
    return Pictures(
        files,
        table.names,
        lookup,
        split=split,
        ignore=IGNORE_MANY,
        words=table.synonyms if synonyms else table.words,
        read=read_full_labels,
        shorter=shorter,
    )


def read_full_labels(path: str) -> np.ndarray:
    """(H, W) int64 classes of a _seg.png: R // 10 * 256 + G."""
    with Image.open(path) as file:
        colours = np.asarray(file.convert("RGB"), dtype=np.int64)
    return colours[..., 0] // 10 * 256 + colours[..., 1]


def read_index(root: Path) -> list[tuple[str, str]]:
    """(folder below root, file name) of every picture, from index_ade20k.pkl.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such lists in it, or it would run code when read.
    """
    path = root / "ADE20K_2021_17_01" / "index_ade20k.pkl"
    if not path.is_file():
        raise missing(f"no {path}", "ade20k_full", root)
    # The index is a pickle, which can run code when it is read: this reader refuses all but plain data.
    try:
        with open(path, "rb") as file:
            index = _PlainUnpickler(file).load()
        return list(zip(index["folder"], index["filename"], strict=True))
    except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError, AttributeError) as error:
        hint = "expected the index of the official release"
        raise ValueError(f"{path} cannot be read ({error}); {hint}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Lists, strings, numbers and NumPy arrays of them; any other function is refused, unrun."""

    _ALLOWED = {
        ("_codecs", "encode"),
        *(
            (f"numpy.{core}.multiarray", name)
            for core in ("core", "_core")  # NumPy 1 wrote the former, NumPy 2 writes the latter
            for name in ("_reconstruct", "scalar")
        ),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        # NumPy 2 has renamed the module that older files name.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
