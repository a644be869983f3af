"""Measure who labels points: one confusion matrix over all scenes, seen and unseen nouns and stuff apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..datasets.points import PointData, PointScene, check_scene
from .metrics import SegmentationMetrics

Labeller = Callable[[PointScene], Tensor]  # a scene -> (N,) class ids or (N, C) scores of all names


@torch.inference_mode()
def count_points(labeller: Labeller, data: PointData, limit: int | None = None) -> SegmentationMetrics:
    """Count the points of every scene; all names of the data set compete.

    Args:
        labeller: who is measured; it is given the scene and must not look at its labels.
        data: the scenes.
        limit: number of scenes, the first ones; None takes all.

    Returns:
        The counts: `.compute()` has pAcc, mIoU, mIoU_seen, mIoU_unseen, hIoU and mIoU_stuff, fractions, and
        `.per_class()` the IoU of each name.

    Raises:
        ValueError: a limit below 1, a scene that is none (says which), or what the labeller refuses.
    """
    total = len(data) if limit is None else min(limit, len(data))
    if total < 1:
        raise ValueError(f"got {total} scenes (limit={limit}); expected at least 1")
    metrics = SegmentationMetrics(len(data.names), data.unseen, data.ignore, groups=data.class_groups)
    for index in range(total):
        try:
            scene = check_scene(data[index], len(data.names), data.ignore)
            said = labeller(scene)
        except ValueError as error:
            raise ValueError(f"scene {index} of {data.split!r}: {error}") from error
        metrics.update(said.argmax(1) if said.ndim == 2 else said, scene.labels)
    return metrics
