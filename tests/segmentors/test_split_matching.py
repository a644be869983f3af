"""Split Matching: two groups that do not know of each other, pseudo masks of what nobody labelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from infoclip_lite.segmentors import SplitMatching, Target
from infoclip_lite.segmentors.queries import region_cls
from infoclip_lite.segmentors.split_matching import MultiScaleEnhancement, later_blocks, region_loss
from infoclip_lite.training.finetuning import FineTuning

MakeTiny = Callable[..., DenseCLIP]
SMALL: dict[str, Any] = {"seen": 3, "candidates": 4, "width": 16, "layers": 2, "heads": 2}
SMALL |= {"scales": [2, 4], "alike": 0.8, "smallest": 1}
NAMES = ["cow", "grass"]


def split(clip: DenseCLIP, **options: Any) -> SplitMatching:
    torch.manual_seed(0)
    made = SplitMatching(clip, **{**SMALL, **options}).eval()
    # What queries add to CLIP's own mean begins at zero, which would hide it.
    with torch.no_grad():
        made.classes[-1].weight.normal_(std=0.1)
    return made


def labelled() -> Tensor:
    """A cow in the left half of the first picture; the rest, and all of the second, is nobody's."""
    labels = torch.full((2, 32, 48), NO_LABEL)
    labels[0, :, :24] = 0
    return labels


def test_a_feature_is_added_to_what_its_neighbourhoods_are_like() -> None:
    torch.manual_seed(0)
    enhance, x = MultiScaleEnhancement(4, (1, 2)), torch.randn(1, 4, 4, 6)
    first, second = enhance.convolutions
    coarse = second(F.avg_pool2d(x, 2))
    expected = x + first(x) + F.interpolate(coarse, (4, 6), mode="bilinear", align_corners=False)
    assert torch.allclose(enhance(x), expected, atol=1e-6)


def test_the_map_is_made_by_both_groups_and_only_the_seen_one_may_say_nothing(tiny: DenseCLIP) -> None:
    segmentor = split(tiny)
    text = segmentor.encode_text(NAMES)
    with torch.no_grad():
        encoded = segmentor.encode(pictures(1, 3, 32, 48))
        queries, pixels = encoded.more
        masks = segmentor.decoder.draw(queries[-1], pixels)[0].sigmoid()
        total = torch.zeros(2, 4, 6)
        for q in range(7):
            mean = F.normalize((masks[q] * encoded.dense[0]).mean((1, 2)), dim=0)
            said = F.normalize(mean + segmentor.classes(queries[-1][0, q]), dim=0)
            every = torch.cat([text, F.normalize(segmentor.nothing, dim=1)]) if q < 3 else text
            p = (tiny.logit_scale * every @ said).softmax(0)[:2]
            total += p[:, None, None] * masks[q]
        assert torch.allclose(segmentor.decode(encoded, text)[0], total, atol=1e-4)
    assert encoded.dense.shape == (1, 32, 4, 6)
    assert torch.allclose(encoded.dense, tiny.encode_dense(pictures(1, 3, 32, 48), "value"), atol=1e-5)


def test_queries_begin_by_saying_what_clip_says_under_their_masks(tiny: DenseCLIP) -> None:
    segmentor = SplitMatching(tiny, **SMALL).eval()
    dense = F.normalize(torch.randn(1, 32, 2, 2, generator=torch.Generator().manual_seed(0)), dim=1)
    masks = torch.tensor([[[[50.0, -50.0], [-50.0, -50.0]]]])
    assert torch.allclose(
        segmentor.said(torch.ones(1, 1, 16), masks, dense)[0, 0], dense[0, :, 0, 0], atol=1e-5
    )


def test_candidates_are_regions_that_nobody_labelled(tiny: DenseCLIP) -> None:
    segmentor = split(tiny)
    with torch.no_grad():
        pseudo, regions = segmentor.candidates(segmentor.encode(pictures(2, 3, 32, 48)), labelled())
    assert pseudo.valid.any(1).all() and pseudo.masks.shape[2:] == (4, 6)
    assert pseudo.masks[0, :, :, :3].sum() == 0, "the cow is not a candidate"
    free = pseudo.masks.sum(1)
    assert (free[0, :, 3:] == 1).all() and (free[1] == 1).all(), "every other patch is in one region"
    assert torch.equal(pseudo.valid, pseudo.masks.flatten(2).sum(2) >= 1)
    assert torch.allclose(regions.norm(dim=-1), torch.ones(regions.shape[:2]), atol=1e-5)


def test_small_regions_are_dropped_and_all_may_be_labelled(tiny: DenseCLIP) -> None:
    encoded = split(tiny).encode(pictures(2, 3, 32, 48))
    pseudo, _ = split(tiny, smallest=25).candidates(encoded, labelled())
    assert not pseudo.valid.any() and pseudo.masks.sum() == 0
    known = torch.zeros(2, 32, 48, dtype=torch.long)
    segmentor = split(tiny)
    assert not segmentor.candidates(encoded, known)[0].valid.any()
    terms = segmentor.loss(encoded, segmentor.encode_text(NAMES), Target.of(known))
    assert terms["region"] == terms["candidate_focal"] == terms["candidate_dice"] == 0
    assert terms["focal"] > 0 and torch.isfinite(terms["total"])


def test_without_candidates_the_seen_group_learns_what_it_would_beside_them(tiny: DenseCLIP) -> None:
    both, alone = split(tiny), split(tiny, candidates=0)
    text = both.encode_text(NAMES)
    encoded = both.encode(pictures(2, 3, 32, 48))
    queries, pixels = encoded.more
    ours = replace(encoded, more=(queries[:, :, :3], pixels))
    alone.load_state_dict({**both.state_dict(), "decoder.places": both.decoder.places[:3]})
    wanted = both.loss(encoded, text, Target.of(labelled()))
    got = alone.loss(ours, text, Target.of(labelled()))
    assert set(got) == {"class", "focal", "dice", "total"}
    assert all(torch.allclose(got[key], wanted[key], atol=1e-5) for key in ("class", "focal", "dice"))
    assert torch.allclose(got["total"], got["class"] + 20 * got["focal"] + got["dice"])
    assert alone.decode(ours, text).isfinite().all()


def test_what_a_candidate_learns_is_said_by_a_cls_that_sees_its_region_alone(tiny: DenseCLIP) -> None:
    """Kept to its region in the last block alone, it has seen the whole picture before."""
    last, every = split(tiny, region_blocks=1), split(tiny, region_blocks=len(tiny.blocks))
    images = pictures(2, 3, 32, 48)
    with torch.no_grad():
        pseudo, said = every.candidates(every.encode(images), labelled())
        wanted = region_cls(
            tiny, tiny.tower(images, keep=True), pseudo.masks.flatten(2) > 0, blocks=len(tiny.blocks)
        )
        assert torch.allclose(said, wanted, atol=1e-5)
        assert not torch.allclose(said, last.candidates(last.encode(images), labelled())[1], atol=1e-3)
    assert split(tiny).region_blocks == later_blocks(len(tiny.blocks))


def test_pictures_of_nothing_known_teach_the_candidates_alone(tiny: DenseCLIP) -> None:
    segmentor = split(tiny)
    encoded, text = segmentor.encode(pictures(2, 3, 32, 48)), segmentor.encode_text(NAMES)
    terms = segmentor.loss(encoded, text, Target.of(torch.full((2, 32, 48), NO_LABEL)))
    assert terms["focal"] == terms["dice"] == 0
    assert terms["region"] > 0 and terms["candidate_focal"] > 0


def test_a_region_pulls_the_query_that_is_matched_with_it() -> None:
    cosines = torch.tensor([[[0.5, 0.1], [0.2, 0.9], [0.0, 0.3]]])
    loss = region_loss(cosines, torch.tensor([[0, 1]]))
    assert loss.item() == pytest.approx((0.5 + 0.1) / 2)
    assert region_loss(cosines, torch.tensor([[2, -1]])).item() == pytest.approx(1.0)


def test_the_groups_do_not_compete(tiny: DenseCLIP) -> None:
    segmentor = split(tiny)
    text = segmentor.encode_text(NAMES)
    encoded = segmentor.encode(pictures(2, 3, 32, 48))
    queries, pixels = encoded.more
    before = segmentor.loss(encoded, text, Target.of(labelled()))
    # Other candidate queries: nothing changes for the seen group, and the other way round.
    others = torch.cat([queries[:, :, :3], queries[:, :, 3:].flip(-1)], 2)
    seen, candidate = ("class", "focal", "dice"), ("region", "candidate_focal", "candidate_dice")
    after = segmentor.loss(replace(encoded, more=(others, pixels)), text, Target.of(labelled()))
    assert all(torch.equal(before[k], after[k]) for k in seen)
    assert not any(torch.equal(before[k], after[k]) for k in candidate)
    others = torch.cat([queries[:, :, :3].flip(-1), queries[:, :, 3:]], 2)
    after = segmentor.loss(replace(encoded, more=(others, pixels)), text, Target.of(labelled()))
    assert all(torch.equal(before[k], after[k]) for k in candidate)
    total = before["class"] + before["region"] + before["dice"] + before["candidate_dice"]
    total = total + 20 * (before["focal"] + before["candidate_focal"])
    assert torch.allclose(before["total"], total)


def test_all_that_learns_has_a_gradient_and_clip_has_none(make_tiny: MakeTiny) -> None:
    segmentor = split(make_tiny().requires_grad_(False))
    encoded, text = segmentor.encode(pictures(2, 3, 32, 48)), segmentor.encode_text(NAMES)
    segmentor.loss(encoded, text, Target.of(labelled()))["total"].backward()
    assert [n for n, p in segmentor.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in segmentor.clip.parameters())


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        **RECIPE,
        "base": "mini/split-matching",
        "clip": {"name": str(tiny_checkpoint)},
        "segmentor": SMALL,
    }


def test_a_training_lowers_its_loss_leaves_clip_alone_and_names_no_unseen_word(recipe: dict) -> None:
    with named_while_training() as named:
        run = train(recipe, steps=12, optimizer={"head_lr": 3.0e-3}, progress=False)
    totals = [record["total"] for record in run.log]
    assert sum(totals[-3:]) < sum(totals[:3])
    assert run.reference is not None and same(weights(run.model.clip), weights(run.reference))
    parts = {name.split(".")[0] for name in moved(run.model, weights(split(run.reference)))}
    assert parts == {"entry", "enhance", "decoder", "classes", "nothing"}
    assert named.seen and not named.unseen


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)


def test_windows_that_do_not_fit_the_scenes_are_said(recipe: dict) -> None:
    with pytest.raises(ValueError, match=r"windows of 16 patches in a picture of 8 x 8; expected 2 \.\. 8"):
        train(recipe, segmentor={**SMALL, "scales": [16]}, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": 0}, "seen is 0; expected 1 or more"),
        ({"candidates": -1}, "candidates is -1; expected 0"),
        ({"region_blocks": 9}, r"region_blocks is 9; expected 1 \.\. 2"),
        ({"scales": []}, r"got pools=\(1, 2, 4\), scales=\(\)"),
        ({"scales": [1]}, "windows of 2 or more"),
        ({"pools": [0]}, r"pools=\(0,\)"),
        ({"alike": 1.5}, "alike is 1.5; expected a cosine"),
    ],
)
def test_wrong_options_say_what_was_expected(tiny: DenseCLIP, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(tiny, **options)
