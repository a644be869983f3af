"""Segmentation metrics from one confusion matrix over the whole set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.labels import IGNORE


class SegmentationMetrics:
    """Counts pixels; every metric is read off the counts, never averaged over images.

    Args:
        num_classes: C; labels are 0 .. C - 1.
        unseen: class ids that training never labelled; all others are seen.
        ignore_index: target value that is not counted.
        groups: class ids of "seen", "unseen" and other groups, each reported apart; a class in none counts in
            no mean. None: `unseen`, and all others as "seen".
        false_alarms: a class that is predicted but in no target counts in means with IoU 0; False
            leaves it out, as detectron2 does.

    Raises:
        ValueError: an id outside 0 .. C - 1, groups without "seen" and "unseen", or a class in two groups.

    >>> metrics = SegmentationMetrics(3, unseen=[2])
    >>> metrics.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    >>> {name: round(value, 2) for name, value in metrics.compute().items()}
    {'pAcc': 0.75, 'mIoU': 0.67, 'mIoU_seen': 0.75, 'mIoU_unseen': 0.5, 'hIoU': 0.6}
    """

    def __init__(
        self,
        num_classes: int,
        unseen: Sequence[int] = (),
        ignore_index: int = IGNORE,
        *,
        false_alarms: bool = True,
        groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        if groups is not None and not groups.keys() >= {"seen", "unseen"}:
            raise ValueError(f"got groups {sorted(groups)}; expected seen and unseen among them")
        grouped = [i for group in (groups or {}).values() for i in group]
        for what, ids in (("unseen ids", unseen), ("ids in groups", grouped)):
            outside = [i for i in ids if not 0 <= i < num_classes]
            if outside:
                raise ValueError(f"got {what} {outside}; expected 0 .. {num_classes - 1}")
        twice = sorted({i for i in grouped if grouped.count(i) > 1})
        if twice:
            raise ValueError(f"got classes {twice} in two groups, or twice in one; expected each in one")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.false_alarms = false_alarms
        self.unseen = torch.zeros(num_classes, dtype=torch.bool)
        self.unseen[list(unseen)] = True
        self.groups = groups
        # int64: 5,000 pictures are 10^9 pixels, and sums must be exact in any order
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    @classmethod
    def from_counts(
        cls,
        confusion: Tensor,
        unseen: Sequence[int] = (),
        ignore_index: int = IGNORE,
        *,
        false_alarms: bool = True,
        groups: Mapping[str, Sequence[int]] | None = None,
    ) -> SegmentationMetrics:
        """Metrics of pixels that were counted before.

        Args:
            confusion: (C, C) integers; rows are targets, columns predictions. Copied.
            unseen, ignore_index, false_alarms, groups: as for the class.

        Raises:
            ValueError: not a square matrix of integers, or a count below zero.

        >>> SegmentationMetrics.from_counts(torch.tensor([[3, 1], [0, 4]])).compute()["pAcc"]
        0.875
        """
        square = confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1]
        if not square or confusion.is_floating_point():
            raise ValueError(
                f"got counts {tuple(confusion.shape)} of {confusion.dtype}; expected (C, C) integers: "
                "rows are targets, columns predictions"
            )
        if confusion.numel() and int(confusion.min()) < 0:
            raise ValueError(f"got a count of {int(confusion.min())} pixels; expected 0 or more")
        metrics = cls(len(confusion), unseen, ignore_index, false_alarms=false_alarms, groups=groups)
        metrics._confusion += confusion.cpu()
        return metrics

    @property
    def confusion(self) -> Tensor:
        """(C, C) int64 pixels; rows are targets, columns predictions. A copy."""
        return self._confusion.clone()

    def like(self, confusion: Tensor | None = None) -> SegmentationMetrics:
        """Metrics of the same classes that have counted nothing, or what `confusion` (C, C) says."""
        unseen = self.unseen.nonzero().flatten().tolist()
        counts = torch.zeros_like(self._confusion) if confusion is None else confusion
        return self.from_counts(
            counts, unseen, self.ignore_index, false_alarms=self.false_alarms, groups=self.groups
        )

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count pixels of integer tensors of one shape.

        Raises:
            ValueError: other shapes, or a label outside 0 .. C - 1 (the target may have ignore_index).
        """
        if prediction.shape != target.shape:
            raise ValueError(
                f"got predictions {tuple(prediction.shape)} and targets {tuple(target.shape)}; "
                "expected one shape"
            )
        prediction = prediction.to(target.device)  # a label map of the GPU meets a mask of the data set
        kept = target != self.ignore_index
        predicted, wanted = prediction[kept].long(), target[kept].long()
        for what, labels in (("prediction", predicted), ("target", wanted)):
            self._check(what, labels)
        # one number a (target, prediction) pair: a single bincount, without C^2 comparisons
        pairs = torch.bincount(wanted * self.num_classes + predicted, minlength=self.num_classes**2)
        self._confusion += pairs.view(self.num_classes, self.num_classes).cpu()

    def _check(self, what: str, labels: Tensor) -> None:
        if not labels.numel() or 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            return
        wrong = labels[(labels < 0) | (labels >= self.num_classes)].unique().tolist()
        shown = ", ".join(map(str, wrong[:5])) + (" ..." if len(wrong) > 5 else "")
        raise ValueError(
            f"{what} has labels {int(labels.min())} .. {int(labels.max())}, {shown} among them; "
            f"expected 0 .. {self.num_classes - 1}, or {self.ignore_index} in the target to ignore"
        )

    def merge(self, other: SegmentationMetrics) -> None:
        """Add what another one has counted: of another batch, another process.

        Raises:
            ValueError: other classes, other ones unseen, or other groups.
        """
        if self.num_classes != other.num_classes or not torch.equal(self.unseen, other.unseen):
            raise ValueError(
                f"got metrics of {other.num_classes} classes, {int(other.unseen.sum())} unseen; "
                f"expected the same {self.num_classes} classes, {int(self.unseen.sum())} unseen"
            )
        if _plain(self.groups) != _plain(other.groups):
            got, expected = _plain(other.groups), _plain(self.groups)
            raise ValueError(f"got metrics of groups {got}; expected the same groups, {expected}")
        self._confusion += other._confusion

    def __add__(self, other: SegmentationMetrics) -> SegmentationMetrics:
        """The pixels of both."""
        total = self.like()
        total.merge(self)
        total.merge(other)
        return total

    def per_class(self) -> Tensor:
        """IoU of each class (C,) in [0, 1]; NaN for one that is neither in the targets nor predicted."""
        hit, pixels = self._confusion.diag().double(), self.pixels()
        iou = hit / (self._confusion.sum(0) + pixels - hit)
        return iou if self.false_alarms else iou.where(pixels > 0, torch.nan)

    def accuracy(self) -> Tensor:
        """The fraction of each class's pixels that were labelled right (C,); NaN for one in no target."""
        return self._confusion.diag().double() / self.pixels()

    def pixels(self) -> Tensor:
        """Pixels of each class in the targets (C,), int64."""
        return self._confusion.sum(1)

    def mistakes(self, count: int) -> list[tuple[int, int, int]]:
        """The most frequent mistakes, at most `count`: (target, prediction, pixels), most pixels first."""
        wrong = self._confusion.clone().fill_diagonal_(0).flatten()
        # stable, so that equal counts stand in the order of the classes on every machine
        order = wrong.argsort(descending=True, stable=True)[:count].tolist()
        return [(i // self.num_classes, i % self.num_classes, int(wrong[i])) for i in order if wrong[i]]

    def compute(self) -> dict[str, float]:
        """pAcc, mIoU, mIoU_seen, mIoU_unseen and hIoU, as fractions; NaN where nothing was counted.

        With `groups` those of other groups follow, such as mIoU_stuff, and mIoU is of the classes in groups.
        """
        iou = self.per_class()
        total = self._confusion.sum()
        groups = self.groups or {
            "seen": (~self.unseen).nonzero().flatten().tolist(),
            "unseen": self.unseen.nonzero().flatten().tolist(),
        }
        means = {f"mIoU_{name}": iou[list(ids)].nanmean().item() for name, ids in groups.items()}
        counted = sorted({i for ids in groups.values() for i in ids})
        seen, unseen = means.pop("mIoU_seen"), means.pop("mIoU_unseen")
        return {
            "pAcc": (self._confusion.diag().sum() / total).item() if total else float("nan"),
            "mIoU": iou[counted].nanmean().item(),
            "mIoU_seen": seen,
            "mIoU_unseen": unseen,
            # 2 S U / (S + U); where both are zero nothing is right, which is 0 and not 0 / 0
            "hIoU": 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0,
            **means,
        }


def _plain(groups: Mapping[str, Sequence[int]] | None) -> dict[str, list[int]] | None:
    """Groups in a form in which a tuple and a list of the same ids are equal."""
    return None if groups is None else {name: sorted(ids) for name, ids in groups.items()}
