"""What one would do instead of InfoCLIP: hold the student to the teacher's logits, features or weights.

Each takes a batch and returns named scalars with "total", as `InfoCLIPObjective` does.
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
    """KL divergence from the teacher's to the student's word probabilities at every patch.

    Source: Hinton et al., 1503.02531.

    Args:
        weight: of the loss.
        temperature: both models' logits are divided by it, and the loss multiplied by its square.

    Raises:
        ValueError: a weight or temperature that is not above zero.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight, temperature=temperature)
        self.weight, self.temperature = weight, temperature

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The divergence, a mean over patches.

        Args:
            batch: its teacher and student are looked at.

        Returns:
            {"kl", "total"}, in nats before the weight.

        Raises:
            ValueError: views of different shape.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        # Each model's own logit scale: what is compared are the probabilities it would give itself.
        wanted, got = (
            (view.scale * relation(view.dense, view.text) / self.temperature).log_softmax(-1)
            for view in (teacher, student)
        )
        # Both as logarithms: at a scale of 100 a word that is all but ruled out has a probability of zero.
        apart = F.kl_div(got, wanted.detach(), reduction="none", log_target=True)  # (B, N, C)
        # Gradients of softened logits shrink with the square of the temperature; this puts them back.
        kl = apart.sum(-1).mean() * self.temperature**2
        return {"kl": kl, "total": self.weight * kl}


class FeatureDistillation(Objective):
    """Each patch embedding stays where it was: squared distance, or 1 - cosine.

    Embeddings are unit vectors, for which the squared distance is 2 (1 - cosine):
    the two differ by a factor, no more [O].

    Args:
        weight: of the loss.
        metric: "l2" or "cosine".

    Raises:
        ValueError: a weight that is not above zero, or another metric.
    """

    def __init__(self, *, weight: float = 1.0, metric: Literal["l2", "cosine"] = "cosine") -> None:
        super().__init__()
        check_positive(weight=weight)
        if metric not in ("l2", "cosine"):
            raise ValueError(f"unknown metric {metric!r}; expected 'l2' or 'cosine'")
        self.weight, self.metric = weight, metric

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The distance, a mean over patches.

        Args:
            batch: its teacher and student are looked at.

        Returns:
            {"feature", "total"}, before the weight 0 .. 2 ("cosine") or 0 .. 4 ("l2").

        Raises:
            ValueError: views of different shape.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        target = teacher.dense.detach()
        if self.metric == "l2":
            loss = (student.dense - target).square().sum(-1).mean()
        else:
            loss = 1 - F.cosine_similarity(student.dense, target, dim=-1).mean()
        return {"feature": loss, "total": self.weight * loss}


class PooledCompensation(Objective):
    """Embeddings pooled over squares of several sizes stay where they were, in smooth L1 distance.

    After the representation compensation of MAFT+ (2408.00744); sizes and normalisation are our reading [O].

    Args:
        weight: of the loss.
        squares: sides of the pooled grid: 1 pools the whole picture.

    Raises:
        ValueError: a weight that is not above zero, no square, or one without a side.
    """

    def __init__(self, *, weight: float = 1.0, squares: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        check_positive(weight=weight)
        if not squares or min(squares) < 1:
            raise ValueError(f"squares are {squares}; expected one or more sides of at least 1")
        self.weight, self.squares = weight, tuple(squares)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The distance, a mean over squares and sizes.

        Args:
            batch: its teacher and student are looked at, of square pictures.

        Returns:
            {"pooled", "total"}.

        Raises:
            ValueError: views of different shape, or patches that form no square.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        patches = student.dense.shape[1]
        side = round(patches**0.5)
        if side**2 != patches:
            raise ValueError(f"got {patches} patches; expected a square grid")
        maps = [dense.mT.unflatten(2, (side, side)) for dense in (teacher.dense.detach(), student.dense)]
        losses = []
        for squares in self.squares:
            # Unit vectors again: a mean over a square of mixed contents is short, and every size would
            # weigh by how mixed its squares are [O].
            wanted, got = (F.normalize(F.adaptive_avg_pool2d(m, squares), dim=1) for m in maps)
            # Entries of a unit vector are about 1/sqrt(D): torch's own beta of 1 would make all of it L2.
            losses.append(F.smooth_l1_loss(got, wanted, reduction="none", beta=0.1).sum(1).mean())
        pooled = torch.stack(losses).mean()
        return {"pooled": pooled, "total": self.weight * pooled}


class WeightAnchor(Objective):
    """L2-SP (1802.01483): weights are pulled to where they started, weight / 2 times the squared distance.

    Args:
        student: the model that is tuned; weights without gradient are left out, and a stem's trunk always is.
        reference: its pretrained copy.
        weight: of the loss.

    Raises:
        ValueError: a weight that is not above zero.
    """

    def __init__(self, student: nn.Module, reference: nn.Module, *, weight: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight)
        start = dict(reference.named_parameters())
        self.weight = weight
        # In a plain list they are no parameters of the objective: else a state would hold the student twice.
        self.pairs = [(p, start[name].detach()) for name, p in student.named_parameters()]

    @classmethod
    def needed(cls, student: DenseCLIP, teacher: DenseCLIP) -> tuple[object, ...]:
        """The weights of both models."""
        return student.model, teacher.model

    def forward(self, batch: Batch | None = None) -> dict[str, Tensor]:
        """The squared distance of all weights that are tuned.

        Args:
            batch: not looked at.

        Returns:
            {"anchor", "total"}.

        Raises:
            ValueError: no weight is tuned.
        """
        # Looked at now and not in __init__: what is tuned is decided after the objective was built.
        distances = [(p - p0).square().sum() for p, p0 in self.pairs if p.requires_grad]
        if not distances:
            raise ValueError(
                "no weight of the student is tuned; expected some: an anchor holds nothing of a frozen model"
            )
        distance = torch.stack(distances).sum()
        return {"anchor": distance, "total": self.weight / 2 * distance}


@torch.no_grad()
def interpolate(student: nn.Module, reference: nn.Module, fraction: float) -> None:
    """WiSE-FT (2109.01903): replace the student's weights by (1 - fraction) pretrained + fraction
    fine-tuned ones, in place.

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
    # All are looked at before the first is changed, so that a failure leaves the student as it was.
    for name, parameter in student.named_parameters():
        if name not in start or start[name].shape != parameter.shape:
            raise ValueError(
                f"{name} {tuple(parameter.shape)} has no partner in the reference; "
                "expected two models of one architecture"
            )
    for name, parameter in student.named_parameters():
        parameter.lerp_(start[name], 1 - fraction)
