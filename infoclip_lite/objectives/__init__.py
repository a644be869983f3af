"""Objectives that keep a fine-tuned CLIP aligned, or align what never was.

Each makes named scalars, "total" among them, of a batch.
A new one is a class with `forward(batch)` in a file of this folder, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..clip import DenseCLIP
from ..core.lookup import call, find, split_section
from .base import Batch, Objective, View, relation
from .chimera import (
    ChimeraObjective,
    SelectiveDenseDistillation,
    SelectiveGlobalDistillation,
    SemanticAlignment,
    positions_kept,
)
from .cka import CKADistillation
from .distillation import FeatureDistillation, KLDistillation, PooledCompensation, WeightAnchor, interpolate
from .infoclip import LPAM, InfoCLIPObjective, compression_loss, transfer_loss
from .kernel_alignment import KernelAlignment
from .rkd import RelationalDistillation
from .similarity import SimilarityPreserving

__all__ = [
    "LPAM",
    "OBJECTIVES",
    "Batch",
    "CKADistillation",
    "ChimeraObjective",
    "FeatureDistillation",
    "InfoCLIPObjective",
    "KLDistillation",
    "KernelAlignment",
    "Objective",
    "PooledCompensation",
    "RelationalDistillation",
    "SelectiveDenseDistillation",
    "SelectiveGlobalDistillation",
    "SemanticAlignment",
    "View",
    "WeightAnchor",
    "build_objective",
    "compression_loss",
    "interpolate",
    "positions_kept",
    "relation",
    "transfer_loss",
]

# What a recipe calls an objective.
OBJECTIVES: dict[str, type[Objective]] = {
    "infoclip": InfoCLIPObjective,
    "kl": KLDistillation,
    "feature": FeatureDistillation,
    "pooled": PooledCompensation,
    "chimera": ChimeraObjective,
    "l2sp": WeightAnchor,
    "similarity": SimilarityPreserving,
    "cka": CKADistillation,
    "rkd": RelationalDistillation,
    "kernel_alignment": KernelAlignment,
}


def build_objective(section: Mapping[str, object], student: DenseCLIP, teacher: DenseCLIP) -> Objective:
    """The objective a recipe names.

    Args:
        section: {"name": one of OBJECTIVES, and keyword arguments of its class}.
        student, teacher: the CLIP that is tuned and its pretrained copy.

    Returns:
        The objective, its own weights (LPAM, queries) on the CPU and not yet trained.

    Raises:
        ValueError: unknown name or option (the nearest is named), a value the class refuses,
            or models whose joint spaces differ in width.
    """
    name, options = split_section(section, "objective")
    kind = find(OBJECTIVES, name, "objective")
    # Teacher and student are compared in one joint space; a student of another width would fail
    # in a product of matrices, far from the recipe that asked for it.
    if student.embed_dim != teacher.embed_dim:
        raise ValueError(
            f"the student's embeddings are {student.embed_dim} wide, "
            f"the teacher's {teacher.embed_dim}; expected the same"
        )
    return call(kind, kind.needed(student, teacher), options, f"objective {name!r}")
