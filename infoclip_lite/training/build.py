"""From a recipe to what it trains: data, segmentor, objective, task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.processes import default_device

if TYPE_CHECKING:
    from .run import Run

import copy

import open_clip
import torch
from open_clip.model import CLIP

from ..clip import DenseCLIP, load_clip
from ..clip.templates import COLLAGE_TEMPLATES
from ..core.lookup import build
from ..core.processes import join_processes
from ..datasets import Segmented, TrainingCrops, build_dataset
from ..datasets.collage import Collage, all_nouns
from ..evaluation.protocol import get_protocol
from ..objectives import build_objective
from ..segmentors import ChimeraSeg, CostAggregationSegmentor, Segmentor, ZeroShotSegmentor
from .acceleration import DTYPES, accelerate, dtype_of
from .finetuning import FineTuning
from .pretraining import Pretraining, Stage
from .recipe import FineTuneRecipe, PretrainRecipe, checked

_MATCHED = 64  # pictures that a semantic head takes the scale of CLIP's tokens from


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


def held_out_scenes(recipe: FineTuneRecipe) -> Segmented:
    """What a recipe's training is watched on."""
    get_protocol(recipe.protocol)  # a wrong name is said before the training, not after
    if recipe.data == "collage":
        return Collage(recipe.split, recipe.size, length=recipe.scenes, seen=recipe.seen)
    return build_dataset(recipe.data, recipe.split, recipe.root)


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
