"""What the frozen CLIP would say if somebody drew the masks: true masks, named in several ways.

A bound for every system that draws masks and has CLIP name them, and a choice of how to ask it. No training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import DenseCLIP, load_clip
from ..clip.tower import TowerPass
from ..core.labels import NO_LABEL
from ..core.reports import JsonObject, write_report
from ..datasets import Segmented, held_out_data
from ..segmentors.queries import bounding_boxes, class_masks, crops, region_cls, to_grid
from ..training.recipe import load_finetuning
from .by_scene import groups_of, redrawn_scores, tally
from .rows import SPLITS
from .runs import SCENES, TUNING_SCENES

_HALF = 0.5  # of a patch that a mask covers, from which on the patch is the region's


class Shown(NamedTuple):
    """A scene with its true masks, as the ways of naming look at it.

    Attributes:
        image: (1, 3, H, W) floats in [0, 1].
        masks: (1, K, H, W) bool, one of every class that is there.
        tower: CLIP's pass over the picture.
        cover: (K, h, w), how much of each patch is in each mask, 0 .. 1.
    """

    image: Tensor
    masks: Tensor
    tower: TowerPass
    cover: Tensor


Naming = Callable[[DenseCLIP, Shown], Tensor]  # (K, D) unit vectors


def by_crop(clip: DenseCLIP, shown: Shown) -> Tensor:
    """CLS of what is cut out by the mask's box, painted over outside of the mask: ZSSeg's way [C].

    Args:
        clip: the model.
        shown: the scene.
    """
    side = clip.patch_size * clip.visual.grid_size[0]
    cut, _ = crops(shown.image, shown.masks, side, clip.mean)
    return clip.encode_image(cut[0])


def by_box(clip: DenseCLIP, shown: Shown) -> Tensor:
    """CLS of the mask's box, with all that is in it.

    Args:
        clip: the model.
        shown: the scene.
    """
    boxes = torch.zeros_like(shown.masks)
    for mask, (top, left, bottom, right) in enumerate(bounding_boxes(shown.masks)[0].tolist()):
        boxes[0, mask, top:bottom, left:right] = True
    return by_crop(clip, shown._replace(masks=boxes))


def by_region(clip: DenseCLIP, shown: Shown, blocks: int) -> Tensor:
    """CLS that sees the mask's patches alone in the last blocks; see `region_cls`.

    Args:
        clip: the model.
        shown: the scene.
        blocks: how many.
    """
    inside = (shown.cover > _HALF).flatten(1)[None]
    return region_cls(clip, shown.tower, inside, blocks=blocks)[0]


def by_patches(clip: DenseCLIP, shown: Shown) -> Tensor:
    """Mean of the mask's patches, read by "value".

    Args:
        clip: the model.
        shown: the scene.
    """
    dense = F.normalize(clip.read(shown.tower, "value")[0], dim=-1)
    return F.normalize(shown.cover.flatten(1) @ dense, dim=-1)


def ways(depth: int) -> dict[str, Naming]:
    """Every way of naming, by the label of its row.

    Args:
        depth: blocks of the tower.
    """

    def together(clip: DenseCLIP, shown: Shown) -> Tensor:
        return F.normalize(by_patches(clip, shown) + by_crop(clip, shown), dim=-1)

    regions = {
        f"region's CLS, last {count} blocks" if count > 1 else "region's CLS, last block": partial(
            by_region, blocks=count
        )
        for count in range(1, depth + 1)
    }
    return {"crop": by_crop, "box": by_box, "patches": by_patches, "patches and crop": together, **regions}


def oracle(
    *, scenes: int = SCENES, tuning_scenes: int = TUNING_SCENES, out: Path | None = None
) -> JsonObject:
    """Name true masks in every way, and write data/reports/oracle.json; some five minutes of one CPU thread.

    Args:
        scenes: of each test split.
        tuning_scenes: of validation, on which a way is chosen.
        out: where the report is written; data/reports by default.

    Returns:
        {"scenes", "words", "rows": {way: {split: {metric: {"mean", "half"}}}}, "named": {way: {split: {group:
        fraction of masks}}}}: fractions; intervals are over scenes, by bootstrap.
    """
    clip = load_clip().requires_grad_(False)
    counts = {"val": tuning_scenes, **dict.fromkeys(SPLITS, scenes)}
    found = {split: named(clip, _scenes(split, count)) for split, count in counts.items()}
    labels = ways(len(clip.blocks))
    content = {
        "scenes": counts,
        "words": len(_scenes("val", 1).names),
        "rows": {way: {split: found[split][way][0] for split in counts} for way in labels},
        "named": {way: {split: found[split][way][1] for split in counts} for way in labels},
    }
    return write_report("oracle", content, out)


def _scenes(split: str, length: int) -> Segmented:
    return held_out_data(load_finetuning("mini/map-head").data, split, length=length)


@torch.inference_mode()
def named(
    clip: DenseCLIP, data: Segmented, namings: Mapping[str, Naming] | None = None
) -> dict[str, tuple[dict[str, dict[str, float]], dict[str, float]]]:
    """Scores of true masks under every way of naming.

    Args:
        clip: the model.
        data: the scenes.
        namings: the ways; None: all of them.

    Returns:
        way -> ({metric: {"mean", "half"}} of pixels, {group: fraction of its masks that are named right}).
    """
    namings = ways(len(clip.blocks)) if namings is None else namings
    text, words = clip.encode_text(data.names), len(data.names)
    groups = groups_of(data)
    group_of = {index: group for group, members in groups.items() for index in members}
    tallies: dict[str, list[Tensor]] = {way: [] for way in namings}
    right: dict[str, dict[str, list[bool]]] = {way: {group: [] for group in groups} for way in namings}
    for scene in (data[index] for index in range(len(data))):
        labels = torch.where(scene.mask == data.ignore, NO_LABEL, scene.mask.long())[None]
        wanted = class_masks(labels, words)
        tower = clip.tower(scene.image[None], keep=True)
        shown = Shown(scene.image[None], wanted.masks.bool(), tower, to_grid(wanted.masks, tower.grid)[0])
        for way, naming in namings.items():
            said = (naming(clip, shown) @ text.T).argmax(-1)  # (K,)
            # Masks are of different classes: every labelled pixel is in exactly one of them.
            drawn = said[wanted.masks.argmax(1)]
            tallies[way].append(tally(drawn, scene.mask[None].long(), words))
            for true, got in zip(wanted.ids[0].tolist(), said.tolist(), strict=True):
                if true in group_of:
                    right[way][group_of[true]].append(true == got)
    return {
        way: (
            {
                metric: {"mean": score.mean, "half": score.ci95}
                for metric, score in redrawn_scores(torch.cat(tallies[way]), groups).items()
            },
            {group: fmean(hits) for group, hits in right[way].items() if hits},
        )
        for way in namings
    }
