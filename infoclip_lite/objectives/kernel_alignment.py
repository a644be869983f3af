"""Relational distillation by kernel alignment: patches that are alike in their words stay alike.

A method of this project [O], found while InfoCLIP's transfer was taken apart: its information, asked for no
more than the teacher has, is a kernel alignment (Cortes et al. 2012, 1203.0550). The family: relational
knowledge distillation (Park et al. 2019, 1904.05068), similarity-preserving distillation (Tung & Mori 2019,
1907.09682) and CKA (Kornblith et al. 2019, 1905.00414), whose samples are embeddings; here they are a patch's
cosines with all words. There is neither an LPAM in it nor a compression.
"""

from __future__ import annotations

from torch import Tensor

from .base import Batch, Objective, check_positive, check_views, relation
from .infoclip import transfer_loss


class KernelAlignment(Objective):
    """What the alignment of two relation maps' Gram matrices falls short of one, in bits.

    With r_i the cosines of patch i with all words, less their mean over the patches of its picture and scaled
    to unit length, K_ij = (r_i . r_j)^2 and L likewise of the student: the loss is
    -log2( <K, L> / (|K| |L|) ), a mean over pictures. It is `transfer_loss` with axis "pixel", centred,
    of kind "gap", at alpha = 2.

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
        """The loss of a batch. No gradient reaches the teacher.

        Args:
            batch: its teacher and student are looked at, at least two patches and two words.

        Returns:
            {"alignment", "total"}, in bits before the weight, zero where all relations are alike.

        Raises:
            ValueError: views of different shape, or a single patch or word.
        """
        teacher, student = batch.teacher, batch.student
        check_views(teacher, student)
        wanted = relation(teacher.dense, teacher.text).detach()
        got = relation(student.dense, student.text)
        loss = transfer_loss(wanted, got, axis="pixel", centre=True, kind="gap", validate=False)
        return {"alignment": loss, "total": self.weight * loss}
