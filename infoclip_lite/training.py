"""One loop for every recipe: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .paths import whole_file


class Task(Protocol):
    """What a recipe trains. `loss` must depend on nothing but the step, the batch and the weights."""

    module: nn.Module

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW, each with its `lr`."""

    def batches(self, first: int, last: int) -> Iterable[Any]:
        """Batches of steps first .. last - 1: step 7 gives the same batch in every run."""

    def loss(self, step: int, batch: Any) -> dict[str, Tensor]:
        """Named scalars, "total" among them."""


def fit(
    task: Task,
    *,
    steps: int,
    warmup: int = 0,
    clip_norm: float = 1.0,
    folder: Path | None = None,
    save_every: int = 200,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    evaluate_at: Iterable[int] = (),
    progress: str | None = None,
) -> list[dict[str, float]]:
    """Run AdamW with linear warm-up and a cosine to zero, and return the log.

    Args:
        task: model, batches and loss.
        steps: number of optimizer steps.
        warmup: steps of linear warm-up.
        clip_norm: largest gradient norm.
        folder: where the state and log.json are kept; a run that finds a state there goes on from it. None: nothing kept.
        save_every: steps between states.
        evaluate: called with the step before that step is taken; its numbers are logged.
        evaluate_at: the steps to call it at; `steps` itself means after the last.
        progress: label of the progress bar; None shows none.

    Returns:
        One record a step with "step" and the loss terms, and one an evaluation, in order.

    Raises:
        FloatingPointError: a loss is not finite; the last state on disk is from before it.
    """
    groups = task.groups()
    for group in groups:
        group["peak"] = group["lr"]
    parameters = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=True)
    start, log = _resume(folder, task.module, optimizer)
    wanted = set(evaluate_at) if evaluate else set()
    bar = tqdm(total=steps, initial=start, desc=progress, disable=progress is None, mininterval=1.0)
    for step, batch in zip(range(start, steps), task.batches(start, steps), strict=True):
        if step in wanted and evaluate:
            log.append({"step": step, **evaluate(step)})
        terms = task.loss(step, batch)
        for name, value in terms.items():
            if not torch.isfinite(value):
                raise FloatingPointError(f"loss term {name!r} is {value.item()} at step {step}; expected a finite number: lower the learning rate")
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _schedule(step, steps, warmup)
        optimizer.step()
        log.append({"step": step, **{name: value.item() for name, value in terms.items()}})
        bar.set_postfix(loss=f"{log[-1]['total']:.3f}")
        bar.update()
        if folder and (step + 1) % save_every == 0:
            _save(folder, step + 1, task.module, optimizer, log)
    if steps in wanted and evaluate and start < steps:
        log.append({"step": steps, **evaluate(steps)})
    bar.close()
    if folder and start < steps:
        _save(folder, steps, task.module, optimizer, log)
    return log


def _schedule(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _save(folder: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, log: list) -> None:
    state = {"step": step, "module": module.state_dict(), "optimizer": optimizer.state_dict(), "log": log}
    with whole_file(folder / "state.pt") as scratch:
        torch.save(state, scratch)
    with whole_file(folder / "log.json") as scratch:
        scratch.write_text(json.dumps(log))


def _resume(folder: Path | None, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[dict[str, float]]]:
    if folder is None or not (folder / "state.pt").exists():
        return 0, []
    state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["log"]
