"""InfoCLIP Lite: see CLIP's pixel-text alignment degrade, measure it in bits, repair it."""

from importlib.metadata import PackageNotFoundError, version

from .clip import DenseCLIP, load_clip
from .evaluation.evaluate import evaluate
from .evaluation.report import Report
from .evaluation.segment import Segmentation, segment
from .training.run import Run, train

try:
    __version__ = version("infoclip-lite")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0.0.0"

__all__ = ["DenseCLIP", "Report", "Run", "Segmentation", "evaluate", "load_clip", "segment", "train"]
