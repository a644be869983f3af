"""Number formats, recomputed activations, compiled blocks, channels last, TensorBoard: the same numbers in
another way.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infoclip_lite.core.states import read_state
from infoclip_lite.core.timing import kept_for_gradient
from infoclip_lite.training.acceleration import dtype_of, native_bfloat16
from infoclip_lite.training.build import build_task
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.loop import fit
from infoclip_lite.training.recipe import load_finetuning
from infoclip_lite.training.run import train

SMALL: dict[str, Any] = {
    "start": None,
    "data": {"size": 64},
    "batch": 4,
    "steps": 2,
    "evaluation": {"at": []},
}


def task_of(recipe: str, **machine: Any) -> FineTuning:
    return build_task(load_finetuning(recipe, **SMALL, machine={"dtype": "float32", **machine}))[0]


def one_step(task: FineTuning) -> tuple[float, list[Tensor], int]:
    """Loss, gradients and the bytes that autograd kept for them."""
    batch, totals = next(iter(task.batches(0, 1))), list[Tensor]()

    def total() -> Tensor:
        totals.append(task.loss(0, batch)["total"])
        return totals[-1]

    kept = kept_for_gradient(total, task.module)
    return totals[-1].item(), [p.grad for p in task.module.parameters() if p.grad is not None], kept


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    """Length of the difference of all gradients together, as a share of their length."""
    difference = sum((x - y).square().sum() for x, y in zip(a, b, strict=True))
    return float((difference / sum(y.square().sum() for y in b)).sqrt())


@pytest.mark.parametrize("recipe", ["mini/plain", "mini/infoclip"])
def test_recomputing_gives_the_same_gradients_for_a_third_of_the_memory(recipe: str) -> None:
    loss, gradients, kept = one_step(task_of(recipe))
    again, others, less = one_step(task_of(recipe, checkpointing=True))
    assert again == loss and len(others) == len(gradients) and all(map(torch.equal, others, gradients))
    assert less < kept / 3


def test_recomputing_leaves_alone_what_has_no_gradient() -> None:
    task = task_of("mini/catseg", checkpointing=True)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        text = task.segmentor.encode_text(["cow", "grass"])
        assert torch.equal(task.segmentor(images, text), task_of("mini/catseg").segmentor(images, text))


def test_recomputing_would_count_batch_statistics_twice() -> None:
    with pytest.raises(ValueError, match="batch normalisation.*raise `accumulate`"):
        task_of("mini/chimera", checkpointing=True)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_give_the_same_gradients(
    checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, gradients, _ = one_step(task_of("mini/catseg"))
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:  # in place of the C++ compiler, which takes minutes
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    again, others, _ = one_step(task_of("mini/catseg", compile=True, checkpointing=checkpointing))
    assert again == pytest.approx(loss, abs=1e-5) and apart(others, gradients) < 1e-4
    assert max(graphs) > 20  # whole blocks, not crumbs


def test_channels_last_changes_the_order_in_memory_and_no_number() -> None:
    plain, last = task_of("mini/chimera"), task_of("mini/chimera", channels_last=True)
    weights = [p for p in last.module.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    (loss, gradients, _), (again, others, _) = one_step(plain), one_step(last)
    assert again == pytest.approx(loss, abs=1e-5) and apart(others, gradients) < 1e-3


def test_a_torch_that_cannot_be_asked_multiplies_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not native_bfloat16() and dtype_of("auto") == torch.float32


@pytest.mark.parametrize(("name", "places"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_is_near_and_not_equal(name: str, places: float) -> None:
    wanted, _, _ = one_step(task_of("mini/plain"))
    found, _, _ = one_step(task_of("mini/plain", dtype=name))
    assert found != wanted and found == pytest.approx(wanted, abs=places)


def test_auto_is_bfloat16_where_it_is_native() -> None:
    assert (
        dtype_of("auto") == (torch.bfloat16 if native_bfloat16() else torch.float32)
        and dtype_of("float16") == torch.float16
    )


def test_auto_is_float16_on_a_gpu_that_only_emulates_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, wanted in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda found=capability: found)
        assert dtype_of("auto") == wanted and dtype_of("float32") == torch.float32


class Overflow:
    """Fit a line; the gradient of the steps named is infinite at any scale above `bearable`."""

    dtype = torch.float16

    def __init__(self, steps: tuple[int, ...] = (), bearable: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(1, 1)
        self.steps, self.bearable = steps, bearable

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": 0.1, "weight_decay": 0.0}]

    def batches(self, first: int, last: int) -> Iterator[Tensor]:
        for step in range(first, last):
            yield torch.randn(16, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, step: int, batch: Tensor) -> dict[str, Tensor]:
        prediction = self.module(batch)
        if step in self.steps:
            prediction.register_hook(
                lambda g: torch.full_like(g, torch.inf) if g.abs().max() * 16 > self.bearable else g
            )
        return {"total": (prediction - 3 * batch - 1).square().mean()}


def test_a_step_whose_float16_gradients_overflow_is_left_out() -> None:
    def weights(count: int, **options: Any) -> Tensor:
        task = Overflow(**options)
        fit(task, steps=count, schedule=100)
        return task.module.weight.detach().clone()

    assert torch.equal(weights(1, steps=(0,)), weights(0))
    assert not torch.equal(weights(2, steps=(0,)), weights(0))


def test_float16_learns_as_float32_does_and_goes_on_with_its_scale(tmp_path: Path) -> None:
    class Single(Overflow):
        dtype = torch.float32

    whole, single = Overflow(), Single()
    log = fit(whole, steps=100)
    fit(single, steps=100)
    assert log[-1]["total"] < 1e-2 and torch.allclose(whole.module.weight, single.module.weight, atol=1e-5)
    broken, interrupted = Overflow((3, 4)), Overflow((3, 4))
    wanted = fit(broken, steps=30, schedule=30)
    fit(interrupted, steps=9, schedule=30, folder=tmp_path)
    resumed = Overflow((3, 4))
    assert fit(resumed, steps=30, schedule=30, folder=tmp_path) == wanted
    assert torch.equal(resumed.module.weight, broken.module.weight)
    state = read_state(tmp_path)
    assert (
        state is not None and state["scaler"]["scale"] == 2**14
    )  # 2^16, halved at both overflows and not begun anew


def test_overflow_at_every_scale_is_said() -> None:
    with pytest.raises(FloatingPointError, match="overflow at every scale.*dtype: bfloat16"):
        fit(Overflow(tuple(range(100))), steps=100)


def test_tensorboard_has_every_step_once_after_an_interruption(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the paper extra"
    )
    options: dict[str, Any] = {"steps": 12, "save_every": 4, "folder": tmp_path, "tensorboard": True}

    class Stopped(Overflow):
        def loss(self, step: int, batch: Tensor) -> dict[str, Tensor]:
            if step == 7:  # three steps after the state that is kept
                raise KeyboardInterrupt
            return super().loss(step, batch)

    with pytest.raises(KeyboardInterrupt):
        fit(Stopped(), **options)
    log = fit(Overflow(), evaluate=lambda step: {"mIoU": 0.5}, evaluate_at=[12], **options)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("total")]
    assert points == [(record["step"], pytest.approx(record["total"])) for record in log if "total" in record]
    assert [event.step for event in events.Scalars("mIoU")] == [12]


def test_tensorboard_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="tensorboard=True without a folder"):
        train(load_finetuning("mini/plain", **SMALL), progress=False, tensorboard=True)
