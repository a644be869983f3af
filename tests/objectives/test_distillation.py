"""What one would do instead of InfoCLIP: each objective is its formula, is zero at the start, and pulls at
the student alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage
from infoclip_lite.objectives import (
    Batch,
    FeatureDistillation,
    InfoCLIPObjective,
    KLDistillation,
    PooledCompensation,
    View,
    WeightAnchor,
    build_objective,
    interpolate,
)
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.recipe import OptimizerSection

MakeTiny = Callable[..., DenseCLIP]
B, N, C, D = 2, 16, 3, 6
RIVALS = {
    "kl": KLDistillation(),
    "l2": FeatureDistillation(metric="l2"),
    "cosine": FeatureDistillation(metric="cosine"),
    "pooled": PooledCompensation(),
}


def view(seed: int, scale: float = 5.0, patches: int = N) -> View:
    g = torch.Generator().manual_seed(seed)
    dense, text = (F.normalize(torch.randn(*s, generator=g), dim=-1) for s in ((B, patches, D), (C, D)))
    return View(
        dense.requires_grad_(True), text.requires_grad_(True), torch.tensor(scale, requires_grad=True)
    )


def both(teacher: View, student: View) -> Batch:
    return Batch.of(teacher=teacher, student=student)


def probabilities(v: View, b: int, n: int, temperature: float) -> Tensor:
    logits = torch.stack([v.scale * (v.dense[b, n] @ word) / temperature for word in v.text])
    return logits.exp() / logits.exp().sum()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_kl_is_the_mean_divergence_from_the_teachers_words(temperature: float) -> None:
    teacher, student = view(0, 5.0), view(1, 7.0)
    divergences = []
    for b in range(B):
        for n in range(N):
            p, q = probabilities(teacher, b, n, temperature), probabilities(student, b, n, temperature)
            divergences.append((p * (p / q).log()).sum())
    wanted = torch.stack(divergences).mean().item() * temperature**2
    terms = KLDistillation(weight=0.5, temperature=temperature)(Batch.of(teacher=teacher, student=student))
    assert set(terms) == {"kl", "total"} and wanted > 0.01
    assert terms["kl"].item() == pytest.approx(wanted, rel=1e-4) and terms["total"].item() == pytest.approx(
        wanted / 2, rel=1e-4
    )


def test_features_are_held_by_squared_distance_or_cosine() -> None:
    teacher, student = view(0), view(1)
    pairs = [(teacher.dense[b, n], student.dense[b, n]) for b in range(B) for n in range(N)]
    squared = torch.stack([(t - s).square().sum() for t, s in pairs]).mean().item()
    angle = torch.stack([1 - t @ s for t, s in pairs]).mean().item()
    l2, cosine = (
        FeatureDistillation(weight=3.0, metric=m)(Batch.of(teacher=teacher, student=student))
        for m in ("l2", "cosine")
    )
    assert l2["feature"].item() == pytest.approx(squared, rel=1e-5) and l2["total"].item() == pytest.approx(
        3 * squared, rel=1e-5
    )
    assert cosine["feature"].item() == pytest.approx(angle, rel=1e-5) and cosine[
        "total"
    ].item() == pytest.approx(3 * angle, rel=1e-5)
    assert squared == pytest.approx(2 * angle, rel=1e-5), "unit vectors: the two differ by a factor alone"


def test_pooled_features_are_held_in_squares_of_every_size() -> None:
    teacher, student = view(0), view(1)
    losses = []
    for squares in (1, 2, 4):
        cells, side = [], 4 // squares
        for b in range(B):
            for row in range(squares):
                for column in range(squares):
                    pooled = []
                    for v in (teacher, student):
                        patches = [
                            v.dense[b, 4 * r + c]
                            for r in range(row * side, (row + 1) * side)
                            for c in range(column * side, (column + 1) * side)
                        ]
                        mean = torch.stack(patches).mean(0)
                        pooled.append(mean / mean.norm())
                    gap = (pooled[0] - pooled[1]).abs()
                    cells.append(torch.where(gap < 0.1, 5 * gap**2, gap - 0.05).sum())
        losses.append(torch.stack(cells).mean())
    terms = PooledCompensation(weight=2.0)(Batch.of(teacher=teacher, student=student))
    wanted = torch.stack(losses).mean().item()
    assert terms["pooled"].item() == pytest.approx(wanted, rel=1e-4) and terms[
        "total"
    ].item() == pytest.approx(2 * wanted, rel=1e-4)
    one = PooledCompensation(squares=[4])(Batch.of(teacher=teacher, student=student))["total"].item()
    assert one == pytest.approx(losses[2].item(), rel=1e-4)


@pytest.mark.parametrize("rival", RIVALS)
def test_a_student_that_has_not_moved_pays_nothing(rival: str) -> None:
    assert RIVALS[rival](both(view(0), view(0)))["total"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rival", RIVALS)
def test_gradients_reach_the_student_alone(rival: str) -> None:
    teacher, student = view(0), view(1)
    RIVALS[rival](both(teacher, student))["total"].backward()
    assert all(tensor.grad is None for tensor in teacher)
    assert student.dense.grad.isfinite().all() and student.dense.grad.abs().max() > 0
    assert (student.text.grad is not None) == (rival == "kl"), "words count where logits are compared"


@pytest.mark.parametrize("rival", RIVALS)
def test_following_the_gradient_brings_the_student_back(rival: str) -> None:
    teacher, student = view(0), view(1)
    terms = RIVALS[rival](both(teacher, student))
    (slope,) = torch.autograd.grad(terms["total"], student.dense)
    moved = View(student.dense - 0.01 * slope / slope.norm(), student.text, student.scale)
    assert RIVALS[rival](both(teacher, moved))["total"] < terms["total"]


@pytest.mark.parametrize("rival", RIVALS)
def test_views_of_different_shape_are_refused(rival: str) -> None:
    with pytest.raises(
        ValueError, match=r"teacher sees patches \(2, 16, 6\).*the student \(2, 4, 6\).*expected the same"
    ):
        RIVALS[rival](both(view(0), view(1, patches=4)))


def test_pooling_refuses_patches_that_are_no_square() -> None:
    with pytest.raises(ValueError, match="got 12 patches; expected a square grid"):
        PooledCompensation()(Batch.of(teacher=view(0, patches=12), student=view(1, patches=12)))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("kind", [KLDistillation, FeatureDistillation, PooledCompensation])
def test_weights_that_are_not_above_zero_are_refused(kind: type[nn.Module], weight: float) -> None:
    with pytest.raises(ValueError, match="weight is .*; expected a number above 0"):
        kind(weight=weight)


def test_other_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="temperature is 0; expected a number above 0"):
        KLDistillation(temperature=0)
    with pytest.raises(ValueError, match="unknown metric 'l1'; expected 'l2' or 'cosine'"):
        FeatureDistillation(metric="l1")
    with pytest.raises(ValueError, match="weight is -1"):
        WeightAnchor(nn.Linear(1, 1), nn.Linear(1, 1), weight=-1)


def test_the_anchor_is_the_squared_distance_of_the_weights_that_are_tuned() -> None:
    torch.manual_seed(0)
    student, reference = nn.Linear(2, 3), nn.Linear(2, 3)
    anchor = WeightAnchor(student, reference, weight=0.4)
    both = sum(
        (a - b).square().sum() for a, b in zip(student.parameters(), reference.parameters(), strict=True)
    ).item()
    assert anchor()["total"].item() == pytest.approx(0.2 * both)
    student.bias.requires_grad_(False)
    matrix = (student.weight - reference.weight).square().sum().item()
    terms = anchor()
    assert terms["anchor"].item() == pytest.approx(matrix) and terms["total"].item() == pytest.approx(
        0.2 * matrix
    )
    terms["total"].backward()
    assert (
        torch.allclose(student.weight.grad, 0.4 * (student.weight - reference.weight))
        and reference.weight.grad is None
    )


def test_the_anchor_has_no_weights_of_its_own() -> None:
    anchor = WeightAnchor(nn.Linear(2, 3), nn.Linear(2, 3))
    assert not list(anchor.parameters()) and not anchor.state_dict()


@pytest.mark.parametrize("tune", ["full", "image", "qv"])
def test_the_anchor_pulls_at_exactly_what_is_tuned(make_tiny: MakeTiny, tune: str) -> None:
    segmentor, teacher = ZeroShotSegmentor(make_tiny()), make_tiny().requires_grad_(False)
    anchor = build_objective({"name": "l2sp"}, segmentor.clip, teacher)
    tuning = FineTuning(
        segmentor,
        Collage("train", 32, length=4),
        batch=2,
        optimizer=OptimizerSection(lr=1e-3),
        tune=tune,
        objective=anchor,
        teacher=teacher,
    )
    with torch.no_grad():
        for parameter in tuning.trained:
            parameter.add_(0.1)
    anchor()["total"].backward()
    pulled = {name for name, p in segmentor.clip.named_parameters() if p.grad is not None and p.grad.any()}
    assert pulled == {
        name for name, p in segmentor.clip.named_parameters() if any(p is t for t in tuning.trained)
    }


def line(value: float) -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, 10 * value)
    return layer


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1.0), (0.25, 1.5), (0.5, 2.0), (1.0, 3.0)])
def test_interpolation_goes_from_the_pretrained_to_the_tuned_weights(share: float, wanted: float) -> None:
    student, reference = line(3.0), line(1.0)
    interpolate(student, reference, share)
    assert student.weight.tolist() == [[wanted, wanted]] and student.bias.tolist() == [10 * wanted]
    assert reference.weight.tolist() == [[1.0, 1.0]] and student.weight.requires_grad


def test_the_ends_of_an_interpolation_are_exact(make_tiny: MakeTiny) -> None:
    for share in (0.0, 1.0):
        tuned, reference = make_tiny(seed=1), make_tiny(seed=2)
        wanted = {k: v.clone() for k, v in (reference if share == 0 else tuned).state_dict().items()}
        interpolate(tuned, reference, share)
        assert all(torch.equal(v, wanted[k]) for k, v in tuned.state_dict().items())


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_zero_and_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"fraction is .*; expected 0 \.\. 1"):
        interpolate(line(3.0), line(1.0), share)


@pytest.mark.parametrize("reference", [nn.Linear(3, 1), nn.Linear(2, 1, bias=False)], ids=["shape", "name"])
def test_models_of_another_architecture_are_not_mixed(reference: nn.Module) -> None:
    with pytest.raises(
        ValueError,
        match=r"(weight|bias) .* has no partner in the reference; expected two models of one architecture",
    ):
        interpolate(line(3.0), reference, 0.5)


def test_a_mix_that_cannot_be_finished_changes_nothing() -> None:
    student, reference = (
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)),
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 4)),
    )
    before = student[0].weight.clone()
    with pytest.raises(ValueError, match="has no partner"):
        interpolate(student, reference, 0.5)
    assert torch.equal(student[0].weight, before)


def test_an_anchor_on_a_frozen_model_is_refused() -> None:
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no weight of the student is tuned"):
        WeightAnchor(frozen, nn.Linear(2, 2))()


@pytest.mark.parametrize("squares", [(), (0,), (2, -1)])
def test_pooling_needs_squares(squares: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one or more sides of at least 1"):
        PooledCompensation(squares=squares)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "infoclip", "compression": "1"},
        {"name": "kl", "temperature": "hot"},
        {"name": "pooled", "squares": 2},
        {"name": ["kl"]},
    ],
    ids=str,
)
def test_a_recipes_options_of_another_type_are_told(options: dict, make_tiny: MakeTiny) -> None:
    clip = make_tiny()
    with pytest.raises(ValueError, match="expected"):
        build_objective(options, clip, clip)


@pytest.mark.parametrize("bad", [{"compression": float("nan")}, {"alpha": -1.0}, {"base": 1.0}], ids=str)
def test_weights_and_orders_that_cannot_be_are_refused_before_training(bad: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        InfoCLIPObjective(4, **bad)
