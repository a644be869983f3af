"""Cascade-CLIP against its formulas, its loss against loops, and a training that leaves CLIP alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from masks import RECIPE, named_while_training
from resume import assert_same_run, moved, same, stopped_and_gone_on, weights
from torch import Tensor

from infoclip_lite import DenseCLIP, train
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors import Segmentor, Target, build_segmentor
from infoclip_lite.segmentors.cascade import CascadeSegmentor, less_sure
from infoclip_lite.segmentors.queries import dice_loss, sigmoid_focal_loss
from infoclip_lite.training.finetuning import FineTuning

MakeTiny = Callable[..., DenseCLIP]


@pytest.fixture
def cascade(make_tiny: MakeTiny) -> CascadeSegmentor:
    clip = make_tiny(layers=6).requires_grad_(False)
    torch.manual_seed(0)
    made = build_segmentor(
        {"name": "cascade", "groups": 3, "prompts": 4, "layers": 2}, clip, "a photo of a {}"
    )
    assert isinstance(made, CascadeSegmentor)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" in name or "neighbours" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def pictures(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(seed))


def test_every_block_has_prompts_of_its_own_and_groups_are_weighted_sums(cascade: CascadeSegmentor) -> None:
    clip = cascade.clip
    with torch.no_grad():
        encoded = cascade.encode(pictures())
        tokens, grid = clip.embed(pictures())
        outputs = []
        cls, patches = tokens[:, :1], tokens[:, 1:]
        for i, block in enumerate(clip.blocks):
            own = F.linear(
                cascade.prompts[i], cascade.prompt_projection.weight, cascade.prompt_projection.bias
            )
            out = standard_block(block, torch.cat([cls, own.expand(2, 4, -1), patches], 1))
            cls, patches = out[:, :1], out[:, 5:]
            outputs.append(cascade.prompt_norm(patches))
        place, sums = 0, []
        for group, weights in zip([[2, 3], [4]], cascade.neighbours, strict=True):
            total = torch.zeros(2, 12, 32)
            for i, weight in zip(group, weights, strict=True):
                projected = cascade.tap_norms[place](outputs[i]) @ cascade.tap_projections[place]
                total += weight * projected / projected.norm(dim=-1, keepdim=True)
                place += 1
            sums.append(total)
    assert torch.allclose(encoded.dense.flatten(2).mT, clip.project(outputs[-1]), atol=1e-5)
    assert torch.allclose(encoded.more[0], clip.project(cascade.prompt_norm(cls))[:, 0], atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(encoded.more[1:], sums, strict=True))


def test_words_ask_each_group_and_the_last_scores_are_added(cascade: CascadeSegmentor) -> None:
    text = cascade.encode_text(["cow", "grass", "sky"])
    with torch.no_grad():
        encoded = cascade.encode(pictures())
        got = cascade.decode(encoded, text)
        total = torch.zeros(2, 3, 12)
        memories = [*encoded.more[1:], encoded.dense.flatten(2).mT]
        for memory, relation, (first, last) in zip(
            memories, cascade.relations, cascade.decoders, strict=True
        ):
            for b in range(2):
                words = torch.stack([relation(torch.cat([t * encoded.more[0][b], t])) for t in text[:, :-1]])
                q, k, v = first.q(words), first.k(memory[b]), first.v(memory[b])
                mixed = torch.zeros(3, 32)
                for head in range(8):
                    part = slice(4 * head, 4 * head + 4)
                    mixed[:, part] = (q[:, part] @ k[:, part].T / 2).softmax(-1) @ v[:, part]
                words = first.norm_1(words + first.out(mixed))
                words = first.norm_2(words + first.mlp(words))
                q, k = last.q(words), last.k(memory[b])
                scores = [q[:, 4 * h : 4 * h + 4] @ k[:, 4 * h : 4 * h + 4].T / 2 for h in range(8)]
                total[b] += torch.stack(scores).mean(0)
    assert got.shape == (2, 3, 3, 4)
    assert torch.allclose(got.flatten(2), total, atol=1e-5)


def test_words_that_training_labelled_are_a_tenth_less_sure(cascade: CascadeSegmentor) -> None:
    names = ["cow", "grass", "sky"]
    with torch.no_grad():
        encoded = cascade.encode(pictures())
        before = cascade.decode(encoded, cascade.encode_text(names)).sigmoid()
        cascade.meet(["ox|cow", "sky"])
        after = cascade.decode(encoded, cascade.encode_text(names)).sigmoid()
    assert torch.allclose(after[:, [0, 2]], before[:, [0, 2]] - 0.1, atol=1e-5)
    assert torch.equal(after[:, 1], before[:, 1]), "a word that training never saw"


def test_what_is_learnt_knows_nothing_of_the_handicap(cascade: CascadeSegmentor) -> None:
    labels = torch.zeros(2, 24, 32, dtype=torch.long)
    with torch.no_grad():
        encoded = cascade.encode(pictures())
        before = cascade.loss(encoded, cascade.encode_text(["cow", "grass"]), Target.of(labels))
        cascade.meet(["cow", "grass"])
        after = cascade.loss(encoded, cascade.encode_text(["cow", "grass"]), Target.of(labels))
    assert before == after


def test_the_trained_words_are_kept_with_the_weights(cascade: CascadeSegmentor) -> None:
    cascade.meet(["cow"])
    state = cascade.state_dict()
    cascade.meet(["sky"])
    cascade.load_state_dict(state)
    assert cascade.known == ("cow",)


def test_a_handicap_keeps_the_order_of_what_it_lowers() -> None:
    logits = torch.linspace(-9, 9, 50)
    lower = less_sure(logits, 0.1)
    assert (lower.diff() > 0).all() and (lower < logits).all()
    assert torch.allclose(lower.sigmoid()[-20:], logits.sigmoid()[-20:] - 0.1, atol=1e-5)
    assert less_sure(logits, 0.0) is logits


def test_one_group_is_one_decoder_on_clips_own_output(make_tiny: MakeTiny) -> None:
    section = {"name": "cascade", "groups": 1, "prompts": 4, "layers": 2}
    alone = build_segmentor(section, make_tiny(layers=6), "a photo of a {}").eval()
    assert isinstance(alone, CascadeSegmentor) and len(alone.tap_norms) == 0
    with torch.no_grad():
        encoded = alone.encode(pictures())
        assert len(encoded.more) == 1, "CLS alone: no group of earlier blocks"
        assert alone.decode(encoded, alone.encode_text(["cow", "sky"])).shape == (2, 2, 3, 4)


def test_focal_and_dice_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 3, 3, generator=generator)
    wanted = (torch.rand(1, 2, 3, 3, generator=generator) > 0.5).float()
    focal = sigmoid_focal_loss(logits, wanted)
    for place in ((0, 0, 1, 2), (0, 1, 2, 0)):
        p = 1 / (1 + math.exp(-logits[place].item()))
        right = p if wanted[place] else 1 - p
        alpha = 0.25 if wanted[place] else 0.75
        assert focal[place].item() == pytest.approx(-alpha * (1 - right) ** 2 * math.log(right), rel=1e-4)
    got, mask = logits[0, 1].sigmoid(), wanted[0, 1]
    expected = 1 - (2 * (got * mask).sum() + 1) / (got.sum() + mask.sum() + 1)
    assert dice_loss(logits, wanted)[0, 1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_owns_its_loss_of_masks_that_are_there(cascade: CascadeSegmentor) -> None:
    text = cascade.encode_text(["cow", "grass", "sky"])
    labels = torch.full((2, 24, 32), NO_LABEL)
    labels[0, :12], labels[0, 12:], labels[1, :, :8] = 0, 1, 1
    with torch.no_grad():
        encoded = cascade.encode(pictures())
        terms = cascade.loss(encoded, text, Target.of(labels))
        logits = F.interpolate(cascade.decode(encoded, text), (24, 32), mode="bilinear", align_corners=False)
        focal, dice = 0.0, 0.0
        for b in range(2):
            for word in range(3):
                wanted = (labels[b] == word).float()[None, None]
                focal += sigmoid_focal_loss(logits[b : b + 1, word : word + 1], wanted).mean().item() / 3
                if wanted.any():
                    dice += dice_loss(logits[b : b + 1, word : word + 1], wanted).item() / 3
    assert terms["focal"].item() == pytest.approx(focal, rel=1e-4) and terms["dice"].item() == pytest.approx(
        dice, rel=1e-4
    )
    assert terms["total"].item() == pytest.approx(100 * focal + dice, rel=1e-4)
    nothing = cascade.loss(encoded, text, Target.of(torch.full_like(labels, NO_LABEL)))
    assert nothing["dice"] == 0 and torch.isfinite(nothing["total"])


def test_the_recipe_trains_prompts_and_decoders_and_not_clip(tiny_checkpoint: object) -> None:
    data = {"size": 32, "seen": ["fish", "flower"]}
    clip = {"name": str(tiny_checkpoint)}
    run = train(
        "mini/cascade", clip=clip, data=data, segmentor={"groups": 2}, steps=8, batch=4, progress=False
    )
    losses = [record["total"] for record in run.log]
    assert losses[-1] < losses[0] and set(run.log[0]) == {"step", "focal", "dice", "total"}
    assert run.reference is not None
    before, after = run.reference.state_dict(), run.model.clip.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert isinstance(run.model, Segmentor) and run.model.independent


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        **RECIPE,
        "base": "mini/cascade",
        "clip": {"name": str(tiny_checkpoint)},
        "segmentor": {"groups": 2, "prompts": 4, "layers": 1},
    }


def test_a_training_names_no_unseen_word_and_moves_all_but_clip(recipe: dict[str, Any]) -> None:
    with named_while_training() as named:
        run = train(recipe, progress=False)
    assert named.seen and not named.unseen
    assert run.reference is not None and same(weights(run.model.clip), weights(run.reference))
    torch.manual_seed(0)
    fresh = build_segmentor({"name": "cascade", **recipe["segmentor"]}, run.reference, "a photo of a {}")
    parts = {name.split(".")[0] for name in moved(run.model, weights(fresh))}
    assert parts >= {"prompts", "prompt_projection", "relations", "decoders", "neighbours"}
    assert "clip" not in parts


def test_pixels_of_unseen_classes_have_no_say(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training in which they are nobody's is the same in every bit."""
    whole = train(recipe, progress=False)
    collage = Collage.__getitem__

    def without(self: Collage, index: int) -> Any:
        item = collage(self, index)
        unseen = torch.isin(item.mask, torch.tensor(self.unseen))
        return item._replace(mask=item.mask.masked_fill(unseen, self.ignore))

    monkeypatch.setattr(Collage, "__getitem__", without)
    assert_same_run(train(recipe, progress=False), whole)


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict[str, Any], tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, r"groups is 0; expected 1 \.\. 4 for a tower of 6 blocks"),
        ({"groups": 9}, r"groups is 9; expected 1 \.\. 4"),
        ({"handicap": 1.0}, "handicap is 1.0; expected a probability"),
        ({"prompts": 0}, "got prompts=0"),
        ({"heads": 5}, "heads is 5; expected a divisor of the joint space's width 32"),
        ({"group": 3}, "unknown key 'group' in segmentor 'cascade'; did you mean 'groups'"),
    ],
)
def test_wrong_options_say_what_was_expected(
    make_tiny: MakeTiny, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_segmentor({"name": "cascade", **options}, make_tiny(layers=6), "a photo of a {}")


def test_a_pixel_loss_is_not_for_it(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="segmentor 'cascade', which owns its loss"):
        build_segmentor({"name": "cascade"}, make_tiny(layers=6), "a photo of a {}", {"name": "bce"})


def test_clip_may_not_be_tuned_beside_it(tiny_checkpoint: object) -> None:
    with pytest.raises(ValueError, match="tune is 'qv'; expected 'none' for CascadeSegmentor"):
        train(
            "mini/cascade",
            clip={"name": str(tiny_checkpoint)},
            segmentor={"groups": 2},
            data={"size": 32},
            tune="qv",
            progress=False,
        )
