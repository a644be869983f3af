"""Evaluation protocols: what happens to a picture before the segmentor sees it, and to its answers.

Papers differ in all of it, and numbers are comparable only within one protocol. `published` has theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..clip.templates import TEMPLATES

_CHOICES = {
    "synonyms": ("mean", "max", "first"),
    "partial": ("stretch", "cut", "pad"),
    "positions": ("size", "factor"),
    "activation": ("none", "sigmoid"),
}

if TYPE_CHECKING:
    from ..clip.refinements import Refinement


@dataclass(frozen=True)
class EvaluationProtocol:
    """The steps in their order. None (or False) leaves one out. `dataclasses.replace` makes a variant.

    Attributes:
        name: for reports.
        templates: 1. Prompts for the words; "imagenet" are CLIP's 80, "maskclip" those and five more, None
            takes the segmentor's own.
        words: 2. What is said of some classes in place of the data set's words, as (name, words); words of
            a user's own come before.
        synonyms: "mean" averages the embeddings of a class's synonyms; "max" lets the best of them speak
            for the class; "first" takes the first and no other.
        repeats: A word that stands for several classes (A-847 has ten) is encoded as often; the first
            class wins all the same, but the others take places among CAT-Seg's 256 class tokens. False:
            once.
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
        partial: What is done with a side that is no multiple of the patch: "stretch" it to the next one,
            "cut" off what is too much, or "pad" it with the mean colour to the right and below.
        positions: How position embeddings come to a grid that CLIP was not trained with; see
            `DenseCLIP.positions`.
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
        area: A class that has no larger fraction than this of all pixels that are not background, before
            any threshold, is taken out of the competition.
        false_alarms: 10. Mean IoU counts a class that is predicted but in no target as 0; False leaves
            it out.

    Raises:
        ValueError: a size below 1, windows that leave gaps, a fraction outside 0 .. 1, a choice that is none,
            steps that lack what they need.
    """

    name: str
    templates: tuple[str, ...] | Literal["imagenet", "maskclip"] | None = None
    words: tuple[tuple[str, str], ...] = ()
    synonyms: Literal["mean", "max", "first"] = "mean"
    repeats: bool = False
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
    partial: Literal["stretch", "cut", "pad"] = "stretch"
    positions: Literal["size", "factor"] = "size"
    pooling: int | None = None
    activation: Literal["none", "sigmoid"] = "none"
    whole: bool = False
    largest: int | None = None
    refine: Refinement | None = None
    threshold: float = 0.0
    logit_scale: float | None = None
    area: float = 0.0
    false_alarms: bool = True

    @property
    def prompts(self) -> tuple[str, ...] | None:
        """The templates themselves, one with {} for the word each; None: the segmentor's own."""
        return TEMPLATES[self.templates]() if isinstance(self.templates, str) else self.templates

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
        if isinstance(self.templates, str) and self.templates not in TEMPLATES:
            names = " or ".join(repr(name) for name in TEMPLATES)
            raise ValueError(
                f"got templates={self.templates!r}; expected {names}, or a tuple of prompts "
                "with {} for the word"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(repr(choice) for choice in choices)
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; expected {expected}")
        for name in ("threshold", "area"):
            if not 0 <= getattr(self, name) <= 1:  # a NaN fails, too
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 .. 1")
        refines = hasattr(self.refine, "refined") and not isinstance(self.refine, type)
        if self.refine is not None and not refines:
            raise ValueError(
                f"got refine={self.refine!r}; expected None or a refinement, "
                "such as infoclip_lite.clip.refinements.Pamr()"
            )


WHOLE = EvaluationProtocol("whole")  # pictures as they are: Collage


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
