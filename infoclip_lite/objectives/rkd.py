"""Relational knowledge distillation (RKD, Park et al. 2019, 1904.05068): distances and angles between
the samples stay as they are to the teacher, wherever the samples themselves go.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Batch, Objective, check_positive, check_views


class RelationalDistillation(Objective):
    """Distances between two patches and angles at a patch between two others, held by Huber losses.

    With t_i the teacher's and s_i the student's embedding of patch i of a picture, and h Huber's loss of
    delta 1 (half the square up to a difference of one, the difference less a half beyond):

        distance = mean over i != j of h(|t_i - t_j| / mu_T, |s_i - s_j| / mu_S)
        angle    = mean over i != j != k of h(cos t_i t_j t_k, cos s_i s_j s_k)

    (sections 3.2.1 and 3.2.2). mu is the model's mean distance, the angle is at the patch in the middle,
    and the loss is weight (lambda_D distance + lambda_A angle). A rotation, a scale or a shift of all
    patches of a picture goes unseen, and so do the words.

    The paper's samples are the pictures of a mini-batch, ours the patches of a picture, each picture
    for itself, as in our InfoCLIP [O]. The paper's terms are sums, its code's means, as are ours [S].
    Lambdas of 1 and 2 are those with which the authors distil embeddings [S].

    Args:
        weight: of the loss.
        distance: lambda_D; 0 leaves the distances out.
        angle: lambda_A; 0 leaves the angles out.
        patches: of a picture between which angles are taken, drawn anew at every step [O].

    Raises:
        ValueError: a weight that is not above zero, a negative lambda or both of them zero, or fewer than
            three patches.
    """

    def __init__(
        self, *, weight: float = 1.0, distance: float = 1.0, angle: float = 2.0, patches: int = 32
    ) -> None:
        super().__init__()
        check_positive(weight=weight)
        # Written so that NaN is refused too.
        if not (distance >= 0 and angle >= 0 and distance + angle > 0):
            raise ValueError(
                f"got distance={distance}, angle={angle}; expected 0 or more, and not both of them 0"
            )
        if patches < 3:
            raise ValueError(f"patches is {patches}; expected at least 3: an angle is one of three patches")
        self.weight, self.distance, self.angle, self.patches = weight, distance, angle, patches

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Both terms of a batch, means over pictures.

        Args:
            batch: its teacher and student are looked at, at least three patches a picture, and its
                progress, which says what patches are drawn.

        Returns:
            "distance" and "angle" where their lambda is not zero, and "total"; no unit. Distances are NaN
            where all patches of a picture are the same to a model.

        Raises:
            ValueError: fewer than three patches, or views of different shape.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        wanted, got = teacher.dense.detach(), student.dense
        count = got.shape[1]
        if count < 3:
            raise ValueError(f"got {count} patches a picture; expected at least 3: an angle is one of three")
        terms: dict[str, Tensor] = {}
        if self.distance:
            terms["distance"] = _apart(relative_distances(got), relative_distances(wanted))
        if self.angle:
            drawn = self._drawn(count, batch.progress).to(got.device)
            terms["angle"] = _apart(cosines(got[:, drawn]), cosines(wanted[:, drawn]))
        weights = {"distance": self.distance, "angle": self.angle}
        total = sum((weights[name] * term for name, term in terms.items()), got.new_zeros(()))
        return {**terms, "total": self.weight * total}

    def _drawn(self, count: int, progress: float) -> Tensor:
        """Places of the patches between which angles are taken, the same in all pictures."""
        # Angles are N^3: 24 x 24 patches have 190 million a picture. The authors take all those of some
        # 120 samples, and advise distances alone for more [S]. 32 patches have 30,000, a tenth of a step's
        # time on a CPU; drawn anew they come round to all, where fixed ones would leave the others free [O].
        if count <= self.patches:
            return torch.arange(count)
        # Seeded by where the training stands: a resumed run draws what an unbroken one does, nothing
        # has to be kept for it, and nobody else's random numbers move.
        generator = torch.Generator().manual_seed(round(1e6 * progress))
        return torch.randperm(count, generator=generator)[: self.patches]


def relative_distances(dense: Tensor) -> Tensor:
    """How far apart patches are: psi_D of section 3.2.1.

    Args:
        dense: (B, N, D) patch embeddings.

    Returns:
        (B, N, N), in units of the picture's mean distance between two patches.
    """
    # Not by way of products: the distance of near neighbours would be what rounding leaves of them.
    apart = torch.cdist(dense, dense, compute_mode="donot_use_mm_for_euclid_dist")
    count = dense.shape[1]
    # A mean over pairs of two patches: a patch is zero from itself, and adds nothing.
    mean = apart.sum((1, 2), keepdim=True) / (count * (count - 1))
    return apart / mean


def cosines(dense: Tensor) -> Tensor:
    """Angles at a patch between two others: psi_A of section 3.2.2.

    Args:
        dense: (B, n, D) patch embeddings.

    Returns:
        (B, n, n, n), entry [b, j, i, k] the cosine of the angle at j between i and k; 0 where i or k
        is where j is.
    """
    apart = dense[:, None] - dense[:, :, None]  # [b, j, i] = i - j
    length = torch.linalg.vector_norm(apart, dim=-1, keepdim=True)
    # From a patch to itself there is no direction. Divided by one and not by a small number, which the
    # gradient would be multiplied with where two patches have become the same.
    direction = apart / length.masked_fill(length == 0, 1)
    return direction @ direction.mT


def _apart(got: Tensor, wanted: Tensor) -> Tensor:
    """Huber's loss of (B, n, ..., n), a mean over tuples of distinct patches."""
    pictures, *sides = got.shape
    tuples = pictures
    for taken, side in enumerate(sides):
        tuples *= side - taken
    # Tuples that name a patch twice are distances of zero and cosines of zero or one, the same in both
    # models: they are in the sum, where they add nothing, but must not be counted.
    return F.huber_loss(got, wanted, reduction="sum", delta=1.0) / tuples
