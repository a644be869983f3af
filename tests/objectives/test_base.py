"""A batch computes what is asked of it and nothing else; no objective makes a step wait for the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fake_devices import CUDA, fake_machine, moved_in
from resume import same, weights
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from infoclip_lite import DenseCLIP
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.information import gram
from infoclip_lite.objectives import (
    OBJECTIVES,
    Batch,
    ChimeraObjective,
    InfoCLIPObjective,
    Objective,
    SelectiveGlobalDistillation,
    SemanticAlignment,
    View,
    build_objective,
    compression_loss,
    transfer_loss,
)
from infoclip_lite.objectives.base import Sources

MakeTiny = Callable[..., DenseCLIP]
B, N, C, D = 3, 16, 4, 32
AXES = ["batch", "pixel", "class"]


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def view(seed: int) -> View:
    return View(unit(B, N, D, seed=seed), unit(C, D, seed=seed + 1), torch.tensor(10.0))


PARTS: dict[str, Any] = {
    "teacher": view(0),
    "student": view(2),
    "image": unit(B, D, seed=4),
    "dense": unit(B, N, D, seed=5),
    "images": torch.rand(B, 3, 8, 8, generator=torch.Generator().manual_seed(6)),
    "target": torch.randint(0, C, (B, 8, 8), generator=torch.Generator().manual_seed(7)),
    "grid": (4, 4),
    "progress": 0.5,
}


def counted(wants_dense: bool = False) -> tuple[Batch, Counter[str]]:
    """A batch, and how often each of its sources was asked."""
    asked: Counter[str] = Counter()

    def source(name: str, value: Any) -> Callable[[], Any]:
        return lambda: (asked.update([name]), value)[1]

    both = (PARTS["image"], PARTS["dense"])
    sources = Sources(
        teacher=source("teacher", PARTS["teacher"]),
        student=source("student", PARTS["student"]),
        image_and_dense=source("both", both),
        image=source("image", PARTS["image"]),
    )
    given = {name: PARTS[name] for name in ("images", "target", "grid", "progress")}
    return Batch(sources, **given, wants_dense=wants_dense), asked


# Asked for once, or never.


def test_nothing_is_computed_until_it_is_touched_and_nothing_twice() -> None:
    batch, asked = counted()
    assert batch.images is PARTS["images"] and batch.target is PARTS["target"]
    assert (batch.grid, batch.progress) == ((4, 4), 0.5) and not asked
    for _ in range(2):
        assert batch.teacher is PARTS["teacher"] and asked == {"teacher": 1}
    for _ in range(2):
        assert batch.student is PARTS["student"] and asked == {"teacher": 1, "student": 1}


@pytest.mark.parametrize(
    ("wants_dense", "touched", "wanted"),
    [
        (False, ["image", "image"], {"image": 1}),
        (True, ["image", "image"], {"both": 1}),
        (False, ["dense", "image", "dense"], {"both": 1}),
        (True, ["image", "dense", "image"], {"both": 1}),
        (False, ["image", "dense"], {"image": 1, "both": 1}),  # it did not say so: the CLS pass is lost
    ],
    ids=str,
)
def test_the_teachers_picture_and_patches_share_a_pass_where_both_are_wanted(
    wants_dense: bool, touched: list[str], wanted: dict[str, int]
) -> None:
    batch, asked = counted(wants_dense)
    for name in touched:
        assert getattr(batch, name) is PARTS[name]
    assert asked == wanted


def test_a_batch_made_by_hand_gives_what_it_was_given() -> None:
    batch = Batch.of(**PARTS)
    for name, value in PARTS.items():
        assert getattr(batch, name) is value
    assert Batch.of().progress == 0


@pytest.mark.parametrize("name", sorted(set(PARTS) - {"progress"}))
def test_a_part_that_was_not_given_is_named(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"batch's '{name}', which was not given; expected Batch.of\({name}="
    ):
        getattr(Batch.of(**{other: value for other, value in PARTS.items() if other != name}), name)


TOUCHED = {
    "infoclip": {"teacher", "student"},
    "kl": {"teacher", "student"},
    "feature": {"teacher", "student"},
    "pooled": {"teacher", "student"},
    "l2sp": set(),
    "cka": {"teacher", "student"},
    "rkd": {"teacher", "student", "progress"},
    "chimera": {"student", "image", "target", "grid", "progress"},
}


class Watched(Batch):
    """Remembers which of its parts were looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in PARTS:
            object.__getattribute__(self, "__dict__").setdefault("touched", set()).add(name)
        return super().__getattribute__(name)


def watched(objective: Objective) -> set[str]:
    batch = Watched.of(**PARTS)
    batch.__dict__["touched"] = set()
    objective(batch)
    return batch.__dict__["touched"]


@pytest.mark.parametrize("name", TOUCHED)
def test_objectives_look_at_what_they_need_and_at_nothing_else(name: str, make_tiny: MakeTiny) -> None:
    clip, teacher = make_tiny(), make_tiny()
    assert watched(build_objective({"name": name}, clip, teacher)) == TOUCHED[name]


@pytest.mark.parametrize("options", [{}, {"dense": 0.0}, {"distillation": 0.0}, {"alignment": 0.0}], ids=str)
def test_the_teachers_patches_are_looked_at_by_chimera_alone_and_only_as_source(options: dict) -> None:
    touched = watched(ChimeraObjective(D, source="teacher", **options))
    assert ("dense" in touched) == (options != {"dense": 0.0}) and "teacher" not in touched
    assert ("target" in touched) == (options != {"alignment": 0.0})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_whoever_looks_at_the_teachers_patches_says_so_beforehand(name: str, make_tiny: MakeTiny) -> None:
    """Or the picture's embedding costs a pass of its own."""
    kinds = [{"name": name}, *([{"name": name, "source": "teacher"}] if name == "chimera" else [])]
    for section in kinds:
        objective = build_objective(section, make_tiny(), make_tiny())
        assert objective.wants_dense == ("dense" in watched(objective))


# No value is read back: on a GPU every look waits for all that was asked of it.


@pytest.fixture
def machine() -> Any:
    with fake_machine() as mode:
        yield mode


def there(mode: FakeTensorMode, value: Tensor) -> Tensor:
    return mode.from_tensor(value).to(CUDA)


def batch_there(mode: FakeTensorMode) -> Batch:
    parts = dict(PARTS)
    for name in ("image", "dense", "images", "target"):
        parts[name] = there(mode, parts[name])
    for name in ("teacher", "student"):
        parts[name] = View(*(there(mode, part) for part in parts[name]))
    return Batch.of(**parts)


def test_a_look_at_a_value_is_noticed_here(machine: FakeTensorMode) -> None:
    """The control: what a forgotten `validate=False` looks like."""
    dense = there(machine, PARTS["dense"])
    with pytest.raises(DataDependentOutputException):
        gram(dense, normalize=True)
    with pytest.raises(DataDependentOutputException):
        transfer_loss(dense, dense, axis="pixel")
    with pytest.raises(DataDependentOutputException):
        dense.sum().item()


@pytest.mark.parametrize("normalize", [True, False])
def test_gram_matrices_are_made_without_a_look(machine: FakeTensorMode, normalize: bool) -> None:
    made = gram(there(machine, PARTS["dense"]), normalize=normalize, validate=False)
    assert made.shape == (B, N, N) and made.device == CUDA


@pytest.mark.parametrize("correction", [None, "permutation", "ustatistic"])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("axis", AXES)
def test_both_losses_are_computed_without_a_look(
    machine: FakeTensorMode, axis: str, centre: bool, correction: str | None
) -> None:
    dense, text = there(machine, PARTS["dense"]), there(machine, PARTS["student"].text)
    r, s = (there(machine, unit(B, N, C, seed=seed)) for seed in (0, 1))
    options: dict[str, Any] = {"axis": axis, "centre": centre, "correction": correction, "validate": False}
    losses = [compression_loss(dense, text, r, **options)]
    losses += [transfer_loss(r, s, kind=kind, **options) for kind in ("information", "gap")]
    assert [(loss.shape, loss.device) for loss in losses] == [(torch.Size(), CUDA)] * 3


@pytest.mark.parametrize("options", [{}, {"kind": "gap"}, {"centre": True}, {"residual": "cosine"}], ids=str)
@pytest.mark.parametrize("axis", AXES)
def test_infoclip_at_order_two_never_looks(axis: str, options: dict[str, Any]) -> None:
    objective = InfoCLIPObjective(D, axis=axis, **options)
    with fake_machine() as mode:
        terms = moved_in(objective, mode)(batch_there(mode))
        assert set(terms) == {"compression", "transfer", "total"}
        assert {value.device for value in terms.values()} == {CUDA}


def test_infoclip_looks_where_there_are_eigenvalues() -> None:
    """Those of what is not finite do not exist: it is told before."""
    objective = InfoCLIPObjective(D, axis="pixel", alpha=1.01)
    with fake_machine() as mode, pytest.raises(DataDependentOutputException):
        moved_in(objective, mode)(batch_there(mode))


@pytest.mark.parametrize("queue", [0, 5, 256])
def test_global_distillation_never_looks_however_full_its_queue_is(queue: int) -> None:
    module = SelectiveGlobalDistillation(D, smallest=4, queue=queue)
    with fake_machine() as mode:
        inside, batch = moved_in(module, mode), batch_there(mode)
        for step in range(4):
            terms = inside(batch.image, batch.student.dense, step / 3)
            assert terms["total"].device == CUDA
        assert inside._filled == min(queue, 4 * B)


def test_alignment_looks_only_where_it_is_asked_to() -> None:
    module = SemanticAlignment(D)
    with fake_machine() as mode:
        inside, batch = moved_in(module, mode), batch_there(mode)
        maps = batch.student.dense.mT.unflatten(2, batch.grid)
        terms = inside(maps, batch.student.text, batch.target, validate=False)
        assert {value.device for value in terms.values()} == {CUDA}
        with pytest.raises(DynamicOutputShapeException):  # known ids: as many as their values say
            inside(maps, batch.student.text, batch.target)


@pytest.mark.parametrize("source", ["student", "teacher"])
def test_chimera_never_looks(source: str) -> None:
    objective = ChimeraObjective(D, source=source, smallest=4)
    with fake_machine() as mode:
        inside, batch = moved_in(objective, mode), batch_there(mode)
        for _ in range(2):
            assert {value.device for value in inside(batch).values()} == {CUDA}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_of_a_recipe_looks(name: str, make_tiny: MakeTiny) -> None:
    objective = build_objective({"name": name}, make_tiny(), make_tiny())
    with fake_machine() as mode:
        assert moved_in(objective, mode)(batch_there(mode))["total"].device == CUDA


@pytest.mark.parametrize("wrong", [-2, C, 255])
def test_a_class_id_that_is_no_word_is_refused_where_somebody_looks(wrong: int) -> None:
    target = torch.full((B, 8, 8), NO_LABEL)
    target[0, 0, 0] = wrong
    maps = PARTS["student"].dense.mT.unflatten(2, (4, 4))
    with pytest.raises(
        ValueError, match=rf"got class ids {wrong} \.\. {wrong}; expected 0 \.\. {C - 1}.*or -1"
    ):
        SemanticAlignment(D)(maps, PARTS["student"].text, target)


# A queue that was kept.


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used for another run"])
@pytest.mark.parametrize("seen", [1, 2, 6])
def test_a_kept_queue_goes_on_bit_for_bit(seen: int, used: bool) -> None:
    """Half full, full, and gone round: 3 pictures a step, 7 places."""

    def made() -> ChimeraObjective:
        torch.manual_seed(0)
        return ChimeraObjective(D, queue=7, smallest=4)

    def step(objective: ChimeraObjective, number: int) -> Tensor:
        student = view(10 * number)
        parts = {**PARTS, "student": student, "image": unit(B, D, seed=10 * number + 3)}
        return objective(Batch.of(**{**parts, "progress": number / 30}))["total"]

    whole, resumed = made(), made()
    for number in range(seen):
        step(whole, number)
    if used:
        for number in range(20, 24):
            step(resumed, number)
    resumed.load_state_dict(weights(whole))
    for number in range(seen, seen + 3):
        wanted, got = step(whole, number), step(resumed, number)
        assert torch.equal(got, wanted)
    assert same(weights(resumed), weights(whole)) and int(resumed.parts["global"].filled) == 7
