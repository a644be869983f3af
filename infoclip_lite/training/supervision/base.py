"""A training without masks: the data set with its masks taken out, and what stands in their place."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...clip import DenseCLIP
from ...datasets import TrainingCrops
from ...datasets.base import (
    ImageLevel,
    SegmentationDataset,
    Segmented,
    Trainable,
    classes_of,
    fingerprint,
    image_level,
)
from ..finetuning import FineTuning


class Unmasked(NamedTuple):
    """An item whose mask nobody drew.

    Attributes:
        image: (3, H, W) float32 in [0, 1].
        mask: (H, W) int64, what stands in its place.
        path: of the picture.
        captions: sentences about the picture.
    """

    image: Tensor
    mask: Tensor
    path: str
    captions: tuple[str, ...]


class WithoutMasks(SegmentationDataset):
    """A data set of which whole pictures are known alone: its items, and their masks, are never asked for.

    Args:
        dataset: with a method `image_level`; see `datasets.base.image_level`.
    """

    def __init__(self, dataset: Segmented) -> None:
        super().__init__(**classes_of(dataset))
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Unmasked:
        known = image_level(self.dataset, index)
        return Unmasked(known.image, self.mask(index, known), known.path, known.captions)

    def mask(self, index: int, known: ImageLevel) -> Tensor:
        """What stands in the mask's place: here, that no pixel counts.

        Args:
            index: of the item.
            known: of it.

        Returns:
            (H, W) int64, class ids or `ignore`.
        """
        return torch.full(known.image.shape[1:], self.ignore)

    def place(self, number: int) -> int:
        """As the data set, if that is `Trainable`."""
        trainable: Any = self.dataset
        return trainable.place(number)

    def settings(self) -> dict[str, object]:
        """The data set."""
        return {"of": fingerprint(self.dataset.describe())}


class Supervision(ABC):
    """What a recipe learns from in place of masks."""

    @abstractmethod
    def scenes(self, scenes: Trainable, clip: DenseCLIP, *, seed: int, workers: int) -> Trainable:
        """What is learnt from.

        Args:
            scenes: what would be learnt from with masks.
            clip: the pretrained model, frozen, on the training's device.
            seed: of the training.
            workers: processes that read pictures ahead.

        Returns:
            The same pictures without their masks.

        Raises:
            ValueError: a data set that does not say what is needed.
        """

    def task(self, *arguments: Any, **options: Any) -> FineTuning:
        """The task that learns from it: by default fine-tuning on what stands in the masks' place.

        Args:
            arguments, options: of `FineTuning`.

        Raises:
            ValueError: what the task refuses.
        """
        return FineTuning(*arguments, **options)


def before_cutting(scenes: Trainable, change: Callable[[Segmented], SegmentationDataset]) -> Trainable:
    """Scenes of a changed data set; of crops, that of the whole pictures that they are cut from.

    Args:
        scenes: what a training goes through.
        change: from a data set to the one in its place.
    """
    if not isinstance(scenes, TrainingCrops):
        changed = change(scenes)
        if not isinstance(changed, Trainable):
            raise ValueError(f"got scenes without `place`: {type(scenes).__name__}; expected a `Trainable`")
        return changed
    crops = copy.copy(scenes)
    crops.dataset = change(scenes.dataset)
    return crops
