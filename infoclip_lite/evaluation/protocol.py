"""Evaluation protocols: what happens to a picture before the segmentor sees it, and to the answers before they become labels.

Papers differ in all of it, and numbers are comparable only within one protocol. [P] is the paper, [S] its authors' code, [I] our reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..clip.templates import IMAGENET_TEMPLATES


@dataclass(frozen=True)
class Protocol:
    """The steps in their order. None leaves a step out. `dataclasses.replace` makes a variant.

    Attributes:
        name: for reports.
        templates: 1. Prompts for the words; None takes the segmentor's own.
        synonyms: 2. "mean" averages the embeddings of a class's synonyms; "max" lets the best of them speak for the class.
        shorter: 3. The shorter side becomes this many pixels, in the picture's own proportions, values rounded to 8 bits ...
        longest: ... but the longer side no more than this.
        antialias: Smooth before that step (Pillow does, OpenCV does not).
        square: 4. Then both sides become this many pixels, whatever the proportions were; never smoothed.
        window: 5. Cut into square windows of this many pixels. None: the whole picture is the only one.
        stride: Step between windows in pixels (the last one ends at the border); None is half a window.
        patches: 6. A window is brought to this many patches of CLIP's a side before the model sees it.
        pooling: Class aggregation of a cost volume looks at squares of this many patches; None as in training.
        activation: 7. What a window's logits go through, at the window's size and before they are averaged.
        whole: 8. The picture after step 3, squeezed into one window, is looked at too; it weighs as much as all windows together.
        threshold: 9. At the size of the labels: a pixel whose best word has a smaller share of the softmax over all words than this
            becomes the class called "background". 0: every pixel keeps its best word.
        logit_scale: What cosines are multiplied with before that softmax; None is CLIP's own scale. The best word does not depend on it.
        false_alarms: 10. Mean IoU counts a class that is predicted but in no target as 0; False leaves it out.
    """

    name: str
    templates: tuple[str, ...] | None = None
    synonyms: Literal["mean", "max"] = "mean"
    shorter: int | None = None
    longest: int | None = None
    antialias: bool = False
    square: int | None = None
    window: int | None = None
    stride: int | None = None
    patches: int | None = None
    pooling: int | None = None
    activation: Literal["none", "sigmoid"] = "none"
    whole: bool = False
    threshold: float = 0.0
    logit_scale: float | None = None
    false_alarms: bool = True

    @property
    def resizes(self) -> bool:
        """Whether the model sees pictures of another size than the data set's."""
        return self.shorter is not None or self.square is not None

    def __post_init__(self) -> None:
        window = self.window
        if window is not None and not 1 <= (1 if self.stride is None else self.stride) <= window:
            raise ValueError(f"got window={window}, stride={self.stride}; expected 1 <= stride <= window: a larger stride leaves gaps")
        for name in ("shorter", "longest", "square", "patches", "pooling"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if self.whole and window is None:
            raise ValueError(f"{self.name} looks at the whole picture beside windows, but has window=None; expected a window in pixels")
        if self.activation not in ("none", "sigmoid") or self.synonyms not in ("mean", "max"):
            raise ValueError(
                f"got activation={self.activation!r}, synonyms={self.synonyms!r}; expected 'none' or 'sigmoid', and 'mean' or 'max'"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; expected 0 .. 1")


WHOLE = Protocol("whole")  # pictures as they are: Collage

CATSEG = Protocol(
    "catseg",
    templates=None,  # 'A photo of a {} in the scene', as in training [S]
    synonyms="mean",  # [S]
    shorter=640,  # detectron2's ResizeShortestEdge [S]
    longest=2560,  # [S]
    antialias=True,  # by Pillow [S]
    square=640,  # [P, S]
    window=384,  # [P, S]
    stride=256,  # overlap of one third [P]; int(384 * (1 - 0.333)) [S]
    patches=24,  # 384 px for ViT-B/16, 336 px for ViT-L/14 [S]
    pooling=1,  # trained with 2, tested with 1 [S]
    activation="sigmoid",  # of each window, before the average [S]
    whole=True,  # [P]; the mean of it and of the windows' mean [S]
    false_alarms=False,  # detectron2's evaluator since 2022 [S]; earlier ones counted them
)

TRAINING_FREE = Protocol(
    "training-free",
    templates=IMAGENET_TEMPLATES,  # 80 [S: SCLIP, ClearCLIP, NACLIP]
    synonyms="max",  # [S]
    shorter=336,  # [S: SCLIP, NACLIP; ClearCLIP 448 with window 448, stride 224]
    longest=2048,  # [S]
    antialias=False,  # by OpenCV [S]
    window=224,  # [S]
    stride=112,  # [S]
    logit_scale=40.0,  # [S: SCLIP, NACLIP; ClearCLIP 50]
    threshold=0.0,  # [S]; 0.1 (SCLIP, NACLIP) or 0.5 (ClearCLIP) where background is a class of its own
    false_alarms=True,  # mmsegmentation's IoUMetric [S]
)

ZERO_SHOT = Protocol(
    "zero-shot",
    templates=None,  # as in training [I]
    synonyms="mean",  # [I]
    shorter=512,  # ZegCLIP's configs, mmsegmentation [S]; for Chimera-Seg [I]
    longest=2048,  # [S]
    antialias=False,  # by OpenCV [S]
    window=512,  # [S]
    stride=426,  # [S]
    false_alarms=True,  # [S]
)

PROTOCOLS = {protocol.name: protocol for protocol in (WHOLE, CATSEG, TRAINING_FREE, ZERO_SHOT)}


def get_protocol(protocol: Protocol | str) -> Protocol:
    """The protocol itself, or the one of that name.

    Raises:
        ValueError: no such protocol.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; expected {', '.join(PROTOCOLS)}, or a Protocol of your own")
    return PROTOCOLS[protocol]
