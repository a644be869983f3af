"""Pictures with pixel labels from files: one reader for every data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from .base import ImageLevel, Sample, SegmentationDataset, fingerprint

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")
Reader = Callable[[str], np.ndarray]
# From a picture's path to the names that it shows, and to sentences about it.
Tags = Callable[[str], Sequence[str]]


class DamagedFile(ValueError):
    """A picture or label file that is there but cannot be decoded."""


class Pictures(SegmentationDataset):
    """A split of a data set in files: pictures, and label files of the same size.

    Args:
        files: (picture, label file) of every item.
        names: of the classes, in the order of their ids.
        lookup: (N,) int64, from what a label file says to the class id; -1 is refused. See `lookup_table`.
        split: "train" or "val".
        ignore: the label of pixels that do not count; None is 255, or 65535 with more than 254 classes.
        unseen: ids of classes whose pixels must not be learnt from.
        words: what is encoded, `names` by default; more than classes where several words count as one.
        owners: the class id of each word, by default its place.
        read: from a label file to (H, W) integers.
        shorter: pictures whose shorter side is longer than this are reduced to it, labels too; None keeps
            every size.
        expected: the labels that files may have, in words, for the message about any other.
        shown: from a picture to the names of what it shows, for trainings without masks; others than `names`
            are passed over. None: nobody knows.
        captions: from a picture to sentences about it. None: there are none.

    Raises:
        ValueError: on reading, a picture and labels of different size, or a label that the data set does not
            have.
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
        ignore: int | None = None,
        unseen: Sequence[int] = (),
        words: Sequence[str] | None = None,
        owners: Sequence[int] | None = None,
        read: Reader | None = None,
        shorter: int | None = None,
        expected: str | None = None,
        shown: Tags | None = None,
        captions: Tags | None = None,
    ) -> None:
        super().__init__(names, split=split, ignore=ignore, unseen=unseen, words=words, owners=owners)
        self.files = list(files)
        self.lookup = lookup
        self._by_byte = _byte_tables(lookup) if max(*lookup, self.ignore) < 256 else None
        self.read = read or read_png
        self.shorter = shorter
        self.expected = expected or _known_labels(lookup)
        self.shown, self.captions = shown, captions

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        from .image import as_floats  # here, so that data sets can be listed without torch

        image, mask, path = self._read(index)
        image, mask = as_floats(image), mask.long()
        if self.shorter is not None and min(mask.shape) > self.shorter:
            image, mask = _reduced(image, mask, self.shorter)
        return Sample(image, mask, path)

    def for_crop(self, index: int, shorter: int) -> Sample:
        """An item as its files have it, for who reduces it anyway.

        Args:
            index: of the item, from 0 on.
            shorter: pixels that its shorter side will have. A JPEG of four times as many or more is decoded
                at a half, a quarter or an eighth, which never has less than twice as many.

        Returns:
            A Sample whose image is uint8 where its file has 8 bits, and whose mask is uint8 or int32, of the
            file's size, from which the image's may differ by that factor, rounded up.
        """
        # What is reduced as other programs did it must not be reduced in another way before; and who makes
        # items in a way of his own has the last word.
        if self.shorter is not None or type(self).__getitem__ is not Pictures.__getitem__:
            return self[index]
        # Twice, as Pillow's own thumbnails: so near to the end the decoder's way to reduce would show.
        return self._read(index, 2 * shorter)

    def _read(self, index: int, at_least: int | None = None) -> Sample:
        path, labels = self.files[index]
        image, size = read_photo(path, at_least)
        mask = self._classes(labels)
        if size != mask.shape:
            raise ValueError(_sizes(path, size, labels, tuple(mask.shape)))
        return Sample(image, mask, path)

    def image_level(self, index: int) -> ImageLevel:
        """A picture without its mask, whose file is not opened.

        Args:
            index: of the picture.

        Raises:
            ValueError: nobody knows what the picture shows, and there are no captions.
            FileNotFoundError: the file that would say it is not there.
            DamagedFile: the picture, or that file, cannot be decoded.
        """
        if self.shown is None and self.captions is None:
            raise ValueError(
                "this data set has labels of pixels alone; expected one that says what whole pictures show: "
                "voc_zss, pas20 and pas20b name words, coco_stuff and coco_stuff_zss have captions"
            )
        from .image import as_floats  # here, so that data sets can be listed without torch

        path, _ = self.files[index]
        place = {name: i for i, name in enumerate(self.names)}
        found = () if self.shown is None else self.shown(path)
        words = tuple(sorted({place[name] for name in found if name in place}))
        captions = () if self.captions is None else tuple(self.captions(path))
        return ImageLevel(as_floats(read_photo(path)[0]), words, captions, path)

    def settings(self) -> dict[str, object]:
        """The files, as they were listed, what their labels mean, and what is done with their sizes."""
        return {
            "shorter": self.shorter,
            "files": fingerprint(self.files),
            "labels": fingerprint(self.lookup.tolist()),
        }

    def _classes(self, path: str) -> Tensor:
        """(H, W) of a label file, uint8 where ids and labels are bytes and else int32."""
        import torch  # here, so that data sets can be listed without it

        # One look-up a pixel does all: gaps, other numbers, what does not count, and what must not be there.
        raw = decoded(self.read, path)
        if raw.ndim != 2 or not np.issubdtype(raw.dtype, np.integer):
            raise ValueError(_no_labels(path, raw))
        if raw.dtype == np.uint8 and self._by_byte is not None:
            # As bytes in a tenth of the time: a crop is made longs once it is cut.
            ids, wrong_ones = self._by_byte
            text = bytearray(raw.tobytes())
            if 1 not in text.translate(wrong_ones):
                return torch.frombuffer(text.translate(ids), dtype=torch.uint8).view(raw.shape)
        low, high = int(raw.min()), int(raw.max())
        if low >= 0 and high < len(self.lookup):
            # By torch, in half of numpy's time, and in half of the memory that 64 bits would take.
            table = torch.from_numpy(self.lookup.astype(np.int32))
            classes = table.index_select(0, torch.from_numpy(raw.astype(np.int32)).flatten())
            if classes.numpy().min() >= 0:
                return classes.view(raw.shape)
        wrong = np.setdiff1d(np.unique(raw), np.flatnonzero(self.lookup >= 0))[:5].tolist()
        raise ValueError(f"{path} has the labels {wrong}; expected {self.expected}")


def lookup_table(
    labels: Mapping[int, int],
    ignored: Sequence[int],
    ignore: int,
    size: int | None = None,
) -> np.ndarray:
    """A table from the labels of files to class ids.

    Args:
        labels: label -> class id.
        ignored: labels that become `ignore`.
        ignore: the label of pixels that do not count.
        size: number of labels that a file can hold; None: 256, or as many as the largest label needs.

    Returns:
        (size,) int64; -1 where a label is none of both.
    """
    # -1 for all others: a wrong label is an error with its file's name, never silently some class.
    needed = max(255, *labels, *ignored) + 1
    table = np.full(size or needed, -1, dtype=np.int64)
    table[list(ignored)] = ignore
    table[list(labels.keys())] = list(labels.values())
    return table


def _byte_tables(lookup: np.ndarray) -> tuple[bytes, bytes]:
    """Of every byte the class id, and 1 where there is none; ids are bytes too."""
    table = np.full(256, -1)
    table[: len(lookup)] = lookup[:256]
    return table.clip(min=0).astype(np.uint8).tobytes(), (table < 0).tobytes()


def read_photo(path: str, at_least: int | None = None) -> tuple[Tensor, tuple[int, int]]:
    """A picture as it is stored, and its (height, width) before any reduction.

    Labels were drawn on the stored pixels, so an EXIF turn is not followed. 16 bits keep their range, and
    what is transparent is white, as in `read_image`.

    Args:
        path: of the file.
        at_least: a JPEG may come at a half, a quarter or an eighth of its size, rounded up, if its shorter
            side then still has so many pixels; None keeps its size.

    Returns:
        (3, H, W), uint8 where the file has 8 bits and else float32 in [0, 1], and the size of the file.

    Raises:
        DamagedFile: it cannot be decoded.
    """
    from .image import stored_pixels  # here, so that data sets can be listed without torch

    def load(path: str) -> tuple[Tensor, tuple[int, int]]:
        with Image.open(path) as file:
            size = (file.height, file.width)
            if at_least is not None:
                # The decoder leaves out the fine waves of every 8 x 8 block: less work, and no moire. Other
                # formats know no such thing and pay no heed.
                file.draft(None, (at_least, at_least))
            return stored_pixels(file), size

    return decoded(load, path)


def read_png(path: str) -> np.ndarray:
    """(H, W) indices of a palette or grey PNG, as they are stored."""
    with Image.open(path) as file:
        return np.asarray(file)


def decoded(read: Callable[[str], _T], path: str) -> _T:
    """What `read` makes of a file.

    Raises:
        DamagedFile: whatever a decoder says of a broken file, with the file's name.
        FileNotFoundError: no such file.
    """
    try:
        return read(path)
    # A file that is gone or closed is not damaged, and must not be skipped as if it were.
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # Pillow and scipy raise a dozen kinds for broken files
        hint = "it is truncated or damaged: get it again"
        raise DamagedFile(f"{path} cannot be decoded ({error}); {hint}") from error


def _reduced(image: Tensor, mask: Tensor, shorter: int) -> tuple[Tensor, Tensor]:
    """Bilinear without smoothing, and nearest by rounding down."""
    # What OpenCV does, with which the papers' files were made.
    import torch.nn.functional as F

    height, width = mask.shape
    scale = shorter / min(height, width)
    size = (shorter, round(width * scale)) if height <= width else (round(height * scale), shorter)
    smaller = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
    return smaller.clamp(0, 1), F.interpolate(mask[None, None].double(), size, mode="nearest")[0, 0].long()


def _known_labels(lookup: np.ndarray) -> str:
    """What is said of the labels of official files."""
    known = np.flatnonzero(lookup >= 0)
    return (
        f"some of {known[0]} .. {known[-1]} as the official files use them: "
        "were these files converted for another program? Unpack the official ones"
    )


def _sizes(path: str, image: tuple[int, ...], labels: str, mask: tuple[int, ...]) -> str:
    """What is said of a picture and labels of different size."""
    # Cameras store a turned picture and a tag; who follows the tag draws labels of the turned size.
    turned = image == mask[::-1]
    hint = ": is the picture turned by its EXIF tag? Store it upright" if turned else ""
    return f"{path} is {image}, its labels {labels} are {mask}; expected the same size{hint}"


def _no_labels(path: str, raw: np.ndarray) -> str:
    """What is said of a label file that holds anything but one integer a pixel, such as colours."""
    said = f"{path} holds {raw.dtype} of shape {raw.shape}; expected (H, W) integers, one label a pixel"
    if raw.ndim != 3 or raw.shape[2] < 2:
        return said
    colours = raw[..., :3]
    if (colours == colours[..., :1]).all():
        way = "Image.open(path).getchannel(0).save(path)"
        return f"{said}: its channels are equal, so keep one of them: {way}"
    found = [tuple(colour) for colour in np.unique(colours.reshape(-1, colours.shape[2]), axis=0).tolist()]
    shown = ", ".join(map(str, found[:3]))
    hint = "convert it to a palette or grey PNG whose pixel values are the labels"
    problem = "and nothing here says which class a colour stands for"
    return f"{said}: it has {len(found)} colours, such as {shown}, {problem}; {hint}"
