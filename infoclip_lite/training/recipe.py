"""Recipes: what to train, in words that YAML can hold and a check can refuse."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

_T = TypeVar("_T")


@dataclass(frozen=True)
class FineTuneRecipe:
    """Fine-tuning of a segmentor, plain or with an alignment objective; recipes/*/*.yaml are written in these words.

    Attributes:
        name: what reports call it.
        seed: of the scenes and their order.
        data: "collage", or what is learnt from at the papers' size: "coco_stuff" (171 classes), "coco_stuff_zss" (156 of them) or
            "voc_zss" (15 of 20), as `build_dataset` reads them.
        root: folder of those data sets; None is build_dataset's. Not part of what makes two runs the same.
        workers: processes that read pictures ahead; 0 reads them in between the steps.
        skip_corrupt: put another picture in the place of a file that cannot be decoded, and name it, rather than stop.
        clip, pretrained: what `load_clip` takes.
        segmentor: "zero_shot" (scaled cosines), "cost_aggregation" (CAT-Seg) or "chimera" (Chimera-Seg).
        head: size of the cost aggregation: "mini", "vit_b" or "vit_l".
        chimera: options of `ChimeraSeg`: architecture, encoder, weights, width, tuned, head, blocks, pool.
        attention: the dense read-out that is trained and tested, one or several.
        tune: "full" (both towers), "image" (the image tower), "qv" (query and value projections) or "none".
        loss: "cross_entropy" or "bce".
        ignored: "skip" or "zero": what becomes of ignored pixels; see `FineTuning`.
        prompt: the template of class names, in training and (cost aggregation) in tests.
        objective: {name: ..., options} of `build_objective`; None is plain fine-tuning.
        anchors: "captions" lets the objective look at the nouns of captions outside the segmentation vocabulary too; None: seen words only.
        start: recipe to train first, with the same seed; its segmentor is where this one begins. None begins with CLIP and a random head.
        interpolate: share of the fine-tuned weights in the final CLIP, the rest is pretrained (WiSE-FT); 1 keeps the fine-tuned ones.
        seen: nouns whose pixels are learnt from; None is the pack's 20.
        size, batch, steps, warmup, weight_decay, clip_norm: of the training; `batch` is that of all processes together.
        accumulate: passes that a batch is divided into, to save memory; see `FineTuning`.
        lr, head_lr: of what is pretrained (CLIP, a body's encoder), and of what begins at random (None: lr).
        dtype: "float32", "bfloat16" or "float16" (autocast; float16 scales the loss), or "auto": bfloat16 where the hardware multiplies it.
        compile, gradient_checkpointing, channels_last: speed and memory; see `accelerate`.
        evaluate_at: steps at which the validation scenes are segmented and probed.
        scenes: how many of them.
        split: which scenes those are.
        protocol: how they are evaluated, a name of `protocols`.
    """

    name: str
    steps: int
    seed: int = 0
    data: Literal["collage", "coco_stuff", "coco_stuff_zss", "voc_zss"] = "collage"
    root: str | None = None
    workers: int = 0
    skip_corrupt: bool = False
    clip: str = "collage-mini"
    pretrained: str | None = None
    segmentor: Literal["zero_shot", "cost_aggregation", "chimera"] = "zero_shot"
    head: Literal["mini", "vit_b", "vit_l"] = "mini"
    chimera: dict[str, Any] = field(default_factory=dict)
    attention: list[str] = field(default_factory=lambda: ["value"])
    tune: Literal["full", "image", "qv", "none"] = "full"
    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    ignored: Literal["skip", "zero"] = "skip"
    prompt: str = "a photo of a {}"
    objective: dict[str, Any] | None = None
    anchors: Literal["captions"] | None = None
    start: str | None = None
    interpolate: float = 1.0
    seen: list[str] | None = None
    size: int = 96
    batch: int = 16
    accumulate: int = 1
    warmup: int = 10
    lr: float = 1e-4
    head_lr: float | None = None
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    channels_last: bool = False
    evaluate_at: list[int] = field(default_factory=list)
    scenes: int = 100
    split: str = "val"
    protocol: str = "whole"


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
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    read_out: list[str] = field(default_factory=lambda: ["cls_value", "sclip"])


Recipe = FineTuneRecipe | PretrainRecipe
RECIPES: dict[str, type[Recipe]] = {"finetune": FineTuneRecipe, "pretrain": PretrainRecipe}


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
        shipped = resources.files("infoclip_lite") / "recipes" / f"{recipe}.yaml"
        path = Path(recipe)
        if not shipped.is_file() and not path.is_file():
            raise FileNotFoundError(f"no recipe {str(recipe)!r}; expected a YAML file or one of {', '.join(list_recipes())}")
        text = shipped.read_text() if shipped.is_file() else path.read_text()
        try:
            recipe = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{recipe} is not YAML ({error}); expected key: value lines") from error
    if not isinstance(recipe, dict) or recipe.get("task") not in RECIPES:
        got = recipe.get("task") if isinstance(recipe, dict) else recipe
        raise ValueError(f"got a recipe with task {got!r}; expected task: {' or '.join(RECIPES)}")
    values = {**recipe, **changes}
    kind = RECIPES[values.pop("task")]
    return checked(kind, values, "the recipe")


def checked(kind: type[_T], values: dict[str, Any], what: str) -> _T:
    """Build a dataclass from what YAML gave, every key and type looked at first.

    Raises:
        ValueError: an unknown key (the nearest is named), a missing one, or a value of another type.
    """
    known, types = {f.name: f for f in fields(kind)}, get_type_hints(kind)  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {what}; {hint}")
        if not _fits(value, types[key]):
            wanted = str(known[key].type)
            hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if isinstance(value, str) and types[key] is float else ""
            raise ValueError(f"{key} is {value!r}, a {type(value).__name__}; expected {wanted}{hint}")
    missing = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING and f.name not in values]
    if missing:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    return kind(**values)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value that YAML gave is of an annotated type."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (UnionType, Union):  # Literal[...] | None is the older kind
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list | tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is dict:
        return isinstance(value, dict)
    if wanted in (int, float):
        return isinstance(value, int if wanted is int else int | float) and not isinstance(value, bool)
    return isinstance(value, wanted)


def list_recipes() -> list[str]:
    """Names of the recipes that ship."""
    root = resources.files("infoclip_lite") / "recipes"
    return sorted(
        f"{kind.name}/{file.name[:-5]}"
        for kind in root.iterdir()
        if kind.is_dir()
        for file in kind.iterdir()
        if file.name.endswith(".yaml")
    )
