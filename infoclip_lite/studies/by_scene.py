"""Scores of what is not trained: counted scene by scene, and how far they move with other scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.statistics import Score
from ..datasets import Segmented
from ..datasets.base import class_groups
from .rows import shown_metrics

DRAWS = 500  # of a bootstrap: its interval is then known to a few percent
Groups = Mapping[str, Sequence[int]]  # "seen", "unseen" and others -> class ids


def tally(labels: Tensor, masks: Tensor, words: int) -> Tensor:
    """What IoU is made of, scene by scene: a (C, C) matrix a scene would be megabytes.

    Args:
        labels: (B, H, W) predicted.
        masks: (B, H, W) true; labels outside 0 .. C - 1 are not counted.
        words: C.

    Returns:
        (B, 3, C) pixels: labelled rightly, of the class, and called so.
    """
    counted = []
    for called, wanted in zip(labels, masks, strict=True):
        kept = (wanted >= 0) & (wanted < words)
        called, wanted = called[kept], wanted[kept]
        parts = (wanted[called == wanted], wanted, called)
        counted.append(torch.stack([torch.bincount(part, minlength=words) for part in parts]))
    return torch.stack(counted)


def redrawn_scores(tallies: Tensor, groups: Groups, *, draws: int = DRAWS) -> dict[str, Score]:
    """Metrics with a 95% interval over scenes, by bootstrap [O].

    Args:
        tallies: (scenes, 3, C) of `tally`.
        groups: whose means are reported.
        draws: how often as many scenes are drawn with replacement; the same ones for every model.

    Returns:
        metric -> Score: of all scenes, 1.96 deviations of the draws, and the draws.
    """
    scenes = len(tallies)
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(scenes, (draws, scenes), generator=generator)
    times = torch.stack([torch.bincount(row, minlength=scenes) for row in picked])
    # Counts of drawn scenes add up: no picture is looked at twice. The first row is all scenes, once each.
    times = torch.cat([torch.ones(1, scenes), times.float()]).double()
    metrics = _metrics((times @ tallies.flatten(1).double()).unflatten(1, tallies.shape[1:]), groups)
    spread = {key: tuple(round(value, 5) for value in metrics[key][1:]) for key in shown_metrics(metrics)}
    return {key: Score(metrics[key][0], _half(own), draws=own) for key, own in spread.items()}


def _metrics(added: Tensor, groups: Groups) -> dict[str, list[float]]:
    """Of each row of (n, 3, C) added tallies what `SegmentationMetrics.compute` says."""
    hit, wanted, called = added.unbind(1)
    iou = hit / (wanted + called - hit)  # NaN where a class is neither there nor called
    means = {f"mIoU_{name}": iou[:, list(ids)].nanmean(1) for name, ids in groups.items()}
    seen, unseen = means["mIoU_seen"], means["mIoU_unseen"]
    # Nothing right is 0 and not 0 / 0; a group of which nothing is there stays NaN.
    harmonic = torch.where(seen + unseen == 0, 0.0, 2 * seen * unseen / (seen + unseen))
    return {key: row.tolist() for key, row in {**means, "hIoU": harmonic}.items()}


def groups_of(data: Segmented) -> Groups:
    """The classes that are reported apart; of a data set that names no groups, the unseen ones and the rest.

    Args:
        data: the scenes.
    """
    rest = [index for index in range(len(data.names)) if index not in data.unseen]
    return class_groups(data) or {"seen": rest, "unseen": data.unseen}


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of several scores of the same draws, which has draws too.

    Args:
        scores: of models that are not trained.
    """
    count = len(scores)
    draws = tuple(sum(values) / count for values in zip(*(score.draws for score in scores), strict=True))
    return Score(sum(score.mean for score in scores) / count, _half(draws), draws=draws)


def _half(draws: Sequence[float]) -> float:
    """1.96 deviations; NaN where a draw has none of a group's classes."""
    return 1.96 * float(torch.tensor(draws, dtype=torch.float64).std())
