"""Which words training labelled: for segmentors that treat these otherwise when they name what they see."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.words import synonyms_of


class KnowsWords(nn.Module):
    """Remembers the trained words, and keeps them with its weights.

    Attributes:
        known: the words in small letters, synonyms apart.
    """

    known: tuple[str, ...] = ()

    def meet(self, names: Sequence[str]) -> None:
        """Remember which words are trained.

        Args:
            names: of the seen classes.
        """
        self.known = tuple(word.lower() for name in names for word in synonyms_of(name))

    def flags(self, names: Sequence[str], like: Tensor) -> Tensor:
        """Which words training labelled.

        Args:
            names: C words or phrases; one of several synonyms is enough.
            like: has the type and the device that are wanted.

        Returns:
            (C, 1), 1 if training labelled the word, else 0.
        """
        trained = [any(word.lower() in self.known for word in synonyms_of(name)) for name in names]
        return torch.tensor(trained, device=like.device, dtype=like.dtype)[:, None]

    def get_extra_state(self) -> Tensor:
        """The trained words as bytes: part of what was learnt, and kept with the weights."""
        return torch.tensor(list(json.dumps(self.known).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` gave.

        Args:
            state: bytes (n,).
        """
        self.known = tuple(json.loads(bytes(state.tolist())))
