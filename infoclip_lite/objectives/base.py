"""What an alignment objective is given, and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from ..clip import DenseCLIP

_P = TypeVar("_P")


class View(NamedTuple):
    """What one CLIP makes of a batch.

    Attributes:
        dense: (B, N, D) patch embeddings, unit vectors.
        text: (C, D) embeddings of the training classes, unit vectors.
        scale: the model's logit scale, a scalar.
    """

    dense: Tensor
    text: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Sources:
    """How the parts of a batch are computed, should anybody ask for them.

    Attributes:
        teacher: the frozen CLIP's view.
        student: the view of the CLIP (or body) that learns.
        image_and_dense: the frozen CLIP's CLS embeddings (B, D) and patches (B, N, D), from one pass.
        image: its CLS embeddings (B, D) alone, which cost less.
        compared: its patches (B, N, D) of the read-out by which an objective chooses positions; None where
            none does.
    """

    teacher: Callable[[], View]
    student: Callable[[], View]
    image_and_dense: Callable[[], tuple[Tensor, Tensor]]
    image: Callable[[], Tensor]
    compared: Callable[[], Tensor] | None = None


class Batch:
    """A training batch as objectives see it. What nobody touches is not computed: the teacher's passes
    are the dearest part of a step.

    Args:
        sources: how the parts come about.
        images: (B, 3, H, W) floats in [0, 1].
        target: (B, H, W) places among the trained words, NO_LABEL elsewhere.
        grid: (h, w) of the student's patches, h w = N.
        progress: fraction of the training that is over, 0 .. 1.
        wants_dense: the objective will ask for `dense`; `image` then comes from the same pass.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        images: Tensor | None = None,
        target: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        progress: float = 0.0,
        wants_dense: bool = False,
    ) -> None:
        self._sources = sources
        self._wants_dense = wants_dense
        self._images, self._target, self._grid = images, target, grid
        self.progress = progress

    @classmethod
    def of(
        cls,
        *,
        teacher: View | None = None,
        student: View | None = None,
        image: Tensor | None = None,
        dense: Tensor | None = None,
        compared: Tensor | None = None,
        images: Tensor | None = None,
        target: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        progress: float = 0.0,
    ) -> Batch:
        """A batch of parts that are at hand, to call an objective by hand.

        Args:
            teacher, student: views of the same pictures and words.
            image: (B, D) the teacher's CLS embeddings.
            dense: (B, N, D) its patches.
            compared: (B, N, D) its patches by which positions are chosen.
            images, target, grid, progress: as for `Batch`.

        Returns:
            The batch; a part that was not given and is looked at is a ValueError.
        """
        sources = Sources(
            teacher=lambda: _given(teacher, "teacher"),
            student=lambda: _given(student, "student"),
            image_and_dense=lambda: (_given(image, "image"), _given(dense, "dense")),
            image=lambda: _given(image, "image"),
            compared=lambda: _given(compared, "compared"),
        )
        return cls(sources, images=images, target=target, grid=grid, progress=progress)

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W) floats in [0, 1]."""
        return _given(self._images, "images")

    @property
    def target(self) -> Tensor:
        """(B, H, W) places among the trained words, NO_LABEL elsewhere."""
        return _given(self._target, "target")

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the student's patches."""
        return _given(self._grid, "grid")

    @cached_property
    def teacher(self) -> View:
        """The frozen pretrained CLIP's view."""
        return self._sources.teacher()

    @cached_property
    def student(self) -> View:
        """The view of what learns."""
        return self._sources.student()

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self._sources.image_and_dense()

    @cached_property
    def image(self) -> Tensor:
        """(B, D) CLS embeddings of the frozen CLIP, unit vectors."""
        # The patches come with CLS from one pass; a pass for CLS alone is the cheaper one only if nobody
        # asks for patches. A cached property that was computed stands in the instance's dictionary.
        shared = self._wants_dense or "_both" in self.__dict__
        return self._both[0] if shared else self._sources.image()

    @cached_property
    def dense(self) -> Tensor:
        """(B, N, D) patches of the frozen CLIP, the mean of its best read-outs or of those that the objective
        names as its `lesson`, unit vectors.
        """
        return self._both[1]

    @cached_property
    def compared(self) -> Tensor:
        """(B, N, D) patches of the frozen CLIP in the read-out that the objective chooses positions by."""
        source = self._sources.compared
        return _given(None if source is None else source(), "compared")


def _given(part: _P | None, name: str) -> _P:
    if part is None:
        raise ValueError(
            f"the objective looks at the batch's {name!r}, which was not given; expected Batch.of({name}=...)"
        )
    return part


class Objective(nn.Module, ABC):
    """A loss beside the task loss: named scalars, "total" among them.

    Attributes:
        wants_dense: whether `forward` touches `batch.dense`, so that `batch.image` can
            come from the same pass.
        lesson: read-outs of the teacher whose mean is `batch.dense`; None: the teacher's own.
        chosen_by: the read-out of the teacher that is `batch.compared`; None where it is not touched.
    """

    wants_dense: bool = False
    lesson: tuple[str, ...] | None = None
    chosen_by: str | None = None

    @classmethod
    def needed(cls, student: DenseCLIP, teacher: DenseCLIP) -> tuple[object, ...]:
        """The first arguments of the class, which come from the pair of models and not from a recipe.

        Args:
            student: the CLIP that is tuned.
            teacher: its pretrained copy.

        Returns:
            None of them, unless a class says so.
        """
        return ()

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            batch: whatever of it the objective touches is computed.

        Returns:
            Named scalars, "total" among them; only "total" is weighted.
        """


def relation(dense: Tensor, text: Tensor) -> Tensor:
    """The relation of patches and words without anything learnt: their cosines.

    Args:
        dense: (B, N, D) patch embeddings.
        text: (C, D) text embeddings.

    Returns:
        (B, N, C), from -1 to 1.
    """
    return nn.functional.normalize(dense, dim=-1) @ nn.functional.normalize(text, dim=-1).T


def check_views(teacher: View, student: View) -> None:
    """Refuse views that are not of the same pictures and words.

    Args:
        teacher, student: the views.

    Raises:
        ValueError: other shapes.
    """
    if teacher.dense.shape != student.dense.shape or teacher.text.shape != student.text.shape:
        raise ValueError(
            f"the teacher sees patches {tuple(teacher.dense.shape)} and words "
            f"{tuple(teacher.text.shape)}, the student {tuple(student.dense.shape)} "
            f"and {tuple(student.text.shape)}; expected the same"
        )


def check_positive(**values: float) -> None:
    """Refuse numbers that are not above zero.

    Args:
        values: by name.

    Raises:
        ValueError: one that is not.
    """
    for name, value in values.items():
        # Not `value <= 0`: NaN is not above zero either.
        if not value > 0:
            raise ValueError(f"{name} is {value}; expected a number above 0")
