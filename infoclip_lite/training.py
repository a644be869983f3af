"""One loop for every recipe: resumable, killable at any moment, the same numbers on every run of a machine."""

from __future__ import annotations

import copy
import difflib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import open_clip
import torch
import yaml
from open_clip.model import CLIP
from torch import Tensor, nn
from tqdm.auto import tqdm

from .clip import DenseCLIP, load_clip
from .datasets.collage import Collage
from .evaluation import evaluate
from .finetuning import FineTuning
from .paths import whole_file
from .pretraining import Pretraining, Stage, caption_tokens
from .probes import probe
from .segmentors import ZeroShotSegmentor
from .vocabulary import COLLAGE_TEMPLATES


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
    schedule: int | None = None,
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
        schedule: length of the cosine in steps; longer than `steps` ends above zero. None: `steps`.
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
                raise FloatingPointError(
                    f"loss term {name!r} is {value.item()} at step {step}; expected a finite number: lower the learning rate"
                )
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _schedule(step, schedule or steps, warmup)
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


@dataclass(frozen=True)
class FineTuneRecipe:
    """Plain fine-tuning on Collage; recipes/mini/*.yaml are written in these words.

    Attributes:
        name: what reports call it.
        seed: of the scenes and their order.
        clip: name or checkpoint for `load_clip`.
        attention: the dense read-out that is trained and tested, one or several.
        tune: "full" or "qv".
        seen: nouns whose pixels are learnt from; None is the pack's 20.
        size, batch, steps, warmup, lr, weight_decay, clip_norm: of the training.
        dtype: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the hardware multiplies it natively.
        evaluate_at: steps at which the validation scenes are segmented and probed.
        scenes: how many of them.
        split: which scenes those are.
    """

    name: str
    steps: int
    seed: int = 0
    clip: str = "collage-mini"
    attention: list[str] = field(default_factory=lambda: ["value"])
    tune: str = "full"
    seen: list[str] | None = None
    size: int = 96
    batch: int = 16
    warmup: int = 10
    lr: float = 1e-4
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    dtype: str = "auto"
    evaluate_at: list[int] = field(default_factory=list)
    scenes: int = 100
    split: str = "val"


@dataclass(frozen=True)
class PretrainRecipe:
    """Contrastive pretraining on Collage's captions; recipes/mini/pretrain.yaml is the one of collage-mini.

    Attributes:
        name: what the checkpoint is called.
        model: open_clip's model config.
        stages: a list of `pretraining.Stage` in order.
        seed, batch, lr, weight_decay, warmup: of the training.
        schedule: length of the cosine in steps; None is the steps of all stages.
        mean, std: of the normalisation of images.
        dtype: of the computation; weights are float32.
        read_out: the dense read-outs to average when none is named.
    """

    name: str
    model: dict[str, Any]
    stages: list[dict[str, Any]]
    seed: int = 0
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 200
    schedule: int | None = None
    mean: list[float] = field(default_factory=lambda: [0.5] * 3)
    std: list[float] = field(default_factory=lambda: [0.25] * 3)
    dtype: str = "bfloat16"
    read_out: list[str] = field(default_factory=lambda: ["cls_value", "sclip"])


Recipe = FineTuneRecipe | PretrainRecipe
RECIPES: dict[str, type[Recipe]] = {"finetune": FineTuneRecipe, "pretrain": PretrainRecipe}


@dataclass
class Run:
    """A finished training.

    Attributes:
        recipe: what was run.
        model: the trained segmentor (of a pretraining: the zero-shot segmentor of the new CLIP).
        log: one record a step and one an evaluation, in order.
        folder: where the state is kept, if anywhere.
    """

    recipe: Recipe
    model: ZeroShotSegmentor
    log: list[dict[str, float]]
    folder: Path | None = None

    def evaluations(self) -> list[dict[str, float]]:
        """The records of the log that hold metrics and probes."""
        return [record for record in self.log if "mIoU" in record]


def load_recipe(recipe: str | Path | dict[str, Any], **changes: Any) -> Recipe:
    """Read a recipe and check it.

    Args:
        recipe: the name of one that ships ("mini/plain"), a YAML file, or its content.
        changes: keys to replace.

    Raises:
        FileNotFoundError: no such recipe or file.
        ValueError: an unknown task or key (the nearest is named), a missing key, or a value of another type.
    """
    if not isinstance(recipe, dict):
        shipped = resources.files(__package__) / "recipes" / f"{recipe}.yaml"
        path = Path(recipe)
        if shipped.is_file():
            recipe = yaml.safe_load(shipped.read_text())
        elif path.is_file():
            recipe = yaml.safe_load(path.read_text())
        else:
            raise FileNotFoundError(f"no recipe {str(recipe)!r}; expected a YAML file or one of {', '.join(list_recipes())}")
    if not isinstance(recipe, dict) or recipe.get("task") not in RECIPES:
        got = recipe.get("task") if isinstance(recipe, dict) else recipe
        raise ValueError(f"got a recipe with task {got!r}; expected task: {' or '.join(RECIPES)}")
    values = {**recipe, **changes}
    kind = RECIPES[values.pop("task")]
    known = {f.name: f for f in fields(kind)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ValueError(
                f"unknown key {key!r} in the recipe; " + (f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}")
            )
        wanted = str(known[key].type)
        simple: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
        if wanted in simple and (not isinstance(value, simple[wanted]) or isinstance(value, bool)):
            raise ValueError(f"{key} is {value!r}, a {type(value).__name__}; expected {wanted} (YAML reads 1e-4 as text: write 1.0e-4)")
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING and f.name not in values]
    if missing:
        raise ValueError(f"the recipe lacks {', '.join(missing)}")
    return kind(**values)


def list_recipes() -> list[str]:
    """Names of the recipes that ship."""
    root = resources.files(__package__) / "recipes"
    return sorted(
        f"{kind.name}/{file.name[:-5]}"
        for kind in root.iterdir()
        if kind.is_dir()
        for file in kind.iterdir()
        if file.name.endswith(".yaml")
    )


def train(recipe: str | Path | dict[str, Any] | Recipe, *, folder: str | Path | None = None, progress: bool = True, **changes: Any) -> Run:
    """Train what a recipe says.

    Args:
        recipe: name, file or content; see `load_recipe`.
        folder: where to keep the state; a run that finds one there goes on from it. None keeps nothing.
        progress: show a progress bar.
        changes: keys of the recipe to replace, such as seed=3.

    Returns:
        The Run: its model, and a log with metrics and probes at the steps of `evaluate_at`.

    Raises:
        ValueError: what `load_recipe` says, or a folder that holds a run of another recipe.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, **changes)
    where = None if folder is None else Path(folder)
    if where is not None:
        _claim(where, recipe)
    if isinstance(recipe, PretrainRecipe):
        return _pretrain(recipe, where, progress)
    return _finetune(recipe, where, progress)


def _finetune(recipe: FineTuneRecipe, folder: Path | None, progress: bool) -> Run:
    torch.manual_seed(recipe.seed)
    segmentor = ZeroShotSegmentor(load_clip(recipe.clip), recipe.attention)
    reference = copy.deepcopy(segmentor.clip)
    data = Collage("train", recipe.size, seed=1000 + recipe.seed, length=recipe.steps * recipe.batch, seen=recipe.seen)
    held_out = Collage(recipe.split, recipe.size, length=recipe.scenes, seen=recipe.seen)
    probed = [held_out[i] for i in range(recipe.scenes)]
    task = FineTuning(segmentor, data, batch=recipe.batch, lr=recipe.lr, weight_decay=recipe.weight_decay, tune=recipe.tune)  # type: ignore[arg-type]
    bf16 = recipe.dtype == "bfloat16" or recipe.dtype == "auto" and native_bfloat16()

    def measure(step: int) -> dict[str, float]:
        with torch.autocast(segmentor.clip.device.type, torch.bfloat16, enabled=bf16):
            metrics = evaluate(segmentor, held_out).metrics
            return {**metrics, **probe(segmentor.clip, reference, probed, held_out.names, held_out.unseen, recipe.attention[0])}

    with torch.autocast(segmentor.clip.device.type, torch.bfloat16, enabled=bf16):
        log = fit(
            task,
            steps=recipe.steps,
            warmup=recipe.warmup,
            clip_norm=recipe.clip_norm,
            folder=folder,
            evaluate=measure,
            evaluate_at=recipe.evaluate_at,
            progress=recipe.name if progress else None,
        )
    return Run(recipe, segmentor.eval().requires_grad_(False), log, folder)


def _pretrain(recipe: PretrainRecipe, folder: Path | None, progress: bool) -> Run:
    torch.manual_seed(recipe.seed)
    model = CLIP(**recipe.model)
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    clip = DenseCLIP(model, tokenizer, mean=recipe.mean, std=recipe.std, name=recipe.name, templates=COLLAGE_TEMPLATES)
    task = Pretraining(
        clip,
        [Stage(**stage) for stage in recipe.stages],
        batch=recipe.batch,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        dtype=getattr(torch, recipe.dtype),
    )
    log = fit(task, steps=task.steps, warmup=recipe.warmup, schedule=recipe.schedule, folder=folder, progress=recipe.name if progress else None)
    clip.known_tokens, clip.read_out = caption_tokens(tokenizer), tuple(recipe.read_out)
    return Run(recipe, ZeroShotSegmentor(clip.eval().requires_grad_(False), clip.read_out), log, folder)


def native_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware: a GPU, or a CPU with AMX or AVX-512 BF16."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.cuda.is_available() or bool(supported and supported() and torch.cpu._is_avx512_bf16_supported())


def _claim(folder: Path, recipe: Recipe) -> None:
    """Keep the recipe beside the state, and refuse a folder that holds another recipe's state."""
    path, text = folder / "recipe.json", json.dumps({"kind": type(recipe).__name__, **vars(recipe)}, sort_keys=True)
    if path.exists() and (folder / "state.pt").exists() and path.read_text() != text:
        raise ValueError(f"{folder} holds a run of another recipe ({path}); expected the same: choose another folder or delete it")
    with whole_file(path) as scratch:
        scratch.write_text(text)
