"""Pictures with pixel labels from files: one reader for every data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..core.labels import IGNORE
from .base import Sample
from .image import read_image

Reader = Callable[[str], np.ndarray]


class DamagedFile(ValueError):
    """A picture or label file that is there but cannot be decoded."""


class Pictures(Dataset[Sample]):
    """A split of a data set in its official files.

    Args:
        files: (picture, label file) of every item.
        names: of the classes, in the order of their ids.
        lookup: (N,) int64, from what a label file says to the class id; -1 is refused. See `lookup_table`.
        split: "train" or "val".
        ignore: the label of pixels that do not count.
        unseen: ids of classes whose pixels must not be learnt from.
        words: what is encoded, `names` by default; more than classes where several words count as one.
        owners: the class id of each word, by default its place.
        read: from a label file to (H, W) integers.
        shorter: pictures whose shorter side is longer than this are reduced to it, labels too; None keeps every size.

    Raises:
        ValueError: on reading, a picture and labels of different size, or a label that the data set does not have.
        DamagedFile: on reading, a file that cannot be decoded.
        FileNotFoundError: on reading, a file that is gone.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, str]],
        names: Sequence[str],
        lookup: np.ndarray,
        *,
        split: str,
        ignore: int = IGNORE,
        unseen: Sequence[int] = (),
        words: Sequence[str] | None = None,
        owners: Sequence[int] | None = None,
        read: Reader | None = None,
        shorter: int | None = None,
    ) -> None:
        self.files, self.names, self.lookup = list(files), tuple(names), lookup
        self.split, self.ignore, self.unseen = split, ignore, tuple(unseen)
        self.words = self.names if words is None else tuple(words)
        self.owners = tuple(range(len(self.words))) if owners is None else tuple(owners)
        self.read, self.shorter = read or read_png, shorter

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        path, labels = self.files[index]
        image, mask = read_photo(path), torch.from_numpy(self._classes(labels))
        if image.shape[1:] != mask.shape:
            raise ValueError(f"{path} is {tuple(image.shape[1:])}, its labels {labels} are {tuple(mask.shape)}; expected the same size")
        if self.shorter is not None and min(mask.shape) > self.shorter:
            image, mask = _reduced(image, mask, self.shorter)
        return Sample(image, mask, path)

    def _classes(self, path: str) -> np.ndarray:
        raw = decoded(self.read, path)
        if raw.ndim != 2 or not np.issubdtype(raw.dtype, np.integer):
            raise ValueError(f"{path} holds {raw.dtype} of shape {raw.shape}; expected (H, W) integers, one label a pixel")
        low, high = int(raw.min()), int(raw.max())
        if low >= 0 and high < len(self.lookup):
            classes = self.lookup[raw]
            if classes.min() >= 0:
                return classes
        known = np.flatnonzero(self.lookup >= 0)
        wrong = np.setdiff1d(np.unique(raw), known)[:5].tolist()
        raise ValueError(
            f"{path} has the labels {wrong}; expected some of {known[0]} .. {known[-1]} as the official files use them: "
            "were these files converted for another program? Unpack the official ones"
        )


def lookup_table(labels: Mapping[int, int], ignored: Sequence[int], ignore: int, size: int = 256) -> np.ndarray:
    """(size,) int64: from the labels of files to class ids; `ignored` labels become `ignore`, all others -1."""
    table = np.full(size, -1, dtype=np.int64)
    table[list(ignored)] = ignore
    table[list(labels.keys())] = list(labels.values())
    return table


def read_photo(path: str) -> Tensor:
    """(3, H, W) float32 in [0, 1], as stored: labels were drawn on the stored pixels, so an EXIF turn is not followed.

    Raises:
        DamagedFile: it cannot be decoded.
    """

    def load(path: str) -> np.ndarray:
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))

    return read_image(decoded(load, path))


def read_png(path: str) -> np.ndarray:
    """(H, W) indices of a palette or grey PNG, as they are stored."""
    with Image.open(path) as file:
        return np.asarray(file)


def decoded(read: Reader, path: str) -> np.ndarray:
    """What `read` makes of a file.

    Raises:
        DamagedFile: whatever a decoder says of a broken file, with the file's name.
        FileNotFoundError: no such file.
    """
    try:
        return read(path)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # Pillow and scipy raise a dozen kinds for broken files
        raise DamagedFile(f"{path} cannot be decoded ({error}); it is truncated or damaged: unpack it again") from error


def _reduced(image: Tensor, mask: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
    """Bilinear without smoothing and nearest by rounding down: what OpenCV does, with which the papers' files were made."""
    height, width = mask.shape
    scale = shorter / min(height, width)
    size = (shorter, round(width * scale)) if height <= width else (round(height * scale), shorter)
    smaller = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
    return smaller.clamp(0, 1), F.interpolate(mask[None, None].double(), size, mode="nearest")[0, 0].long()
