"""Objectives that keep a fine-tuned CLIP aligned, or align what never was: from what they need of a batch to named scalars with "total".

`needs` names it: "teacher" and "student" (views, the default), "image" (the teacher's CLS embeddings), "dense" (its patches, the mean of
its best read-outs), "target" (class ids of pixels), "grid" (h, w of the student's patches), "progress" (share of the training done).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..clip import DenseCLIP
from ..core.lookup import build
from .chimera import ChimeraObjective, SelectiveDenseDistillation, SelectiveGlobalDistillation, SemanticAlignment, positions_kept
from .distillation import FeatureDistillation, KLDistillation, PooledCompensation, WeightAnchor, interpolate
from .infoclip import LPAM, InfoCLIPObjective, View, compression_loss, relation, transfer_loss

__all__ = [
    "LPAM",
    "OBJECTIVES",
    "ChimeraObjective",
    "FeatureDistillation",
    "InfoCLIPObjective",
    "KLDistillation",
    "PooledCompensation",
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

# What a recipe calls an objective: its class, and what it needs to know of (student, teacher) before its own options.
OBJECTIVES: dict[str, tuple[Callable[..., nn.Module], Callable[[DenseCLIP, DenseCLIP], tuple[Any, ...]]]] = {
    "infoclip": (InfoCLIPObjective, lambda student, teacher: (student.embed_dim,)),
    "kl": (KLDistillation, lambda student, teacher: ()),
    "feature": (FeatureDistillation, lambda student, teacher: ()),
    "pooled": (PooledCompensation, lambda student, teacher: ()),
    "chimera": (ChimeraObjective, lambda student, teacher: (student.embed_dim,)),
    "l2sp": (WeightAnchor, lambda student, teacher: (student.model, teacher.model)),
}


def build_objective(options: dict[str, Any], student: DenseCLIP, teacher: DenseCLIP) -> nn.Module:
    """The objective a recipe names.

    Args:
        options: {"name": one of OBJECTIVES, and keyword arguments of its class}.
        student, teacher: the CLIP that is tuned and its pretrained copy.

    Raises:
        ValueError: unknown name or option (the nearest is named), a value the class refuses, or models of different width.
    """
    given = dict(options)
    name = given.pop("name", None)
    if not isinstance(name, str) or name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; expected name: one of {', '.join(OBJECTIVES)}")
    if student.embed_dim != teacher.embed_dim:
        raise ValueError(f"the student's embeddings are {student.embed_dim} wide, the teacher's {teacher.embed_dim}; expected the same")
    kind, needs = OBJECTIVES[name]
    return build(kind, needs(student, teacher), given, f"objective {name!r}")
