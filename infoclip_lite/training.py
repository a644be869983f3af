"""One loop for every recipe: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from open_clip.model import CLIP
from torch import Tensor, nn
from tqdm.auto import tqdm

from .acceleration import DTYPES, accelerate, autocast, dtype_of
from .checkpoints import read_state, write_state
from .clip import DenseCLIP, load_clip
from .datasets import Pictures, TrainingCrops, build_dataset
from .datasets.collage import Collage, all_nouns
from .evaluation import evaluate, join_processes
from .finetuning import FineTuning
from .objectives import build_objective, interpolate
from .options import build
from .parallel import any_process, mean_over_processes, world
from .paths import whole_file
from .pretraining import Pretraining, Stage, caption_tokens
from .probes import probe
from .protocols import get_protocol
from .recipe import FineTuneRecipe, PretrainRecipe, Recipe, checked, load_recipe
from .segmentors import ChimeraSeg, CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from .vocabulary import COLLAGE_TEMPLATES

_MATCHED = 64  # pictures that a semantic head takes the scale of CLIP's tokens from


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
        folder: where the state and log.jsonl are kept; a run that finds a state there goes on from the newest good one. None: nothing kept.
        save_every: steps between states.
        evaluate: called with the step before that step is taken; its numbers are logged.
        evaluate_at: the steps to call it at; `steps` itself means after the last.
        progress: label of the progress bar; None shows none.
        tensorboard: write every record into folder/tensorboard too, as it comes.

    Returns:
        One record a step with "step" and the loss terms, and one an evaluation, in order.

    Raises:
        FloatingPointError: a loss is not finite, or float16 gradients at no scale; the last state on disk is from before it.
        ValueError: `tensorboard` without a folder.
        ImportError: `tensorboard` without its package.
        torch.OutOfMemoryError: with what to change.
        SystemExit: SIGTERM came, and the state is kept.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), device_placement=False, kwargs_handlers=[_UNUSED])
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

    bar = tqdm(total=steps, initial=start, desc=progress, disable=progress is None or not main, mininterval=1.0)
    with _terminated(folder is not None) as stop:
        for step, batch in zip(range(start, steps), task.batches(start, steps), strict=True):
            if step in wanted and evaluate:
                note({"step": step, **evaluate(step)})
            optimizer.zero_grad()
            terms = _gradients(accelerator, step_of, scaler, step, batch if isinstance(batch, list) else [batch])
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, schedule or steps, warmup)
            scaler.step(optimizer)  # leaves the step out if float16 gradients overflowed
            scaler.update()
            if scaler.get_scale() < _SMALLEST_SCALE:
                raise FloatingPointError(f"float16 gradients overflow at every scale, at step {step}; expected some: set dtype: bfloat16")
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
_UNUSED = DistributedDataParallelKwargs(find_unused_parameters=True)  # what a read-out of the last block leaves out has no gradient


class _Step(nn.Module):
    """A task's loss as a module: what several processes share their gradients through."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.module, self.loss = task.module, task.loss

    def forward(self, step: int, batch: Any) -> dict[str, Tensor]:
        return self.loss(step, batch)


def _gradients(
    accelerator: Accelerator, step_of: Callable[[int, Any], dict[str, Tensor]], scaler: torch.amp.GradScaler, step: int, parts: list[Any]
) -> dict[str, float]:
    """Add up the gradients of the mean loss over the parts of a batch; its terms, averaged over parts and processes.

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
                            f"loss term {name!r} is {value} at step {step}; expected a finite number: lower the learning rate"
                        )
                    mean[name] = mean.get(name, 0.0) + value / len(parts)
                accelerator.backward(scaler.scale(terms["total"] / len(parts)))
            except torch.OutOfMemoryError as error:
                raise torch.OutOfMemoryError(
                    f"out of memory at step {step}: {error}; raise `accumulate` (activations shrink in proportion, results stay the same), "
                    "set gradient_checkpointing: true (a forward pass more, several times less memory), lower `size` (they shrink with its "
                    "square), or set dtype: bfloat16 (about half)"
                ) from error
    return mean


@contextmanager
def _terminated(wanted: bool) -> Iterator[threading.Event]:
    """An event that SIGTERM sets in place of ending the process, so that the step can be finished and kept."""
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
    return SummaryWriter(folder / "tensorboard", purge_step=start)  # what a killed run wrote beyond its last state is not shown


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


def build_task(recipe: FineTuneRecipe, start: Run | None = None) -> tuple[FineTuning, DenseCLIP]:
    """What a recipe trains, before its first step, and the pretrained CLIP it is compared with.

    Args:
        recipe: of fine-tuning.
        start: a finished run whose segmentor's weights it begins with.

    Raises:
        ValueError: a data set that cannot be read, a start of another architecture, a share outside 0 .. 1, or what segmentor and
            objective refuse.
    """
    if not 0 <= recipe.interpolate <= 1:
        raise ValueError(f"interpolate is {recipe.interpolate}; expected 0 (pretrained weights) .. 1 (fine-tuned ones)")
    join_processes()
    data = _scenes(recipe)  # before any weights are fetched: missing files are said at once
    torch.manual_seed(recipe.seed)
    segmentor = build_segmentor(recipe).to(default_device())
    reference = copy.deepcopy(segmentor.clip).requires_grad_(False)
    if start is not None:
        try:
            segmentor.load_state_dict(start.model.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"the run of {recipe.start!r} has another architecture than {recipe.name!r}; expected the same keys"
            ) from error
    accelerate(segmentor, compile=recipe.compile, gradient_checkpointing=recipe.gradient_checkpointing, channels_last=recipe.channels_last)
    objective = None if recipe.objective is None else build_objective(recipe.objective, segmentor.clip, reference)
    if objective is not None:
        objective = objective.to(segmentor.clip.device)
    if isinstance(segmentor, ChimeraSeg) and start is None:
        segmentor.match(torch.stack([data[i].image for i in range(min(_MATCHED, len(data)))]).to(segmentor.clip.device))
    task = FineTuning(
        segmentor,
        data,
        batch=recipe.batch,
        lr=recipe.lr,
        head_lr=recipe.head_lr,
        weight_decay=recipe.weight_decay,
        tune=recipe.tune,
        loss=recipe.loss,
        ignored=recipe.ignored,
        anchors=[word for word in all_nouns() if word not in data.names] if recipe.anchors else (),
        prompt=recipe.prompt,
        objective=objective,
        teacher=None if objective is None else reference,
        dtype=dtype_of(recipe.dtype),
        steps=recipe.steps,
        accumulate=recipe.accumulate,
        workers=recipe.workers,
    )
    return task, reference


def _scenes(recipe: FineTuneRecipe) -> Collage | TrainingCrops:
    """What a recipe learns from: scene i is the same in every run, process and worker."""
    if recipe.data == "collage":
        return Collage("train", recipe.size, seed=1000 + recipe.seed, length=recipe.steps * recipe.batch, seen=recipe.seen)
    if recipe.seen is not None or recipe.anchors:
        raise ValueError(
            f"got seen={recipe.seen} and anchors={recipe.anchors!r} with data={recipe.data!r}; expected neither: "
            "a data set says itself what is unseen (coco_stuff_zss, voc_zss), and has no captions"
        )
    pictures = build_dataset(recipe.data, "train", recipe.root)
    return TrainingCrops(pictures, recipe.size, seed=recipe.seed, skip_corrupt=recipe.skip_corrupt)


def held_out_scenes(recipe: FineTuneRecipe) -> Collage | Pictures:
    """What a recipe's training is watched on."""
    get_protocol(recipe.protocol)  # a wrong name is said before the training, not after
    if recipe.data == "collage":
        return Collage(recipe.split, recipe.size, length=recipe.scenes, seen=recipe.seen)
    return build_dataset(recipe.data, recipe.split, recipe.root)


def default_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU.

    Raises:
        ValueError: more processes on this machine than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise ValueError(
            f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}; "
            f"expected at most that many, as in `torchrun --nproc-per-node {torch.cuda.device_count()}`"
        )
    return torch.device("cuda", local)


def build_segmentor(recipe: FineTuneRecipe) -> Segmentor:
    """The segmentor of a recipe before training; a head gets its first weights from torch's global generator.

    Raises:
        ValueError: several read-outs where one is used, a head for a tower of another depth, or what `ChimeraSeg` refuses.
    """
    clip = load_clip(recipe.clip, recipe.pretrained)
    if recipe.segmentor == "zero_shot":
        return ZeroShotSegmentor(clip, recipe.attention)
    if len(recipe.attention) != 1:
        raise ValueError(f"attention is {recipe.attention}; expected one read-out for segmentor={recipe.segmentor!r}")
    if recipe.segmentor == "cost_aggregation":
        return CostAggregationSegmentor(clip, recipe.attention[0], recipe.head, templates=(recipe.prompt,))
    if recipe.tune != "none":
        raise ValueError(
            f"tune is {recipe.tune!r}; expected 'none' for segmentor='chimera': its CLIP stays frozen, only body and adapter learn"
        )
    return build(ChimeraSeg, (clip, recipe.attention[0], (recipe.prompt,)), recipe.chimera, "chimera")


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


def build_pretraining(recipe: PretrainRecipe) -> Pretraining:
    """What a recipe of pretraining trains, before its first step."""
    torch.manual_seed(recipe.seed)
    model = CLIP(**recipe.model)
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    clip = DenseCLIP(model, tokenizer, mean=recipe.mean, std=recipe.std, name=recipe.name, templates=COLLAGE_TEMPLATES)
    return Pretraining(
        clip,
        [checked(Stage, stage, "a stage") for stage in recipe.stages],
        batch=recipe.batch,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        dtype=DTYPES[recipe.dtype],
    )


def _claim(folder: Path, recipe: Recipe) -> None:
    """Keep the recipe beside the state, and refuse a folder that holds another recipe's state."""
    elsewhere = {"root": None, "workers": 0}  # where files are and who reads them changes no number
    kept = {key: elsewhere.get(key, value) for key, value in vars(recipe).items()}
    path, text = folder / "recipe.json", json.dumps({"kind": type(recipe).__name__, **kept}, sort_keys=True)
    if path.exists() and (folder / "state.pt").exists() and path.read_text() != text:
        raise ValueError(f"{folder} holds a run of another recipe ({path}); expected the same: choose another folder or delete it")
    with whole_file(path) as scratch:
        scratch.write_text(text)
