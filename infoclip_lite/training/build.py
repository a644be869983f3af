"""From a recipe to what it trains: every section goes to the one builder that knows it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ..clip import DenseCLIP, load_clip
from ..clip.loading import build_clip
from ..clip.readouts import check_read_outs
from ..clip.stem import MEAN, STD, Stem, lite0_weights
from ..clip.templates import COLLAGE_TEMPLATES
from ..core.lookup import checked
from ..core.processes import default_device, join_processes
from ..datasets import held_out_data, training_data
from ..datasets.base import Segmented, Trainable, caption_words
from ..evaluation import get_protocol
from ..objectives import build_objective
from ..segmentors import Segmentor
from ..segmentors import build_segmentor as from_section
from .acceleration import DTYPES, accelerate
from .class_teacher import ClassTeacher
from .finetuning import FineTuning
from .linear_start import start_linearly
from .pool import build_pool, pack_words, stem_examples
from .pretraining import Pretraining, Stage, TextSection, distilled
from .recipe import FineTuneRecipe, PretrainRecipe
from .supervision import build_supervision


class Finished(Protocol):
    """A training that is over: what `Run` is to the one that begins where it ended."""

    @property
    def model(self) -> Segmentor:
        """The trained segmentor."""


def build_task(
    recipe: FineTuneRecipe, start: Finished | None = None, data: Segmented | None = None
) -> tuple[FineTuning, DenseCLIP]:
    """What a recipe trains, before its first step, and the pretrained CLIP it is compared with.

    Args:
        recipe: of fine-tuning.
        start: a finished run whose segmentor's weights it begins with.
        data: learnt from in place of the recipe's data set; cut into crops unless it is `Trainable`.

    Raises:
        ValueError: a data set that cannot be read, a start of another architecture, or what segmentor and
            objective refuse.
    """
    join_processes()
    supervision = build_supervision(recipe.supervision)
    scenes = learnt_from(recipe, data)  # before any weights are fetched: missing files are said at once
    anchors = _anchors(recipe, scenes)
    with (
        torch.random.fork_rng()
    ):  # first weights come from the recipe's seed, and whoever called keeps the generator as it was
        torch.manual_seed(recipe.seed)
        segmentor = build_segmentor(recipe).to(default_device())
        # The tokenizer's tables, which nobody changes, would take a second to copy.
        shared = {id(segmentor.clip.tokenizer): segmentor.clip.tokenizer}
        reference = copy.deepcopy(segmentor.clip, shared).requires_grad_(False)
        if start is not None:
            _begin_with(segmentor, start, recipe)
        machine = recipe.machine
        if supervision is not None:
            scenes = supervision.scenes(scenes, reference, seed=recipe.seed, workers=machine.workers)
        accelerate(
            segmentor,
            compile=machine.compile,
            checkpointing=machine.checkpointing,
            channels_last=machine.channels_last,
        )
        objective = None
        if recipe.objective is not None:
            objective = build_objective(recipe.objective, segmentor.clip, reference).to(segmentor.clip.device)
        if start is None and segmentor.prepared_with:
            segmentor.prepare(_unlabelled(scenes, segmentor.prepared_with).to(segmentor.clip.device))
        build = FineTuning if supervision is None else supervision.task
        task = build(
            segmentor,
            scenes,
            batch=recipe.batch,
            optimizer=recipe.optimizer,
            machine=machine,
            tune=recipe.tune,
            prompt=recipe.prompt,
            background=recipe.background,
            anchors=anchors,
            objective=objective,
            teacher=None if objective is None else reference,
            steps=recipe.steps,
        )
    return task, reference


def learnt_from(recipe: FineTuneRecipe, data: Segmented | None = None) -> Trainable:
    """What a recipe learns from, or `data` in its place: item i is the same in every run, process and
    worker.
    """
    return training_data(recipe.data, seed=recipe.seed, length=recipe.steps * recipe.batch, data=data)


def held_out(recipe: FineTuneRecipe) -> Segmented:
    """What a recipe's training is watched on.

    Raises:
        ValueError: an unknown protocol or split, said before the training and not after.
    """
    get_protocol(recipe.evaluation.protocol)
    return held_out_data(recipe.data, recipe.evaluation.split, length=recipe.evaluation.scenes)


def build_segmentor(recipe: FineTuneRecipe) -> Segmentor:
    """The segmentor of a recipe before training; a head gets its first weights from torch's global generator.

    Raises:
        ValueError: unknown names or options, or what the segmentor refuses.
    """
    clip = load_clip(recipe.clip.name, recipe.clip.pretrained)
    return from_section(recipe.segmentor, clip, recipe.prompt, recipe.loss)


def build_pretraining(recipe: PretrainRecipe, kept: Path) -> Pretraining:
    """What a recipe of pretraining trains, before its first step.

    Args:
        recipe: the recipe.
        kept: folder of what takes long and is the same for many runs: scenes as the stem sees them, and the
            distilled text tower. What is there already is taken.

    Raises:
        FileNotFoundError: the stem's weights or the sentence encoder are not installed.
        ValueError: unknown read-outs, stages or options, a stem of other patches than the model's, or a
            normalisation that is not the stem's.
    """
    import open_clip

    # All that a recipe can have wrong is said before the long work, not after it.
    check_read_outs(recipe.read_outs)
    stages = [checked(Stage, stage, "a stage") for stage in recipe.stages]
    size = recipe.model["vision_cfg"]["image_size"]
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = build_clip(recipe.model, recipe.stem)
        stem = model.visual.conv1 if isinstance(model.visual.conv1, Stem) else None
        if stem is not None:
            if {*recipe.mean, *recipe.std} != {MEAN, STD}:
                raise ValueError(
                    f"got mean={recipe.mean} and std={recipe.std}; expected {MEAN} and {STD}, the stem's"
                )
            stem.fill(lite0_weights())
            stem.standardise(stem_examples(size, recipe.seed))
            # Tokens of unit deviation: the layer's own rule would begin with far smaller ones than positions.
            nn.init.normal_(stem.proj.weight, std=stem.proj.in_channels**-0.5)
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    clip = DenseCLIP(
        model, tokenizer, mean=recipe.mean, std=recipe.std, name=recipe.name, templates=COLLAGE_TEMPLATES
    )
    teacher = None
    if recipe.text is not None:
        teacher = distilled(clip, checked(TextSection, recipe.text, "text"), kept, recipe.seed)
    classes = None
    # A recipe that asks for classes has a stem and a teacher: it is refused where it is read otherwise.
    if recipe.classes and stem and teacher and teacher.teacher.classes is not None:
        classes = ClassTeacher.of_stem(stem, lite0_weights(), teacher.teacher.classes)
    pool = build_pool(
        stem,
        kept,
        recipe.pool,
        size=size,
        seed=recipe.seed,
        instances=recipe.instances,
        workers=torch.get_num_threads(),
    )
    if recipe.linear_start:
        start_linearly(clip, pool, clip.encode_text(pack_words()).detach(), seed=recipe.seed)
    return Pretraining(
        clip.to(default_device()),
        pool,
        stages,
        batch=recipe.batch,
        local=recipe.local,
        teacher=teacher,
        classes=classes,
        class_weight=recipe.classes,
        channel_dropout=recipe.channel_dropout,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        dtype=DTYPES[recipe.dtype],
    )


def _anchors(recipe: FineTuneRecipe, data: Segmented) -> list[str]:
    """Nouns of captions outside the segmentation vocabulary, where the recipe wants them."""
    return [] if recipe.anchors is None else list(caption_words(data))


def _begin_with(segmentor: nn.Module, start: Finished, recipe: FineTuneRecipe) -> None:
    try:
        segmentor.load_state_dict(start.model.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the run of {recipe.start!r} has another architecture than {recipe.name!r}; "
            "expected the same keys"
        ) from error


def _unlabelled(data: Trainable, count: int) -> Tensor:
    """The first pictures (count, 3, H, W), or as many as there are."""
    return torch.stack([data[i].image for i in range(min(count, len(data)))])
