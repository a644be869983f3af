"""What one would do instead of InfoCLIP: hold the student to the teacher's logits, features or weights.

Each takes a batch and returns named scalars with "total", as InfoCLIPObjective does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from .base import Batch, Objective, check_positive, check_views, relation


class KLDistillation(Objective):
    """KL divergence from the teacher's to the student's word probabilities at every patch, in nats (Hinton et
    al., 1503.02531).

    Args:
        weight: of the loss.
        temperature: both models' logits are divided by it, and the loss multiplied by its square.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight, temperature=temperature)
        self.weight, self.temperature = weight, temperature

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"kl", "total"} from (B, N, D) patches and (C, D) words."""
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        wanted, got = (
            (v.scale * relation(v.dense, v.text) / self.temperature).log_softmax(-1)
            for v in (teacher, student)
        )
        kl = (
            F.kl_div(got, wanted.detach(), reduction="none", log_target=True).sum(-1).mean()
            * self.temperature**2
        )
        return {"kl": kl, "total": self.weight * kl}


class FeatureDistillation(Objective):
    """Each patch embedding stays where it was: squared distance, or 1 - cosine.

    Embeddings are unit vectors, for which the squared distance is 2 (1 - cosine): the two differ by a factor,
    no more [O].

    Args:
        weight: of the loss.
        metric: "l2" or "cosine".
    """

    def __init__(self, *, weight: float = 1.0, metric: Literal["l2", "cosine"] = "cosine") -> None:
        super().__init__()
        check_positive(weight=weight)
        if metric not in ("l2", "cosine"):
            raise ValueError(f"unknown metric {metric!r}; expected 'l2' or 'cosine'")
        self.weight, self.metric = weight, metric

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"feature", "total"} from (B, N, D) patches."""
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        target = teacher.dense.detach()
        loss = 1 - F.cosine_similarity(student.dense, target, dim=-1).mean()
        if self.metric == "l2":
            loss = (student.dense - target).square().sum(-1).mean()
        return {"feature": loss, "total": self.weight * loss}


class PooledCompensation(Objective):
    """Embeddings pooled over squares of several sizes stay where they were, in smooth L1 distance.

    After the representation compensation of MAFT+ (2408.00744); sizes and normalisation are our reading [O].

    Args:
        weight: of the loss.
        squares: sides of the pooled grid: 1 pools the whole picture.
    """

    def __init__(self, *, weight: float = 1.0, squares: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        check_positive(weight=weight)
        if not squares or min(squares) < 1:
            raise ValueError(f"squares are {squares}; expected one or more sides of at least 1")
        self.weight, self.squares = weight, tuple(squares)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"pooled", "total"} from (B, N, D) patches of a square picture."""
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        side = round(student.dense.shape[1] ** 0.5)
        if side**2 != student.dense.shape[1]:
            raise ValueError(f"got {student.dense.shape[1]} patches; expected a square grid")
        maps = [v.mT.unflatten(2, (side, side)) for v in (teacher.dense.detach(), student.dense)]
        losses = []
        for squares in self.squares:
            wanted, got = (F.normalize(F.adaptive_avg_pool2d(m, squares), dim=1) for m in maps)
            losses.append(F.smooth_l1_loss(got, wanted, reduction="none", beta=0.1).sum(1).mean())
        pooled = torch.stack(losses).mean()
        return {"pooled": pooled, "total": self.weight * pooled}


class WeightAnchor(Objective):
    """L2-SP (1802.01483): weights are pulled to where they started, weight / 2 times the squared distance.

    Args:
        student: the model that is tuned; weights without gradient are left out.
        reference: its pretrained copy.
        weight: of the loss.
    """

    def __init__(self, student: nn.Module, reference: nn.Module, *, weight: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight)
        start = dict(reference.named_parameters())
        self.weight = weight
        self.pairs = [
            (p, start[name].detach()) for name, p in student.named_parameters()
        ]  # a list: no parameters of its own

    @classmethod
    def needed(cls, student: DenseCLIP, teacher: DenseCLIP) -> tuple[object, ...]:
        """The weights of both models."""
        return student.model, teacher.model

    def forward(self, batch: Batch | None = None) -> dict[str, Tensor]:
        """{"anchor", "total"}; it looks at no picture."""
        distances = [(p - p0).square().sum() for p, p0 in self.pairs if p.requires_grad]
        if not distances:
            raise ValueError(
                "no weight of the student is tuned; expected some: an anchor holds nothing of a frozen model"
            )
        distance = torch.stack(distances).sum()
        return {"anchor": distance, "total": self.weight / 2 * distance}


@torch.no_grad()
def interpolate(student: nn.Module, reference: nn.Module, fraction: float) -> None:
    """WiSE-FT (2109.01903): replace the student's weights by (1 - fraction) pretrained + fraction fine-tuned
    ones, in place.

    Args:
        student: the fine-tuned model.
        reference: its pretrained copy.
        fraction: 0 gives the pretrained weights, 1 leaves the fine-tuned ones.

    Raises:
        ValueError: a fraction outside 0 .. 1, or models of different architecture.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected 0 .. 1")
    start = dict(reference.named_parameters())
    for name, parameter in student.named_parameters():
        if name not in start or start[name].shape != parameter.shape:
            raise ValueError(
                f"{name} {tuple(parameter.shape)} has no partner in the reference; "
                "expected two models of one architecture"
            )
    for name, parameter in student.named_parameters():
        parameter.lerp_(start[name], 1 - fraction)
