"""What the stem's own classifier says of a scene, told to the image tower in words.

The stem was trained to tell ImageNet's 1,000 classes apart, and a few instances of a noun make a small
transformer forget what they do not show. ConSE (1312.5650) reads a classifier's probabilities as names of
its classes; here they are a target beside contrast. Our choice [O].
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..clip.stem import Stem


class ClassTeacher(NamedTuple):
    """The classifier behind a stem.

    Attributes:
        weight: (classes, directions), of the stem's standardised deep features.
        bias: (classes,).
        words: (classes, D) unit vectors of the classes' names.
    """

    weight: Tensor
    bias: Tensor
    words: Tensor

    @classmethod
    def of_stem(cls, stem: Stem, state: Mapping[str, Tensor], words: Tensor) -> ClassTeacher:
        """The classifier of EfficientNet's state, as far as the stem's main directions show it.

        Args:
            stem: filled with that state and standardised.
            state: with the classifier's weights, "_fc.weight" (classes, 1280) and "_fc.bias".
            words: (classes, D) unit vectors.

        Raises:
            ValueError: another number of words than classes.
        """
        weight, bias = state["_fc.weight"], state["_fc.bias"]
        if len(words) != len(weight):
            raise ValueError(f"got {len(words)} words; expected one for each of {len(weight)} classes")
        # Rows are directions over deviations, and directions are unit vectors.
        read = stem.deep.weight[:, :, 0, 0]
        deviation = 1 / read.norm(dim=1)
        seen = weight @ (read * deviation[:, None]).T
        return cls(seen * deviation, bias - seen @ (stem.deep.bias * deviation), words)

    def probabilities(self, deep: Tensor) -> Tensor:
        """Of whole pictures, (B, classes), from the stem's deep features (B, directions, h, w)."""
        weight, bias = self.weight.to(deep.device), self.bias.to(deep.device)
        return (deep.mean((2, 3)) @ weight.T + bias).softmax(1)

    def loss(self, image: Tensor, deep: Tensor, scale: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the classes that the image tower names, in nats.

        Args:
            image: (B, D) unit vectors.
            deep: (B, directions, h, w) of the same pictures.
            scale: inverse temperature.

        Returns:
            A scalar, not negative.
        """
        target = self.probabilities(deep)
        named = (scale * image @ self.words.to(image.device).T).log_softmax(1)
        return (torch.special.xlogy(target, target) - target * named).sum(1).mean()


@cache
def class_names() -> tuple[str, ...]:
    """The first name of each of ImageNet's 1,000 classes."""
    from timm.data import ImageNetInfo  # here: seconds to load

    info = ImageNetInfo()
    return tuple(info.index_to_description(index).split(",")[0] for index in range(1000))
