"""What the stem is worth, and what an instance is worth: class means of frozen features, no training at all.

A noun's mean feature over its training instances is compared with cut-outs of its test instances. Features
are averaged over the cells that the cut-out covers, on grey: a yardstick of the pictures, not a method.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..clip.stem import MEAN, STD, Stem, StemFeatures, lite0_weights
from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import interval
from ..datasets.collage import segmentation_nouns
from ..datasets.collage.words import Instance, instances

SIZE, DIRECTIONS, DRAWS = 96, 256, 10
COUNTS = (1, 2, 4, 8, 16)
_GREY = 128
_BATCH = 64


class _Cutout(NamedTuple):
    noun: str
    instance: int
    pixels: Tensor  # (3, SIZE, SIZE) in [0, 1], on grey
    cover: Tensor  # (SIZE, SIZE), the alpha in [0, 1]


Describe = Callable[[Tensor, Tensor], Tensor]  # pictures and covers to one vector each


def trunk(*, out: Path | None = None) -> JsonObject:
    """The ablation of the trunk, and accuracy against training instances; written as trunk.json.

    Returns:
        {"trunk": {features: top-1 of new cut-outs}, "instances": {count: {"mean", "ci95", "nouns"}},
        "nouns", "cutouts": how many were asked}; fractions. The curve is of the nouns that have the most
        instances, with `DRAWS` draws of as many.
    """
    nouns = {noun: instances()[noun] for noun in segmentation_nouns()}
    known = _open(nouns, ("train", "val"))
    fresh = _open(nouns, ("test",))
    rows = {}
    for label, describe in _features().items():
        learnt, asked = _described(known, describe), _described(fresh, describe)
        rows[label] = _top1(known, learnt, fresh, asked)
    content = {
        "trunk": rows,
        "instances": _curve(known, learnt, fresh, asked),
        "nouns": len(nouns),
        "cutouts": len(fresh),
    }
    return write_report("trunk", content, out)


def _features() -> dict[str, Describe]:
    """Ways to describe a cut-out, the stem's own last."""

    def pixels(pictures: Tensor, covers: Tensor) -> Tensor:
        # Where there is no stem, patches of pixels are all that the first layer sees.
        colours = torch.cat([pictures, covers[:, None]], 1)
        return F.adaptive_avg_pool2d(colours, 12).flatten(1)

    def of(layer: str, enlarge: int) -> Describe:
        stem = Stem(192, DIRECTIONS, enlarge)
        stem.fill(lite0_weights())

        def describe(pictures: Tensor, covers: Tensor) -> Tensor:
            middle, deep = stem.features((pictures - MEAN) / STD)
            maps = {"stride 16": middle, "deep, main directions": deep}
            if layer == "joined":
                maps["joined"] = stem.join(StemFeatures(middle, deep))
            return _covered(maps[layer], covers)

        return describe

    return {
        "pixels, no stem": pixels,
        "stride 16": of("stride 16", 2),
        "deep, main directions": of("deep, main directions", 2),
        "joined, not enlarged": of("joined", 1),
        "joined": of("joined", 2),
    }


def _covered(maps: Tensor, covers: Tensor) -> Tensor:
    """Means (B, C) over the cells that cut-outs cover."""
    weights = F.adaptive_avg_pool2d(covers[:, None], (maps.shape[2], maps.shape[3]))
    return (maps * weights).sum((2, 3)) / weights.sum((2, 3)).clamp(min=1e-6)


def _open(nouns: Mapping[str, Sequence[Instance]], sides: Sequence[str]) -> list[_Cutout]:
    found = []
    for noun, each in nouns.items():
        chosen = [instance for instance in each if instance.side in sides]
        for number, instance in enumerate(chosen):
            found += [_Cutout(noun, number, *_pasted(file)) for file in instance.files]
    return found


def _pasted(file: str) -> tuple[Tensor, Tensor]:
    with Image.open(data_dir() / "collage" / file) as opened:
        picture = opened.convert("RGBA")
    picture.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    whole = Image.new("RGBA", (SIZE, SIZE), (_GREY, _GREY, _GREY, 0))
    whole.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    array = torch.from_numpy(np.asarray(whole).copy()).permute(2, 0, 1).float() / 255
    cover = array[3]
    return array[:3] * cover + _GREY / 255 * (1 - cover), cover


@torch.inference_mode()
def _described(cutouts: Sequence[_Cutout], describe: Describe) -> Tensor:
    parts = []
    for start in range(0, len(cutouts), _BATCH):
        part = cutouts[start : start + _BATCH]
        parts.append(describe(torch.stack([c.pixels for c in part]), torch.stack([c.cover for c in part])))
    return torch.cat(parts)


def _top1(
    known: Sequence[_Cutout],
    learnt: Tensor,
    fresh: Sequence[_Cutout],
    asked: Tensor,
    allowed: Mapping[str, set[int]] | None = None,
) -> float:
    """Fraction of cut-outs whose nearest class mean is their noun's, averaged over nouns.

    Args:
        known, learnt: cut-outs to learn from and their vectors.
        fresh, asked: cut-outs to recognise and their vectors.
        allowed: which instances of each noun may be learnt from; None: all, and every noun competes.
    """
    centre, spread = learnt.mean(0), learnt.std(0).clamp(min=1e-6)
    learnt, asked = (learnt - centre) / spread, (asked - centre) / spread
    nouns = list(dict.fromkeys(c.noun for c in known) if allowed is None else allowed)
    means = []
    for noun in nouns:
        rows = [
            i
            for i, c in enumerate(known)
            if c.noun == noun and (allowed is None or c.instance in allowed[noun])
        ]
        means.append(F.normalize(F.normalize(learnt[rows], dim=1).mean(0), dim=0))
    nearest = (asked @ torch.stack(means).T).argmax(1).tolist()
    right: dict[str, list[bool]] = {noun: [] for noun in nouns}
    for cutout, index in zip(fresh, nearest, strict=True):
        if cutout.noun in right:
            right[cutout.noun].append(nouns[index] == cutout.noun)
    return fmean(fmean(hits) for hits in right.values() if hits)


def _curve(
    known: Sequence[_Cutout],
    learnt: Tensor,
    fresh: Sequence[_Cutout],
    asked: Tensor,
) -> dict[str, JsonObject]:
    """Top-1 among the nouns that have the larger counts, by how many instances of each are learnt from."""
    nouns = dict.fromkeys(c.noun for c in known)
    have = {noun: 1 + max(c.instance for c in known if c.noun == noun) for noun in nouns}
    curve: dict[str, JsonObject] = {}
    # Every noun has four in some form; few have sixteen.
    for least in (4, 8, 16):
        # The same nouns along a curve: with other ones its ends could not be compared.
        rich = [noun for noun, count in have.items() if count >= least]
        if len(rich) < 3:
            continue
        for count in (c for c in COUNTS if c <= least):
            scores = []
            for draw in range(DRAWS):
                rng = random.Random(f"instances/{least}/{count}/{draw}")
                allowed = {noun: set(rng.sample(range(have[noun]), count)) for noun in rich}
                scores.append(_top1(known, learnt, fresh, asked, allowed))
            of = interval(scores)
            curve[f"{count} of {least}"] = {"mean": of.mean, "ci95": of.ci95, "nouns": len(rich)}
    return curve
