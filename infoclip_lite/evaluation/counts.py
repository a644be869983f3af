"""What an evaluation has counted: kept in a folder, added up over processes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.processes import world
from ..core.states import read_state, write_state
from ..datasets.base import class_groups
from .metrics import SegmentationMetrics
from .report import PictureScore

if TYPE_CHECKING:
    from ..datasets.base import Item, Segmented


class Counts:
    """Counts of this process.

    Args:
        dataset: what is evaluated; see `evaluate`.
        gammas: one confusion matrix each; pictures are scored with the first one's.
        false_alarms: see `SegmentationMetrics`.

    Attributes:
        sweep: metrics of each gamma.
        pictures: the score of each picture.
        batches: number of batches counted.
        saved: number of pictures in the last saved state.
        seconds: time that earlier runs took, before they were killed.
    """

    def __init__(self, dataset: Segmented, gammas: Sequence[float], false_alarms: bool = True) -> None:
        empty = SegmentationMetrics(
            len(dataset.names),
            dataset.unseen,
            dataset.ignore,
            false_alarms=false_alarms,
            groups=class_groups(dataset),
        )
        self.sweep = {gamma: empty.like() for gamma in gammas}
        self.pictures: list[PictureScore] = []
        self.batches = 0
        self.saved = 0
        self.seconds = 0.0
        self._identity: dict[str, object] = {}

    def add(self, indices: Sequence[int], items: Sequence[Item], labels: Sequence[Sequence[Tensor]]) -> None:
        """Count the pictures of a batch.

        Args:
            indices: of the pictures in the data set.
            items: the pictures, with masks (H, W).
            labels: of each picture, and for each gamma, (H, W).

        Raises:
            ValueError: labels that the data set does not have; says in which picture.
        """
        for index, item, found in zip(indices, items, labels, strict=True):
            # scenes that are drawn, not read, have no path
            path: str | None = getattr(item, "path", None)
            try:
                alone = self._count(found, item.mask)
            except ValueError as error:
                where = f"picture {index} ({path})" if path else f"picture {index}"
                raise ValueError(f"{where}: {error}") from error
            scores = alone.compute()
            miou, accuracy = (None if math.isnan(scores[key]) else scores[key] for key in ("mIoU", "pAcc"))
            self.pictures.append(PictureScore(index, path, miou, accuracy))
        self.batches += 1

    def _count(self, labels: Sequence[Tensor], mask: Tensor) -> SegmentationMetrics:
        """Add a picture for every gamma; the counts of it alone for the first one."""
        # first all alone, then added: a wrong label leaves no half-counted picture
        alone = [metrics.like() for metrics in self.sweep.values()]
        for picture, found in zip(alone, labels, strict=True):
            picture.update(found, mask)
        for metrics, picture in zip(self.sweep.values(), alone, strict=True):
            metrics.merge(picture)
        return alone[0]

    def resume(self, folder: Path, identity: Mapping[str, object]) -> None:
        """Go on from a folder's state, if it has one.

        Args:
            folder: PARENT/part-K-of-N, of process K of N.
            identity: what must be the same for that; anything that JSON can hold.

        Raises:
            ValueError: it holds the state of another evaluation, or of another number of processes.
        """
        # through JSON and back, so that a tuple of today equals the list that was read
        self._identity = json.loads(json.dumps(identity))
        _refuse_other_worlds(folder)
        state = read_state(folder)
        if state is None:
            return
        different = [key for key in self._identity if state["identity"].get(key) != self._identity[key]]
        if different:
            raise ValueError(
                f"{folder.parent} holds another evaluation, with other {', '.join(different)}; "
                "expected the same: choose another folder or delete it"
            )
        counted = zip(self.sweep.items(), state["confusion"], strict=True)
        self.sweep = {gamma: metrics.like(confusion) for (gamma, metrics), confusion in counted}
        self.pictures = [PictureScore(**row) for row in state["pictures"]]
        self.batches, self.seconds = state["batches"], state["seconds"]
        self.saved = len(self.pictures)

    def save(self, folder: Path, seconds: float) -> None:
        """Write the state, whole, if anything is new; `seconds` were spent in this run."""
        # a state that was read from this folder would only be written again
        if self.saved == len(self.pictures):
            return
        state = {
            "identity": self._identity,
            "confusion": [metrics.confusion for metrics in self.sweep.values()],
            "pictures": [asdict(picture) for picture in self.pictures],
            "batches": self.batches,
            "seconds": self.seconds + seconds,
        }
        write_state(folder, state)
        self.saved = len(self.pictures)

    def merge(self) -> None:
        """Add up the counts of all processes."""
        if world() == 1:
            return
        parts: list[tuple[list[SegmentationMetrics], list[PictureScore]]] = [([], [])] * world()
        dist.all_gather_object(parts, (list(self.sweep.values()), self.pictures))
        for i, gamma in enumerate(self.sweep):
            self.sweep[gamma] = sum((metrics[i] for metrics, _ in parts[1:]), parts[0][0][i])
        pictures = [picture for _, scores in parts for picture in scores]
        # in the order of the data set, as one process would have them
        self.pictures = sorted(pictures, key=lambda picture: picture.index)


def _refuse_other_worlds(folder: Path) -> None:
    """The counts of three processes are not those of two: each counted every third batch."""
    others = [p.name for p in folder.parent.glob("part-*-of-*") if p.name.split("-")[3] != str(world())]
    if others:
        raise ValueError(
            f"{folder.parent} holds {others[0]} and this is one of {world()} processes; "
            "expected as many as then: launch it so, or choose another folder"
        )


def digest(segmentor: nn.Module, text: Tensor) -> str:
    """Hash of the weights and of the embedded words."""
    total = hashlib.sha256()
    for name, value in [*segmentor.state_dict().items(), ("text", text)]:
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
