"""What every segmentor is: words and a picture in, small logits out, and a loss that is its own affair."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..core.labels import NO_LABEL
from ..core.lookup import call

if TYPE_CHECKING:
    from ..clip.tower import TowerPass

_S = TypeVar("_S", bound="Segmentor")


@dataclass(frozen=True)
class Encoded:
    """What a segmentor makes of pictures before it is told the words.

    Attributes:
        dense: (B, D, h, w) embeddings in the joint space; what an alignment objective looks at.
        more: whatever else the segmentor's own `decode` wants.
        tower: the pass itself, where `decode` asks it again once it knows the words.
    """

    dense: Tensor
    more: tuple[Tensor, ...] = ()
    tower: TowerPass | None = None


@dataclass(frozen=True)
class Target:
    """What is known of the pixels of a batch.

    Attributes:
        labels: (B, H, W) int64, places among the words that are trained, or NO_LABEL.
        counted: scalar, how many pixels are labelled; where a batch is divided over passes or processes,
            the mean over its parts, so that the parts add up to the whole.
    """

    labels: Tensor
    counted: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> Target:
        """A target of all the pixels there are.

        Args:
            labels: (B, H, W) int64, as in the class.

        Returns:
            The target, all its labelled pixels counted.
        """
        return cls(labels, (labels != NO_LABEL).sum())


class Criterion(Protocol):
    """A pixel loss: logits (B, C, H, W) and a target of the same size to a scalar."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """The loss, in nats."""


class CrossEntropy:
    """Softmax cross-entropy among the words, in nats a labelled pixel; zero if there is none."""

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """Logits (B, C, H, W) and a target of the same size to a scalar."""
        # A sum over what was counted outside: torch's own mean would be over the labelled pixels of this
        # part of a batch, and the mean of parts is not the mean of the whole.
        total = F.cross_entropy(logits, target.labels, ignore_index=NO_LABEL, reduction="sum")
        return total / target.counted.clamp(min=1)


class BinaryCrossEntropy:
    """One sigmoid a word, in nats a word and pixel, as CAT-Seg trains [S].

    Args:
        ignored: "skip" leaves ignored pixels out; "zero" makes every word a wrong answer
            there, as CAT-Seg does [S].

    Raises:
        ValueError: another `ignored`.
    """

    def __init__(self, *, ignored: Literal["skip", "zero"] = "skip") -> None:
        if ignored not in ("skip", "zero"):
            raise ValueError(f"ignored is {ignored!r}; expected 'skip' or 'zero'")
        self.ignored = ignored

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """Logits (B, C, H, W) and a target of the same size to a scalar."""
        classes = logits.shape[1]
        labelled = target.labels != NO_LABEL
        # (B, C, H, W), one where the word is the pixel's. one_hot refuses NO_LABEL:
        # class 0 stands in for it, and is taken out again.
        places = torch.where(labelled, target.labels, 0)
        wanted = F.one_hot(places, classes).movedim(-1, 1) * labelled[:, None]
        loss = F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")
        if self.ignored == "zero":
            return loss.mean()
        return (loss * labelled[:, None]).sum() / (target.counted * classes).clamp(min=1)


# What a recipe calls a pixel loss.
CRITERIA: dict[str, Callable[..., Criterion]] = {"cross_entropy": CrossEntropy, "bce": BinaryCrossEntropy}


class Segmentor(nn.Module, ABC):
    """A CLIP, and a way to label pixels with words.

    A new segmentor says how it encodes and decodes; all else has a default that does nothing.

    Attributes:
        clip: encodes words, and pictures unless the segmentor has a body of its own.
        read_outs: the dense read-outs that it uses.
        templates: prompts for training and test alike; None takes the recipe's in training
            and the model's own in tests.
        independent: whether its logits are one sigmoid a word (CAT-Seg), rather than cosines that compete.
        tunable: whether its CLIP may be tuned.
        side: pixels a side that pictures of a training are brought to before student and teacher see them,
            while labels and loss keep the size of the crops; None leaves them as they are.
        learns_words: whether what it makes of a word changes while it learns, though CLIP's text tower
            does not: words are then encoded at every step.
        prepared_with: how many unlabelled pictures `prepare` wants to see before
            training; 0 if it does nothing.
        criterion: the pixel loss of the default `loss`.
    """

    clip: DenseCLIP
    read_outs: tuple[str, ...]
    templates: tuple[str, ...] | None = None
    independent: bool = False
    tunable: bool = True
    side: int | None = None
    learns_words: bool = False
    prepared_with: int = 0
    criterion: Criterion = CrossEntropy()

    @classmethod
    def from_section(
        cls: type[_S], clip: DenseCLIP, prompt: str, options: Mapping[str, object], what: str
    ) -> _S:
        """Build it from the options of a recipe's section.

        Args:
            clip: the model.
            prompt: the recipe's template of class names.
            options: keyword arguments of the class.
            what: how a message calls it.

        Returns:
            The segmentor, its prompt the recipe's unless the options have one.

        Raises:
            ValueError: an unknown option, or what the class refuses.
        """
        return call(cls, (clip,), {"templates": (prompt,), **options}, what)

    @property
    def family(self) -> str:
        """What tables call trained models of this kind."""
        return type(self).__name__

    @property
    def backend(self) -> str:
        """Names the way of inference: what differs only in its weights shares it, and costs the same."""
        return type(self).__name__

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Embeddings of words, as `decode` and `forward` take them.

        Args:
            names: C words or phrases.
            templates: prompts with one {} for the word; None takes the segmentor's,
                and the model's if it has none.

        Returns:
            (C, D) float32 unit vectors.

        Raises:
            ValueError: as `DenseCLIP.encode_text`.
        """
        return self.clip.encode_text(names, templates or self.templates)

    @abstractmethod
    def encode(self, images: Tensor) -> Encoded:
        """What pictures are, before any word is named.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            Their dense embeddings, and whatever else `decode` wants.
        """

    @abstractmethod
    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Logits of words, before they are enlarged.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors, or what `encode_text` gave.
            pooling: side in patches of the squares that class aggregation looks at; None as in training.
                Segmentors that do not aggregate over classes have no use for it.

        Returns:
            (B, C, h, w) logits.
        """

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Logits of every word at every pixel.

        Args:
            images: (B, 3, H, W) floats in [0, 1].
            text: (C, D) unit vectors, or what `encode_text` gave.

        Returns:
            (B, C, H, W) logits.
        """
        return enlarged(self.decode(self.encode(images), text.to(self.clip.device)), images.shape[-2:])

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """The task loss: by default the pixel loss of the enlarged logits.

        Args:
            encoded: of `encode`.
            text: of the trained words.
            target: what is known of the pixels.

        Returns:
            Named scalars, "total" among them.
        """
        # Float32 before they are enlarged: under autocast a softmax over many words would lose small logits.
        logits = enlarged(self.decode(encoded, text).float(), target.labels.shape[-2:])
        return {"total": self.criterion(logits, target)}

    def pretrained(self) -> list[nn.Parameter]:
        """Trained parameters outside CLIP that did not begin at random; they learn at CLIP's rate."""
        return []

    def prepare(self, images: Tensor) -> None:
        """Look at unlabelled pictures once, before training begins.

        Args:
            images: (B, 3, H, W) floats in [0, 1], `prepared_with` of them or as many as there are.
        """

    def meet(self, names: Sequence[str]) -> None:
        """Be told the names whose pixels training labels, before its first step; forgotten by default.

        Args:
            names: of the seen classes, in the order of the words that `loss` is given.
        """

    def stages(self) -> list[nn.Module]:
        """The dear parts of the head, each of which may be compiled or computed again for the gradient."""
        return []

    def load_official(self, path: str | Path) -> None:
        """Take the weights of a checkpoint that the method's authors published.

        Args:
            path: of the file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no such checkpoints are known for this segmentor, the file cannot be read,
                or it is of another architecture.
        """
        raise ValueError(
            f"got {path} for {type(self).__name__}, of which no official checkpoints are known; "
            "expected a recipe of CAT-Seg, such as paper/catseg-vitb16"
        )

    def weights_at_inference(self) -> dict[str, int]:
        """How many weights a picture meets, by part."""
        # Words are encoded once for all pictures, so the text tower is not among them.
        of_clip = {id(p) for p in self.clip.parameters()}
        head = count(p for p in self.parameters() if id(p) not in of_clip)
        return {"image tower": count(self.clip.visual.parameters()), "head": head}


def enlarged(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Maps at another size, bilinearly.

    Args:
        logits: (B, C, h, w).
        size: (H, W) in pixels.

    Returns:
        (B, C, H, W).
    """
    # Corners are not aligned: a patch's logit belongs to the middle of the patch.
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)


def scaled_cosines(clip: DenseCLIP, dense: Tensor, text: Tensor) -> Tensor:
    """Cosines of unit vectors times CLIP's logit scale: (B, D, h, w) and (C, D) to (B, C, h, w)."""
    # The product over D of every word with every patch of every picture.
    return clip.logit_scale.float() * torch.einsum("bdhw,cd->bchw", dense, text)


def check_text(clip: DenseCLIP, text: Tensor) -> None:
    """Words as one unit vector each, in the joint space of this CLIP.

    Raises:
        ValueError: text of another shape or width.
    """
    if text.ndim != 2 or text.shape[1] != clip.embed_dim:
        raise ValueError(
            f"got text embeddings {tuple(text.shape)}; expected (C, {clip.embed_dim}) of the CLIP that is "
            f"asked"
        )


def count(parameters: Iterable[nn.Parameter]) -> int:
    """How many numbers there are in some parameters."""
    return sum(p.numel() for p in parameters)
