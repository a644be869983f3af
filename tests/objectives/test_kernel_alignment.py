"""Relational distillation by kernel alignment, against Gram matrices that are written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infoclip_lite import load_clip
from infoclip_lite.objectives import (
    Batch,
    InfoCLIPObjective,
    KernelAlignment,
    Objective,
    View,
    build_objective,
)

B, N, C, D = 3, 7, 4, 6


def view(seed: int, patches: int = N, words: int = C) -> View:
    generator = torch.Generator().manual_seed(seed)
    dense, text = (
        torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)
        for shape in ((B, patches, D), (words, D))
    )
    return View(dense, text, torch.tensor(10.0))


def both(teacher: View, student: View) -> Batch:
    return Batch.of(teacher=teacher, student=student)


def naive(teacher: Tensor, student: Tensor) -> float:
    """One picture's loss, of its (N, C) cosines, an entry at a time."""
    grams = []
    for cosines in (teacher.double(), student.double()):
        middle = sum(cosines) / len(cosines)
        rows = [(row - middle) / (row - middle).norm() for row in cosines]
        grams.append([(a @ b).item() ** 2 for a in rows for b in rows])
    k, m = grams
    product = sum(a * b for a, b in zip(k, m, strict=True))
    return -math.log2(product / math.sqrt(sum(a * a for a in k) * sum(b * b for b in m)))


def alignment(**options: float) -> Objective:
    clip = load_clip()
    return build_objective({"name": "kernel_alignment", **options}, clip, clip)


def test_it_is_minus_the_log_of_the_cosine_of_two_squared_centred_grams() -> None:
    teacher, student = view(0), view(1)
    pairs = zip(*(v.dense @ v.text.T for v in (teacher, student)), strict=True)
    pictures = [naive(*pair) for pair in pairs]
    terms = alignment(weight=3.0)(both(teacher, student))
    assert set(terms) == {"alignment", "total"} and max(pictures) - min(pictures) > 0.02
    assert terms["alignment"].item() == pytest.approx(sum(pictures) / B, rel=1e-4)
    assert terms["total"].item() == pytest.approx(3 * sum(pictures) / B, rel=1e-4)


def test_a_student_that_has_not_moved_pays_nothing_and_a_sharper_one_neither() -> None:
    """A scale of a picture's cosines goes unseen: a sharper relation is no loss."""
    teacher = view(0)
    for student in (teacher, teacher._replace(text=5 * teacher.text)):
        assert KernelAlignment()(both(teacher, student))["total"].item() == pytest.approx(0, abs=1e-5)


def test_words_count_and_not_only_patches() -> None:
    """What feature distillation and CKA do not look at."""
    teacher = view(0)
    assert KernelAlignment()(both(teacher, teacher._replace(text=view(1).text)))["total"].item() > 0.05


def test_gradients_reach_the_students_patches_and_words_alone() -> None:
    teacher, student = view(0), view(1)
    for each in (teacher, student):
        each.dense.requires_grad_(True)
        each.text.requires_grad_(True)
    KernelAlignment()(both(teacher, student))["total"].backward()
    assert teacher.dense.grad is None and teacher.text.grad is None
    for gradient in (student.dense.grad, student.text.grad):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_it_has_no_weights_of_its_own() -> None:
    assert not list(KernelAlignment().parameters()) and list(InfoCLIPObjective(D).parameters())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        KernelAlignment()(both(view(0), view(1, patches=4)))
    with pytest.raises(ValueError, match="no information"):
        KernelAlignment()(both(view(0, patches=1), view(1, patches=1)))
    with pytest.raises(ValueError, match="weight is 0; expected a number above 0"):
        alignment(weight=0)
