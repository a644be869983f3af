"""Recipes: what to train, in sections that YAML can hold, inherit and be checked by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ..core.lookup import checked, nearest, split_section

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Section = dict[str, Any]  # {"name": ..., **options}; whoever builds the thing knows the types of its options
Tune = Literal["stem", "full", "image", "qv", "none"]


@dataclass(frozen=True)
class ClipSection:
    """Which CLIP is tuned.

    Attributes:
        name, pretrained: what `load_clip` takes.
    """

    name: str = "collage-mini"
    pretrained: str | None = None


@dataclass(frozen=True)
class OptimizerSection:
    """AdamW with linear warm-up and a cosine to zero, or a rate that stays and falls at the end.

    Attributes:
        lr: peak rate of what is pretrained (CLIP, a body's encoder).
        head_lr: of what begins at random; None: lr.
        weight_decay: of matrices.
        clip_norm: largest norm of the gradient.
        warmup: steps of it.
        cooldown: the last steps, over which the rate falls to zero on a straight line and before which it
            stays at its peak: what is looked at on the way is then the same however long a training is to
            be (2405.18392). None: a cosine over all steps.
    """

    lr: float = 1e-4
    head_lr: float | None = None
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    warmup: int = 10
    cooldown: int | None = None


@dataclass(frozen=True)
class EvaluationSection:
    """How a training is watched.

    Attributes:
        at: steps at which held-out scenes are segmented and probed.
        scenes: how many of them.
        split: which scenes those are.
        protocol: how they are evaluated, a name of `evaluation.PROTOCOLS`.
    """

    at: list[int] = field(default_factory=list)
    scenes: int = 100
    split: str = "val"
    protocol: str = "whole"


@dataclass(frozen=True)
class MachineSection:
    """What makes it fit and run faster; what is computed stays the same up to rounding.

    Attributes:
        dtype: "float32", "bfloat16" or "float16" (autocast; float16 scales the loss), or "auto": bfloat16
            where the hardware multiplies it, float16 on older GPUs.
        workers: processes that read pictures ahead; 0 reads them in between the steps.
        accumulate: passes that a batch is divided into, to save memory; see `FineTuning`.
        compile, checkpointing, channels_last: see `accelerate`.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    workers: int = 0
    accumulate: int = 1
    compile: bool = False
    checkpointing: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class FineTuneRecipe:
    """Fine-tuning of a segmentor, plain or with an alignment objective; recipes/*/*.yaml are written in these
    words.

    Attributes:
        name: what reports call it.
        steps: of the optimizer.
        seed: of the scenes and their order.
        batch: pictures a step, of all processes together.
        start: recipe to train first, with the same seed; its segmentor is where this one begins. None begins
            with CLIP and a random head.
        clip: the model.
        segmentor: {"name": one of `segmentors.SEGMENTORS`, and its options}.
        data: {"name": "collage", an official data set or "folder", and its options}; `size` is the side of
            the pictures in pixels.
        supervision: {"name": one of `supervision.SUPERVISIONS`, and its options}: what is learnt from in
            place of masks, which are then never read; None: the data set's masks.
        objective: {"name": one of `objectives.OBJECTIVES`, and its options}; None is plain fine-tuning.
        loss: {"name": "cross_entropy" or "bce", and its options}; None is the segmentor's own loss.
        tune: "full" (both towers), "image" (the image tower), "qv" (query and value projections) or "none",
            under all of which a stem's trunk stays frozen; "stem" is "full" and the trunk too.
        prompt: the template of class names in training.
        background: what pixels of unseen classes are called in training; None ignores them.
        anchors: "captions" lets the objective look at the nouns of captions outside the segmentation
            vocabulary too; None: seen words only.
        interpolate: fraction of the fine-tuned weights in the final CLIP, the rest is pretrained (WiSE-FT); 1
            keeps the fine-tuned ones.
        optimizer, evaluation, machine: see their classes.
    """

    name: str
    steps: int
    seed: int = 0
    batch: int = 16
    start: str | None = None
    clip: ClipSection = field(default_factory=ClipSection)
    segmentor: Section = field(default_factory=lambda: {"name": "zero_shot"})
    data: Section = field(default_factory=lambda: {"name": "collage"})
    supervision: Section | None = None
    objective: Section | None = None
    loss: Section | None = None
    tune: Tune = "full"
    prompt: str = "a photo of a {}"
    background: str | None = None
    anchors: Literal["captions"] | None = None
    interpolate: float = 1.0
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    machine: MachineSection = field(default_factory=MachineSection)

    def __post_init__(self) -> None:
        for what in ("segmentor", "data", "supervision", "objective", "loss"):
            section = getattr(self, what)
            if section is not None:
                split_section(section, what)
        if not 0 <= self.interpolate <= 1:
            raise ValueError(
                f"interpolate is {self.interpolate}; expected 0 (pretrained weights) .. 1 (fine-tuned ones)"
            )
        warmup, cooldown = self.optimizer.warmup, self.optimizer.cooldown
        if cooldown is not None and not 1 <= cooldown <= self.steps - warmup:
            raise ValueError(
                f"optimizer.cooldown is {cooldown}, of {self.steps} steps with a warm-up of {warmup}; "
                "expected at least 1 and no more than are left, or null for a cosine"
            )


@dataclass(frozen=True)
class PretrainRecipe:
    """Contrastive pretraining on Collage's captions; recipes/mini/pretrain.yaml is the one of collage-mini.

    Attributes:
        name: what the checkpoint is called.
        model: open_clip's model config.
        stages: a list of `pretraining.Stage` in order.
        stem: options of `clip.stem.Stem`; None is open_clip's own patch embedding.
        pool: scenes that are rendered, and seen by the stem, once.
        instances: at most so many of each noun are shown in them; None: all.
        local: weight of `contrast.local_loss` beside the contrast of whole scenes; 0 leaves it out.
        text: a `pretraining.TextSection`: the text tower first learns from a sentence encoder; None: from
            captions alone.
        classes: weight of `class_teacher.ClassTeacher.loss`; 0 leaves it out. Needs a stem and `text`.
        channel_dropout: chance that a scene's features lack a channel; see `Pretraining`.
        linear_start: begin at the best linear map of the stem's features; see `start_linearly`.
        seed, batch, lr, weight_decay, warmup: of the training.
        schedule: length of the cosine in steps; None is the steps of all stages.
        mean, std: of the normalisation of images.
        dtype: of the computation; weights are float32.
        read_outs: the dense read-outs to average when none is named.
    """

    name: str
    model: Section
    stages: list[Section]
    stem: Section | None = None
    pool: int = 40_000
    instances: int | None = None
    local: float = 0.0
    text: Section | None = None
    classes: float = 0.0
    channel_dropout: float = 0.0
    linear_start: bool = False
    seed: int = 0
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 200
    schedule: int | None = None
    mean: list[float] = field(default_factory=lambda: [127 / 255] * 3)
    std: list[float] = field(default_factory=lambda: [128 / 255] * 3)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    read_outs: list[str] = field(default_factory=lambda: ["cls_value", "value"])

    def __post_init__(self) -> None:
        for what, least in (("pool", 1), ("batch", 2), ("local", 0), ("classes", 0), ("warmup", 0)):
            if getattr(self, what) < least:
                raise ValueError(f"{what} is {getattr(self, what)}; expected at least {least}")
        if self.instances is not None and self.instances < 1:
            raise ValueError(f"instances is {self.instances}; expected at least 1, or null for all")
        if not 0 <= self.channel_dropout < 1:
            raise ValueError(f"channel_dropout is {self.channel_dropout}; expected 0 .. 1, less than 1")
        if not self.stages:
            raise ValueError("stages is empty; expected at least one {steps, keep}")
        if self.stem is None and (self.classes or self.linear_start):
            raise ValueError(
                "got classes or linear_start without a stem; expected one, whose features they read"
            )
        if self.classes and self.text is None:
            raise ValueError(
                f"classes is {self.classes} and there is no text section; "
                "expected one: its sentence encoder reads the classes' names"
            )


@dataclass(frozen=True)
class PointsRecipe:
    """CLIP's knowledge into a point encoder; recipes/mini/points.yaml is written in these words.

    Attributes:
        name: what reports call it.
        steps: of the optimizer.
        seed: of the encoder's first weights, the order of the scenes and how they are turned.
        batch: scenes a step.
        clip: the frozen teacher, whose words are the classifier.
        data: {"name": one of `datasets.points.CLOUDS`, and its options}; its split "train" is learnt from.
        encoder: options of `segmentors.points.PointEncoder`.
        labels: weight of the cross entropy on points of seen classes.
        local_alignment, global_alignment: weights of the alignment of points with pixels and of clouds with
            pictures; 0 leaves one out.
        pseudo_labels: weight of the cross entropy on points of unseen classes under frozen CLIP's own labels;
            above 0 all words compete in training (transductive), at 0 the seen ones alone (inductive).
        optimizer: `lr` is the encoder's; everything begins at random.
    """

    name: str
    steps: int
    seed: int = 0
    batch: int = 8
    clip: ClipSection = field(default_factory=ClipSection)
    data: Section = field(default_factory=lambda: {"name": "points"})
    encoder: Section = field(default_factory=dict)
    labels: float = 1.0
    local_alignment: float = 1.0
    global_alignment: float = 1.0
    pseudo_labels: float = 1.0
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)

    def __post_init__(self) -> None:
        split_section(self.data, "data")
        for what, least in (("steps", 1), ("batch", 1)):
            if getattr(self, what) < least:
                raise ValueError(f"{what} is {getattr(self, what)}; expected at least {least}")
        weights = {
            what: getattr(self, what)
            for what in ("labels", "local_alignment", "global_alignment", "pseudo_labels")
        }
        # Not `value < 0`: NaN is no weight either.
        if not all(value >= 0 for value in weights.values()) or not any(weights.values()):
            raise ValueError(f"got weights {weights}; expected none below 0, and one above it")
        if self.global_alignment and self.batch < 2:
            raise ValueError(
                f"batch is {self.batch} and global_alignment {self.global_alignment}; expected at least 2 "
                "scenes, of which the loss tells one from another"
            )


Recipe = FineTuneRecipe | PretrainRecipe | PointsRecipe
RECIPES: dict[str, type[FineTuneRecipe] | type[PretrainRecipe] | type[PointsRecipe]] = {
    "finetune": FineTuneRecipe,
    "pretrain": PretrainRecipe,
    "points": PointsRecipe,
}


def load_recipe(recipe: str | Path | Mapping[str, Any], **changes: Any) -> Recipe:
    """Read a recipe, put what it inherits under it, and check it.

    Args:
        recipe: the name of one that ships ("mini/plain"), a YAML file, or its content.
        changes: keys to replace. A section is changed key by key, optimizer={"lr": 1e-3}, unless it names
            another thing.

    Raises:
        FileNotFoundError: no such recipe or file, or none of the name that `base` gives.
        ValueError: a `base` that goes in circles, an unknown task or key (the nearest is named), a missing
            key, or a value of another type.
    """
    values = merged(_inherited(recipe), changes)
    kind = values.pop("task", None)
    if not isinstance(kind, str) or kind not in RECIPES:
        raise ValueError(f"got a recipe with task {kind!r}; expected task: {' or '.join(RECIPES)}")
    return checked(RECIPES[kind], values, "the recipe")


def load_finetuning(recipe: str | Path | Mapping[str, Any], **changes: Any) -> FineTuneRecipe:
    """As `load_recipe`, for those that only fine-tuning will do.

    Raises:
        ValueError: the recipe pretrains.
    """
    loaded = load_recipe(recipe, **changes)
    if not isinstance(loaded, FineTuneRecipe):
        what = "pretraining" if isinstance(loaded, PretrainRecipe) else "points"
        raise ValueError(f"{loaded.name!r} is a recipe for {what}; expected one with task: finetune")
    return loaded


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of two recipes, the second one's where both have them; sections likewise, key by key, unless they
    name different things.

    >>> base = {"steps": 9, "objective": {"name": "kl", "weight": 1.0}, "optimizer": {"lr": 0.1, "warmup": 3}}
    >>> merged(base, {"objective": {"weight": 2.0}, "optimizer": {"lr": 0.2}})
    {'steps': 9, 'objective': {'name': 'kl', 'weight': 2.0}, 'optimizer': {'lr': 0.2, 'warmup': 3}}
    >>> merged(base, {"objective": {"name": "feature"}})["objective"]
    {'name': 'feature'}
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            result[key] = {**old, **value}
        else:
            result[key] = value
    return result


def _inherited(recipe: str | Path | Mapping[str, Any], heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """The content of a recipe over that of its `base`, and of that one's."""
    values = dict(recipe) if isinstance(recipe, Mapping) else _read(recipe)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ValueError(
            f"base is {base!r}; expected the name of a recipe, such as mini/catseg, or a YAML file"
        )
    if base in heirs:
        raise ValueError(
            f"base goes in circles: {' -> '.join([*heirs, base])}; expected a recipe that ends somewhere"
        )
    return merged(_inherited(base, (*heirs, base)), values)


def _read(recipe: str | Path) -> dict[str, Any]:
    shipped = _shipped() / f"{recipe}.yaml"
    path = Path(recipe)
    if not shipped.is_file() and not path.is_file():
        known = list_recipes()
        hint = nearest(recipe, known)
        every = f" or one of {', '.join(known)}" if hint.startswith("did") else ""
        raise FileNotFoundError(
            f"no recipe {str(recipe)!r}; "
            f"{hint.replace('expected one of', 'expected a YAML file or one of')}{every}"
        )
    text = shipped.read_text(encoding="utf-8") if shipped.is_file() else path.read_text(encoding="utf-8")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{recipe} is not YAML ({error}); expected key: value lines") from error
    if not isinstance(values, dict):
        raise ValueError(f"got a recipe with task {values!r}; expected task: {' or '.join(RECIPES)}")
    return values


def list_recipes() -> list[str]:
    """Names of the recipes that ship."""
    folders = [kind for kind in _shipped().iterdir() if kind.is_dir()]
    return sorted(
        f"{kind.name}/{file.name[:-5]}"
        for kind in folders
        for file in kind.iterdir()
        if file.name.endswith(".yaml")
    )


def _shipped() -> Traversable:
    return resources.files("infoclip_lite") / "recipes"
