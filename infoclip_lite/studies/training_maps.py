"""Trainings side by side as maps: what every word scores at every patch of a few scenes, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from ..core.reports import JsonObject, write_report
from ..datasets.base import Segmented, class_groups
from ..segmentors import Segmentor
from ..training.build import held_out
from ..training.recipe import FineTuneRecipe, load_finetuning
from ..training.run import Run, train
from .degradation_frames import pack

SHOWN = 3  # scenes
KEYS = ("mIoU_seen", "mIoU_unseen", "noun_recognition")
# The same training twice, without and with what is to keep CLIP aligned: InfoCLIP with our choices [O], as
# in mini/infoclip. Keys of the recipe to replace.
TRAININGS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "plain": {},
        "repaired": {
            "anchors": "captions",
            "objective": {
                "name": "infoclip",
                "axis": "pixel",
                "centre": True,
                "kind": "gap",
                "compression": 0.0,
                "transfer": 3.0,
            },
        },
    }
)


def training_maps(
    recipe: str = "mini/plain-few",
    *,
    trainings: Mapping[str, Mapping[str, object]] = TRAININGS,
    scenes: int = SHOWN,
    out: Path | None = None,
    **changes: object,
) -> JsonObject:
    """Run some trainings of a recipe and write data/reports/training_maps.json: logits of all words on the
    patches of a few validation scenes, with metrics, along the way.

    Args:
        recipe: a fine-tuning recipe with steps in `evaluation.at`.
        trainings: name -> keys of the recipe to replace for it.
        scenes: how many are shown: the first that have both a learnt and an unseen noun.
        out: where the report is written; data/reports by default.
        changes: keys to replace in every training, such as steps=40.

    Returns:
        {"recipe", "changes", "seed", "measured": scenes behind the metrics, "names", "seen" and "unseen": ids
        of the learnt nouns and of those left out, "scenes": their numbers, "words": ids that each shows,
        "images", "truth", "low", "high", "trainings": {name: {"settings", "frames": [{"step", "maps",
        and KEYS}]}}}. Pictures are as of `pack`; "maps" is (scenes * words, h, w) bytes, 0 for the logit
        "low" and 255 for "high".

    Raises:
        ValueError: a recipe that trains something else or has no step to look at, or too few scenes.
    """
    what = {name: load_finetuning(recipe, **{**changes, **each}) for name, each in trainings.items()}
    first = next(iter(what.values()))
    if not first.evaluation.at:
        raise ValueError(f"got recipe {recipe!r}; expected one with steps in evaluation.at")
    data = held_out(first)
    chosen = telling(data, scenes)
    shown = [data[i] for i in chosen]
    images = torch.stack([scene.image for scene in shown])
    truth = torch.stack([scene.mask for scene in shown])
    watched = {name: _watched(each, images, data) for name, each in what.items()}
    logits = np.concatenate([maps for _, by_step in watched.values() for maps in by_step.values()])
    low, high = float(logits.min()), float(logits.max())
    content = {
        "recipe": recipe,
        "changes": changes,
        "seed": first.seed,
        "measured": min(first.evaluation.scenes, len(data)),
        "names": list(data.names),
        "seen": list(_nouns(data)[0]),
        "unseen": list(data.unseen),
        "scenes": chosen,
        "words": [sorted(set(mask.unique().tolist())) for mask in truth],
        "images": pack((images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)),
        "truth": pack(truth.numpy().astype(np.uint8)),
        "low": low,
        "high": high,
        "trainings": {
            name: {"settings": dict(trainings[name]), "frames": _frames(run, by_step, low, high)}
            for name, (run, by_step) in watched.items()
        },
    }
    return write_report("training_maps", content, out)


def telling(data: Segmented, count: int) -> list[int]:
    """The first scenes that show both a learnt noun and one that is left out, so that both can be watched.

    Args:
        data: with groups of classes.
        count: of scenes.

    Returns:
        Their numbers.

    Raises:
        ValueError: there are not so many, or the data set has no groups.
    """
    groups = [set(ids) for ids in _nouns(data)]
    found: list[int] = []
    for index in range(len(data)):
        present = set(data[index].mask.unique().tolist())
        if all(group & present for group in groups):
            found.append(index)
        if len(found) == count:
            return found
    raise ValueError(f"got {len(found)} scenes with a learnt and an unseen noun; expected {count}")


def _nouns(data: Segmented) -> tuple[Sequence[int], Sequence[int]]:
    """Ids of the learnt nouns that are shown, and of those that are left out."""
    groups = class_groups(data)
    if groups is None:
        raise ValueError(f"{type(data).__name__} has no groups of classes; expected seen and unseen nouns")
    return groups["seen"], groups["unseen"]


def _watched(recipe: FineTuneRecipe, images: Tensor, data: Segmented) -> tuple[Run, dict[int, np.ndarray]]:
    """The finished run, and at each of its steps the logits (scenes, words, h, w)."""
    by_step: dict[int, np.ndarray] = {}

    @torch.no_grad()
    def watch(step: int, segmentor: Segmentor) -> dict[str, float]:
        text = segmentor.encode_text(data.names)
        # As small as the model gives them: the page enlarges them as `segment` does.
        by_step[step] = segmentor.decode(segmentor.encode(images), text).float().cpu().numpy()
        return {}

    return train(recipe, watch=watch, progress=False), by_step


def _frames(run: Run, by_step: Mapping[int, np.ndarray], low: float, high: float) -> list[JsonObject]:
    frames: list[JsonObject] = []
    for record in run.evaluations():
        step = int(record["step"])
        # A byte: the picture needs no more, and a page has to load it.
        scaled = (by_step[step] - low) / max(high - low, 1e-9) * 255
        maps = pack(np.concatenate(list(scaled.round().astype(np.uint8))))
        frames.append({"step": step, "maps": maps, **{key: round(record[key], 4) for key in KEYS}})
    return frames
