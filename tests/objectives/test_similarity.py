"""Similarity-preserving distillation against its formula, one pair of pictures at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infoclip_lite import load_clip
from infoclip_lite.objectives import Batch, View, build_objective


def view(seed: int, pictures: int = 4) -> View:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.nn.functional.normalize(torch.randn(pictures, 6, 5, generator=generator), dim=-1)
    return View(dense, torch.eye(3, 5), torch.tensor(10.0))


def naive(dense: Tensor) -> list[list[float]]:
    rows = []
    for one in dense:
        row = torch.stack([(one * other).sum() for other in dense])
        rows.append((row / row.norm()).tolist())
    return rows


def similarity(**options: float) -> torch.nn.Module:
    clip = load_clip()
    return build_objective({"name": "similarity", **options}, clip, clip)


def test_it_is_the_squared_distance_of_who_resembles_whom() -> None:
    teacher, student = view(0), view(1)
    pairs = zip(naive(teacher.dense), naive(student.dense), strict=True)
    wanted = sum((a - b) ** 2 for rows in pairs for a, b in zip(*rows, strict=True)) / 16
    terms = similarity(weight=3.0)(Batch.of(teacher=teacher, student=student))
    assert terms["similarity"].item() == pytest.approx(wanted, rel=1e-4)
    assert terms["total"].item() == pytest.approx(3 * wanted, rel=1e-4)
    assert wanted > 1e-4


def test_turning_every_patch_alike_changes_nothing() -> None:
    """It looks at pictures beside pictures: a rotation of the joint space goes unseen."""
    teacher = view(0)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))
    turned = teacher._replace(dense=teacher.dense @ turn)
    assert similarity()(Batch.of(teacher=teacher, student=turned))["total"].item() == pytest.approx(
        0, abs=1e-10
    )


def test_gradients_reach_the_student_alone() -> None:
    teacher, student = view(0), view(1)
    for each in (teacher, student):
        each.dense.requires_grad_(True)
    similarity()(Batch.of(teacher=teacher, student=student))["total"].backward()
    assert teacher.dense.grad is None and student.dense.grad.abs().sum() > 0


def test_one_picture_and_bad_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 picture; expected at least 2"):
        similarity()(Batch.of(teacher=view(0, 1), student=view(1, 1)))
    with pytest.raises(ValueError, match="weight is -1"):
        similarity(weight=-1)
    with pytest.raises(
        ValueError, match="unknown key 'wait' in objective 'similarity'; did you mean 'weight'"
    ):
        similarity(wait=1.0)
