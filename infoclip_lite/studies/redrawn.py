"""Would it hold with other instances? One score on the same scenes, with the things in them drawn again.

Seeds say how far a score moves with another training. With other chairs and dogs it moves, too, and a noun
has few of them. So instances are drawn with replacement, those of each noun among themselves (bootstrap), and
what was counted on the pixels of an instance counts as often as it was drawn.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ..datasets import held_out_data
from ..datasets.collage import Collage
from ..datasets.collage.words import instances
from ..evaluation.metrics import SegmentationMetrics
from ..evaluation.predict import predict
from ..evaluation.protocol import WHOLE
from ..evaluation.vocabulary import vocabulary_of
from ..training.acceleration import autocast, dtype_of
from ..training.recipe import FineTuneRecipe
from ..training.run import Run

DRAWS = 200
_ROWS = 25
_SHARES = 60  # a whole: counts are integers, and up to six things of a noun divide this evenly

Thing = tuple[str, int]  # a noun, and which of its instances


def redrawn(run: Run, *, split: str = "test", scenes: int, draws: int = DRAWS) -> list[float]:
    """hIoU on a split of Collage with its instances drawn again; the draws are the same for every run.

    Args:
        run: a finished run of fine-tuning on Collage.
        split: of its data set.
        scenes: how many of it.
        draws: how often.

    Returns:
        One fraction a draw, in the precision of the training.

    Raises:
        ValueError: a run of pretraining, or on other pictures than Collage's.
    """
    recipe = run.recipe
    data = held_out_data(recipe.data, split, length=scenes) if isinstance(recipe, FineTuneRecipe) else None
    if not isinstance(recipe, FineTuneRecipe) or not isinstance(data, Collage):
        raise ValueError(f"got the run of {recipe.name!r}; expected fine-tuning on Collage")
    metrics = SegmentationMetrics(len(data.names), data.unseen, data.ignore, groups=data.class_groups)
    with autocast(run.model.clip.device, dtype_of(recipe.machine.dtype)):
        confusion = _counted(run, data, metrics)
    shown = [things_of(data.sources(index)) for index in range(scenes)]
    scores = []
    for drawn in draws_of(split, {thing for things in shown for thing in things}, draws):
        times = torch.stack([_times(things, drawn, data.names) for things in shown])
        again = metrics.like((confusion * times[:, :, None]).sum(0)).compute()
        scores.append(round(again["hIoU"], 5))
    return scores


@torch.inference_mode()
def _counted(run: Run, data: Collage, empty: SegmentationMetrics) -> Tensor:
    """(scenes, C, C) int64 confusion of each scene."""
    words, found = vocabulary_of(run.model, data, WHOLE), []
    for first in range(0, len(data), _ROWS):
        part = [data[index] for index in range(first, min(first + _ROWS, len(data)))]
        labels = predict(run.model, torch.stack([scene.image for scene in part]), words).labels[0]
        for each, scene in zip(labels, part, strict=True):
            alone = empty.like()
            alone.update(each, scene.mask)
            found.append(alone.confusion)
    return torch.stack(found)


def _times(things: Sequence[Thing], drawn: Mapping[Thing, int], names: Sequence[str]) -> Tensor:
    """(C,) int64, how often the pixels of each class of a scene count, in shares of a whole.

    Two chairs of a scene share its pixels of chairs: the mean of both. What is no thing counts once.
    """
    times = torch.full((len(names),), _SHARES)
    for place, name in enumerate(names):
        own = [drawn[thing] for thing in things if thing[0] == name]
        if own:
            times[place] = _SHARES * sum(own) // len(own)
    return times


def draws_of(split: str, things: Iterable[Thing], draws: int) -> list[Mapping[Thing, int]]:
    """How often each thing is drawn: as many of a noun as it has, with replacement.

    Args:
        split: seeds the draws.
        things: that are shown.
        draws: how many of such draws.
    """
    of: dict[str, list[Thing]] = {}
    for thing in sorted(things):
        of.setdefault(thing[0], []).append(thing)
    rng = random.Random(f"redrawn/{split}")
    return [
        Counter(drawn for own in of.values() for drawn in rng.choices(own, k=len(own))) for _ in range(draws)
    ]


def things_of(files: Sequence[str]) -> list[Thing]:
    """The instances whose pictures a scene is pasted from, each once; textures are none.

    Args:
        files: as of `Collage.sources`.
    """
    return list(dict.fromkeys(found for file in files if (found := _things().get(file))))


@lru_cache
def _things() -> Mapping[str, Thing]:
    return {
        file: (noun, number)
        for noun, own in instances().items()
        for number, each in enumerate(own)
        if each.kind != "texture"
        for file in each.files
    }
