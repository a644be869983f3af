"""The relation against the masks: answers known by construction, and scikit-learn's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from infoclip_lite import DenseCLIP
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.studies.relation_quality import patch_labels, relation_quality, word_ranks
from infoclip_lite.training.recipe import load_finetuning


def test_ranks_are_the_area_under_the_curve_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    related = torch.randn(40, 5, generator=generator).mul(2).round() / 2  # with ties
    labels = torch.randint(0, 4, (40,), generator=generator)
    labels[:6] = NO_LABEL
    found, kept = word_ranks(related, labels), labels != NO_LABEL
    scores = (related - related.mean(1, keepdim=True))[kept]
    for word in range(4):
        assert found[word] == pytest.approx(roc_auc_score(labels[kept] == word, scores[:, word]))
    assert set(found) == {0, 1, 2, 3}, "a word that nothing shows has no rank"


def test_a_scene_of_one_class_ranks_nothing() -> None:
    assert word_ranks(torch.rand(4, 3), torch.tensor([1, 1, 1, NO_LABEL])) == {}


def test_a_patch_has_the_label_that_covers_it() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, :4, 4:] = 2
    mask[0, 4:, :2] = 1  # half of a patch
    mask[0, 4:, 4:] = 255
    assert patch_labels(mask, 3, (2, 2)).tolist() == [[[0, 2], [NO_LABEL, NO_LABEL]]]


class Answers(nn.Module):
    """An LPAM that makes the relation worse or leaves it."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, dense: Tensor, text: Tensor) -> Tensor:
        return self.sign * (dense @ text.T)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_relation_is_as_good_after_lpam_as_lpam_makes_it(mini: DenseCLIP, sign: float) -> None:
    run = SimpleNamespace(
        recipe=load_finetuning("mini/infoclip"),
        reference=mini,
        objective=SimpleNamespace(lpam=Answers(sign)),
        model=SimpleNamespace(read_outs=("value",)),
    )
    found = relation_quality(run, scenes=24)
    assert found["before auroc_seen"] > 0.6 and found["before auroc_unseen"] > 0.6, "better than chance"
    for group in ("seen", "unseen"):
        before, after = found[f"before auroc_{group}"], found[f"after auroc_{group}"]
        assert after == pytest.approx(before if sign > 0 else 1 - before, abs=1e-4)
        if sign < 0:
            assert found[f"after mIoU_{group}"] < found[f"before mIoU_{group}"]


def test_a_run_without_lpam_has_no_relation_to_ask() -> None:
    assert relation_quality(SimpleNamespace(objective=None)) == {}
