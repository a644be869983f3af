"""What a refinement is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

# Scores (B, c, H, W) of the words that a slice names.
Scores = Callable[[slice], Tensor]


@runtime_checkable
class Refinement(Protocol):
    """Something that makes scores follow their picture, at the size at which labels are decided.

    A dataclass, so that a report can say how it was set.

    Attributes:
        name: a key of `REFINEMENTS`.
    """

    @property
    def name(self) -> str:
        """A key of `REFINEMENTS`."""

    def refined(
        self, picture: Tensor, scores: Scores, parts: Sequence[slice], text: Tensor, scale: float
    ) -> Scores:
        """Scores that follow the picture.

        Args:
            picture: (B, 3, H, W) floats in [0, 1], of the scores' size.
            scores: (B, c, H, W) of some words; computed anew at every call.
            parts: slices that together name all words, as many in each as fit into memory at a time.
            text: (C, D) unit vectors of the words.
            scale: what makes cosines of the scores.

        Returns:
            As `scores`, refined.
        """


def check_counts(**counts: int) -> None:
    """Numbers of things of which one at least is needed.

    Raises:
        ValueError: one below 1.
    """
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
