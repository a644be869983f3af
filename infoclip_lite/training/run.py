"""One loop for every recipe: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..clip import DenseCLIP
from ..core.files import whole_file
from ..core.processes import join_processes, world
from ..datasets.collage import Collage
from ..evaluation.evaluate import evaluate
from ..evaluation.probes import probe
from ..objectives import interpolate
from ..segmentors import Segmentor, ZeroShotSegmentor
from .acceleration import autocast
from .build import build_pretraining, build_task, held_out_scenes
from .loop import fit
from .pretraining import caption_tokens
from .recipe import FineTuneRecipe, PretrainRecipe, Recipe, load_recipe


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
        skipped: how often each damaged file was passed over, since the run was last begun or gone on with, in this process.
    """

    recipe: Recipe
    model: Segmentor
    log: list[dict[str, float]]
    folder: Path | None = None
    objective: nn.Module | None = None
    reference: DenseCLIP | None = None
    skipped: dict[str, int] = field(default_factory=dict)

    def evaluations(self) -> list[dict[str, float]]:
        """The records of the log that hold metrics and probes."""
        return [record for record in self.log if "mIoU" in record]


def train(
    recipe: str | Path | dict[str, Any] | Recipe,
    *,
    folder: str | Path | None = None,
    start: Run | None = None,
    progress: bool = True,
    tensorboard: bool = False,
    **changes: Any,
) -> Run:
    """Train what a recipe says.

    Args:
        recipe: name, file or content; see `load_recipe`.
        folder: where to keep the state; a run that finds one there goes on from it. None keeps nothing.
        start: the finished run of the recipe's `start`, if it is at hand; without it that recipe is trained first, in `folder`/start.
        progress: show a progress bar.
        tensorboard: write losses and metrics into `folder`/tensorboard too.
        changes: keys of the recipe to replace, such as seed=3.

    Returns:
        The Run: its model, and a log with metrics and probes at the steps of `evaluate_at`.

    Raises:
        ValueError: what `load_recipe` says, a folder that holds a run of another recipe, or a start of another architecture.
    """
    join_processes()
    recipe = replace(recipe, **changes) if isinstance(recipe, Recipe) else load_recipe(recipe, **changes)
    where = None if folder is None else Path(folder)
    if where is not None:
        _claim(where, recipe)
    if isinstance(recipe, PretrainRecipe):
        if world() > 1:
            raise ValueError(f"got {world()} processes for {recipe.name!r}; expected one: the contrast of a batch needs all its pictures")
        return _pretrain(recipe, where, progress, tensorboard)
    return _finetune(recipe, where, start, progress, tensorboard)


def _finetune(recipe: FineTuneRecipe, folder: Path | None, start: Run | None, progress: bool, tensorboard: bool) -> Run:
    if recipe.start is not None and start is None:
        start = train(recipe.start, folder=folder and folder / "start", progress=progress, seed=recipe.seed)
    task, reference = build_task(recipe, start)
    segmentor = task.segmentor
    mode = segmentor.training
    held_out = held_out_scenes(recipe)
    probed = [held_out[i] for i in range(recipe.scenes)] if recipe.evaluate_at and isinstance(held_out, Collage) else []

    def measure(step: int) -> dict[str, float]:
        with autocast(segmentor.clip.device, task.dtype):
            metrics = evaluate(segmentor.eval(), held_out, limit=recipe.scenes, protocol=recipe.protocol).metrics
            segmentor.train(mode)
            if not isinstance(held_out, Collage):
                return metrics  # probes need captions
            return {**metrics, **probe(segmentor.clip, reference, probed, held_out.names, held_out.unseen, recipe.attention[0])}

    log = fit(
        task,
        steps=recipe.steps,
        warmup=recipe.warmup,
        clip_norm=recipe.clip_norm,
        folder=folder,
        evaluate=measure,
        evaluate_at=recipe.evaluate_at,
        progress=recipe.name if progress else None,
        tensorboard=tensorboard,
    )
    if task.skipped:
        most, times = task.skipped.most_common(1)[0]
        warnings.warn(
            f"{task.skipped.total()} crops stood in for {len(task.skipped)} damaged files, {times} of them for {most}", stacklevel=3
        )
    if recipe.interpolate < 1:
        interpolate(segmentor.clip.model, reference.model, recipe.interpolate)
    objective = None if task.objective is None else task.objective.eval().requires_grad_(False)
    return Run(recipe, segmentor.eval().requires_grad_(False), log, folder, objective, reference, dict(task.skipped))


def _pretrain(recipe: PretrainRecipe, folder: Path | None, progress: bool, tensorboard: bool) -> Run:
    task = build_pretraining(recipe)
    log = fit(
        task,
        steps=task.steps,
        warmup=recipe.warmup,
        schedule=recipe.schedule,
        folder=folder,
        progress=recipe.name if progress else None,
        tensorboard=tensorboard,
    )
    clip = task.clip
    clip.known_tokens, clip.read_out = caption_tokens(clip.tokenizer), tuple(recipe.read_out)
    return Run(recipe, ZeroShotSegmentor(clip.eval().requires_grad_(False), clip.read_out), log, folder)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Keep the recipe beside the state, and refuse a folder that holds another recipe's state."""
    elsewhere = {"root": None, "workers": 0}  # where files are and who reads them changes no number
    kept = {key: elsewhere.get(key, value) for key, value in vars(recipe).items()}
    path, text = folder / "recipe.json", json.dumps({"kind": type(recipe).__name__, **kept}, sort_keys=True)
    if path.exists() and (folder / "state.pt").exists() and path.read_text() != text:
        raise ValueError(f"{folder} holds a run of another recipe ({path}); expected the same: choose another folder or delete it")
    with whole_file(path) as scratch:
        scratch.write_text(text)
