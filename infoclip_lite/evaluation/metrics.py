"""Segmentation metrics from one confusion matrix over the whole set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SegmentationMetrics:
    """Counts pixels; every metric is read off the counts, never averaged over images.

    Args:
        num_classes: C; labels are 0 .. C - 1.
        unseen: class ids that training never labelled; all others are seen.
        ignore_index: target value that is not counted.
        false_alarms: a class that is predicted but in no target counts in means with IoU 0; False leaves it out, as detectron2 does.

    Raises:
        ValueError: an unseen id outside 0 .. C - 1.

    >>> metrics = SegmentationMetrics(3, unseen=[2])
    >>> metrics.update(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    >>> {name: round(value, 2) for name, value in metrics.compute().items()}
    {'pAcc': 0.75, 'mIoU': 0.67, 'mIoU_seen': 0.75, 'mIoU_unseen': 0.5, 'hIoU': 0.6}
    """

    def __init__(self, num_classes: int, unseen: Sequence[int] = (), ignore_index: int = 255, *, false_alarms: bool = True) -> None:
        outside = [i for i in unseen if not 0 <= i < num_classes]
        if outside:
            raise ValueError(f"got unseen ids {outside}; expected 0 .. {num_classes - 1}")
        self.num_classes, self.ignore_index, self.false_alarms = num_classes, ignore_index, false_alarms
        self.unseen = torch.zeros(num_classes, dtype=torch.bool)
        self.unseen[list(unseen)] = True
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)  # rows: target, columns: prediction

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count pixels of integer tensors of one shape.

        Raises:
            ValueError: other shapes, or a label outside 0 .. C - 1 (and not ignore_index in the target).
        """
        if prediction.shape != target.shape:
            raise ValueError(f"got predictions {tuple(prediction.shape)} and targets {tuple(target.shape)}; expected one shape")
        kept = target != self.ignore_index
        predicted, wanted = prediction[kept].long(), target[kept].long()
        for what, labels in (("prediction", predicted), ("target", wanted)):
            if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
                wrong = labels[(labels < 0) | (labels >= self.num_classes)].unique().tolist()
                shown = f"{', '.join(map(str, wrong[:5]))}{' ...' if len(wrong) > 5 else ''}"
                raise ValueError(
                    f"{what} has labels {int(labels.min())} .. {int(labels.max())}, {shown} among them; "
                    f"expected 0 .. {self.num_classes - 1}, or {self.ignore_index} in the target to ignore"
                )
        pairs = torch.bincount(wanted * self.num_classes + predicted, minlength=self.num_classes**2)
        self.confusion += pairs.view(self.num_classes, self.num_classes).cpu()

    def per_class(self) -> Tensor:
        """IoU of each class (C,) in [0, 1]; NaN for a class that is neither in the targets nor predicted."""
        hit, pixels = self.confusion.diag().double(), self.pixels()
        iou = hit / (self.confusion.sum(0) + pixels - hit)
        return iou if self.false_alarms else iou.where(pixels > 0, torch.nan)

    def accuracy(self) -> Tensor:
        """The share of each class's pixels that were labelled right (C,); NaN for a class in no target."""
        return self.confusion.diag().double() / self.pixels()

    def pixels(self) -> Tensor:
        """Pixels of each class in the targets (C,), int64."""
        return self.confusion.sum(1)

    def mistakes(self, count: int) -> list[tuple[int, int, int]]:
        """The most frequent mistakes: (target, prediction, pixels), most pixels first, at most `count` of them."""
        wrong = self.confusion.clone().fill_diagonal_(0).flatten()
        order = wrong.argsort(descending=True, stable=True)[:count].tolist()
        return [(i // self.num_classes, i % self.num_classes, int(wrong[i])) for i in order if wrong[i]]

    def compute(self) -> dict[str, float]:
        """pAcc, mIoU, mIoU_seen, mIoU_unseen and hIoU = 2 S U / (S + U), fractions; NaN where nothing was counted."""
        iou = self.per_class()
        total = self.confusion.sum()
        seen, unseen = iou[~self.unseen].nanmean().item(), iou[self.unseen].nanmean().item()
        return {
            "pAcc": (self.confusion.diag().sum() / total).item() if total else float("nan"),
            "mIoU": iou.nanmean().item(),
            "mIoU_seen": seen,
            "mIoU_unseen": unseen,
            "hIoU": 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0,
        }
