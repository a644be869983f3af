"""What a data set is: the protocols that training and evaluation rely on, and a base with their defaults.

Nothing here imports torch when the program runs: the list of data sets is shown without it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, SupportsIndex, TypedDict, runtime_checkable

from ..core.labels import ignore_for

if TYPE_CHECKING:
    from torch import Tensor


class Sample(NamedTuple):
    """One picture with its labels.

    Attributes:
        image: (3, H, W) float32 in [0, 1], at the picture's own size.
        mask: (H, W) int64, class ids, or the data set's `ignore`.
        path: of the picture.
    """

    image: Tensor
    mask: Tensor
    path: str


class ImageLevel(NamedTuple):
    """What is known of a whole picture, without a look at the labels of its pixels.

    Attributes:
        image: (3, H, W) float32 in [0, 1], at the picture's own size.
        words: ids of the classes that it shows, each once; of unseen ones too.
        captions: sentences about it; none where the data set has none.
        path: of the picture, or what it is called.
    """

    image: Tensor
    words: tuple[int, ...]
    captions: tuple[str, ...]
    path: str


@runtime_checkable
class Item(Protocol):
    """An item with a label for every pixel: a tuple that begins with image and mask, such as `Sample`."""

    @property
    def image(self) -> Tensor:
        """(3, H, W) float32 in [0, 1]."""

    @property
    def mask(self) -> Tensor:
        """(H, W) int64, class ids, or the data set's `ignore`."""

    # Any: what stands in a tuple at a place that is not written out has no better type.
    def __getitem__(self, place: SupportsIndex, /) -> Any:
        """The image at 0, the mask at 1."""


@runtime_checkable
class Captioned(Item, Protocol):
    """A labelled item that a sentence describes too: `Scene`."""

    @property
    def caption(self) -> str:
        """A sentence."""

    @property
    def nouns(self) -> Sequence[str]:
        """The class names that can be seen, in the order of the data set's `names`."""


# A protocol, not a base class to inherit from: a data set of another library fits as it is, if it has this.
@runtime_checkable
class Segmented(Protocol):
    """A data set with a label for every pixel: all that evaluation asks of one.

    `SegmentationDataset` has all of it but the items.
    """

    # Properties: a tuple or a list, an attribute or a computed one, each will do.
    @property
    def names(self) -> Sequence[str]:
        """The class names, in the order of the masks' ids."""

    @property
    def unseen(self) -> Sequence[int]:
        """Ids of the classes whose pixels must not be learnt from."""

    @property
    def ignore(self) -> int:
        """The label of pixels that do not count."""

    @property
    def words(self) -> Sequence[str]:
        """What is encoded: the names, or more words than classes."""

    @property
    def owners(self) -> Sequence[int]:
        """The class id of each word."""

    @property
    def split(self) -> str:
        """Which part of the data set this is, such as "train"."""

    def __len__(self) -> int:
        """Number of items."""

    def __getitem__(self, index: int, /) -> Item:
        """The item `index`, from 0 on."""

    def describe(self) -> dict[str, object]:
        """What tells two data sets apart, without opening a picture; JSON can hold it."""


@runtime_checkable
class Trainable(Segmented, Protocol):
    """A data set whose items have one size, and which a training may go through for as long as it likes."""

    def place(self, number: int) -> int:
        """The index of the item that a training takes as its `number`-th, from 0 on without end."""


# Not a torch Dataset: a DataLoader needs nothing of it, and it would load torch where names are listed.
class SegmentationDataset(ABC):
    """The base of data sets: their classes, and the defaults of what few data sets say differently.

    A subclass adds `__len__` and `__getitem__`, and what else tells two of its kind apart in `settings`.
    torch's DataLoader takes it as it is.

    Args:
        names: of the classes, in the order of their ids.
        split: which part of the data set this is.
        ignore: the label of pixels that do not count; None is 255, or 65535 with more than 254 classes.
        unseen: ids of classes whose pixels must not be learnt from.
        words: what is encoded, `names` by default; more than classes where several words count as one.
        owners: the class id of each word, by default its place.

    Attributes:
        known_as: what `DATASETS` calls it, if it was built by that name.
    """

    known_as: str = ""

    def __init__(
        self,
        names: Sequence[str],
        *,
        split: str = "",
        ignore: int | None = None,
        unseen: Sequence[int] = (),
        words: Sequence[str] | None = None,
        owners: Sequence[int] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.split = split
        self.ignore = ignore_for(len(self.names)) if ignore is None else ignore
        self.unseen = tuple(unseen)
        self.words = self.names if words is None else tuple(words)
        self.owners = tuple(range(len(self.words))) if owners is None else tuple(owners)

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def __getitem__(self, index: int, /) -> Item:
        """The item `index`; IndexError ends an iteration."""

    def settings(self) -> dict[str, object]:
        """What tells two data sets of this kind apart, beside classes, split and length; JSON can hold it."""
        return {}

    def describe(self) -> dict[str, object]:
        """What tells two data sets apart, without opening a picture; JSON can hold it."""
        return {
            "kind": type(self).__name__,
            "split": self.split,
            "items": len(self),
            "ignore": self.ignore,
            # Thousands of words make a short text; two descriptions are compared, never read back.
            "classes": fingerprint([self.names, self.unseen, self.words, self.owners]),
            **self.settings(),
        }


class Classes(TypedDict):
    """What a `SegmentationDataset` is built from; see there."""

    names: Sequence[str]
    split: str
    ignore: int
    unseen: Sequence[int]
    words: Sequence[str]
    owners: Sequence[int]


def classes_of(dataset: Segmented) -> Classes:
    """What a data set that wraps another takes over from it: `super().__init__(**classes_of(dataset))`."""
    return Classes(
        names=dataset.names,
        split=dataset.split,
        ignore=dataset.ignore,
        unseen=dataset.unseen,
        words=dataset.words,
        owners=dataset.owners,
    )


def class_groups(dataset: Segmented) -> Mapping[str, Sequence[int]] | None:
    """Ids of the classes that are reported apart, "seen" and "unseen" among them; None: all but the unseen
    ones count as seen.
    """
    # Asked for by name: a data set of another library has none, and need not.
    return getattr(dataset, "class_groups", None)


def known_as(dataset: Segmented) -> str:
    """What `DATASETS` calls a data set; "" for one that was not built by its name."""
    # Asked for by name, as above: protocols have numbers of their own for some data sets of the field.
    return getattr(dataset, "known_as", "")


def image_level(dataset: Segmented, index: int) -> ImageLevel:
    """What a data set knows of a whole picture: what trainings without masks are given.

    Args:
        dataset: any with a method `image_level(index)`; Collage, VOC and COCO-Stuff have one.
        index: of the item.

    Raises:
        ValueError: a data set without.
    """
    # Asked for by name, as above: no data set has to have it.
    of = getattr(dataset, "image_level", None)
    if of is None:
        got = f"a {type(dataset).__name__}, which says nothing of whole pictures"
        raise ValueError(f"got {got}; expected a method image_level(index) -> ImageLevel: words or captions")
    return of(index)


def fingerprint(value: object) -> str:
    """SHA-256 of anything that JSON can hold: a long list in 64 letters.

    >>> fingerprint(["cow", "grass"]) == fingerprint(("cow", "grass")) != fingerprint(["grass", "cow"])
    True
    """
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def check_segmented(dataset: object) -> Segmented:
    """The data set, if it has all that `Segmented` asks for.

    Args:
        dataset: what a caller gave.

    Raises:
        ValueError: it lacks something; says what.
    """
    if isinstance(dataset, Segmented):
        return dataset
    wanted = ("names", "unseen", "ignore", "words", "owners", "split", "__len__", "__getitem__", "describe")
    lacking = [name for name in wanted if not hasattr(dataset, name)]
    got = f"a {type(dataset).__name__} without {', '.join(lacking)}"
    hint = "such as a subclass of infoclip_lite.datasets.SegmentationDataset, which has all but the items"
    raise ValueError(f"got {got}; expected a data set with pixel labels, {hint}")


def captioned_items(dataset: Segmented, count: int) -> list[Captioned]:
    """The first `count` items of a data set with captions; of a data set without, none.

    Args:
        dataset: any; of one without captions one item is read.
        count: how many, at most.
    """
    # Whether items have captions is asked of an item: no data set has to announce it.
    if count < 1 or not isinstance(dataset[0], Captioned):
        return []
    items = (dataset[index] for index in range(min(count, len(dataset))))
    return [item for item in items if isinstance(item, Captioned)]


def caption_words(dataset: Segmented) -> tuple[str, ...]:
    """The words that captions of a data set name and that are none of its classes.

    Raises:
        ValueError: a data set without captions.
    """
    words: Sequence[str] | None = getattr(dataset, "caption_words", None)
    if words is None:
        got = f"anchors from the captions of {type(dataset).__name__}"
        raise ValueError(f"got {got}; expected none: the data set has no captions")
    return tuple(words)
