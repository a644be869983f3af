"""What an evaluation has counted: kept in a folder, added up over processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.labels import ignore_for
from ..core.processes import world
from ..core.states import read_state, write_state
from .metrics import SegmentationMetrics


class Tally:
    """Counts of this process.

    Args:
        dataset: what is evaluated; see `evaluate`.
        gammas: one confusion matrix each; pictures are scored with the first one's.
        false_alarms: see `SegmentationMetrics`.

    Attributes:
        sweep: metrics of each gamma.
        pictures: index, path, mIoU and pAcc (None where nothing counts) of each picture.
        batches: number of batches counted.
        saved: number of pictures in the last saved state.
        seconds: time that earlier runs took, before they were killed.
    """

    def __init__(self, dataset: Any, gammas: Sequence[float], false_alarms: bool = True) -> None:
        self.classes = len(dataset.names)
        self.unseen: Sequence[int] = getattr(dataset, "unseen", ())
        self.ignore: int = getattr(dataset, "ignore", ignore_for(self.classes))
        self.false_alarms = false_alarms
        self.sweep = {gamma: self._metrics() for gamma in gammas}
        self.pictures: list[dict[str, Any]] = []
        self.batches, self.saved, self.seconds = 0, 0, 0.0
        self.identity: dict[str, Any] = {}

    def _metrics(self) -> SegmentationMetrics:
        return SegmentationMetrics(self.classes, self.unseen, self.ignore, false_alarms=self.false_alarms)

    def add(self, indices: Sequence[int], items: Sequence[Any], labels: Sequence[Sequence[Tensor]]) -> None:
        """Count the pictures of a batch.

        Args:
            indices: of the pictures.
            items: (image, mask (H, W), ...) of each.
            labels: of each, and for each gamma, (H, W).

        Raises:
            ValueError: labels that the data set does not have; says in which picture.
        """
        for index, item, found in zip(indices, items, labels, strict=True):
            path = getattr(item, "path", None)
            for place, (label, metrics) in enumerate(zip(found, self.sweep.values(), strict=True)):
                picture = self._metrics()
                try:
                    picture.update(label, item[1])
                except ValueError as error:
                    raise ValueError(f"picture {index}{f' ({path})' if path else ''}: {error}") from error
                metrics.confusion += picture.confusion
                if place == 0:
                    scores = picture.compute()
                    kept = {key: scores[key] if scores[key] == scores[key] else None for key in ("mIoU", "pAcc")}
                    self.pictures.append({"index": index, "path": path, **kept})
        self.batches += 1

    def resume(self, folder: Path, identity: dict[str, Any]) -> None:
        """Go on from a folder's state, if it has one.

        Args:
            folder: PARENT/part-K-of-N, of process K of N.
            identity: what must be the same for that; anything that JSON can hold.

        Raises:
            ValueError: it holds the state of another evaluation, or of another number of processes.
        """
        self.identity = json.loads(json.dumps(identity))
        others = [p.name for p in folder.parent.glob("part-*-of-*") if p.name.split("-")[3] != str(world())]
        if others:
            raise ValueError(
                f"{folder.parent} holds {others[0]} and this is one of {world()} processes; expected as many as then: "
                "launch it so, or choose another folder"
            )
        state = read_state(folder)
        if state is None:
            return
        different = [key for key in self.identity if state["identity"].get(key) != self.identity[key]]
        if different:
            raise ValueError(
                f"{folder.parent} holds another evaluation, with other {', '.join(different)}; expected the same: "
                "choose another folder or delete it"
            )
        for metrics, confusion in zip(self.sweep.values(), state["confusion"], strict=True):
            metrics.confusion = confusion
        self.pictures, self.batches, self.seconds = state["pictures"], state["batches"], state["seconds"]
        self.saved = len(self.pictures)

    def save(self, folder: Path, seconds: float) -> None:
        """Write the state, whole; `seconds` were spent in this run. Nothing is done if nothing is new."""
        if self.saved == len(self.pictures):
            return
        confusion = [metrics.confusion for metrics in self.sweep.values()]
        state = {"identity": self.identity, "confusion": confusion, "pictures": self.pictures, "batches": self.batches}
        write_state(folder, {**state, "seconds": self.seconds + seconds})
        self.saved = len(self.pictures)

    def merge(self) -> None:
        """Add up the counts of all processes."""
        if world() == 1:
            return
        parts: list[Any] = [None] * world()
        dist.all_gather_object(parts, ([metrics.confusion for metrics in self.sweep.values()], self.pictures))
        for i, metrics in enumerate(self.sweep.values()):
            metrics.confusion = torch.stack([confusion[i] for confusion, _ in parts]).sum(0)
        self.pictures = sorted((picture for _, pictures in parts for picture in pictures), key=lambda picture: picture["index"])


def digest(segmentor: Any, text: Tensor) -> str:
    """Hash of the weights and of the embedded words."""
    total = hashlib.sha256()
    weights = segmentor.state_dict() if isinstance(segmentor, nn.Module) else {}
    for name, value in [*weights.items(), ("text", text)]:
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def describe(dataset: Any) -> dict[str, Any]:
    """What tells two data sets apart, without opening a picture."""
    listed = json.dumps([list(getattr(dataset, key, None) or ()) for key in ("names", "unseen", "words", "owners", "files")])
    settings = {key: getattr(dataset, key, None) for key in ("size", "objects", "scale", "ignore", "shorter")}
    return {"items": len(dataset), **settings, "listed": hashlib.sha256(listed.encode()).hexdigest()}
