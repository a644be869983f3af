"""Does noise leave the relation? What LPAM makes of the teacher's relation, held against the masks.

InfoCLIP's compression is to squeeze noise out of the relation of patches and words. Whether it does can be
asked of the relation itself, before and after LPAM: does a word's map rank the patches that show it above the
others (AUROC), and are patches labelled right by the word they relate to most (mIoU)?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.labels import NO_LABEL
from ..datasets import held_out_data
from ..datasets.base import class_groups
from ..evaluation.metrics import SegmentationMetrics
from ..evaluation.probes import COVERED
from ..objectives import relation
from ..training.recipe import FineTuneRecipe
from ..training.run import Run

SCENES = 100
_ROWS = 20
_GROUPS = ("seen", "unseen")

Relate = Callable[[Tensor, Tensor], Tensor]  # (B, N, D) patches and (C, D) words to (B, N, C)


@torch.inference_mode()
def relation_quality(run: Run, *, split: str = "test", scenes: int = SCENES) -> dict[str, float]:
    """The teacher's relation before and after LPAM, on nouns of held-out scenes.

    Args:
        run: a finished run.
        split: of the recipe's data set, which must report groups of classes.
        scenes: how many of it.

    Returns:
        {"before auroc_seen", "after mIoU_unseen", ...}, fractions, means over nouns; empty for a run
        without an LPAM. AUROC is of a word's relation less that of an average word, over the patches of a
        scene that one class covers by three quarters; it needs patches with the word and without.

    Raises:
        ValueError: a run of pretraining, or a data set without groups.
    """
    lpam = getattr(run.objective, "lpam", None)
    if lpam is None:
        return {}
    recipe, teacher = run.recipe, run.reference
    if not isinstance(recipe, FineTuneRecipe) or teacher is None:
        raise ValueError(f"got the run of {recipe.name!r}, a pretraining; expected one of fine-tuning")
    data = held_out_data(recipe.data, split, length=scenes)
    groups = class_groups(data)
    if groups is None:
        raise ValueError("got a data set without class_groups; expected seen and unseen classes apart")
    words = teacher.encode_text(data.names)
    makers: Mapping[str, Relate] = {"before": relation, "after": lpam}
    counts = {name: SegmentationMetrics(len(data.names), data.unseen, groups=groups) for name in makers}
    ranks: dict[str, dict[int, list[float]]] = {name: defaultdict(list) for name in makers}
    for first in range(0, scenes, _ROWS):
        part = [data[index] for index in range(first, min(first + _ROWS, scenes))]
        masks = torch.stack([scene.mask for scene in part])
        dense = teacher.encode_dense(torch.stack([scene.image for scene in part]), run.model.read_outs[0])
        labels = patch_labels(masks, len(data.names), (dense.shape[2], dense.shape[3]))
        for name, relate in makers.items():
            related = relate(dense.flatten(2).mT, words)
            large = F.interpolate(
                related.mT.unflatten(2, dense.shape[2:]),
                masks.shape[1:],
                mode="bilinear",
                align_corners=False,
            )
            counts[name].update(large.argmax(1), masks)
            for own, truth in zip(related, labels.flatten(1), strict=True):
                for word, found in word_ranks(own, truth).items():
                    ranks[name][word].append(found)
    result: dict[str, float] = {}
    for name in makers:
        measured = counts[name].compute()
        for group in _GROUPS:
            means = [fmean(ranks[name][word]) for word in groups[group] if ranks[name][word]]
            result[f"{name} auroc_{group}"] = fmean(means) if means else float("nan")
            result[f"{name} mIoU_{group}"] = measured[f"mIoU_{group}"]
    return result


def patch_labels(masks: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    """The class that covers three quarters of a patch, NO_LABEL where none does.

    Args:
        masks: (B, H, W) labels, those outside 0 .. classes - 1 belong to no class.
        classes: how many.
        grid: (h, w).

    Returns:
        (B, h, w) int64.
    """
    known = (masks >= 0) & (masks < classes)
    hot = F.one_hot(masks.where(known, 0), classes).movedim(-1, 1).float() * known[:, None]
    cover, label = F.adaptive_avg_pool2d(hot, grid).max(1)
    return label.where(cover >= COVERED, NO_LABEL)


def word_ranks(related: Tensor, labels: Tensor) -> dict[int, float]:
    """AUROC of each word that some counted patches show and others do not.

    Args:
        related: (N, C) relation of a scene's patches and words.
        labels: (N,) class of each patch; NO_LABEL does not count.

    Returns:
        {class: chance that a patch with the word relates to it more than one without}, ties count half.
    """
    counted = labels != NO_LABEL
    # Less the average word: what a patch has in common with every word says nothing about this one.
    scores = (related - related.mean(1, keepdim=True))[counted]
    labels = labels[counted]
    found = {}
    for word in labels.unique().tolist():
        own, others = scores[labels == word, word], scores[labels != word, word]
        if len(others):
            above = (own[:, None] > others).float() + 0.5 * (own[:, None] == others).float()
            found[word] = above.mean().item()
    return found
