"""CKA distillation: patches of a picture that are alike to the teacher stay alike to the student.

The measure is Kornblith et al. 2019 (1905.00414), the cosine of two centred Gram matrices, which
Cortes et al. 2012 (1203.0550) call centred kernel alignment. As a loss: Zhou et al. 2024 (2401.11824).
"""

from __future__ import annotations

from torch import Tensor

from ..information import linear_cka
from .base import Batch, Objective, check_positive, check_views


class CKADistillation(Objective):
    """One less the linear CKA of the two models' patch embeddings, a mean over pictures.

    With X and Y (N, D) the patches of a picture to teacher and student, less their mean over the patches:
    CKA = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) (equation 4 of Kornblith et al., linear kernel), and the loss
    is 1 - CKA. A rotation, a scale or a shift of all patches of a picture goes unseen, and so do the words.

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
        """What the CKA of a picture falls short of one, a mean over pictures.

        Args:
            batch: its teacher and student are looked at, at least two patches a picture.

        Returns:
            {"cka", "total"}, 0 .. 1 before the weight, no unit. NaN where all patches of a picture are
            the same to a model.

        Raises:
            ValueError: a single patch, or views of different shape.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        # The samples are the patches of one picture, each picture for itself, as in our InfoCLIP. Those of
        # the papers are pictures, of which a step has too few for a matrix of them to say much [O].
        alike = linear_cka(teacher.dense.detach(), student.dense)  # (B,)
        # CKA comes in float64. One is subtracted there: close to the teacher float32 has no digits left.
        loss = (1 - alike).mean().float()
        return {"cka": loss, "total": self.weight * loss}
