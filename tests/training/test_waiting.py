"""A step waits for its device once, when the terms of its loss become numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from infoclip_lite.training.build import build_task
from infoclip_lite.training.loop import _Engine
from infoclip_lite.training.recipe import load_finetuning

# On a GPU each of these copies to the CPU, or asks it how large its result is.
WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique_dim"}
WAITS |= {"aten::_unique2", "aten::is_nonzero", "aten::item"}


class Waits(TorchDispatchMode):
    """Counts what a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name.startswith("aten::index") and any(
            isinstance(each, torch.Tensor) and each.dtype == torch.bool
            for each in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        if name in WAITS or by_mask:
            self.met.append(name)
        return func(*args, **(kwargs or {}))


def one_hot(ids: torch.Tensor, count: int) -> torch.Tensor:
    empty = torch.zeros(*ids.shape, count, dtype=torch.long, device=ids.device)
    return empty.scatter(-1, ids[..., None], 1)


def test_the_counter_counts() -> None:
    with Waits() as waits:
        value = torch.ones(3)
        float(value.sum())
        value[value > 0]
    assert len(waits.met) == 2


@contextmanager
def fetched() -> Iterator[list[str]]:
    """The methods by which values are brought to the CPU, as they are called: no dispatcher sees these."""
    met: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tolist", "numpy", "cpu", "item", "__bool__", "__float__", "__int__", "__index__"):
            own = getattr(torch.Tensor, name)

            def counting(self: torch.Tensor, *given: Any, _own: Any = own, _name: str = name) -> Any:
                met.append(_name)
                return _own(self, *given)

            patch.setattr(torch.Tensor, name, counting)
        yield met


def test_methods_are_counted_too() -> None:
    with fetched() as met:
        value = torch.ones(2)
        value.tolist(), value.cpu(), value.sum().item(), bool(value.sum() > 0)
    assert met == ["tolist", "cpu", "item", "__bool__"]


@pytest.mark.parametrize("name", ["mini/plain", "mini/infoclip", "mini/chimera", "mini/cascade"])
def test_a_step_waits_for_nothing_but_its_loss(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_finetuning(name, start=None, batch=2, machine={"dtype": "float32"}, data={"size": 64})
    # On a CPU one_hot looks at its ids before it believes them; on a GPU it does not.
    monkeypatch.setattr(F, "one_hot", one_hot)
    task, _ = build_task(recipe)
    engine = _Engine(task, 1.0, lambda step: 1.0)
    batch = next(iter(task.batches(0, 1)))
    engine.step(0, [batch])  # what is made once, such as embeddings that do not change
    with Waits() as waits, fetched() as met:
        engine.step(1, [batch])
    # Terms become numbers in one `tolist`, and nothing else is asked for.
    assert waits.met == [] and met == ["tolist"]
