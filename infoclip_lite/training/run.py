"""Train what a recipe says: the run folder, what is watched on the way, and the finished run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from torch import nn

from ..clip import DenseCLIP
from ..core.files import whole_file
from ..core.locks import held
from ..core.processes import join_processes, rank, world
from ..core.states import PREVIOUS, STATE
from ..datasets.base import Segmented, captioned_items
from ..evaluation import evaluate
from ..evaluation.probes import Probes
from ..objectives import interpolate
from ..segmentors import Segmentor, ZeroShotSegmentor
from .acceleration import autocast
from .build import build_pretraining, build_task, held_out
from .finetuning import FineTuning, release
from .loop import fit
from .pretraining import known_tokens
from .recipe import RECIPES, FineTuneRecipe, PointsRecipe, PretrainRecipe, Recipe, load_recipe, merged


class Described(Protocol):
    """A data set that says what tells it from another."""

    def describe(self) -> dict[str, object]:
        """What JSON can hold."""


Record = dict[str, float]
Watch = Callable[[int, Segmentor], Mapping[str, float]]


@dataclass
class Run:
    """A finished training.

    Attributes:
        recipe: what was run.
        model: the trained segmentor (of a pretraining: the zero-shot segmentor of the new CLIP).
        log: one record a step and one an evaluation, in order.
        folder: where the state is kept, if anywhere.
        objective: the trained objective (LPAM is in it), if the recipe has one; inference does not need it.
        reference: the pretrained CLIP that fine-tuning began with, untouched.
        skipped: how often each damaged file was passed over, since the run was last begun or gone on with, in
            this process.
    """

    recipe: Recipe
    model: Segmentor
    log: list[Record]
    folder: Path | None = None
    objective: nn.Module | None = None
    reference: DenseCLIP | None = None
    skipped: dict[str, int] = field(default_factory=dict)

    def evaluations(self) -> list[Record]:
        """The records of the log that hold metrics and probes."""
        return [record for record in self.log if "mIoU" in record]


@dataclass(frozen=True)
class _Options:
    """How a training is run, whatever it trains."""

    folder: Path | None
    progress: bool
    tensorboard: bool
    save_every: int


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    data: Segmented | Mapping[str, Any] | None = None,
    held_out: Segmented | None = None,
    folder: str | Path | None = None,
    start: Run | None = None,
    watch: Watch | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    save_every: int = 200,
    **changes: Any,
) -> Run:
    """Train what a recipe says.

    Args:
        recipe: name, file or content; see `load_recipe`.
        data: a data set of your own to learn from, in place of the recipe's (see `datasets.Segmented`); or,
            as for any other section, a mapping of keys to replace in the recipe's.
        held_out: one to watch the training on, at the steps of `evaluation.at`.
        folder: where to keep the state; a run that finds one there goes on from it. None keeps nothing.
        start: the finished run of the recipe's `start`, if it is at hand; without it that recipe is trained
            first, in `folder`/start.
        watch: called with the step and the segmentor at the steps of `evaluation.at`; its numbers join the
            log.
        progress: show a progress bar.
        tensorboard: write losses and metrics into `folder`/tensorboard too.
        save_every: steps between states.
        changes: keys of the recipe to replace, such as seed=3 or optimizer={"lr": 1e-3}.

    Returns:
        The run, which has its model, and a log of metrics and probes at the steps of `evaluation.at`.

    Raises:
        ValueError: what `load_recipe` says, a folder that holds a run of another recipe, or an unfinished
            one of another number of processes, or a start of another architecture.
        BlockingIOError: another process trains in that folder; says which.
    """
    join_processes()
    if isinstance(data, Mapping):
        changes["data"], data = data, None
    loaded = _changed(recipe, changes) if isinstance(recipe, Recipe) else load_recipe(recipe, **changes)
    if isinstance(loaded, PointsRecipe):
        raise ValueError(
            f"{loaded.name!r} is a recipe for points; expected one with task: finetune or pretrain, or "
            "training.points.train_points, which knows point clouds"
        )
    options = _Options(None if folder is None else Path(folder), progress, tensorboard, save_every)
    with ExitStack() as stack:
        if options.folder is not None:
            # Of processes that were launched together the first one writes, and speaks for all.
            if rank() == 0:
                stack.enter_context(held(options.folder))
            claim(options.folder, loaded, data)
        if isinstance(loaded, PretrainRecipe):
            return _pretrain(loaded, options)
        if loaded.start is not None and start is None:
            start = _begun(loaded, options, data)
        return _finetune(loaded, options, start, data, held_out, watch)


def _begun(recipe: FineTuneRecipe, options: _Options, data: Segmented | None) -> Run:
    """The run of a recipe's `start`, in a folder of its own inside this one's."""
    return train(
        str(recipe.start),
        data=data,
        folder=options.folder and options.folder / "start",
        progress=options.progress,
        save_every=options.save_every,
        seed=recipe.seed,
    )


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A loaded recipe with some keys replaced, section by section as in `load_recipe`."""
    if not changes:
        return recipe
    task = next(name for name, kind in RECIPES.items() if isinstance(recipe, kind))
    return load_recipe(merged({"task": task, **asdict(recipe)}, changes))


def _finetune(
    recipe: FineTuneRecipe,
    options: _Options,
    start: Run | None,
    data: Segmented | None,
    watched: Segmented | None,
    watch: Watch | None,
) -> Run:
    task, reference = build_task(recipe, start, data)
    if watched is None and data is None:
        watched = held_out(recipe)
    look = _watcher(recipe, task, reference, watched, watch) if watched is not None else None
    log = fit(
        task,
        steps=recipe.steps,
        warmup=recipe.optimizer.warmup,
        cooldown=recipe.optimizer.cooldown,
        clip_norm=recipe.optimizer.clip_norm,
        folder=options.folder,
        save_every=options.save_every,
        evaluate=look,
        evaluate_at=recipe.evaluation.at,
        progress=recipe.name if options.progress else None,
        tensorboard=options.tensorboard,
    )
    _warn_of_damage(task)
    segmentor = task.segmentor
    if recipe.interpolate < 1:
        interpolate(segmentor.clip.model, reference.model, recipe.interpolate)
    release(segmentor.clip)
    objective = None if task.objective is None else task.objective.eval().requires_grad_(False)
    model = segmentor.eval().requires_grad_(False)
    return Run(recipe, model, log, options.folder, objective, reference, dict(task.skipped))


def _watcher(
    recipe: FineTuneRecipe, task: FineTuning, reference: DenseCLIP, data: Segmented, watch: Watch | None
) -> Callable[[int], Record]:
    """What is measured on the way: metrics on held-out scenes, probes where these have captions, and whatever
    else somebody watches.
    """
    segmentor = task.segmentor
    mode = segmentor.training
    scenes = min(recipe.evaluation.scenes, len(data))
    # Probes need captions, and rendering for them costs as much as the metrics: only where somebody will
    # look.
    probed = captioned_items(data, scenes) if recipe.evaluation.at else []
    probes = Probes(reference, probed, data.names, data.unseen, segmentor.read_outs[0]) if probed else None

    def look(step: int) -> Record:
        with autocast(segmentor.clip.device, task.dtype):
            segmentor.eval()
            numbers = dict(
                evaluate(segmentor, data, limit=scenes, protocol=recipe.evaluation.protocol).metrics
            )
            if watch is not None:
                numbers |= watch(step, segmentor)
            segmentor.train(mode)
            if probes is not None:
                numbers |= probes(segmentor.clip)
        return numbers

    return look


def _warn_of_damage(task: FineTuning) -> None:
    if task.skipped:
        most, times = task.skipped.most_common(1)[0]
        crops, files = task.skipped.total(), len(task.skipped)
        warnings.warn(
            f"{crops} crops stood in for {files} damaged files, {times} of them for {most}", stacklevel=4
        )


def _pretrain(recipe: PretrainRecipe, options: _Options) -> Run:
    if world() > 1:
        raise ValueError(
            f"got {world()} processes for {recipe.name!r}; "
            "expected one: the contrast of a batch needs all its pictures"
        )
    with ExitStack() as stack:
        # Beside the run, so that runs of other lengths and rates share it.
        kept = options.folder and options.folder.parent / "pool"
        task = build_pretraining(recipe, kept or Path(stack.enter_context(TemporaryDirectory())))
    log = fit(
        task,
        steps=task.steps,
        warmup=recipe.warmup,
        schedule=recipe.schedule,
        folder=options.folder,
        save_every=options.save_every,
        progress=recipe.name if options.progress else None,
        tensorboard=options.tensorboard,
    )
    clip = task.clip
    clip.known_tokens, clip.read_outs = known_tokens(clip, task.teacher), tuple(recipe.read_outs)
    return Run(
        recipe, ZeroShotSegmentor(clip.eval().requires_grad_(False), clip.read_outs), log, options.folder
    )


# Where files are and who reads them changes no number, so two runs that differ in nothing else are the same
# run.
_ELSEWHERE: dict[str, dict[str, object]] = {
    "data": {"root": None},
    "machine": {"workers": 0},
    "supervision": {"folder": None},
}


def claim(folder: Path, recipe: Recipe, data: Described | None) -> None:
    """Keep the recipe beside the state, and refuse a folder that holds another recipe's state.

    Args:
        folder: of the run.
        recipe: what is run there.
        data: a data set in place of the recipe's.

    Raises:
        ValueError: the folder holds another recipe's run.
    """
    kept: dict[str, Any] = {"kind": type(recipe).__name__, **asdict(recipe)}
    for section, values in _ELSEWHERE.items():
        for key, value in values.items():
            if key in (kept.get(section) or ()):
                kept[section] = {**kept[section], key: value}
    if data is not None:
        kept["data"] = data.describe()
    path, text = folder / "recipe.json", json.dumps(kept, sort_keys=True)
    # A finished run may lie where nothing can be written.
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    if path.exists() and any((folder / state).exists() for state in (STATE, PREVIOUS)):
        raise ValueError(
            f"{folder} holds a run of another recipe ({path}); "
            "expected the same: choose another folder or delete it"
        )
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
