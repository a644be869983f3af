"""Similarity-preserving distillation (Tung & Mori 2019, 1907.09682): pictures that are alike
to the teacher stay alike to the student.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Batch, Objective, check_positive, check_views


class SimilarityPreserving(Objective):
    """Squared distance between the two models' matrices of who resembles whom in the batch.

    With A (B, N D) a model's patch embeddings, a row for each picture: G = A A^T, its rows scaled
    to unit length, and the loss is ||G_T - G_S||_F^2 / B^2 (equations 1 to 4). It says nothing of words,
    and nothing of what is where.

    Args:
        weight: of the loss.

    Raises:
        ValueError: a weight that is not above zero.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        check_positive(weight=weight)
        self.weight = weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The squared distance of the two matrices.

        Args:
            batch: its teacher and student are looked at, at least two pictures.

        Returns:
            {"similarity", "total"}, 0 .. 4 / B before the weight.

        Raises:
            ValueError: one picture, or views of different shape.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        pictures = len(student.dense)
        if pictures < 2:
            raise ValueError(
                f"got {pictures} picture; expected at least 2: a picture alone resembles nothing"
            )
        distance = resemblance(student.dense) - resemblance(teacher.dense.detach())
        # B^2 as in the paper, though rows of unit length make a sum of order B: it falls with the batch.
        loss = distance.square().sum() / pictures**2
        return {"similarity": loss, "total": self.weight * loss}


def resemblance(dense: Tensor) -> Tensor:
    """Who resembles whom in a batch.

    Args:
        dense: (B, N, D) patch embeddings.

    Returns:
        (B, B), rows of unit length.
    """
    # A picture is one long vector: patch i is compared with patch i, so a thing that moved is another thing.
    flat = dense.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)
