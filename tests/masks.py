"""What tests of systems that ask for masks share: a short recipe, pictures, and who is named in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage

SEEN = ("fish", "flower", "bird")
# Under a base: a few steps on small scenes, for a tiny CLIP.
RECIPE: dict[str, Any] = {
    "steps": 5,
    "batch": 2,
    "data": {"name": "collage", "size": 64, "seen": list(SEEN)},
    "machine": {"dtype": "float32"},
    "optimizer": {"warmup": 1},
    "evaluation": {"at": [], "scenes": 1},
}


def pictures(*shape: int, seed: int = 0) -> Tensor:
    """Random ones, floats in [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Named:
    """Words of Collage that a CLIP was asked for, seen and unseen ones."""

    prompts: list[str] = field(default_factory=list)

    @property
    def unseen(self) -> set[str]:
        """Unseen classes whose name is in a prompt."""
        return self._of(unseen=True)

    @property
    def seen(self) -> set[str]:
        """The others."""
        return self._of(unseen=False)

    def _of(self, unseen: bool) -> set[str]:
        data = Collage("train", 64, length=1, seen=SEEN)
        ids = [i for i in range(len(data.names)) if (i in data.unseen) == unseen]
        padded = [f" {prompt} " for prompt in self.prompts]
        return {data.names[i] for i in ids if any(f" {data.names[i]} " in prompt for prompt in padded)}


@contextmanager
def named_while_training() -> Iterator[Named]:
    """Every sentence that any CLIP turns into tokens within it."""
    found, tokenize = Named(), DenseCLIP.tokenize

    def watched(self: DenseCLIP, prompts: Sequence[str]) -> Tensor:
        found.prompts += list(prompts)
        return tokenize(self, prompts)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DenseCLIP, "tokenize", watched)
        yield found
