"""Evaluation protocols: what happens to a picture before the segmentor sees it, and to its answers.

Papers differ in all of it, and numbers are comparable only within one protocol. [P] is the paper, [S]
its authors' code, [I] our reading, [O] ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..clip.templates import imagenet_templates
from ..core.lookup import find

if TYPE_CHECKING:
    from ..clip.refinements import Refinement


@dataclass(frozen=True)
class EvaluationProtocol:
    """The steps in their order. None (or False) leaves one out. `dataclasses.replace` makes a variant.

    Attributes:
        name: for reports.
        templates: 1. Prompts for the words; "imagenet" are CLIP's 80, None takes the segmentor's own.
        synonyms: 2. "mean" averages the embeddings of a class's synonyms; "max" lets the best of them
            speak for the class.
        shorter: 3. The shorter side becomes this many pixels, in the picture's own proportions, ...
        longest: ... but the longer side no more than this;
        elongation: or both sides no more than this many times `shorter`: longer strips are squeezed;
        whole_patches: and both sides are a multiple of CLIP's patch.
        antialias: Smooth in that step (Pillow does, OpenCV does not).
        eight_bit: Values are rounded to 8 bits in that step; with `antialias` it is Pillow's own
            arithmetic.
        square: 4. Then both sides become this many pixels, whatever the proportions were; never
            smoothed.
        window: 5. Cut into square windows of this many pixels. None: the whole picture is the only one.
        stride: Step between windows in pixels (the last one ends at the border); None is half a window.
        strips_only: Windows are for pictures more than two windows long; all others are looked at
            whole.
        patches: 6. A window is brought to this many patches of CLIP's a side before the model sees it.
        pooling: Class aggregation of a cost volume looks at squares of this many patches; None as in
            training.
        activation: 7. What a window's logits go through, at the window's size and before they are
            averaged. The sigmoid is for segmentors whose logits are one sigmoid a word (`independent`);
            scaled cosines are averaged as they are.
        whole: 8. The picture after step 3, squeezed into one window, is looked at too; it weighs as
            much as all windows together.
        largest: 9. Labels are decided with the longer side at no more than this many pixels, and
            enlarged.
        refine: At that size: what makes scores follow the edges of the picture, such as
            `clip.refinements.Pamr()`; of the picture after step 3, enlarged again.
        threshold: Then: a pixel whose best word has a smaller fraction of the softmax over all
            words than this becomes background. 0: every pixel keeps its best word.
        logit_scale: What cosines are multiplied with before that softmax; None is CLIP's own scale. The
            best word does not depend on it.
        false_alarms: 10. Mean IoU counts a class that is predicted but in no target as 0; False leaves
            it out.

    Raises:
        ValueError: a size below 1, windows that leave gaps, a threshold outside 0 .. 1, steps that lack
            what they need.
    """

    name: str
    templates: tuple[str, ...] | Literal["imagenet"] | None = None
    synonyms: Literal["mean", "max"] = "mean"
    shorter: int | None = None
    longest: int | None = None
    elongation: int | None = None
    whole_patches: bool = False
    antialias: bool = False
    eight_bit: bool = True
    square: int | None = None
    window: int | None = None
    stride: int | None = None
    strips_only: bool = False
    patches: int | None = None
    pooling: int | None = None
    activation: Literal["none", "sigmoid"] = "none"
    whole: bool = False
    largest: int | None = None
    refine: Refinement | None = None
    threshold: float = 0.0
    logit_scale: float | None = None
    false_alarms: bool = True

    @property
    def prompts(self) -> tuple[str, ...] | None:
        """The templates themselves, one with {} for the word each; None: the segmentor's own."""
        return imagenet_templates() if self.templates == "imagenet" else self.templates

    @property
    def resizes(self) -> bool:
        """Whether the model sees pictures of another size than the data set's."""
        return self.shorter is not None or self.square is not None

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_windows()
        self._check_choices()

    def _check_sizes(self) -> None:
        for name in ("shorter", "longest", "elongation", "square", "patches", "pooling", "largest"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")

    def _check_windows(self) -> None:
        if self.window is None and (self.whole or self.strips_only):
            what = "looks at the whole picture beside windows" if self.whole else "cuts strips into windows"
            raise ValueError(f"{self.name} {what}, but has window=None; expected a window in pixels")
        if self.window is None:
            return
        if not 1 <= (1 if self.stride is None else self.stride) <= self.window:
            raise ValueError(
                f"got window={self.window}, stride={self.stride}; expected 1 <= stride <= window: "
                "a larger stride leaves gaps"
            )

    def _check_choices(self) -> None:
        if isinstance(self.templates, str) and self.templates != "imagenet":
            raise ValueError(
                f"got templates={self.templates!r}; expected 'imagenet', or a tuple of prompts "
                "with {} for the word"
            )
        if self.synonyms not in ("mean", "max"):
            raise ValueError(f"unknown synonyms {self.synonyms!r}; expected 'mean' or 'max'")
        if self.activation not in ("none", "sigmoid"):
            raise ValueError(f"unknown activation {self.activation!r}; expected 'none' or 'sigmoid'")
        refines = hasattr(self.refine, "refined") and not isinstance(self.refine, type)
        if self.refine is not None and not refines:
            raise ValueError(
                f"got refine={self.refine!r}; expected None or a refinement, "
                "such as infoclip_lite.clip.refinements.Pamr()"
            )
        if not 0 <= self.threshold <= 1:  # a NaN fails, too
            raise ValueError(f"threshold is {self.threshold}; expected 0 .. 1")


WHOLE = EvaluationProtocol("whole")  # pictures as they are: Collage

CATSEG = EvaluationProtocol(
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

TRAINING_FREE = EvaluationProtocol(
    "training-free",
    templates="imagenet",  # 80 [S: SCLIP, ClearCLIP, NACLIP]
    synonyms="max",  # [S]
    shorter=336,  # [S: SCLIP, NACLIP; ClearCLIP 448 with window 448, stride 224]
    longest=2048,  # [S]
    antialias=False,  # by OpenCV [S]
    window=224,  # [S]
    stride=112,  # [S]
    logit_scale=40.0,  # [S: SCLIP, NACLIP; ClearCLIP 50]
    refine=None,  # [S: SCLIP, ClearCLIP, ResCLIP]; NACLIP has PAMR with 10 iterations, dilations 8 and 16
    threshold=0.0,  # [S]; 0.1 (SCLIP, NACLIP) or 0.5 (ClearCLIP) where background is a class of its own
    false_alarms=True,  # mmsegmentation's IoUMetric [S]
)

ZERO_SHOT = EvaluationProtocol(
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


def photo_protocol(
    shorter: int,
    *,
    synonyms: Literal["mean", "max"] = "mean",
    refine: Refinement | None = None,
    threshold: float = 0.0,
) -> EvaluationProtocol:
    """How `segment` looks at a photo of any size [O].

    Args:
        shorter: pixels of the shorter side; the size that the model was trained with serves it best.
        synonyms, refine, threshold: see `EvaluationProtocol`.
    """
    return EvaluationProtocol(
        "photo",
        synonyms=synonyms,
        shorter=shorter,
        elongation=8,  # a strip of 1:100 would cost 100 windows, and its words would be unreadable anyway
        whole_patches=True,  # else the tower stretches the picture a second time
        antialias=True,  # photos are reduced tenfold: without smoothing, textures turn to noise
        eight_bit=False,  # nobody's numbers are to be repeated here
        window=shorter,
        strips_only=True,
        largest=1024,  # beyond that, what is enlarged is a grid of some twelve patches
        refine=refine,
        threshold=threshold,
    )


def get_protocol(protocol: EvaluationProtocol | str) -> EvaluationProtocol:
    """The protocol itself, or the one of that name.

    Raises:
        ValueError: no such protocol; the nearest is named.
    """
    if isinstance(protocol, EvaluationProtocol):
        return protocol
    return find(PROTOCOLS, protocol, "protocol")
