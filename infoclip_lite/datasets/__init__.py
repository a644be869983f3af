"""Data sets of pictures, masks and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.lazy import lazy_face

if TYPE_CHECKING:
    from .base import (
        Captioned,
        Item,
        Sample,
        SegmentationDataset,
        Segmented,
        Trainable,
        caption_words,
        captioned_items,
        check_segmented,
    )
    from .collage import Collage, Scene
    from .crops import Crop, TrainingCrops
    from .folder import Folder
    from .image import read_image
    from .pictures import Pictures
    from .registry import DATASETS, build_data, build_dataset, held_out_data, training_data
else:
    # A name is imported when it is first used: who reads word lists waits for no torch, who reads pictures
    # for no torchvision.
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "Captioned": "base",
            "Collage": "collage",
            "Crop": "crops",
            "DATASETS": "registry",
            "Folder": "folder",
            "Item": "base",
            "Pictures": "pictures",
            "Sample": "base",
            "Scene": "collage",
            "SegmentationDataset": "base",
            "Segmented": "base",
            "Trainable": "base",
            "TrainingCrops": "crops",
            "build_data": "registry",
            "build_dataset": "registry",
            "caption_words": "base",
            "captioned_items": "base",
            "check_segmented": "base",
            "held_out_data": "registry",
            "read_image": "image",
            "training_data": "registry",
        },
    )

__all__ = [
    "DATASETS",
    "Captioned",
    "Collage",
    "Crop",
    "Folder",
    "Item",
    "Pictures",
    "Sample",
    "Scene",
    "SegmentationDataset",
    "Segmented",
    "Trainable",
    "TrainingCrops",
    "build_data",
    "build_dataset",
    "caption_words",
    "captioned_items",
    "check_segmented",
    "held_out_data",
    "read_image",
    "training_data",
]
