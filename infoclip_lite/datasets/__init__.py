"""Data sets of pictures, masks and captions."""

from .base import Sample
from .collage import Collage, Scene
from .crops import Crop, TrainingCrops
from .image import read_image
from .pictures import Pictures
from .registry import DATASETS, build_dataset

__all__ = ["DATASETS", "Collage", "Crop", "Pictures", "Sample", "Scene", "TrainingCrops", "build_dataset", "read_image"]
