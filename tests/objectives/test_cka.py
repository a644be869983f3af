"""CKA distillation against centred Gram matrices that are written out, and what it cannot see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infoclip_lite import load_clip
from infoclip_lite.objectives import Batch, CKADistillation, Objective, View, build_objective

B, N, D = 3, 7, 5


def view(seed: int, patches: int = N) -> View:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.nn.functional.normalize(torch.randn(B, patches, D, generator=generator), dim=-1)
    return View(dense, torch.eye(3, D), torch.tensor(10.0))


def near(teacher: View, seed: int, distance: float = 0.1) -> View:
    return teacher._replace(dense=teacher.dense + distance * view(seed).dense)


def both(teacher: View, student: View) -> Batch:
    return Batch.of(teacher=teacher, student=student)


def naive(teacher: Tensor, student: Tensor) -> float:
    """1 - CKA of one picture, an entry of the Gram matrices at a time."""
    grams = []
    for dense in (teacher, student):
        middle = sum(dense) / len(dense)
        grams.append([[((a - middle) @ (b - middle)).item() for b in dense] for a in dense])
    k, m = ([entry for row in gram for entry in row] for gram in grams)
    product = sum(a * b for a, b in zip(k, m, strict=True))
    return 1 - product / math.sqrt(sum(a * a for a in k) * sum(b * b for b in m))


def cka(**options: float) -> Objective:
    clip = load_clip()
    return build_objective({"name": "cka", **options}, clip, clip)


def test_it_is_one_less_the_cosine_of_two_centred_grams_a_mean_over_pictures() -> None:
    teacher, student = view(0), view(1)
    pictures = [naive(*pair) for pair in zip(teacher.dense, student.dense, strict=True)]
    wanted = sum(pictures) / B
    terms = cka(weight=3.0)(both(teacher, student))
    assert set(terms) == {"cka", "total"} and max(pictures) - min(pictures) > 0.05
    assert terms["cka"].item() == pytest.approx(wanted, rel=1e-4)
    assert terms["total"].item() == pytest.approx(3 * wanted, rel=1e-4)


def test_a_student_that_has_not_moved_pays_nothing() -> None:
    assert CKADistillation()(both(view(0), view(0)))["total"].item() == pytest.approx(0, abs=1e-12)


def test_a_small_step_is_not_lost_in_rounding() -> None:
    """1 - CKA falls with the square of the distance: float32 would have nothing left of it."""
    far, close = (CKADistillation()(both(view(0), near(view(0), 1, d)))["cka"].item() for d in (1e-2, 1e-4))
    assert close == pytest.approx(far * 1e-4, rel=0.1)


def test_rotating_scaling_and_shifting_all_patches_of_a_picture_changes_nothing() -> None:
    teacher, student = view(0), view(1)
    turn, _ = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2)))
    scales, shifts = torch.tensor([0.5, 2.0, 7.0])[:, None, None], view(3).dense[:, :1]
    moved = student._replace(dense=scales * student.dense @ turn + shifts)
    before, after = (CKADistillation()(both(teacher, v))["cka"].item() for v in (student, moved))
    assert after == pytest.approx(before, rel=1e-5) and before > 0.05


def test_stretching_one_direction_is_seen() -> None:
    """Its family's measures that are blind to any linear map would not see it."""
    teacher = view(0)
    stretched = teacher._replace(dense=teacher.dense * torch.tensor([3.0, 1, 1, 1, 1]))
    assert CKADistillation()(both(teacher, stretched))["cka"].item() > 0.05


def test_gradients_reach_the_student_alone() -> None:
    teacher, student = view(0), view(1)
    for each in (teacher, student):
        each.dense.requires_grad_(True)
    CKADistillation()(both(teacher, student))["total"].backward()
    assert teacher.dense.grad is None
    assert student.dense.grad.isfinite().all() and (student.dense.grad.abs().sum((1, 2)) > 0).all()


def test_following_the_gradient_brings_the_student_back() -> None:
    teacher, student = view(0), near(view(0), 1)
    student.dense.requires_grad_(True)
    losses = []
    for _ in range(200):
        loss = CKADistillation()(both(teacher, student))["total"]
        losses.append(loss.item())
        (slope,) = torch.autograd.grad(loss, student.dense)
        student.dense.data -= 2.0 * slope
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.01 * losses[0]


def test_patches_that_are_all_the_same_show_as_nan() -> None:
    same = view(0)._replace(dense=torch.ones(B, N, D))
    assert math.isnan(CKADistillation()(both(view(0), same))["total"].item())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher sees patches \(3, 7, 5\).*\(3, 4, 5\).*expected the same"):
        CKADistillation()(both(view(0), view(1, 4)))
    with pytest.raises(ValueError, match="the same n >= 2 samples"):
        CKADistillation()(both(view(0, 1), view(1, 1)))
    with pytest.raises(ValueError, match="weight is 0; expected a number above 0"):
        cka(weight=0)
    with pytest.raises(ValueError, match="unknown key 'wait' in objective 'cka'; did you mean 'weight'"):
        cka(wait=1.0)
