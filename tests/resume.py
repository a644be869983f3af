"""A training that is stopped at a step and goes on: whoever looks at the end must not be able to tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite import Run

T = TypeVar("T")
Weights = dict[str, Tensor]


def weights(module: nn.Module) -> Weights:
    """A copy of all that a module's state holds."""
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def same(a: Weights, b: Weights) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def moved(module: nn.Module, before: Weights) -> set[str]:
    """The keys of what is no longer as it was."""
    after = module.state_dict()
    assert after.keys() == before.keys()
    return {key for key, value in after.items() if not torch.equal(value, before[key])}


@contextmanager
def stopped(kind: type, step: int, where: Callable[[Any], bool] = lambda task: True) -> Iterator[None]:
    """Within it, a training of this kind of task is interrupted as soon as it comes to a step, and must be.

    Args:
        kind: FineTuning or Pretraining.
        step: whose loss is never computed.
        where: of several tasks, which one is meant.
    """
    loss = kind.loss

    def stopping(self: Any, number: int, batch: Any) -> dict[str, Tensor]:
        if number == step and where(self):
            raise KeyboardInterrupt
        return loss(self, number, batch)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(kind, "loss", stopping)
        yield


def stopped_and_gone_on(
    kind: type, step: int, run: Callable[[], T], where: Callable[[Any], bool] = lambda task: True
) -> T:
    """What a run gives that was stopped at a step and is then begun again; see `stopped`."""
    with stopped(kind, step, where):
        run()
    return run()


def assert_same_run(resumed: Run, whole: Run) -> None:
    """The same numbers in the log and the same bits in segmentor and objective."""
    assert resumed.log == whole.log
    assert same(weights(resumed.model), weights(whole.model))
    assert (resumed.objective is None) == (whole.objective is None)
    if resumed.objective is not None and whole.objective is not None:
        assert same(weights(resumed.objective), weights(whole.objective))
