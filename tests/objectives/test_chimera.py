"""Chimera-Seg's objectives: each equals its formula in slow loops, and its queue is a part of the training's
state.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.objectives import (
    Batch,
    ChimeraObjective,
    SelectiveDenseDistillation,
    SelectiveGlobalDistillation,
    SemanticAlignment,
    View,
    build_objective,
    positions_kept,
)
from infoclip_lite.objectives.chimera import select

MakeTiny = Callable[..., DenseCLIP]
B, N, D, C = 3, 12, 8, 4


def unit(*shape: int, seed: int = 0, axis: int = -1) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=axis)


def alike(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures' embeddings, and positions that look like those of their own picture."""
    image = unit(B, D, seed=seed)
    return image, F.normalize(image[:, None] + 0.3 * unit(B, N, D, seed=seed + 1), dim=-1)


# How many positions are kept.


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("linear", [20, 18, 16, 12, 4]),
        (
            "cosine",
            [20, 20 - 16 * (1 - math.cos(math.pi / 8)) / 2, 20 - 16 * (1 - math.cos(math.pi / 4)) / 2, 12, 4],
        ),
        ("step", [20, 20, 20, 12, 4]),
        ("constant", [20, 20, 20, 20, 20]),
    ],
)
def test_each_schedule_is_what_its_name_says(schedule: str, wanted: list[float]) -> None:
    assert [positions_kept(p, 20, 4, schedule) for p in (0.0, 0.125, 0.25, 0.5, 1.0)] == [
        round(w) for w in wanted
    ]


def test_steps_are_thirds_of_the_training() -> None:
    assert [positions_kept(p, 64, 16, "step") for p in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [
        64,
        64,
        40,
        40,
        16,
        16,
    ]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
@given(positions=st.integers(1, 300), share=st.floats(0, 1))
def test_fewer_and_fewer_are_kept_from_all_to_the_smallest(
    schedule: str, positions: int, share: float
) -> None:
    smallest = max(1, int(share * positions))
    kept = [positions_kept(i / 40, positions, smallest, schedule) for i in range(41)]
    assert kept[0] == positions and kept[-1] == smallest and kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("smallest", [0, 13, -1])
def test_a_smallest_number_that_cannot_be_kept_is_refused(smallest: int) -> None:
    with pytest.raises(
        ValueError, match=rf"smallest is {smallest}, but the student has 12 positions; expected 1 \.\. 12"
    ):
        positions_kept(0.0, 12, smallest)


@pytest.mark.parametrize("progress", [-0.01, 1.01, math.nan])
def test_a_progress_outside_the_training_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match=r"progress is .*; expected 0 .* \.\. 1"):
        positions_kept(progress, 12, 4)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'sine'; expected one of cosine"):
        SelectiveGlobalDistillation(D, schedule="sine")


# Selective Global Distillation.


def summary_by_hand(image: Tensor, positions: Tensor, count: int) -> Tensor:
    """Of one picture: the `count` positions most like it, weighted by exp(similarity / sqrt(D))."""
    likeness = [sum((image * p).tolist()) for p in positions]
    kept = sorted(range(len(positions)), key=lambda n: -likeness[n])[:count]
    weights = [math.exp(likeness[n] / math.sqrt(len(image))) for n in kept]
    mixed = sum(w / sum(weights) * positions[n] for w, n in zip(weights, kept, strict=True))
    return mixed / mixed.norm()


def infonce_by_hand(summaries: Tensor, keys: Tensor, temperature: float) -> float:
    losses = []
    for b, summary in enumerate(summaries):
        logits = [(summary @ key).item() / temperature for key in keys]
        losses.append(-logits[b] + math.log(sum(math.exp(x) for x in logits)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("count", [1, 5, N])
def test_selection_and_summary_equal_a_slow_loop(count: int) -> None:
    image, dense = unit(B, D), unit(B, N, D, seed=1)
    chosen = select(image, dense, count)
    for b in range(B):
        order = sorted(range(N), key=lambda n: -(image[b] @ dense[b, n]).item())
        assert chosen[b].tolist() == order[:count]
    got = SelectiveGlobalDistillation(D).summarise(image, dense, count)
    assert torch.allclose(
        got, torch.stack([summary_by_hand(image[b], dense[b], count) for b in range(B)]), atol=1e-5
    )


def test_with_all_positions_it_is_global_distillation_written_out() -> None:
    """The global module of CLIP-ZSS: attention of the picture's embedding over all positions."""
    image, dense = unit(B, D), unit(B, N, D, seed=1)
    weights = ((image[:, None] @ dense.mT) / math.sqrt(D)).softmax(-1)
    summary = F.normalize((weights @ dense)[:, 0], dim=-1)
    wanted = F.cross_entropy(summary @ image.T / 0.2, torch.arange(B)).item()
    module = SelectiveGlobalDistillation(D, smallest=4, schedule="constant", temperature=0.2, queue=0)
    assert module(image, dense, progress=1.0)["global"].item() == pytest.approx(wanted, rel=1e-5)
    falling = SelectiveGlobalDistillation(D, smallest=4, temperature=0.2, queue=0)
    assert falling(image, dense, progress=0.0)["global"].item() == pytest.approx(wanted, rel=1e-5)
    assert falling(image, dense, progress=1.0)["global"].item() != pytest.approx(wanted, rel=1e-2)


def test_the_loss_is_cross_entropy_against_batch_and_queue() -> None:
    module, past = SelectiveGlobalDistillation(D, smallest=4, temperature=0.3, queue=5), unit(B, D, seed=9)
    for image, keys in ((past, past), (unit(B, D), torch.cat([unit(B, D), past]))):
        dense = unit(B, N, D, seed=1)
        summaries = torch.stack([summary_by_hand(image[b], dense[b], 8) for b in range(B)])
        terms = module(image, dense, progress=0.5)
        assert terms["global"].item() == pytest.approx(infonce_by_hand(summaries, keys, 0.3), rel=1e-4)
        assert terms["total"] is terms["global"]


def test_the_queue_has_the_newest_first_and_forgets_the_oldest() -> None:
    module, seen = SelectiveGlobalDistillation(D, smallest=4, queue=5), [unit(2, D, seed=s) for s in range(4)]
    for step, (image, filled) in enumerate(zip(seen, (2, 4, 5, 5), strict=True)):
        module(image, unit(2, N, D))
        wanted = torch.cat([*reversed(seen[: step + 1])])[:5]
        assert int(module.filled) == filled and torch.equal(module.queue[:filled], wanted)
    assert not module.queue.requires_grad


def test_a_batch_larger_than_the_queue_fills_it() -> None:
    module, image = SelectiveGlobalDistillation(D, smallest=4, queue=2), unit(B, D)
    module(image, unit(B, N, D))
    assert int(module.filled) == 2 and torch.equal(module.queue, image[:2])


def test_the_queue_does_not_move_in_evaluation_and_is_in_the_state() -> None:
    module, other = (SelectiveGlobalDistillation(D, smallest=4, queue=5) for _ in range(2))
    module(unit(B, D), unit(B, N, D))
    before = module.queue.clone()
    module.eval()(unit(B, D, seed=5), unit(B, N, D))
    assert torch.equal(module.queue, before) and int(module.filled) == B
    assert set(module.state_dict()) == {"queue", "filled"}
    other.load_state_dict(module.state_dict())
    image, dense = unit(B, D, seed=6), unit(B, N, D, seed=7)
    assert other.eval()(image, dense)["total"].item() == module(image, dense)["total"].item()


def test_the_teacher_gets_no_gradient_and_the_student_does() -> None:
    module = SelectiveGlobalDistillation(D, smallest=4)
    for _ in range(2):  # the second with a queue
        image, dense = unit(B, D).requires_grad_(True), unit(B, N, D, seed=1).requires_grad_(True)
        module(image, dense, progress=1.0)["total"].backward()
        assert image.grad is None and not module.queue.requires_grad
        touched = dense.grad.abs().sum(-1) > 0
        assert touched.sum(1).tolist() == [4] * B, "the positions that were kept and no other"


def test_one_picture_needs_others_to_be_told_from() -> None:
    module = SelectiveGlobalDistillation(D, smallest=4)
    with pytest.raises(ValueError, match="one picture and no other.*batch of at least 2"):
        module(unit(1, D), unit(1, N, D))
    module(unit(2, D), unit(2, N, D))
    assert module(unit(1, D, seed=3), unit(1, N, D))["total"].item() > 0
    with pytest.raises(ValueError, match="one picture"):
        SelectiveGlobalDistillation(D, smallest=4, queue=0)(unit(1, D), unit(1, N, D))


def test_right_pictures_cost_less_than_shuffled_ones() -> None:
    image, dense = alike()
    module = SelectiveGlobalDistillation(D, smallest=4).eval()
    assert (
        module(image, dense, 0.5)["total"].item() < module(image, dense.roll(1, 0), 0.5)["total"].item() - 1
    )


def test_a_gradient_step_lowers_the_loss() -> None:
    image, dense = unit(B, D), unit(B, N, D, seed=1).requires_grad_(True)
    module = SelectiveGlobalDistillation(D, smallest=4).eval()
    first = module(image, dense, 0.5)["total"]
    first.backward()
    second = module(image, F.normalize(dense - 0.05 * dense.grad, dim=-1), 0.5)["total"]
    assert second.item() < first.item() - 1e-4


@pytest.mark.parametrize(
    ("image", "dense"),
    [
        ((B, D), (B + 1, N, D)),
        ((B, D), (B, N, D + 1)),
        ((B, D + 1), (B, N, D + 1)),
        ((D,), (B, N, D)),
        ((B, D), (B, D)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(image: tuple, dense: tuple) -> None:
    with pytest.raises(ValueError, match=r"got image .* and dense .*; expected \(B, 8\) and \(B, N, 8\)"):
        SelectiveGlobalDistillation(D)(torch.zeros(image), torch.zeros(dense))


@pytest.mark.parametrize(
    "options", [{"smallest": 0}, {"queue": -1}, {"temperature": 0}, {"temperature": math.nan}]
)
def test_numbers_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"got smallest=.*; expected at least 1, at least 0, above 0"):
        SelectiveGlobalDistillation(D, **options)


# Selective dense distillation.


@pytest.mark.parametrize(("progress", "count"), [(0.0, N), (0.5, 8), (1.0, 4)])
def test_dense_distillation_equals_a_slow_loop(progress: float, count: int) -> None:
    image, taught, dense = unit(B, D), unit(B, N, D, seed=1), unit(B, N, D, seed=2)
    mean = sum(taught[b, n] for b in range(B) for n in range(N)) / (B * N)
    losses = []
    for b in range(B):
        order = sorted(range(N), key=lambda n: -(image[b] @ taught[b, n]).item())
        for n in order[:count]:
            wanted, got = taught[b, n] - mean, dense[b, n] - mean
            losses.append(1 - (wanted @ got / (wanted.norm() * got.norm())).item())
    terms = SelectiveDenseDistillation(smallest=4)(image, taught, dense, progress)
    assert (
        terms["dense"].item() == pytest.approx(sum(losses) / (B * count), rel=1e-4)
        and terms["total"] is terms["dense"]
    )


def test_dense_distillation_is_zero_where_the_student_is_the_teacher() -> None:
    image, taught = unit(B, D), unit(B, N, D, seed=1).requires_grad_(True)
    dense = unit(B, N, D, seed=2).requires_grad_(True)
    module = SelectiveDenseDistillation(smallest=4)
    assert module(image, taught, taught)["total"].item() == pytest.approx(0, abs=1e-6)
    module(image, taught, dense, 1.0)["total"].backward()
    assert taught.grad is None and (dense.grad.abs().sum(-1) > 0).sum(1).tolist() == [4] * B
    chosen = select(image, taught.detach(), 4)
    assert all(dense.grad[b, chosen[b]].abs().sum(-1).all() for b in range(B)), (
        "positions of the teacher, not of the student"
    )


@pytest.mark.parametrize(
    ("image", "taught"), [((B, D), (B, N + 1, D)), ((B + 1, D), (B, N, D)), ((B, D + 1), (B, N, D))]
)
def test_teacher_and_student_must_have_one_grid(image: tuple, taught: tuple) -> None:
    with pytest.raises(
        ValueError, match="got the teacher's features .*; expected the same grid: choose the student's pool"
    ):
        SelectiveDenseDistillation()(torch.zeros(image), torch.zeros(taught), torch.zeros(B, N, D))


@pytest.mark.parametrize(
    ("options", "hint"),
    [({"smallest": 0}, "smallest is 0"), ({"schedule": "sine"}, "unknown schedule 'sine'")],
)
def test_dense_distillation_refuses_what_cannot_be(options: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        SelectiveDenseDistillation(**options)


# Semantic alignment.


def scene(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Dense features (2, D, 3, 4), words, and a target of the same grid with ignored places and class 3
    nowhere.
    """
    target = torch.randint(0, 3, (2, 3, 4), generator=torch.Generator().manual_seed(seed))
    target[0, 0, :2] = NO_LABEL
    target[1, target[1] == 2] = NO_LABEL
    return unit(2, D, 3, 4, seed=seed, axis=1), unit(C, D, seed=seed + 1), target


def test_at_the_beginning_maps_are_cosines_of_the_words_as_they_are() -> None:
    dense, text, _ = scene()
    maps = SemanticAlignment(D, scale=3.0, bias=-2.0).maps(dense, text)
    for b, c, row, column in ((0, 0, 0, 0), (1, 3, 2, 1)):
        assert maps[b, c, row, column].item() == pytest.approx(
            3 * (dense[b, :, row, column] @ text[c]).item() - 2, abs=1e-5
        )


def test_words_that_looked_are_cross_attention_written_out() -> None:
    dense, text, _ = scene()
    torch.manual_seed(0)
    module = SemanticAlignment(D, heads=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    a, wanted = module.attention, []
    for b in range(2):
        patches, asked = module.norm_dense(dense[b].flatten(1).T), module.norm_text(text)
        q, k, v = (
            x @ w.T + bias
            for x, w, bias in zip(
                (asked, patches, patches), a.in_proj_weight.split(D), a.in_proj_bias.split(D), strict=True
            )
        )
        halves = [
            ((q[:, h] @ k[:, h].T) / 2).softmax(-1) @ v[:, h] for h in (slice(0, 4), slice(4, 8))
        ]  # 2 is the root of 4
        looked = text + torch.cat(halves, 1) @ a.out_proj.weight.T + a.out_proj.bias
        cosines = (F.normalize(looked, dim=-1) @ dense[b].flatten(1)).view(C, 3, 4)
        wanted.append(module.scale * cosines + module.bias)
    assert torch.allclose(module.maps(dense, text), torch.stack(wanted), atol=1e-5)


def test_bce_and_dice_equal_a_slow_loop() -> None:
    dense, text, target = scene()
    module = SemanticAlignment(D)
    probability = module.maps(dense, text).sigmoid()
    bce, dice = [], []
    for b in range(2):
        for c in range(C):
            overlap = got = wanted = 0.0
            for place in ((r, k) for r in range(3) for k in range(4) if target[b][r, k] != NO_LABEL):
                p, right = probability[b, c][place].item(), float(target[b][place] == c)
                bce.append(-math.log(p if right else 1 - p))
                overlap, got, wanted = overlap + p * right, got + p, wanted + right
            if wanted:  # a class that is not in the picture has no Dice
                dice.append(1 - (2 * overlap + 1) / (got + wanted + 1))
    assert len(dice) == 5, "three classes in one picture and two in the other"
    terms = module(dense, text, target)
    assert terms["bce"].item() == pytest.approx(sum(bce) / len(bce), rel=1e-4)
    assert terms["dice"].item() == pytest.approx(sum(dice) / len(dice), rel=1e-4)
    assert terms["total"].item() == pytest.approx((terms["bce"] + terms["dice"]).item())


def test_ignored_places_count_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, text, target = scene()
    module, logits = (
        SemanticAlignment(D),
        torch.randn(2, C, 3, 4, generator=torch.Generator().manual_seed(5)).requires_grad_(True),
    )
    monkeypatch.setattr(module, "maps", lambda dense, text: logits)
    module(dense, text, target)["total"].backward()
    touched = logits.grad.abs().amax(1) > 0
    assert torch.equal(touched, target != NO_LABEL)


def test_a_target_without_labels_costs_nothing() -> None:
    dense, text, target = scene()
    terms = SemanticAlignment(D)(dense, text, torch.full_like(target, NO_LABEL))
    assert {name: value.item() for name, value in terms.items()} == {"bce": 0, "dice": 0, "total": 0}


def test_absent_classes_do_not_count_in_dice() -> None:
    dense, text, target = scene()
    module = SemanticAlignment(D)
    fewer, more = module(dense, text[:3], target), module(dense, text, target)
    assert more["dice"].item() == pytest.approx(fewer["dice"].item(), abs=1e-6)
    assert more["bce"].item() != pytest.approx(fewer["bce"].item(), abs=1e-4), (
        "while BCE counts a wrong answer"
    )


def test_maps_are_enlarged_to_the_target() -> None:
    dense, text, target = scene()
    module, large = SemanticAlignment(D), target.repeat_interleave(2, 1).repeat_interleave(3, 2)
    logits = F.interpolate(module.maps(dense, text), (6, 12), mode="bilinear", align_corners=False)
    labelled = (large != NO_LABEL)[:, None].expand_as(logits)
    wanted = (large[:, None] == torch.arange(C)[:, None, None]).float()
    assert module(dense, text, large)["bce"].item() == pytest.approx(
        F.binary_cross_entropy_with_logits(logits[labelled], wanted[labelled]).item(), rel=1e-4
    )


def test_features_of_the_right_class_cost_less() -> None:
    _, text, target = scene()
    right = text[torch.where(target == NO_LABEL, 0, target)].movedim(-1, 1)
    module = SemanticAlignment(D)
    assert (
        module(right, text, target)["total"].item()
        < module(right, text.roll(1, 0), target)["total"].item() - 0.2
    )


@pytest.mark.parametrize(
    ("dense", "text", "target"),
    [
        ((2, D, 3, 4), (C, D + 1), (2, 3, 4)),
        ((2, D, 12), (C, D), (2, 3, 4)),
        ((2, D, 3, 4), (C, 1, D), (2, 3, 4)),
    ]
    + [((2, D, 3, 4), (C, D), (3, 3, 4)), ((2, D, 3, 4), (C, D), (2, 1, 3, 4))],
)
def test_shapes_that_do_not_fit_the_words_are_refused(dense: tuple, text: tuple, target: tuple) -> None:
    with pytest.raises(
        ValueError,
        match=r"got dense .*, text .* and target .*; expected \(B, D, h, w\), \(C, D\) and \(B, H, W\)",
    ):
        SemanticAlignment(D)(torch.zeros(dense), torch.zeros(text), torch.zeros(target, dtype=torch.long))


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_must_divide_the_width(heads: int) -> None:
    with pytest.raises(ValueError, match=f"heads is {heads}; expected a divisor of the width 8"):
        SemanticAlignment(D, heads=heads)


# All together.


def wide(seed: int = 0) -> tuple[View, Tensor, Tensor]:
    """Pictures of 6 x 8 pixels seen at 3 x 4 positions, the upper half of one class."""
    target = torch.zeros(2, 6, 8, dtype=torch.long)
    target[:, 3:] = 1
    return View(unit(2, 12, D, seed=seed), unit(C, D, seed=1), torch.tensor(10.0)), unit(2, D, seed=2), target


def test_the_total_is_the_weighted_sum_on_the_pictures_grid() -> None:
    student, image, target = wide()
    objective = ChimeraObjective(D, distillation=0.5, alignment=2.0, smallest=4)
    terms = objective(Batch.of(student=student, image=image, target=target, grid=(3, 4), progress=0.5))
    assert set(terms) == {"global", "bce", "dice", "total"}
    assert terms["total"].item() == pytest.approx(
        (0.5 * terms["global"] + 2 * (terms["bce"] + terms["dice"])).item()
    )
    one, two = SelectiveGlobalDistillation(D, smallest=4), SemanticAlignment(D)
    assert terms["global"].item() == pytest.approx(one(image, student.dense, 0.5)["total"].item(), abs=1e-6)
    maps = torch.stack([student.dense[:, 4 * row : 4 * row + 4] for row in range(3)], 1).movedim(-1, 1)
    assert maps.shape == (2, D, 3, 4)
    for name, value in two(maps, student.text, target).items():
        if name != "total":
            assert terms[name].item() == pytest.approx(value.item(), abs=1e-6)


@pytest.mark.parametrize("grid", [(3, 4), (4, 3), (5, 5)])
def test_words_are_aligned_on_the_students_grid(monkeypatch: pytest.MonkeyPatch, grid: tuple) -> None:
    objective, seen = ChimeraObjective(D, distillation=0), []
    part = objective.parts["alignment"]
    monkeypatch.setattr(
        part, "forward", lambda maps, text, target, **_: (seen.append(maps.shape), {"total": maps.sum()})[1]
    )
    student = View(unit(2, grid[0] * grid[1], D), unit(C, D), torch.tensor(1.0))
    objective(
        Batch.of(
            student=student,
            image=unit(2, D),
            target=torch.zeros(2, 6, 8, dtype=torch.long),
            grid=grid,
            progress=0.0,
        )
    )
    assert seen == [(2, D, *grid)]


def test_the_teacher_as_source_teaches_its_dense_features_and_the_whole_picture() -> None:
    student, image, target = wide()
    taught = unit(2, 12, D, seed=5)
    objective = ChimeraObjective(D, source="teacher", distillation=0.5, dense=2.0, alignment=0, smallest=4)
    terms = objective(
        Batch.of(student=student, image=image, target=target, grid=(3, 4), progress=0.5, dense=taught)
    )
    assert set(terms) == {"global", "dense", "total"}
    assert terms["total"].item() == pytest.approx((0.5 * terms["global"] + 2 * terms["dense"]).item())
    local, whole = SelectiveDenseDistillation(smallest=4), SelectiveGlobalDistillation(D, schedule="constant")
    assert terms["dense"].item() == pytest.approx(
        local(image, taught, student.dense, 0.5)["total"].item(), abs=1e-6
    )
    assert terms["global"].item() == pytest.approx(whole(image, student.dense, 0.5)["total"].item(), abs=1e-6)


@pytest.mark.parametrize("dense", [3.0, 0.0])
@pytest.mark.parametrize("source", ["student", "teacher"])
def test_the_teachers_dense_features_are_asked_for_where_they_are_used(source: str, dense: float) -> None:
    objective = ChimeraObjective(D, source=source, dense=dense)
    assert objective.wants_dense == ("local" in objective.parts) == (source == "teacher" and dense > 0)


TERMS = {"distillation": {"global"}, "dense": {"dense"}, "alignment": {"bce", "dice"}}


@pytest.mark.parametrize("left_out", TERMS)
def test_a_weight_of_zero_leaves_a_module_out(left_out: str) -> None:
    student, image, target = wide()
    objective = ChimeraObjective(D, **{left_out: 0.0}, source="teacher", smallest=4)
    terms = objective(
        Batch.of(
            student=student,
            image=image,
            target=target,
            grid=(3, 4),
            progress=0.0,
            dense=unit(2, 12, D, seed=5),
        )
    )
    assert set(terms) == {"total"}.union(*TERMS.values()) - TERMS[left_out]
    assert ("parts.global.queue" in objective.state_dict()) == (left_out != "distillation")
    assert bool(list(objective.parameters())) == (left_out != "alignment")


def test_progress_reaches_the_selection() -> None:
    student, image, target = wide()
    objective = ChimeraObjective(D, alignment=0, smallest=2).eval()
    first, last = (
        objective(Batch.of(student=student, image=image, target=target, grid=(3, 4), progress=p))[
            "global"
        ].item()
        for p in (0.0, 1.0)
    )
    assert first != pytest.approx(last, abs=1e-3)


@pytest.mark.parametrize(
    "weights",
    [
        {"distillation": 0.0, "alignment": 0.0},
        {"distillation": 0.0, "alignment": 0.0, "dense": 3.0},  # the student as source has no local term
        {"distillation": 0.0, "alignment": 0.0, "dense": 0.0, "source": "teacher"},
        {"distillation": -1.0, "alignment": 2.0},
        {"alignment": -0.5},
        {"dense": -0.5, "source": "teacher"},
        {"distillation": math.nan},
        {"alignment": math.nan},
    ],
    ids=str,
)
def test_weights_that_leave_nothing_are_refused(weights: dict) -> None:
    with pytest.raises(ValueError, match=r"got distillation=.*; expected 0 or more, and one of them in use"):
        ChimeraObjective(D, **weights)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown source 'both'; expected 'student' or 'teacher'"):
        ChimeraObjective(D, source="both")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            {"distilation": 1.0},
            r"unknown key 'distilation' in objective 'chimera'; did you mean 'distillation'\?",
        ),
        ({"dim": 3}, "unknown key 'dim'"),
        ({"schedule": "sine"}, "unknown schedule 'sine'"),
        ({"smallest": "few"}, "objective 'chimera' cannot be built from"),
        ({"heads": 5}, "expected a divisor of the width 32"),
    ],
)
def test_wrong_options_of_a_recipe_say_what_was_expected(
    make_tiny: MakeTiny, options: dict, hint: str
) -> None:
    clip = make_tiny()
    with pytest.raises(ValueError, match=hint):
        build_objective({"name": "chimera", **options}, clip, clip)


def test_a_recipe_builds_the_objective_it_describes(make_tiny: MakeTiny) -> None:
    clip = make_tiny()
    objective = build_objective(
        {"name": "chimera", "queue": 7, "smallest": 3, "schedule": "step", "alignment": 0}, clip, clip
    )
    part = objective.parts["global"]
    assert (
        part.queue.shape == (7, 32)
        and (part.smallest, part.schedule) == (3, "step")
        and "alignment" not in objective.parts
    )


# Where positions are chosen, and what weighs.


@pytest.mark.parametrize("tau", [0.07, 0.5, 16.0])
def test_weights_of_a_summary_differ_by_what_the_temperature_makes_of_their_cosines(tau: float) -> None:
    image, dense = alike()
    likeness = torch.einsum("bd,bnd->bn", image, dense)
    weights = torch.tensor([[math.exp(x / tau) for x in row] for row in likeness.tolist()])
    wanted = F.normalize(torch.einsum("bn,bnd->bd", weights, dense), dim=-1)
    module = SelectiveGlobalDistillation(D, summary_temperature=tau)
    assert torch.allclose(module.summarise(image, dense, N), wanted, atol=1e-5)


def test_a_small_temperature_chooses_and_the_root_of_the_width_does_not() -> None:
    """The summary of all positions is then that of the nearest few."""
    image, dense = alike()
    few = SelectiveGlobalDistillation(D).summarise(image, dense, 2)

    def off(tau: float | None) -> float:
        got = SelectiveGlobalDistillation(D, summary_temperature=tau).summarise(image, dense, N)
        return float((1 - (got * few).sum(-1)).mean())

    assert off(0.01) < off(None) / 2


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"summary_temperature is .*; expected a number above 0"):
        SelectiveGlobalDistillation(D, summary_temperature=tau)


def test_one_read_out_may_say_where_and_another_what() -> None:
    """Of `compared` come the positions, of `taught` what is learnt there."""
    image, taught, dense = unit(B, D), unit(B, N, D, seed=1), unit(B, N, D, seed=2)
    compared = unit(B, N, D, seed=3)
    module = SelectiveDenseDistillation(smallest=3)
    kept = select(image, compared, 3)
    assert not torch.equal(kept, select(image, taught, 3)), "the two would choose differently"
    mean = taught.mean((0, 1))
    losses = [
        1 - F.cosine_similarity(dense[b, n] - mean, taught[b, n] - mean, dim=0)
        for b in range(B)
        for n in kept[b].tolist()
    ]
    got = module(image, taught, dense, 1.0, compared=compared)["dense"]
    assert got.item() == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert got.item() != pytest.approx(module(image, taught, dense, 1.0)["dense"].item(), rel=1e-3)
    with pytest.raises(ValueError, match="expected the same grid"):
        module(image, taught, dense, 1.0, compared=compared[:, 1:])


def test_the_objective_compares_the_read_out_that_it_names() -> None:
    student = View(unit(B, N, D, seed=5), unit(C, D, seed=6), torch.tensor(10.0))
    parts = {"student": student, "image": unit(B, D), "dense": unit(B, N, D, seed=1), "grid": (3, 4)}
    compared = unit(B, N, D, seed=3)
    options = {"source": "teacher", "alignment": 0.0, "smallest": 3}
    objective = ChimeraObjective(D, chosen_by="sclip", lesson=["value"], **options)
    assert (objective.chosen_by, objective.lesson) == ("sclip", ("value",))
    got = objective(Batch.of(**parts, compared=compared, progress=1.0))["dense"]
    wanted = SelectiveDenseDistillation(smallest=3)(
        parts["image"], parts["dense"], student.dense, 1.0, compared=compared
    )["dense"]
    assert torch.equal(got, wanted)
    plain = ChimeraObjective(D, **options)  # looks at none, and is given none
    assert plain(Batch.of(**parts, progress=1.0))["dense"].item() != pytest.approx(got.item(), rel=1e-3)


@pytest.mark.parametrize("options", [{"chosen_by": "sclip"}, {"lesson": ["value"]}], ids=str)
def test_a_read_out_without_a_lesson_is_refused(options: dict) -> None:
    for beside in ({"source": "student"}, {"source": "teacher", "dense": 0.0}):
        with pytest.raises(ValueError, match="expected neither: without a dense lesson"):
            ChimeraObjective(D, **beside, **options)
    with pytest.raises(ValueError, match="valeu.*did you mean 'value'"):
        ChimeraObjective(D, source="teacher", lesson=["valeu"])
