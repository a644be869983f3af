"""Before a GPU day is spent: one of everything that a training does, how long it takes and how much
memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..core.processes import world
from ..core.states import STATE, read_state, write_state
from ..core.timing import peak_memory
from ..evaluation import evaluate
from .build import build_pretraining, build_task, held_out
from .loop import Task, fit
from .recipe import FineTuneRecipe, load_recipe

STEPS = 4  # the first is slower and not counted


@dataclass(frozen=True)
class Estimate:
    """What one of everything took; times in seconds, sizes in bytes.

    Attributes:
        device: GPU or CPU by name.
        parameters, trained: numbers of weights, of all and of those that learn.
        step: one training step, waiting for its batch included.
        waiting: of that, for the batch.
        picture: evaluation of one held-out picture; None where the recipe evaluates nothing.
        state: size of a state on disk; two are kept while the training runs.
        saving: time to write one.
        memory: largest seen, of the GPU's or (CPU) of this process.
        steps, pictures, saves: how many there will be of each.
    """

    device: str
    parameters: int
    trained: int
    step: float
    waiting: float
    picture: float | None
    state: int
    saving: float
    memory: int
    steps: int
    pictures: int
    saves: int

    @property
    def seconds(self) -> float:
        """The whole training, if all goes on like this."""
        return self.steps * self.step + self.pictures * (self.picture or 0.0) + self.saves * self.saving

    def __str__(self) -> str:
        lines = {
            "device": self.device,
            "weights": f"{self.parameters / 1e6:.1f} M, {self.trained / 1e6:.1f} M of them learn",
            "memory": f"{self.memory / 2**30:.2f} GiB at most",
            "step": f"{self.step:.3f} s, {self.waiting:.3f} s of it waiting for pictures{self._advice()}",
            "evaluation": "none"
            if self.picture is None
            else f"{self.picture:.3f} s a picture, {self.pictures} pictures",
            "disk": f"{2 * self.state / 2**20:.0f} MiB (two states)",
            "in all": f"{_duration(self.seconds)} for {self.steps} steps",
        }
        return "\n".join(f"{topic:<12}{finding}" for topic, finding in lines.items())

    def _advice(self) -> str:
        return ": raise `machine.workers`" if self.waiting > 0.2 * self.step else ""


def dry_run(recipe: str | Path | dict[str, Any], *, save_every: int = 200, **changes: Any) -> Estimate:
    """Take a few steps, write and read a state, segment a picture; nothing is kept.

    Args:
        recipe: name, file or content; see `load_recipe`. A `start` is not trained: its weights would take as
            long and as much. Of a pretraining the first stage is measured; later ones may keep more patches.
        save_every: steps between states, as `train` has it.
        changes: keys of the recipe to replace.

    Returns:
        An Estimate; print it.

    Raises:
        ValueError: what `load_recipe` and `train` say, or several processes.
        torch.OutOfMemoryError: it does not fit; with what to change.
    """
    loaded = load_recipe(recipe, **changes)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if isinstance(loaded, FineTuneRecipe):
        task: Any = build_task(loaded)[0]
        steps, pictures = loaded.steps, loaded.evaluation.scenes * len(loaded.evaluation.at)
    else:
        # A pool of one batch: rendering all of it takes its time once, and no step after that.
        with tempfile.TemporaryDirectory() as folder:
            task = build_pretraining(replace(loaded, pool=loaded.batch), Path(folder))
        steps, pictures = task.steps, 0
    if world() > 1:
        raise ValueError(
            f"got {world()} processes; "
            "expected one: each of them does what one does, with a share of the batch"
        )
    timed = Timed(task)
    with tempfile.TemporaryDirectory() as folder:
        fit(timed, steps=min(STEPS, steps), folder=Path(folder))
        state = (Path(folder) / STATE).stat().st_size
        kept = read_state(Path(folder)) or {}
        started = time.perf_counter()
        write_state(Path(folder), kept)
        saving = time.perf_counter() - started
    picture = None
    if isinstance(loaded, FineTuneRecipe) and pictures:
        started = time.perf_counter()
        evaluate(task.segmentor.eval(), held_out(loaded), limit=1, protocol=loaded.evaluation.protocol)
        picture = time.perf_counter() - started
    weights = list(task.module.parameters())
    return Estimate(
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        parameters=sum(p.numel() for p in weights),
        trained=sum(p.numel() for group in task.groups() for p in group["params"]),
        step=median(timed.steps[1:] or timed.steps),
        waiting=median(timed.waits[1:] or timed.waits),
        picture=picture,
        state=state,
        saving=saving,
        memory=peak_memory(),
        steps=steps,
        pictures=pictures,
        saves=steps // save_every + 1,
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} minutes"


class Timed:
    """A task whose steps, and the waits for their batches, are timed; seconds in `steps` and `waits`."""

    def __init__(self, task: Task) -> None:
        self.task, self.module, self.dtype, self.groups, self.loss = (
            task,
            task.module,
            task.dtype,
            task.groups,
            task.loss,
        )
        self.steps: list[float] = []
        self.waits: list[float] = []

    def batches(self, first: int, last: int) -> Iterator[Any]:
        """The task's batches; the time until the next is asked for is that of the step."""
        batches: Iterable[Any] = self.task.batches(first, last)
        begun = time.perf_counter()
        for batch in batches:
            self.waits.append(time.perf_counter() - begun)
            yield batch
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.steps.append(time.perf_counter() - begun)
            begun = time.perf_counter()
