"""Before a GPU day is spent: one of everything that a training does, how long it takes and how much
memory.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..core.processes import join_processes, world
from ..core.states import STATE, read_state, write_state
from ..core.timing import all_memory, kept_for_gradient, peak_memory, seconds_of
from ..datasets.base import Segmented
from ..datasets.points import PointData, build_clouds
from ..evaluation import evaluate
from .build import build_pretraining, build_task, held_out
from .finetuning import FineTuning
from .loop import Task, fit
from .points import build_points
from .recipe import FineTuneRecipe, PointsRecipe, PretrainRecipe, load_recipe
from .stand_in import point_stand_in, stand_in
from .supervision.captions import CaptionTuning

# The first is slower and not counted. On a CPU, where one of the papers' size takes minutes, one is left.
STEPS, CPU_STEPS = 4, 2
STARVED = 0.2  # of a step spent on waiting for pictures

# The card of a free notebook [N: NVIDIA's data sheet]: 10^12 operations a second by number format, and GB.
CARD, CARD_TFLOPS, CARD_HALF_TFLOPS, CARD_GB = "a 16 GB T4", 8.1, 65.0, 16
# What trainings of this kind reach of that [I]: nobody could measure it here.
REACHED = 0.25
# What helps if steps wait for pictures.
_OF_WORKERS, _OF_SCENES = "raise `machine.workers`", "fewer `frames`, or smaller files of them"


@dataclass(frozen=True)
class Estimate:
    """What one of everything took; times in seconds, sizes in bytes.

    Attributes:
        device: GPU or CPU by name.
        parameters, trained: numbers of weights, of all and of those that learn.
        reference: of the frozen CLIP that is kept beside them.
        step: one training step, waiting for its batch included.
        waiting: of that, for the batch.
        picture: evaluation of one held-out picture; None where the recipe evaluates nothing.
        state: size of a state on disk; two are kept while the training runs.
        saving: time to write one.
        memory: largest seen, of the GPU's or (CPU) of this process; with `passes` as `computed_memory`.
        steps, pictures, saves: how many there will be of each.
        room: memory of the GPU or of this machine; 0 is not known.
        free: on the disk where the run will be kept; None is not known.
        tflop: 10^12 operations of a step, as counted.
        kept: of a step, what is kept for the gradient; computed in this machine's number format.
        half: whether a card would multiply in 16 bits.
        remedy: what helps if steps wait for pictures.
        noise: measured on noise and random weights: waiting for pictures means nothing then.
        preparing: what happens before the first step: weights read, a head prepared, and so on.
        passes: no whole step was taken. With so many pictures each a pass went there and back, `tflop` and
            `kept` of a whole one continue from there, and a step's seconds grow as its operations do.
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
    room: int = 0
    free: int | None = None
    tflop: float = 0.0
    kept: int = 0
    half: bool = True
    noise: bool = False
    remedy: str = _OF_WORKERS
    preparing: float = 0.0
    passes: tuple[int, ...] = ()
    reference: int = 0

    @property
    def seconds(self) -> float:
        """The whole training, if all goes on like this."""
        evaluations = self.pictures * (self.picture or 0.0)
        return self.preparing + self.steps * self.step + evaluations + self.saves * self.saving

    @property
    def starved(self) -> bool:
        """Whether steps wait for pictures more than they should."""
        return not self.noise and self.waiting > STARVED * self.step

    @property
    def card_seconds(self) -> float:
        """The steps alone on `CARD`, at the fraction of its peak that is assumed."""
        peak = CARD_HALF_TFLOPS if self.half else CARD_TFLOPS
        return self.steps * self.tflop / (REACHED * peak)

    @property
    def card_memory(self) -> int:
        """There; as `computed_memory`."""
        return computed_memory(self.parameters + self.reference, self.trained, self.kept)

    def __str__(self) -> str:
        of_room = f" of {self.room / 2**30:.1f}" if self.room else ""
        free = "" if self.free is None else f", {self.free / 2**20:,.0f} MiB free"
        short = self.free is not None and self.free < 2 * self.state
        lines = {
            "device": self.device,
            "weights": f"{self.parameters / 1e6:.1f} M, {self.trained / 1e6:.1f} M of them learn",
            "memory": f"{self.memory / 2**30:.2f} GiB{of_room} {self._how()}",
            "beginning": f"{self.preparing:.1f} s before the first step",
            "step": f"{self.step:.3f} s{self._waiting()}",
            "starved": self._starvation(),
            "evaluation": "none"
            if self.picture is None
            else f"{self.picture:.3f} s a picture, {self.pictures} pictures",
            "disk": f"{2 * self.state / 2**20:.0f} MiB (two states){free}{': too little' if short else ''}",
            "in all": f"{_duration(self.seconds)} for {self.steps} steps",
        }
        if self.tflop:
            lines[f"on {CARD}"] = self._on_card()
        if self.noise:
            lines["measured on"] = "noise of the recipe's size, with random weights in place of its own"
        width = 2 + max(map(len, lines))
        return "\n".join(f"{topic:<{width}}{finding}" for topic, finding in lines.items())

    def _how(self) -> str:
        passes = " and ".join(map(str, self.passes))
        return f"at least, computed from passes of {passes} pictures" if passes else "at most"

    def _waiting(self) -> str:
        return "" if self.passes else f", {self.waiting:.3f} s of it waiting for pictures"

    def _starvation(self) -> str:
        if self.noise:
            return "not known: noise is drawn, not read"
        if not self.starved:
            return "no"
        return f"yes, {self.waiting / self.step:.0%} of a step: {self.remedy} ({os.cpu_count()} cores)"

    def _on_card(self) -> str:
        fits = "" if self.card_memory < 0.9 * CARD_GB * 1e9 else ": too much, raise `machine.accumulate`"
        return (
            f"about {_duration(self.card_seconds)} of steps, {self.card_memory / 1e9:.1f} GB{fits} (an "
            f"estimate: {self.tflop:.2f} TFLOP a step at {REACHED:.0%} of the peak; nobody measured it)"
        )


def dry_run(
    recipe: str | Path | dict[str, Any],
    *,
    save_every: int = 200,
    folder: Path | None = None,
    noise: bool = False,
    **changes: Any,
) -> Estimate:
    """Take a few steps, write and read a state, segment a picture; none of it stays.

    Args:
        recipe: name, file or content; see `load_recipe`. A `start` is not trained: its weights would take as
            long and as much. Of a pretraining the first stage is measured; later ones may keep more patches.
        save_every: steps between states, as `train` has it.
        folder: where the run will be kept; the free space of its disk is said.
        noise: noise and random weights of the recipe's size in place of its data and weights, which need not
            be here; see `stand_in`. It shows what a step costs, not what is learnt. Without a GPU, where a
            fine-tuning of the papers' size takes minutes and more memory than a laptop has, no step of it is
            taken: few pictures go there and back, and say what a whole step takes; see `Estimate`.
        changes: keys of the recipe to replace.

    Returns:
        An Estimate; print it.

    Raises:
        ValueError: what `load_recipe` and `train` say, several processes, or noise where none is needed.
        FileNotFoundError: the data are not here.
        torch.OutOfMemoryError: it does not fit; with what to change.
    """
    loaded = load_recipe(recipe, **changes)
    if noise and isinstance(loaded, PretrainRecipe):
        raise ValueError(f"got noise for {loaded.name!r}, a pretraining; expected none: it needs no download")
    join_processes()
    if world() > 1:
        raise ValueError(
            f"got {world()} processes; "
            "expected one: each of them does what one does, with a share of the batch"
        )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    watched: Segmented | None = None
    begun = time.perf_counter()
    if isinstance(loaded, FineTuneRecipe):
        drawn: Segmented | None = None
        meant = _keeping_nothing(loaded)
        if noise:
            meant, drawn, watched = stand_in(meant)
        task: Any
        task, clip = build_task(meant, data=drawn)
        reference = sum(p.numel() for p in clip.parameters())
        steps, pictures = meant.steps, meant.evaluation.scenes * len(meant.evaluation.at)
    elif isinstance(loaded, PointsRecipe):
        clouds: PointData
        of_points, clouds = point_stand_in(loaded) if noise else (loaded, build_clouds(loaded.data, "train"))
        task, teacher = build_points(of_points, clouds)
        reference = sum(p.numel() for p in teacher.parameters())
        steps, pictures = loaded.steps, 0
    else:
        # A pool of one batch: rendering all of it takes its time once, and no step after that.
        with tempfile.TemporaryDirectory() as pool:
            task = build_pretraining(replace(loaded, pool=loaded.batch), Path(pool))
        steps, pictures, reference = task.steps, 0, 0
    preparing = time.perf_counter() - begun
    weights = sum(p.numel() for p in task.module.parameters())
    trained = sum(p.numel() for group in task.groups() for p in group["params"])
    by_few = noise and not torch.cuda.is_available() and isinstance(loaded, FineTuneRecipe)
    step = _told_by_few(task) if by_few else _taken(task, steps)
    if isinstance(loaded, PointsRecipe) and not clouds.in_memory:
        # Scenes are read within a step: those of the step that would come next are read apart. No step has
        # read them, unless all are read by then: a disk takes longer the first time, and so did the steps.
        taken = _steps_taken(steps)
        coming = next(iter(task.batches(taken, taken + 1)))
        step = replace(step, waiting=seconds_of(lambda: [clouds[index] for index in coming]))
    picture = None
    if isinstance(loaded, FineTuneRecipe) and pictures:
        scenes = held_out(loaded) if watched is None else watched
        started = time.perf_counter()
        evaluate(task.segmentor.eval(), scenes, limit=1, protocol=loaded.evaluation.protocol)
        picture = time.perf_counter() - started
    # Before a step is counted, which takes memory of its own.
    memory = computed_memory(weights + reference, trained, step.kept) if by_few else peak_memory()
    tflop, kept = step.tflop, step.kept
    if isinstance(loaded, FineTuneRecipe) and not by_few:
        tflop, kept = counted(task)
    return Estimate(
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        parameters=weights,
        trained=trained,
        reference=reference,
        step=step.seconds,
        waiting=step.waiting,
        picture=picture,
        state=step.state,
        saving=step.saving,
        memory=memory,
        steps=steps,
        pictures=pictures,
        saves=steps // save_every + 1,
        room=all_memory(),
        free=None if folder is None else _free(folder),
        tflop=tflop,
        kept=kept,
        half=not isinstance(loaded, FineTuneRecipe) or loaded.machine.dtype != "float32",
        noise=noise,
        remedy=_OF_SCENES if isinstance(loaded, PointsRecipe) else _OF_WORKERS,
        preparing=preparing,
        passes=step.passes,
    )


@dataclass(frozen=True)
class _Measured:
    """What is known of a step and a state; as in `Estimate`."""

    seconds: float
    waiting: float
    state: int
    saving: float
    tflop: float = 0.0
    kept: int = 0
    passes: tuple[int, ...] = ()


def _taken(task: Task, steps: int) -> _Measured:
    """Some steps are taken."""
    timed = Timed(task)
    state, saving = _saved(timed, _steps_taken(steps))
    steps_taken, waits = timed.steps[1:] or timed.steps, timed.waits[1:] or timed.waits
    return _Measured(median(steps_taken), median(waits), state, saving)


def _steps_taken(steps: int) -> int:
    """How many of a training's steps are taken."""
    return min(STEPS if torch.cuda.is_available() else CPU_STEPS, steps)


def _told_by_few(whole: FineTuning) -> _Measured:
    """Passes of few pictures say what one of all takes; the optimizer steps without any.

    What grows with the pictures is a line, and what compares each picture with each sentence a parabola;
    neither is a multiple, since some of it is of a step and not of a picture.
    """
    task = copy.copy(whole)
    task.machine = replace(whole.machine, accumulate=1)
    a_pass = whole.batch // whole.machine.accumulate
    part = _fewest(task, a_pass)
    few = task.batch
    seconds = seconds_of(lambda: _there_and_back(task, part))
    degree = 2 if isinstance(task, CaptionTuning) else 1
    passes = tuple(range(few, min(few + degree, a_pass) + 1))
    counts: list[tuple[float, int]] = []
    for pictures in passes:
        task.batch = pictures
        counts.append(counted(task))
    tflop, kept = (_continued(values, a_pass - few) for values in zip(*counts, strict=True))
    still = Timed(_Still(whole))
    state, saving = _saved(still, 2)
    return _Measured(
        seconds=still.steps[-1] + whole.machine.accumulate * seconds * tflop / counts[0][0],
        waiting=0.0,
        state=state,
        saving=saving,
        tflop=whole.machine.accumulate * tflop,
        kept=round(kept),
        passes=passes,
    )


def _fewest(task: FineTuning, a_pass: int) -> Any:
    """As few pictures as a pass can have, with the batch of the task set to them and its caches warm."""
    # Of one sentence alone there is nothing to contrast, and tensors that all pictures share have no copies.
    task.batch = min(2, a_pass) if isinstance(task, CaptionTuning) else 1
    part = _first(task)[0]
    try:
        _there_and_back(task, part)
        return part
    except ValueError:  # what compares pictures, and a norm over a batch, refuse one alone
        if task.batch == a_pass:
            raise
    task.batch = 2
    part = _first(task)[0]
    _there_and_back(task, part)
    return part


def _continued(values: Sequence[float], beyond: int) -> float:
    """The polynomial through values at 0, 1, 2 and so on, so far beyond the first.

    >>> _continued([1.0, 3.0], 3), _continued([0.0, 1.0, 4.0], 5), _continued([7.0], 0)
    (7.0, 25.0, 7.0)
    """
    total, differences = 0.0, list(values)
    for order in range(len(values)):
        total += math.comb(beyond, order) * differences[0]
        differences = [after - before for before, after in pairwise(differences)]
    return total


class _Still:
    """A task that sees no picture: what its optimizer takes, and at most what its state does.

    Every weight has a gradient of zero, also those that a loss would pass over.
    """

    def __init__(self, task: Task) -> None:
        self.module, self.dtype, self.groups = task.module, task.dtype, task.groups
        self.learning: list[Any] = [p for group in task.groups() for p in cast(list[Any], group["params"])]

    def batches(self, first: int, last: int) -> Iterator[None]:
        """Nothing, once a step."""
        yield from [None] * (last - first)

    def loss(self, step: int, batch: None) -> dict[str, Tensor]:
        """Zero, which depends on every weight."""
        return {"total": torch.stack([0 * weight.sum() for weight in self.learning]).sum()}


def computed_memory(weights: int, trained: int, kept: int) -> int:
    """Bytes of weights in float32, a gradient and two moments of those that learn, and what a pass keeps.

    A training takes more than that: what a pass needs for a moment, and the programs themselves.

    Args:
        weights: how many, frozen ones included.
        trained: how many of them learn.
        kept: bytes.
    """
    return 4 * weights + 12 * trained + kept


def _keeping_nothing(recipe: FineTuneRecipe) -> FineTuneRecipe:
    """The recipe, whose pseudo masks are made and not kept."""
    section = recipe.supervision
    if section is None or "folder" not in section:
        return recipe
    return replace(recipe, supervision={**section, "folder": None})


def _saved(task: Timed, steps: int) -> tuple[int, float]:
    """Take some steps; bytes of a state on disk, and seconds to write it."""
    with tempfile.TemporaryDirectory() as folder:
        fit(task, steps=steps, folder=Path(folder))
        size = (Path(folder) / STATE).stat().st_size
        kept = read_state(Path(folder)) or {}
        started = time.perf_counter()
        write_state(Path(folder), kept)
        return size, time.perf_counter() - started


def counted(task: FineTuning) -> tuple[float, int]:
    """What a step of a fine-tuning takes; its weights stay as they are.

    Args:
        task: the fine-tuning.

    Returns:
        10^12 operations, and the bytes that are kept for the gradient.
    """
    parts = _first(task)
    with FlopCounterMode(display=False) as counter:
        kept = _there_and_back(task, parts[0])
    # Parts of a batch come one after the other: each costs as much, and only one is kept at a time.
    return len(parts) * counter.get_total_flops() / 1e12, kept


def _first(task: FineTuning) -> list[Any]:
    """The parts of the first step's batch."""
    batch = next(iter(task.batches(0, 1)))
    return batch if isinstance(batch, list) else [batch]


def _there_and_back(task: FineTuning, part: Any) -> int:
    """Forward and backward, and no gradient stays; bytes that would be kept between the two."""
    kept = kept_for_gradient(lambda: task.loss(0, part)["total"], task.module, forget=True)
    task.module.zero_grad()
    return kept


def _free(folder: Path) -> int:
    """Bytes on the disk of a folder that need not be there yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


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
