"""Objectives that keep a fine-tuned CLIP aligned: (teacher view, student view) -> named scalars with "total"."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from inspect import signature
from typing import Any

from torch import nn

from ..clip import DenseCLIP
from .distillation import FeatureDistillation, KLDistillation, PooledCompensation, WeightAnchor, interpolate
from .infoclip import LPAM, InfoCLIPObjective, View, compression_loss, relation, transfer_loss

__all__ = [
    "LPAM",
    "OBJECTIVES",
    "FeatureDistillation",
    "InfoCLIPObjective",
    "KLDistillation",
    "PooledCompensation",
    "View",
    "WeightAnchor",
    "build_objective",
    "compression_loss",
    "interpolate",
    "relation",
    "transfer_loss",
]

# What a recipe calls an objective: its class, and what it needs to know of (student, teacher) before its own options.
OBJECTIVES: dict[str, tuple[Callable[..., nn.Module], Callable[[DenseCLIP, DenseCLIP], tuple[Any, ...]]]] = {
    "infoclip": (InfoCLIPObjective, lambda student, teacher: (student.embed_dim,)),
    "kl": (KLDistillation, lambda student, teacher: ()),
    "feature": (FeatureDistillation, lambda student, teacher: ()),
    "pooled": (PooledCompensation, lambda student, teacher: ()),
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
    known = [p.name for p in signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            raise ValueError(f"unknown key {key!r} in objective {name!r}; expected {f'{near[0]!r}?' if near else ', '.join(known)}")
    try:
        return kind(*needs(student, teacher), **given)
    except TypeError as error:
        raise ValueError(f"objective {name!r} cannot be built from {given} ({error}); expected numbers where numbers belong") from error
