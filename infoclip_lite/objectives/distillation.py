"""What one would do instead of InfoCLIP: hold the student to the teacher's logits, features or weights.

Each objective takes (teacher, student) views of a batch and returns named scalars with "total", as InfoCLIPObjective does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .infoclip import View, relation


class KLDistillation(nn.Module):
    """KL divergence from the teacher's to the student's word probabilities at every patch, in nats (Hinton et al., 1503.02531).

    Args:
        weight: of the loss.
        temperature: both models' logits are divided by it, and the loss multiplied by its square.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        _positive(weight=weight, temperature=temperature)
        self.weight, self.temperature = weight, temperature

    def forward(self, teacher: View, student: View) -> dict[str, Tensor]:
        """{"kl", "total"} from (B, N, D) patches and (C, D) words."""
        _same(teacher, student)
        wanted, got = ((v.scale * relation(v.dense, v.text) / self.temperature).log_softmax(-1) for v in (teacher, student))
        kl = F.kl_div(got, wanted.detach(), reduction="none", log_target=True).sum(-1).mean() * self.temperature**2
        return {"kl": kl, "total": self.weight * kl}


class FeatureDistillation(nn.Module):
    """Each patch embedding stays where it was: squared distance, or 1 - cosine.

    Embeddings are unit vectors, for which the squared distance is 2 (1 - cosine): the two differ by a factor, no more [O].

    Args:
        weight: of the loss.
        metric: "l2" or "cosine".
    """

    def __init__(self, *, weight: float = 1.0, metric: Literal["l2", "cosine"] = "cosine") -> None:
        super().__init__()
        _positive(weight=weight)
        if metric not in ("l2", "cosine"):
            raise ValueError(f"unknown metric {metric!r}; expected 'l2' or 'cosine'")
        self.weight, self.metric = weight, metric

    def forward(self, teacher: View, student: View) -> dict[str, Tensor]:
        """{"feature", "total"} from (B, N, D) patches."""
        _same(teacher, student)
        target = teacher.dense.detach()
        loss = 1 - F.cosine_similarity(student.dense, target, dim=-1).mean()
        if self.metric == "l2":
            loss = (student.dense - target).square().sum(-1).mean()
        return {"feature": loss, "total": self.weight * loss}


class PooledCompensation(nn.Module):
    """Embeddings pooled over squares of several sizes stay where they were, in smooth L1 distance.

    After the representation compensation of MAFT+ (2408.00744); sizes and normalisation are our reading [O].

    Args:
        weight: of the loss.
        squares: sides of the pooled grid: 1 pools the whole picture.
    """

    def __init__(self, *, weight: float = 1.0, squares: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        _positive(weight=weight)
        if not squares or min(squares) < 1:
            raise ValueError(f"squares are {squares}; expected one or more sides of at least 1")
        self.weight, self.squares = weight, tuple(squares)

    def forward(self, teacher: View, student: View) -> dict[str, Tensor]:
        """{"pooled", "total"} from (B, N, D) patches of a square picture."""
        _same(teacher, student)
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


class WeightAnchor(nn.Module):
    """L2-SP (1802.01483): weights are pulled to where they started, weight / 2 times the squared distance.

    Args:
        student: the model that is tuned; weights without gradient are left out.
        reference: its pretrained copy.
        weight: of the loss.
    """

    needs = ()

    def __init__(self, student: nn.Module, reference: nn.Module, *, weight: float = 1.0) -> None:
        super().__init__()
        _positive(weight=weight)
        start = dict(reference.named_parameters())
        self.weight = weight
        self.pairs = [(p, start[name].detach()) for name, p in student.named_parameters()]  # a list: no parameters of its own

    def forward(self) -> dict[str, Tensor]:
        """{"anchor", "total"}; it looks at no picture."""
        distances = [(p - p0).square().sum() for p, p0 in self.pairs if p.requires_grad]
        if not distances:
            raise ValueError("no weight of the student is tuned; expected some: an anchor holds nothing of a frozen model")
        distance = torch.stack(distances).sum()
        return {"anchor": distance, "total": self.weight / 2 * distance}


@torch.no_grad()
def interpolate(student: nn.Module, reference: nn.Module, share: float) -> None:
    """WiSE-FT (2109.01903): replace the student's weights by (1 - share) pretrained + share fine-tuned ones, in place.

    Args:
        student: the fine-tuned model.
        reference: its pretrained copy.
        share: 0 gives the pretrained weights, 1 leaves the fine-tuned ones.

    Raises:
        ValueError: a share outside 0 .. 1, or models of different architecture.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected 0 .. 1")
    start = dict(reference.named_parameters())
    for name, parameter in student.named_parameters():
        if name not in start or start[name].shape != parameter.shape:
            raise ValueError(f"{name} {tuple(parameter.shape)} has no partner in the reference; expected two models of one architecture")
    for name, parameter in student.named_parameters():
        parameter.lerp_(start[name], 1 - share)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; expected a number above 0")


def _same(teacher: View, student: View) -> None:
    if teacher.dense.shape != student.dense.shape or teacher.text.shape != student.text.shape:
        raise ValueError(
            f"the teacher sees patches {tuple(teacher.dense.shape)} and words {tuple(teacher.text.shape)}, "
            f"the student {tuple(student.dense.shape)} and {tuple(student.text.shape)}; expected the same"
        )
