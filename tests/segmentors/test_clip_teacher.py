"""CLIP-ZSS: clusters of CLIP where nobody labelled, prototypes, and a student that is alone at test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from masks import RECIPE, named_while_training, pictures
from resume import assert_same_run, moved, same, stopped_and_gone_on, weights
from torch import Tensor

from infoclip_lite import DenseCLIP, train
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.segmentors import CLIPTeacher, Target
from infoclip_lite.segmentors.clip_teacher import fused_cross_entropy, overlapping_loss, prototype_loss
from infoclip_lite.segmentors.queries import dice_loss, multi_scale_clusters, sigmoid_focal_loss
from infoclip_lite.training.finetuning import FineTuning

MakeTiny = Callable[..., DenseCLIP]
SMALL: dict[str, Any] = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32, "pool": 2}
SMALL |= {"heads": 2, "scales": [2, 4], "alike": 0.8, "smallest": 1}
NAMES = ["cow", "grass"]


def taught(clip: DenseCLIP, **options: Any) -> CLIPTeacher:
    torch.manual_seed(0)
    return CLIPTeacher(clip, **{**SMALL, **options}).eval()


def labelled() -> Tensor:
    """A cow in the left half of the first picture; the rest, and all of the second, is nobody's."""
    labels = torch.full((2, 32, 64), NO_LABEL)
    labels[0, :, :32] = 0
    return labels


# Labels that are fused.


def test_clusters_are_painted_where_nothing_is_labelled(tiny: DenseCLIP) -> None:
    segmentor = taught(tiny)
    dense = tiny.encode_dense(pictures(2, 3, 32, 64), "value").detach()
    fused, slots = segmentor.fused_labels(dense, labelled(), 2, (4, 8))
    clusters = multi_scale_clusters(dense, (2, 4), threshold=0.8).labels.unflatten(1, (4, 8))
    assert (fused[0, :, :4] == 0).all()
    assert torch.equal(fused[0, :, 4:], 2 + clusters[0, :, 4:]) and torch.equal(fused[1], 2 + clusters[1])
    assert fused.max() < 2 + slots
    finer, _ = segmentor.fused_labels(dense, labelled(), 2, (8, 16))
    assert torch.equal(finer[:, ::2, 1::2], fused), "the nearest patch"


def test_small_clusters_stay_unknown_and_full_labels_leave_no_room(tiny: DenseCLIP) -> None:
    dense = tiny.encode_dense(pictures(2, 3, 32, 64), "value").detach()
    fused, _ = taught(tiny, smallest=40).fused_labels(dense, labelled(), 2, (4, 8))
    assert (fused[0, :, 4:] == NO_LABEL).all() and (fused[1] == NO_LABEL).all()
    known = torch.ones(2, 32, 64, dtype=torch.long)
    assert (taught(tiny).fused_labels(dense, known, 2, (4, 8))[0] == 1).all()


def test_a_label_wins_over_a_cluster_and_a_patch_that_is_mostly_labelled_is_not_painted(
    tiny: DenseCLIP,
) -> None:
    dense = tiny.encode_dense(pictures(1, 3, 32, 64), "value").detach()
    labels = torch.full((1, 32, 64), NO_LABEL)
    labels[..., :2], labels[..., 8:14] = 0, 1  # a quarter of the first column of patches, most of the second
    fused, _ = taught(tiny).fused_labels(dense, labels, 2, (32, 64))
    assert (fused[..., :2] == 0).all() and (fused[..., 2:8] >= 2).all()
    assert (fused[..., 8:14] == 1).all() and (fused[..., 14:16] == NO_LABEL).all()


# Losses against loops.


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two classes and two clusters, labels of which the last pixel is unknown, who is asked."""
    logits = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    fused = torch.tensor([[[0, 0, 2], [2, 0, NO_LABEL]]])
    return logits, fused, torch.tensor([[True, True, True, False]])


def test_nel_asks_every_class_and_the_clusters_that_are_there() -> None:
    logits, fused, asked = example()
    masks = torch.stack([(fused == i).float() for i in range(4)], 1)
    got = overlapping_loss(logits, masks, fused != NO_LABEL, asked)
    focal, dice = 0.0, 0.0
    for i in (0, 1, 2):
        known, wanted = logits[0, i].flatten()[:5], masks[0, i].flatten()[:5]
        focal += sigmoid_focal_loss(known, wanted).sum().item() / 6 / 2
        if i != 1:
            dice += dice_loss(known.view(1, 1, 1, 5), wanted.view(1, 1, 1, 5)).item() / 2
    assert got.item() == pytest.approx(100 * focal + dice, rel=1e-4)


def test_cross_entropy_is_among_those_that_are_asked() -> None:
    logits, fused, asked = example()
    flat, known = logits[0, :3].flatten(1).T.log_softmax(1), fused.flatten()
    expected = -sum(flat[i, known[i]] for i in range(5)) / 5
    assert torch.allclose(fused_cross_entropy(logits, fused, asked), expected)
    nothing = torch.full_like(fused, NO_LABEL)
    assert fused_cross_entropy(logits, nothing, asked) == 0
    assert overlapping_loss(logits, torch.zeros_like(logits), nothing != NO_LABEL, asked) == 0


def test_a_prototype_is_pulled_to_its_own_word() -> None:
    text = F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    prototypes = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([[True, False, True]])
    nats = 0.0
    for c in (0, 2):
        p = (prototypes[0, c] @ text.T).sigmoid()
        nats -= sum((p[i] if i == c else 1 - p[i]).log().item() for i in range(3)) / 3 / 2
    assert prototype_loss(prototypes, text, present).item() == pytest.approx(nats, rel=1e-4)
    assert prototype_loss(prototypes, text, torch.zeros_like(present)) == 0


def test_prototypes_are_centroids_that_have_looked_at_clip(tiny: DenseCLIP) -> None:
    segmentor = taught(tiny)
    student = torch.randn(1, 32, 2, 2, generator=torch.Generator().manual_seed(0))
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    with torch.no_grad():
        cls, dense = tiny.encode_both(pictures(1, 3, 32, 32), ["value"])
        got = segmentor._prototypes(student, masks, cls, dense)
        centroid = torch.stack([student[0, :, 0].mean(1), torch.zeros(32)])[None]
        memory = torch.cat([cls[:, None], dense.flatten(2).mT], 1)
        assert torch.allclose(got, segmentor.prototypes(centroid, memory), atol=1e-5)


# The student.


def test_at_test_clips_image_tower_is_not_run(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentor = taught(tiny)
    text = segmentor.encode_text(NAMES)
    monkeypatch.setattr(DenseCLIP, "embed", lambda *_: pytest.fail("it was run"))
    with torch.no_grad():
        encoded = segmentor.encode(pictures(1, 3, 64, 64))
        logits = segmentor.decode(encoded, text)
    assert torch.allclose(logits[0, 1, 2, 3], encoded.dense[0, :, 2, 3] @ text[1], atol=1e-5)
    assert segmentor(pictures(1, 3, 64, 64), text).shape == (1, 2, 64, 64)
    assert set(segmentor.weights_at_inference()) == {"body", "head"}


def test_all_that_learns_has_a_gradient_and_clip_has_none(make_tiny: MakeTiny) -> None:
    segmentor = taught(make_tiny().requires_grad_(False))
    encoded, text = segmentor.encode(pictures(2, 3, 32, 64)), segmentor.encode_text(NAMES)
    terms = segmentor.loss(encoded, text, Target.of(labelled()))
    assert torch.allclose(terms["total"], terms["nel"] + terms["cross_entropy"] + terms["prototypes"])
    terms["total"].backward()
    lost = [n for n, p in segmentor.named_parameters() if p.requires_grad and p.grad is None]
    # A map is the last layer's; what the attention's scores alone would need is all there.
    assert lost == [] and all(p.grad is None for p in segmentor.clip.parameters())


def test_pictures_of_nothing_known_teach_by_their_clusters_alone(tiny: DenseCLIP) -> None:
    segmentor = taught(tiny)
    encoded, text = segmentor.encode(pictures(2, 3, 32, 64)), segmentor.encode_text(NAMES)
    nothing = Target.of(torch.full((2, 32, 64), NO_LABEL))
    terms = segmentor.loss(encoded, text, nothing)
    assert terms["prototypes"] == 0 and terms["cross_entropy"] > 0 and terms["nel"] > 0
    empty = taught(tiny, smallest=40).loss(encoded, text, nothing)
    assert empty["total"] == 0, "and without clusters by nothing at all"


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    clip = {"name": str(tiny_checkpoint)}
    return {**RECIPE, "base": "mini/clip-teacher", "clip": clip, "segmentor": SMALL}


def test_a_training_lowers_its_loss_leaves_clip_alone_and_names_no_unseen_word(recipe: dict) -> None:
    with named_while_training() as named:
        run = train(recipe, steps=14, optimizer={"head_lr": 3.0e-3}, progress=False)
    totals = [record["total"] for record in run.log]
    assert sum(totals[-3:]) < sum(totals[:3])
    assert {"nel", "cross_entropy", "prototypes", "global"} <= set(run.log[0])
    assert run.reference is not None and same(weights(run.model.clip), weights(run.reference))
    parts = {name.split(".")[0] for name in moved(run.model, weights(taught(run.reference)))}
    assert parts == {"body", "head", "prototypes"}
    assert named.seen and not named.unseen


def test_a_stopped_training_goes_on_bit_for_bit_with_its_bank(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": 0}, "pool is 0; expected 1 or more"),
        ({"scales": [1]}, r"scales is \(1,\); expected windows of 2"),
        ({"alike": -2.0}, "alike is -2.0; expected a cosine"),
        ({"heads": 3}, "heads is 3; expected a divisor of the joint width 32"),
        ({"read_out": "valeu"}, "did you mean 'value'"),
    ],
)
def test_wrong_options_say_what_was_expected(tiny: DenseCLIP, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taught(tiny, **options)
