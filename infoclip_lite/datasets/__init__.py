"""Data sets of pictures, masks and captions."""

from .base import Pictures, Sample
from .collage import Collage, Scene
from .crops import Crop, TrainingCrops
from .registry import DATASETS, build_dataset
from .transforms import read_image

__all__ = ["DATASETS", "Collage", "Crop", "Pictures", "Sample", "Scene", "TrainingCrops", "build_dataset", "read_image"]
