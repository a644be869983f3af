"""Training crops of real pictures, each a pure function of a seed and its number."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Item, SegmentationDataset, Segmented, check_segmented, classes_of, fingerprint
from .image import as_floats
from .pictures import DamagedFile, Pictures


class Crop(NamedTuple):
    """One training crop.

    Attributes:
        image: (3, size, size) float32 in [0, 1].
        mask: (size, size) int64, class ids or the data set's `ignore`.
        skipped: damaged files that this crop stands in for.
        captions: of the whole picture, where the data set's items have any.
    """

    image: Tensor
    mask: Tensor
    skipped: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


class TrainingCrops(SegmentationDataset):
    """Random crops of a data set, without end: crop i is picture i of a shuffled epoch, i // len(dataset).

    As CAT-Seg trains [S]: the shorter side is resized to the crop's, then a window, the colours of SSD, and a
    flip in half of the cases. Pictures of 8 bits are resized in bytes, as by Pillow there [S]. A JPEG whose
    shorter side is four times the crop's or more is decoded at a half, a quarter or an eighth of its size:
    some two levels of 255 in the mean of its pixels [O]. At 384 pixels none of COCO's or VOC's is that large.
    Labels of unseen classes are kept: what is learnt from is `FineTuning`'s to say.

    Args:
        dataset: `Pictures`, or anything that is `Segmented`.
        size: side of the crops in pixels.
        seed: another seed, other crops in another order.
        shorter: sizes of the shorter side to choose from; None is `size` alone, as CAT-Seg has it.
        category: a window in which one class has more than this share of the labelled pixels is drawn anew,
            ten times at most; CAT-Seg's 1 never does.
        colour: change brightness, contrast, saturation and hue.
        skip_corrupt: put the next picture of the epoch in the place of one that cannot be decoded; a warning
            names that one, the crop too.

    Raises:
        ValueError: a data set that is empty or lacks something, or a size, share or seed out of range; on
            reading, a picture that cannot be decoded, by name.
    """

    def __init__(
        self,
        dataset: Segmented,
        size: int,
        *,
        seed: int = 0,
        shorter: Sequence[int] | None = None,
        category: float = 1.0,
        colour: bool = True,
        skip_corrupt: bool = False,
    ) -> None:
        if len(check_segmented(dataset)) == 0:
            raise ValueError("got a data set without pictures; expected at least one")
        if size < 16 or any(side < 1 for side in shorter or ()):
            expected = "a crop of 16 pixels or more and positive sides"
            raise ValueError(f"got size={size}, shorter={shorter}; expected {expected}")
        if not 0 < category <= 1:
            raise ValueError(f"category is {category}; expected a share above 0 and at most 1")
        super().__init__(**classes_of(dataset))
        self.dataset = dataset
        self.size = size
        self.seed = seed
        self.shorter = tuple(shorter or (size,))
        self.category = category
        self.colour = colour
        self.skip_corrupt = skip_corrupt
        self._damaged: set[str] = set()  # what was warned of
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))  # of the epoch that was read last

    def __len__(self) -> int:
        """Crops an epoch; every index from 0 on is allowed."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Crop:
        if index < 0:
            raise IndexError(f"crop {index}; expected 0 or more")
        epoch, place = divmod(index, len(self))
        # A generator of its own for every crop: any worker, in any order, after any restart, draws the same.
        rng = random.Random(f"crops/{self.seed}/{index}")
        # Drawn before the picture is read, which need not be decoded larger than that.
        shorter = self.shorter[int(rng.random() * len(self.shorter))]
        sample, skipped = self._sample(epoch, place, shorter)
        captions = tuple(getattr(sample, "captions", ()))
        return self._crop(sample, shorter, rng)._replace(skipped=skipped, captions=captions)

    def place(self, number: int) -> int:
        """The crop that a training takes as its `number`-th: that one, for there is no end of them."""
        return number

    def settings(self) -> dict[str, object]:
        """How pictures are cut, and the pictures."""
        return {
            "size": self.size,
            "seed": self.seed,
            "shorter": list(self.shorter),
            "category": self.category,
            "colour": self.colour,
            "pictures": fingerprint(self.dataset.describe()),
        }

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order[0] == epoch:
            return self._order[1]
        # Every epoch shows every picture once; the last order is kept, for crops are mostly read in order.
        seed = random.Random(f"epochs/{self.seed}/{epoch}").getrandbits(62)
        order = torch.randperm(len(self.dataset), generator=torch.Generator().manual_seed(seed))
        self._order = (epoch, order)
        return order

    def _sample(self, epoch: int, place: int, shorter: int) -> tuple[Item, tuple[str, ...]]:
        """The picture at a place of an epoch, and the damaged files that it stands in for."""
        order = self._shuffled(epoch)
        skipped: list[str] = []
        for step in range(len(self)):
            index = int(order[(place + step) % len(self)])
            try:
                return self._item(index, shorter), tuple(skipped)
            # Damaged files alone: a label that the data set does not have is a mistake about every picture.
            except DamagedFile as error:
                if not self.skip_corrupt:
                    raise ValueError(f"{error}, or train with skip_corrupt=True") from error
                name = str(error).partition(" cannot be decoded")[0]
                if name not in self._damaged:
                    warnings.warn(f"skipped: {error}", stacklevel=3)
                self._damaged.add(name)
                skipped.append(name)
        got = f"none of the {len(self)} pictures can be decoded, {skipped[0]} for one"
        raise ValueError(f"{got}; get the data set again")

    def _item(self, index: int, shorter: int) -> Item:
        """A picture that is going to be reduced: as small as it may come, and in bytes, if it is in files."""
        dataset = self.dataset
        return dataset.for_crop(index, shorter) if isinstance(dataset, Pictures) else dataset[index]

    def _crop(self, sample: Item, shorter: int, rng: random.Random) -> Crop:
        height, width = sample.mask.shape
        scale = shorter / min(height, width)
        size = [max(shorter, round(height * scale)), max(shorter, round(width * scale))]
        image = F.interpolate(sample.image[None], size, mode="bilinear", antialias=True)[0]
        rows, columns = (_nearest(*sides) for sides in zip(sample.mask.shape, size, strict=True))
        top, left = self._window(sample.mask, rows, columns, rng)
        image = image[:, top : top + self.size, left : left + self.size]
        mask = _picked(sample.mask, rows[top : top + self.size], columns[left : left + self.size])
        if rng.random() < 0.5:  # while the picture is still small: before it becomes floats
            image, mask = image.flip(-1), mask.flip(-1)
        image = as_floats(image)
        if sample.image.is_floating_point():
            image = image.clamp(0, 1)  # a resize of floats overshoots by rounding
        if self.colour:
            image = distort(image, rng)
        # What the picture lacks is grey and does not count.
        below, right = self.size - mask.shape[0], self.size - mask.shape[1]
        if below or right:
            image = F.pad(image, (0, right, 0, below), value=0.5)
            mask = F.pad(mask, (0, right, 0, below), value=self.ignore)
        return Crop(image.contiguous(), mask.long())

    def _window(self, mask: Tensor, rows: Tensor, columns: Tensor, rng: random.Random) -> tuple[int, int]:
        """Top left corner, in a picture whose labels are those rows and columns of the mask."""
        for _ in range(10):  # then whatever was drawn last: some pictures have one class alone
            top, left = (int(rng.random() * (max(0, len(of) - self.size) + 1)) for of in (rows, columns))
            if self.category >= 1:
                break
            window = _picked(mask, rows[top : top + self.size], columns[left : left + self.size])
            labels, counts = window.unique(return_counts=True)
            counts = counts[labels != self.ignore]
            if len(counts) > 1 and counts.max() < self.category * counts.sum():
                break
        return top, left


def _nearest(before: int, after: int) -> Tensor:
    """(after,) places among `before` pixels that lie nearest, when a side is resized."""
    # By the pixels' middles, as the picture is resized: "nearest" would be half a pixel off. Places and not
    # labels are resized: a crop looks at few of them.
    places = torch.arange(before, dtype=torch.float32)
    return F.interpolate(places[None, None], after, mode="nearest-exact")[0, 0].long()


def _picked(mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # By numpy, in a quarter of the time of index_select.
    return torch.from_numpy(mask.numpy().take(rows.numpy(), axis=0).take(columns.numpy(), axis=1))


def distort(image: Tensor, rng: random.Random) -> Tensor:
    """SSD's changes of brightness, contrast, saturation and hue, each in half of the cases.

    The changes are those of arXiv 1512.02325, the ranges those of CAT-Seg's code [S].

    Args:
        image: (3, H, W) in [0, 1].
        rng: draws the changes.
    """

    # Not torchvision's RandomPhotometricDistort: it draws from torch's global generator, and a crop must be a
    # pure function of its number. All draws come first, so that what is left out moves no later draw.
    def maybe(low: float, high: float) -> float | None:
        drawn = low + rng.random() * (high - low)
        return drawn if rng.random() < 0.5 else None

    brightness, contrast = maybe(-32 / 255, 32 / 255), maybe(0.5, 1.5)
    saturation, hue, early = maybe(0.5, 1.5), maybe(-0.1, 0.1), rng.random() < 0.5
    if brightness is not None:
        image = (image + brightness).clamp_(0, 1)
    if contrast is not None and early:
        image = (image * contrast).clamp_(0, 1)
    if saturation is not None:
        image = _saturated(image, saturation)
    if hue is not None:
        image = _turned(image, hue)
    if contrast is not None and not early:
        image = (image * contrast).clamp_(0, 1)
    return image


def _saturated(image: Tensor, factor: float) -> Tensor:
    """Scale the S of HSV: the largest colour stays, the others move to or from it until one is zero."""
    value, least = image.amax(0, keepdim=True), image.amin(0, keepdim=True)
    most = value / (value - least).clamp_(min=1e-6)
    # In place, here and below: fresh memory costs more than the arithmetic.
    below = (value - image).mul_(most.clamp_(max=factor))
    return torch.sub(value, below, out=below).clamp_(0, 1)


def _turned(image: Tensor, turn: float) -> Tensor:
    """Turn the H of HSV by a share of the circle, a sixth of it at most.

    As torchvision's `adjust_hue` does, which takes some six times as long and most of a crop's time.
    """
    red, green, blue = image
    value, least = image.amax(0), image.amin(0)
    chroma = value - least
    # H in sixths of the circle, from red. That of grey means nothing: it is multiplied by no chroma below.
    of_red, of_green = value == red, value == green
    step = torch.where(of_red, green - blue, torch.where(of_green, blue - red, red - green))
    start = torch.where(of_red, 0.0, torch.where(of_green, 2.0, 4.0))
    hue = step.div_(chroma.clamp(min=1e-12)).add_(start).add_(6 * turn)
    # A channel is the largest up to one sixth away from its own place, and the least from two sixths on.
    away = (hue - torch.tensor([0.0, 2.0, 4.0])[:, None, None]).abs_()
    below = away.sub_(3).abs_().neg_().add_(2).clamp_(0, 1).mul_(chroma)
    return torch.sub(value, below, out=below)
