"""Metrics: one confusion matrix over the set, equal to torchmetrics where both are defined."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassJaccardIndex

from infoclip_lite.evaluation import SegmentationMetrics

CLASSES = 6
seeds = st.integers(0, 10_000)


def sample(seed: int, pixels: int = 400, ignored: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that are right about half of the time, and targets in which some pixels are 255."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, CLASSES, (pixels,), generator=g)
    prediction = torch.where(
        torch.rand(pixels, generator=g) < 0.5, target, torch.randint(0, CLASSES, (pixels,), generator=g)
    )
    target[torch.rand(pixels, generator=g) < ignored] = 255
    return prediction, target


def measure(
    *pairs: tuple[torch.Tensor, torch.Tensor], unseen: tuple[int, ...] = (4, 5)
) -> SegmentationMetrics:
    metrics = SegmentationMetrics(CLASSES, unseen)
    for prediction, target in pairs:
        metrics.update(prediction, target)
    return metrics


@given(seeds)
def test_equal_to_torchmetrics(seed: int) -> None:
    prediction, target = sample(seed)
    ours = measure((prediction, target))
    options = {"num_classes": CLASSES, "ignore_index": 255}
    iou = MulticlassJaccardIndex(average="none", **options)(prediction, target)
    assert torch.equal(ours.confusion, MulticlassConfusionMatrix(**options)(prediction, target))
    assert torch.allclose(ours.per_class().float(), iou)
    got = ours.compute()
    wanted = {
        "pAcc": MulticlassAccuracy(average="micro", **options)(prediction, target),
        "mIoU": MulticlassJaccardIndex(average="macro", **options)(prediction, target),
        "mIoU_seen": iou[:4].mean(),
        "mIoU_unseen": iou[4:].mean(),
        "hIoU": 2 / (1 / iou[:4].mean() + 1 / iou[4:].mean()),
    }
    assert got == pytest.approx({name: value.item() for name, value in wanted.items()}, abs=1e-6)


@given(seeds, seeds)
def test_order_of_pixels_does_not_matter(seed: int, order: int) -> None:
    prediction, target = sample(seed)
    shuffled = torch.randperm(len(target), generator=torch.Generator().manual_seed(order))
    assert torch.equal(
        measure((prediction, target)).confusion, measure((prediction[shuffled], target[shuffled])).confusion
    )


@given(seeds, st.lists(st.integers(0, 400), max_size=5))
def test_splitting_updates_does_not_matter(seed: int, cuts: list[int]) -> None:
    prediction, target = sample(seed)
    edges = [0, *sorted(cuts), 400]
    parts = [(prediction[a:b], target[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    assert measure(*parts).compute() == measure((prediction, target)).compute()


@given(seeds)
def test_renaming_classes_permutes_the_ious(seed: int) -> None:
    prediction, target = sample(seed, ignored=0)
    rename = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed + 1))
    assert torch.allclose(
        measure((rename[prediction], rename[target])).per_class()[rename],
        measure((prediction, target)).per_class(),
    )


def test_metrics_are_of_the_set_and_not_means_over_pictures() -> None:
    large = torch.zeros(90, dtype=torch.long), torch.zeros(90, dtype=torch.long)
    small = torch.zeros(10, dtype=torch.long), torch.ones(10, dtype=torch.long)
    assert measure(large, small).compute()["pAcc"] == pytest.approx(0.9)
    assert measure(large, small).compute()["mIoU"] == pytest.approx((0.9 + 0.0) / 2)


def test_ignored_pixels_count_nowhere_whatever_is_predicted_there() -> None:
    prediction, target = sample(0, ignored=0)
    more = (
        torch.cat([prediction, torch.tensor([0, 5, 255, -1, 99])]),
        torch.cat([target, torch.full((5,), 255)]),
    )
    assert torch.equal(measure(more).confusion, measure((prediction, target)).confusion)


def test_another_ignore_index() -> None:
    metrics = SegmentationMetrics(3, ignore_index=0)
    metrics.update(torch.tensor([1, 2, 1]), torch.tensor([0, 2, 1]))
    assert metrics.confusion.sum() == 2 and metrics.compute()["pAcc"] == 1


def test_classes_that_do_not_occur_are_left_out_and_false_alarms_are_not() -> None:
    metrics = measure((torch.tensor([0, 0, 1, 2]), torch.tensor([0, 0, 1, 1])), unseen=())
    iou = metrics.per_class()
    assert iou[:3].tolist() == [1, 0.5, 0] and iou[3:].isnan().all()
    assert metrics.compute()["mIoU"] == pytest.approx(0.5)


def test_nothing_counted_is_nan_and_no_error() -> None:
    ignored = torch.zeros(4, dtype=torch.long), torch.full((4,), 255)
    empty = torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    for metrics in (measure(), measure(ignored), measure(empty)):
        assert all(math.isnan(value) for value in metrics.compute().values())


def test_without_unseen_classes_only_what_needs_them_is_nan() -> None:
    got = measure(sample(1), unseen=()).compute()
    assert {name for name, value in got.items() if math.isnan(value)} == {"mIoU_unseen", "hIoU"}
    assert got["mIoU"] == got["mIoU_seen"]


def test_harmonic_mean_of_nothing_right_is_zero() -> None:
    target = torch.arange(CLASSES)
    assert measure(((target + 1) % CLASSES, target)).compute()["hIoU"] == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_and_shape(dtype: torch.dtype) -> None:
    prediction, target = sample(2)
    shaped = prediction.view(2, 10, 20).to(dtype), target.view(2, 10, 20).to(dtype)
    assert torch.equal(measure(shaped).confusion, measure((prediction, target)).confusion)


@pytest.mark.parametrize(
    ("prediction", "target", "hint"),
    [
        ([0, 6], [0, 1], "prediction"),
        ([0, -1], [0, 1], "prediction"),
        ([0, 1], [0, 6], "target"),
        ([0, 1], [0, -1], "target"),
        ([0, 1], [254, 0], "254"),
    ],
)
def test_labels_out_of_range_are_refused_and_counted_nowhere(
    prediction: list, target: list, hint: str
) -> None:
    metrics = measure()
    with pytest.raises(ValueError, match=hint):
        metrics.update(torch.tensor(prediction), torch.tensor(target))
    assert metrics.confusion.sum() == 0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4,\).*\(5,\)"):
        measure().update(torch.zeros(4, dtype=torch.long), torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize("unseen", [[6], [-1]])
def test_unseen_ids_out_of_range_are_refused(unseen: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0 \.\. 5"):
        SegmentationMetrics(CLASSES, unseen)


@given(seeds, seeds)
def test_counts_of_two_add_up_and_neither_changes(seed: int, other: int) -> None:
    first, second = measure(sample(seed)), measure(sample(other))
    before = first.confusion
    both = measure(sample(seed), sample(other))
    assert torch.equal((first + second).confusion, both.confusion)
    assert torch.equal(first.confusion, before) and (first + second).compute() == both.compute()
    first.merge(second)
    assert torch.equal(first.confusion, both.confusion)


def test_metrics_come_back_from_their_counts() -> None:
    metrics = measure(sample(3))
    back = SegmentationMetrics.from_counts(metrics.confusion, (4, 5))
    assert back.compute() == metrics.compute()
    back.update(*sample(4))
    assert not torch.equal(back.confusion, metrics.confusion), "the counts were copied"


def test_counts_are_not_changed_from_outside() -> None:
    metrics = measure(sample(3))
    metrics.confusion.zero_()
    assert metrics.confusion.sum() > 0
    with pytest.raises(AttributeError):
        metrics.confusion = torch.zeros(CLASSES, CLASSES)


def test_like_counts_nothing_yet_and_in_the_same_way() -> None:
    metrics = SegmentationMetrics(3, [2], ignore_index=9, false_alarms=False)
    metrics.update(torch.tensor([0, 1]), torch.tensor([0, 9]))
    twin = metrics.like()
    assert twin.confusion.sum() == 0 and twin.ignore_index == 9 and not twin.false_alarms
    assert torch.equal(twin.unseen, metrics.unseen)
    assert torch.equal(metrics.like(metrics.confusion).confusion, metrics.confusion)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (torch.zeros(2, 3, dtype=torch.long), r"\(2, 3\)"),
        (torch.zeros(2, 2), "float32"),
        (torch.tensor([[1, -2], [0, 0]]), "-2 pixels"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts: torch.Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SegmentationMetrics.from_counts(counts)


@pytest.mark.parametrize("other", [SegmentationMetrics(5), SegmentationMetrics(CLASSES, [0])])
def test_counts_of_other_classes_do_not_add_up(other: SegmentationMetrics) -> None:
    with pytest.raises(ValueError, match="expected the same 6 classes, 2 unseen"):
        measure().merge(other)


# Groups

GROUPS = {"seen": (0, 1), "unseen": (4,), "stuff": (2,)}  # 3 and 5 compete and are in none


def grouped(*pairs: tuple[torch.Tensor, torch.Tensor], groups: dict = GROUPS) -> SegmentationMetrics:
    metrics = SegmentationMetrics(CLASSES, (4, 5), groups=groups)
    for prediction, target in pairs:
        metrics.update(prediction, target)
    return metrics


@given(seeds)
def test_groups_are_reported_apart_and_the_mean_is_over_their_classes(seed: int) -> None:
    metrics = grouped(sample(seed))
    iou, got = metrics.per_class(), metrics.compute()
    seen, unseen = iou[:2].mean().item(), iou[4].item()
    assert list(got) == ["pAcc", "mIoU", "mIoU_seen", "mIoU_unseen", "hIoU", "mIoU_stuff"]
    assert got["mIoU_seen"] == pytest.approx(seen) and got["mIoU_unseen"] == pytest.approx(unseen)
    assert got["mIoU_stuff"] == pytest.approx(iou[2].item())
    assert got["mIoU"] == pytest.approx(iou[[0, 1, 2, 4]].mean().item())
    # Of the two groups of nouns: stuff, which is easy, cannot lift it.
    assert got["hIoU"] == pytest.approx(2 * seen * unseen / (seen + unseen))


@given(seeds)
def test_a_class_in_no_group_counts_in_no_mean_and_its_pixels_still_do(seed: int) -> None:
    prediction, target = sample(seed, ignored=0)
    metrics = grouped((prediction, target))
    # Pixels of classes in no group are moved among themselves: nothing of a group is predicted there.
    alone = torch.isin(target, torch.tensor([3, 5])) & torch.isin(prediction, torch.tensor([3, 5]))
    moved = torch.where(alone, 8 - prediction, prediction)
    after, before = grouped((moved, target)).compute(), metrics.compute()
    assert {name: after[name] for name in after if name != "pAcc"} == {
        name: before[name] for name in before if name != "pAcc"
    }
    assert before["pAcc"] == pytest.approx((prediction == target).float().mean().item())
    # A noun that is taken for a class in no group is still a mistake.
    wrong = torch.where(target == 0, 3, target)
    assert grouped((wrong, target)).compute()["mIoU_seen"] == pytest.approx(0.5)


def test_groups_of_all_classes_are_what_unseen_alone_gives() -> None:
    everything = {"seen": (0, 1, 2, 3), "unseen": (4, 5)}
    assert grouped(sample(7), groups=everything).compute() == measure(sample(7)).compute()


def test_an_empty_group_is_nan_and_no_error() -> None:
    got = grouped(sample(1), groups={"seen": (0, 1), "unseen": (), "stuff": (2,)}).compute()
    assert {name for name, value in got.items() if math.isnan(value)} == {"mIoU_unseen", "hIoU"}


def test_groups_travel_with_counts_twins_and_sums() -> None:
    metrics = grouped(sample(3))
    back = SegmentationMetrics.from_counts(metrics.confusion, (4, 5), groups=GROUPS)
    assert back.compute() == metrics.compute() == metrics.like(metrics.confusion).compute()
    assert (metrics + grouped(sample(4))).compute() == grouped(sample(3), sample(4)).compute()
    listed = {name: list(ids) for name, ids in GROUPS.items()}
    assert (metrics + grouped(sample(4), groups=listed)).compute().keys() == metrics.compute().keys()


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        ({"seen": (0,)}, r"got groups \['seen'\]; expected seen and unseen"),
        ({}, r"got groups \[\]; expected seen and unseen"),
        ({"seen": (0, 6), "unseen": (1,)}, r"ids in groups \[6\]; expected 0 \.\. 5"),
        ({"seen": (0,), "unseen": (1,), "stuff": (-1,)}, r"ids in groups \[-1\]"),
        ({"seen": (0, 1), "unseen": (1, 2)}, r"classes \[1\] in two groups"),
        ({"seen": (0, 0), "unseen": (1,)}, r"classes \[0\] in two groups, or twice in one"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SegmentationMetrics(CLASSES, groups=groups)


@pytest.mark.parametrize("other", [None, {**GROUPS, "stuff": (3,)}])
def test_counts_of_other_groups_do_not_add_up(other: dict | None) -> None:
    with pytest.raises(ValueError, match="expected the same groups"):
        grouped().merge(grouped(groups=other))
