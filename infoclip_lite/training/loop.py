"""One loop for every task: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..core.files import whole_file
from ..core.processes import any_process, mean_over_processes, world
from ..core.states import read_state, write_state


class Task(Protocol):
    """What a recipe trains. `loss` must depend on nothing but the step, the batch and the weights."""

    module: nn.Module
    dtype: torch.dtype

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
    schedule: int | None = None,
    clip_norm: float = 1.0,
    folder: Path | None = None,
    save_every: int = 200,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    evaluate_at: Iterable[int] = (),
    progress: str | None = None,
    tensorboard: bool = False,
) -> list[dict[str, float]]:
    """Run AdamW with linear warm-up and a cosine to zero, and return the log.

    Args:
        task: model, batches and loss.
        steps: number of optimizer steps.
        warmup: steps of linear warm-up.
        schedule: length of the cosine in steps; longer than `steps` ends above zero. None: `steps`.
        clip_norm: largest gradient norm.
        folder: where the state and log.jsonl are kept; a run that finds a state there goes on from the newest
            good one. None: nothing kept.
        save_every: steps between states.
        evaluate: called with the step before that step is taken; its numbers are logged.
        evaluate_at: the steps to call it at; `steps` itself means after the last.
        progress: label of the progress bar; None shows none.
        tensorboard: write every record into folder/tensorboard too, as it comes.

    Returns:
        One record a step with "step" and the loss terms, and one an evaluation, in order.

    Raises:
        FloatingPointError: a loss is not finite, or float16 gradients at no scale; the last state on disk is
            from before it.
        ValueError: `tensorboard` without a folder.
        ImportError: `tensorboard` without its package.
        torch.OutOfMemoryError: with what to change.
        SystemExit: SIGTERM came, and the state is kept.
    """
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), device_placement=False, kwargs_handlers=[_UNUSED]
    )
    groups = task.groups()
    for group in groups:
        group["peak"] = group["lr"]
    parameters = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=True)
    scaler = torch.amp.GradScaler(parameters[0].device.type, enabled=task.dtype == torch.float16)
    kept: dict[str, Any] = {"module": task.module, "optimizer": optimizer, "scaler": scaler}
    start, log = _resume(folder, kept)
    step_of = accelerator.prepare_model(_Step(task), device_placement=False) if world() > 1 else task.loss
    wanted = set(evaluate_at) if evaluate else set()
    main = accelerator.is_main_process
    writer = _tensorboard(folder, start) if tensorboard and main else None

    def note(record: dict[str, float]) -> None:
        log.append(record)
        if writer:
            for name, value in record.items():
                writer.add_scalar(name, value, record["step"])

    bar = tqdm(
        total=steps, initial=start, desc=progress, disable=progress is None or not main, mininterval=1.0
    )
    with _terminated(folder is not None) as stop:
        for step, batch in zip(range(start, steps), task.batches(start, steps), strict=True):
            if step in wanted and evaluate:
                note({"step": step, **evaluate(step)})
            optimizer.zero_grad()
            terms = _gradients(
                accelerator, step_of, scaler, step, batch if isinstance(batch, list) else [batch]
            )
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, schedule or steps, warmup)
            scaler.step(optimizer)  # leaves the step out if float16 gradients overflowed
            scaler.update()
            if scaler.get_scale() < _SMALLEST_SCALE:
                raise FloatingPointError(
                    f"float16 gradients overflow at every scale, at step {step}; expected some: set dtype: "
                    f"bfloat16"
                )
            note({"step": step, **terms})
            bar.set_postfix(loss=f"{terms['total']:.3f}")
            bar.update()
            if folder and step + 1 < steps:
                stopped = any_process(stop.is_set(), parameters[0].device)
                if main and (stopped or (step + 1) % save_every == 0):
                    _save(folder, step + 1, kept, log)
                if stopped:
                    bar.close()
                    raise SystemExit(128 + signal.SIGTERM)
    if steps in wanted and evaluate and start < steps:
        note({"step": steps, **evaluate(steps)})
    bar.close()
    if writer:
        writer.close()
    if folder and start < steps and main:
        _save(folder, steps, kept, log, last=True)
    accelerator.wait_for_everyone()
    return log


_SMALLEST_SCALE = 1e-3  # of a loss in float16; the scale begins at 65536 and is halved at every overflow
_UNUSED = DistributedDataParallelKwargs(
    find_unused_parameters=True
)  # what a read-out of the last block leaves out has no gradient


class _Step(nn.Module):
    """A task's loss as a module: what several processes share their gradients through."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module, self.loss = task.module, task.loss

    def forward(self, step: int, batch: Any) -> dict[str, Tensor]:
        return self.loss(step, batch)


def _gradients(
    accelerator: Accelerator,
    step_of: Callable[[int, Any], dict[str, Tensor]],
    scaler: torch.amp.GradScaler,
    step: int,
    parts: list[Any],
) -> dict[str, float]:
    """Add up the gradients of the mean loss over the parts of a batch; its terms, averaged over parts and
    processes.

    Raises:
        FloatingPointError: a term is not finite, in any part or process.
        torch.OutOfMemoryError: with what to change.
    """
    mean: dict[str, float] = {}
    for i, part in enumerate(parts):
        with ExitStack() as stack:
            if i + 1 < len(parts) and isinstance(step_of, nn.Module):
                stack.enter_context(accelerator.no_sync(step_of))
            try:
                terms = step_of(step, part)
                shared = {name: mean_over_processes(value).item() for name, value in terms.items()}
                for name, value in shared.items():
                    if not math.isfinite(value):
                        raise FloatingPointError(
                            f"loss term {name!r} is {value} at step {step}; expected a finite number: lower "
                            f"the learning rate"
                        )
                    mean[name] = mean.get(name, 0.0) + value / len(parts)
                accelerator.backward(scaler.scale(terms["total"] / len(parts)))
            except torch.OutOfMemoryError as error:
                raise torch.OutOfMemoryError(
                    f"out of memory at step {step}: {error}; raise `accumulate` (activations shrink in "
                    f"proportion, results stay the same), "
                    "set checkpointing: true (a forward pass more, several times less memory), lower `size` "
                    "(they shrink with its "
                    "square), or set dtype: bfloat16 (about half)"
                ) from error
    return mean


@contextmanager
def _terminated(wanted: bool) -> Iterator[threading.Event]:
    """An event that SIGTERM sets in place of ending the process, so that the step can be finished and
    kept.
    """
    event = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _schedule(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _tensorboard(folder: Path | None, start: int) -> Any:
    if folder is None:
        raise ValueError("got tensorboard=True without a folder; expected one to write to")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("tensorboard is not installed; install with `pip install -e .[paper]`") from error
    return SummaryWriter(
        folder / "tensorboard", purge_step=start
    )  # what a killed run wrote beyond its last state is not shown


def _save(folder: Path, step: int, kept: dict[str, Any], log: list, *, last: bool = False) -> None:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    state = {"step": step, **{name: part.state_dict() for name, part in kept.items()}, "log": log}
    write_state(folder, {**state, "random": {"cpu": torch.get_rng_state(), "cuda": cuda}}, last=last)
    with whole_file(folder / "log.jsonl") as scratch:
        scratch.write_text("".join(f"{json.dumps(record)}\n" for record in log))


def _resume(folder: Path | None, kept: dict[str, Any]) -> tuple[int, list[dict[str, float]]]:
    state = None if folder is None else read_state(folder)
    if state is None:
        return 0, []
    for name, part in kept.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"]["cpu"])
    if state["random"]["cuda"] and len(state["random"]["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    return state["step"], state["log"]
