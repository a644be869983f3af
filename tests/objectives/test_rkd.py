"""Relational distillation against its formula, a pair and a triplet at a time, and what it cannot see."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from infoclip_lite import load_clip
from infoclip_lite.objectives import Batch, Objective, RelationalDistillation, View, build_objective

B, N, D = 2, 6, 4
TERMS = {"distance": {"angle": 0.0}, "angle": {"distance": 0.0}}


def view(seed: int, patches: int = N) -> View:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.nn.functional.normalize(torch.randn(B, patches, D, generator=generator), dim=-1)
    return View(dense, torch.eye(3, D), torch.tensor(10.0))


def near(teacher: View, seed: int, distance: float = 0.1) -> View:
    return teacher._replace(dense=teacher.dense + distance * view(seed, teacher.dense.shape[1]).dense)


def both(teacher: View, student: View, progress: float = 0.0) -> Batch:
    return Batch.of(teacher=teacher, student=student, progress=progress)


def huber(a: float, b: float) -> float:
    gap = abs(a - b)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def distances(dense: Tensor) -> list[float]:
    found = [(a - b).norm().item() for a, b in permutations(dense, 2)]
    return [distance / (sum(found) / len(found)) for distance in found]


def cosine(i: Tensor, j: Tensor, k: Tensor) -> float:
    return ((i - j) @ (k - j) / ((i - j).norm() * (k - j).norm())).item()


def angles(dense: Tensor) -> list[float]:
    return [cosine(*three) for three in permutations(dense, 3)]


def mean(wanted: list[float], got: list[float]) -> float:
    return sum(huber(a, b) for a, b in zip(wanted, got, strict=True)) / len(wanted)


def rkd(**options: float) -> Objective:
    clip = load_clip()
    return build_objective({"name": "rkd", **options}, clip, clip)


@pytest.mark.parametrize("outlier", [1.0, 10.0], ids=["squares", "beyond one"])
def test_it_is_hubers_loss_of_distances_and_angles_between_distinct_patches(outlier: float) -> None:
    teacher, student = view(0), near(view(0), 1, 0.7)
    student.dense[:, 0] *= outlier
    pairs = list(zip(teacher.dense, student.dense, strict=True))
    # Relative distances differ by more than one only where a patch is far from all others.
    apart = [abs(a - b) for t, s in pairs for a, b in zip(distances(t), distances(s), strict=True)]
    assert (max(apart) > 1) == (outlier > 1)
    distance = sum(mean(distances(t), distances(s)) for t, s in pairs) / B
    angle = sum(mean(angles(t), angles(s)) for t, s in pairs) / B
    terms = rkd(weight=3.0)(both(teacher, student))
    assert set(terms) == {"distance", "angle", "total"} and min(distance, angle) > 0.01
    assert terms["distance"].item() == pytest.approx(distance, rel=1e-4)
    assert terms["angle"].item() == pytest.approx(angle, rel=1e-4)
    assert terms["total"].item() == pytest.approx(3 * (distance + 2 * angle), rel=1e-4), "lambdas 1 and 2"


@pytest.mark.parametrize("name", TERMS)
def test_a_lambda_of_zero_leaves_its_term_out(name: str) -> None:
    batch = both(view(0), view(1))
    terms, whole = RelationalDistillation(**TERMS[name])(batch), RelationalDistillation()(batch)
    assert set(terms) == {name, "total"} and terms[name] == whole[name]


def test_a_student_that_has_not_moved_pays_nothing() -> None:
    assert RelationalDistillation()(both(view(0), view(0)))["total"].item() == 0


@pytest.mark.parametrize("name", TERMS)
def test_rotating_scaling_and_shifting_all_patches_of_a_picture_changes_nothing(name: str) -> None:
    teacher, student = view(0), view(1)
    turn, _ = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(2)))
    scales, shifts = torch.tensor([0.5, 7.0])[:, None, None], view(3).dense[:, :1]
    moved = student._replace(dense=scales * student.dense @ turn + shifts)
    before, after = (RelationalDistillation()(both(teacher, v))[name].item() for v in (student, moved))
    assert after == pytest.approx(before, rel=1e-4) and before > 0.01


@pytest.mark.parametrize("name", TERMS)
def test_gradients_reach_the_student_alone(name: str) -> None:
    teacher, student = view(0), view(1)
    for each in (teacher, student):
        each.dense.requires_grad_(True)
    RelationalDistillation(**TERMS[name])(both(teacher, student))["total"].backward()
    assert teacher.dense.grad is None
    assert student.dense.grad.isfinite().all() and (student.dense.grad.abs().sum(-1) > 0).all()
    # Along its own scale, which the mean distance takes out, a picture has no slope.
    along = (student.dense.grad * student.dense).sum((1, 2))
    assert along.abs().max() < 1e-6 < student.dense.grad.abs().max()


@pytest.mark.parametrize("name", TERMS)
def test_following_the_gradient_brings_the_student_back(name: str) -> None:
    teacher, student = view(0), near(view(0), 1)
    student.dense.requires_grad_(True)
    objective, losses = RelationalDistillation(**TERMS[name]), []
    for _ in range(200):
        loss = objective(both(teacher, student))["total"]
        losses.append(loss.item())
        (slope,) = torch.autograd.grad(loss, student.dense)
        student.dense.data -= 1.0 * slope
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.01 * losses[0]


def moved_by(objective: Objective, progress: float, patches: int = 40) -> set[int]:
    """The patches that the loss has a gradient for, the same in all pictures."""
    teacher, student = view(0, patches), view(1, patches)
    student.dense.requires_grad_(True)
    objective(both(teacher, student, progress))["total"].backward()
    rows = student.dense.grad.abs().sum(-1) > 0
    assert (rows == rows[0]).all()
    return set(rows[0].nonzero().flatten().tolist())


def test_angles_are_taken_between_as_many_patches_as_are_asked_for_and_distances_between_all() -> None:
    assert len(moved_by(RelationalDistillation(distance=0.0), 0.5)) == 32
    assert len(moved_by(RelationalDistillation(distance=0.0, patches=5), 0.5)) == 5
    assert len(moved_by(RelationalDistillation(angle=0.0, patches=5), 0.5)) == 40


def test_the_patches_of_angles_are_drawn_anew_at_every_step_and_alike_in_a_resumed_run() -> None:
    def draws() -> list[set[int]]:
        objective = RelationalDistillation(distance=0.0, patches=8)
        return [moved_by(objective, step / 29) for step in range(30)]

    state = torch.get_rng_state()
    first = draws()
    assert torch.equal(torch.get_rng_state(), state), "nobody else's random numbers move"
    assert draws() == first and set.union(*first) == set(range(40))
    assert len({frozenset(each) for each in first}) == 30


def test_angles_of_drawn_patches_are_those_of_a_picture_of_them() -> None:
    teacher, student = view(0, 40), view(1, 40)
    chosen = sorted(moved_by(RelationalDistillation(distance=0.0, patches=6), 0.25))
    parts = [v._replace(dense=v.dense[:, chosen]) for v in (teacher, student)]
    whole = RelationalDistillation(patches=6)(both(teacher, student, 0.25))["angle"].item()
    assert whole == pytest.approx(RelationalDistillation()(both(*parts))["angle"].item(), rel=1e-5)


def test_two_patches_that_have_become_the_same_still_have_a_gradient() -> None:
    teacher, student = view(0), view(1)
    student.dense[:, 0] = student.dense[:, 1]
    student.dense.requires_grad_(True)
    terms = RelationalDistillation()(both(teacher, student))
    terms["total"].backward()
    assert terms["total"].isfinite() and student.dense.grad.abs().max() < 10


def test_patches_that_are_all_the_same_show_as_nan() -> None:
    same = view(0)._replace(dense=torch.ones(B, N, D))
    assert math.isnan(RelationalDistillation()(both(view(0), same))["total"].item())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher sees patches \(2, 6, 4\).*\(2, 5, 4\).*expected the same"):
        RelationalDistillation()(both(view(0), view(1, 5)))
    with pytest.raises(ValueError, match="got 2 patches a picture; expected at least 3"):
        RelationalDistillation()(both(view(0, 2), view(1, 2)))
    with pytest.raises(ValueError, match="patches is 2; expected at least 3"):
        RelationalDistillation(patches=2)
    with pytest.raises(ValueError, match="weight is -1; expected a number above 0"):
        rkd(weight=-1)
    with pytest.raises(ValueError, match="unknown key 'angel' in objective 'rkd'; did you mean 'angle'"):
        rkd(angel=1.0)


@pytest.mark.parametrize("lambdas", [(-1.0, 2.0), (1.0, -2.0), (0.0, 0.0), (math.nan, 1.0)], ids=str)
def test_lambdas_that_ask_for_nothing_are_refused(lambdas: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="got distance=.*expected 0 or more, and not both of them 0"):
        RelationalDistillation(distance=lambdas[0], angle=lambdas[1])
