"""One loop for every task: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..core.files import whole_file
from ..core.processes import any_process, mean_over_processes, world
from ..core.states import read_state, write_state

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.utils.tensorboard import SummaryWriter

Record = dict[str, float]
# Of a loss in float16: the scale begins at 65536 and is halved at every overflow.
_SMALLEST_SCALE = 1e-3


class Task(Protocol):
    """What a recipe trains. `loss` must depend on nothing but the step, the batch and the weights."""

    module: nn.Module
    dtype: torch.dtype

    def groups(self) -> list[dict[str, object]]:
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
    cooldown: int | None = None,
    clip_norm: float = 1.0,
    folder: Path | None = None,
    save_every: int = 200,
    evaluate: Callable[[int], Record] | None = None,
    evaluate_at: Iterable[int] = (),
    progress: str | None = None,
    tensorboard: bool = False,
) -> list[Record]:
    """Run AdamW with linear warm-up and a cosine to zero, or a cooldown, and return the log.

    Args:
        task: model, batches and loss.
        steps: number of optimizer steps.
        warmup: steps of linear warm-up.
        schedule: length of the cosine in steps; longer than `steps` ends above zero. None: `steps`.
        cooldown: the last of all steps, over which the rate falls to zero on a straight line; until then it
            stays at its peak, and there is no cosine.
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
        ValueError: `tensorboard` without a folder, or a folder with an unfinished run of another number of
            processes.
        ImportError: `tensorboard` without its package.
        torch.OutOfMemoryError: with what to change.
        SystemExit: SIGTERM came, and the state is kept.
    """
    engine = _Engine(task, clip_norm, lambda step: _schedule(step, schedule or steps, warmup, cooldown))
    start, log = engine.resume(folder, steps)
    wanted = set(evaluate_at) if evaluate else set()
    main = engine.accelerator.is_main_process
    writer = _tensorboard(folder, start) if tensorboard and main else None

    def note(record: Record) -> None:
        log.append(record)
        if writer:
            for name, value in record.items():
                writer.add_scalar(name, value, int(record["step"]))

    hidden = progress is None or not main
    bar = tqdm(total=steps, initial=start, desc=progress, disable=hidden, mininterval=1.0)
    with _terminated(folder is not None) as stop:
        for step, batch in zip(range(start, steps), task.batches(start, steps), strict=True):
            if step in wanted and evaluate:
                note({"step": step, **evaluate(step)})
            terms = engine.step(step, batch if isinstance(batch, list) else [batch])
            note({"step": step, **terms})
            bar.set_postfix(loss=f"{terms['total']:.3f}")
            bar.update()
            if folder and step + 1 < steps:
                stopped = any_process(stop.is_set(), engine.device)
                if main and (stopped or (step + 1) % save_every == 0):
                    engine.save(folder, step + 1, log)
                if stopped:
                    bar.close()
                    raise SystemExit(128 + signal.SIGTERM)
    if steps in wanted and evaluate and start < steps:
        note({"step": steps, **evaluate(steps)})
    bar.close()
    if writer:
        writer.close()
    if folder and start < steps and main:
        engine.save(folder, steps, log, last=True)
    engine.accelerator.wait_for_everyone()
    return log


class _Stateful(Protocol):
    """What a state on disk is made of."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


class _Engine:
    """AdamW on one task: takes steps, and holds what a state must keep.

    Args:
        task: model, batches and loss.
        clip_norm: largest norm of the gradient.
        rate: of a step, the fraction of each group's peak rate.
    """

    def __init__(self, task: Task, clip_norm: float, rate: Callable[[int], float]) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs  # here: it takes seconds to load

        # What a read-out of the last block leaves out has no gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        on_cpu = not torch.cuda.is_available()
        self.accelerator = Accelerator(cpu=on_cpu, device_placement=False, kwargs_handlers=[unused])
        self.clip_norm, self.rate = clip_norm, rate
        groups: list[dict[str, Any]] = [{**group, "peak": group["lr"]} for group in task.groups()]
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=task.dtype == torch.float16)
        # What is saved is what is read back, by these names.
        self.kept: dict[str, _Stateful] = {
            "module": task.module,
            "optimizer": self.optimizer,
            "scaler": self.scaler,
        }
        self.loss: Callable[[int, Any], dict[str, Tensor]] = task.loss
        if world() > 1:
            self.loss = self.accelerator.prepare_model(_Step(task), device_placement=False)

    def step(self, step: int, parts: list[Any]) -> Record:
        """Take one step; the terms of the loss.

        Raises:
            FloatingPointError: a term that is not finite, or float16 gradients that overflow at every scale.
        """
        self.optimizer.zero_grad()
        terms = _gradients(self.accelerator, self.loss, self.scaler, step, parts)
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.rate(step)
        self.scaler.step(self.optimizer)  # leaves the step out if float16 gradients overflowed
        self.scaler.update()
        if self.scaler.get_scale() < _SMALLEST_SCALE:
            raise FloatingPointError(
                f"float16 gradients overflow at every scale, at step {step}; "
                "expected some: set dtype: bfloat16"
            )
        return terms

    def save(self, folder: Path, step: int, log: list[Record], *, last: bool = False) -> None:
        """Write state and log, whole."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        parts = {name: part.state_dict() for name, part in self.kept.items()}
        state = {"step": step, "processes": world(), **parts, "log": log}
        write_state(folder, {**state, "random": {"cpu": torch.get_rng_state(), "cuda": cuda}}, last=last)
        with whole_file(folder / "log.jsonl") as scratch:
            scratch.write_text("".join(f"{json.dumps(record)}\n" for record in log))

    def resume(self, folder: Path | None, steps: int) -> tuple[int, list[Record]]:
        """Go on from the newest good state of a folder: the next step, and the log so far.

        Raises:
            ValueError: a state that is not the last of `steps`, of another number of processes.
        """
        state = None if folder is None else read_state(folder)
        if state is None:
            return 0, []
        together = state.get("processes", world())
        # A finished run is only read, by however many.
        if state["step"] < steps and together != world():
            raise ValueError(
                f"{folder} holds a run of {together} processes, stopped at step {state['step']}; got "
                f"{world()}, expected {together} again (`torchrun --nproc-per-node {together}`): a batch "
                "that is divided otherwise gives other numbers, and objectives see other pictures together"
            )
        for name, part in self.kept.items():
            part.load_state_dict(state[name])
        random: Mapping[str, Any] = state["random"]
        torch.set_rng_state(random["cpu"])
        if random["cuda"] and len(random["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(random["cuda"])
        return state["step"], state["log"]


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
) -> Record:
    """Add up the gradients of the mean loss over the parts of a batch; its terms, averaged over all.

    Raises:
        FloatingPointError: a term is not finite, in any part or process.
        torch.OutOfMemoryError: with what to change.
    """
    mean: Record = {}
    for i, part in enumerate(parts):
        with ExitStack() as stack:
            if i + 1 < len(parts) and isinstance(step_of, nn.Module):
                stack.enter_context(accelerator.no_sync(step_of))
            try:
                terms = step_of(step, part)
                for name, value in _numbers(terms).items():
                    if not math.isfinite(value):
                        raise FloatingPointError(
                            f"loss term {name!r} is {value} at step {step}; "
                            "expected a finite number: lower the learning rate"
                        )
                    mean[name] = mean.get(name, 0.0) + value / len(parts)
                accelerator.backward(scaler.scale(terms["total"] / len(parts)))
            except torch.OutOfMemoryError as error:
                raise torch.OutOfMemoryError(
                    f"out of memory at step {step}: {error}; "
                    "raise `accumulate` (activations shrink in proportion, results stay the same), "
                    "set checkpointing: true (a forward pass more, several times less memory), "
                    "lower `size` (they shrink with its square), or set dtype: bfloat16 (about half)"
                ) from error
    return mean


def _numbers(terms: Mapping[str, Tensor]) -> Record:
    """Terms of a loss as numbers, means over processes: the one time in a step that the device is waited
    for.
    """
    together = torch.stack([value.detach().double() for value in terms.values()])
    return dict(zip(terms, mean_over_processes(together).tolist(), strict=True))


@contextmanager
def _terminated(wanted: bool) -> Iterator[threading.Event]:
    """An event that SIGTERM sets in place of ending the process, so that the step can be kept."""
    event = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _schedule(step: int, steps: int, warmup: int, cooldown: int | None = None) -> float:
    """What fraction of its peak the rate of a step is."""
    if step < warmup:
        return (step + 1) / warmup
    if cooldown is not None:
        return min(1.0, (steps - step) / max(1, cooldown))
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _tensorboard(folder: Path | None, start: int) -> SummaryWriter:
    if folder is None:
        raise ValueError("got tensorboard=True without a folder; expected one to write to")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("tensorboard is not installed; install with `pip install -e .[paper]`") from error
    # What a killed run wrote beyond its last state is not shown.
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start)
