"""InfoCLIP Lite: see CLIP's pixel-text alignment degrade, measure it in bits, repair it."""

from typing import TYPE_CHECKING

from .core.environment import package_version
from .core.lazy import lazy_face

if TYPE_CHECKING:
    from . import clip as clip
    from . import datasets as datasets
    from . import evaluation as evaluation
    from . import information as information
    from . import objectives as objectives
    from . import segmentors as segmentors
    from . import training as training
    from .clip import DenseCLIP, load_clip
    from .evaluation import Report, Segmentation, evaluate, segment
    from .training.run import Run, train
else:
    # Looked up when first used: neither `import infoclip_lite` nor `infoclip-lite --help` waits for torch,
    # and `load_clip` does not wait for what only a training needs.
    __getattr__, __dir__ = lazy_face(
        __name__,
        {
            "DenseCLIP": "clip.model",
            "Report": "evaluation.report",
            "Run": "training.run",
            "Segmentation": "evaluation.segment",
            "evaluate": "evaluation.evaluate",
            "load_clip": "clip.loading",
            "segment": "evaluation.segment",
            "train": "training.run",
            # The rooms with a public face, so that `infoclip_lite.datasets.Collage` needs no import of its
            # own.
            "clip": "",
            "datasets": "",
            "evaluation": "",
            "information": "",
            "objectives": "",
            "segmentors": "",
            "training": "",
        },
    )

__version__ = package_version()
__all__ = ["DenseCLIP", "Report", "Run", "Segmentation", "evaluate", "load_clip", "segment", "train"]
