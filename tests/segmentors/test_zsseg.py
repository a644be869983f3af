"""ZSSeg: two opinions on every mask, a loss written out, a training that leaves CLIP and unseen words be."""

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
from infoclip_lite.segmentors import Target, ZSSeg
from infoclip_lite.segmentors.queries import crops, dice_loss, sigmoid_focal_loss
from infoclip_lite.segmentors.zsseg import geometric_ensemble
from infoclip_lite.training.finetuning import FineTuning

MakeTiny = Callable[..., DenseCLIP]
SMALL: dict[str, Any] = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32}
SMALL |= {"queries": 5, "layers": 2, "heads": 2, "pool": 2, "prompts": 2}
NAMES = ["cow", "grass", "sky"]


def zsseg(clip: DenseCLIP, known: list[str] = NAMES, **options: Any) -> ZSSeg:
    torch.manual_seed(0)
    made = ZSSeg(clip, **{**SMALL, **options})
    made.meet(known)
    return made.eval()


def labelled() -> Tensor:
    """Cow and grass in the first picture, sky in a corner of the second, the rest unknown."""
    labels = torch.full((2, 32, 64), NO_LABEL)
    labels[0, :16], labels[0, 16:], labels[1, :8, :8] = 0, 1, 2
    return labels


# Words.


def test_words_say_whether_training_knew_them(tiny: DenseCLIP) -> None:
    segmentor = zsseg(tiny, ["Cow", "sea|water"])
    text = segmentor.encode_text(["cow", "horse", "water", "lake|sea"])
    assert text.shape == (4, 33) and text[:, -1].tolist() == [1, 0, 1, 1]
    assert torch.allclose(text[:, :-1].norm(dim=1), torch.ones(4))
    both = segmentor.encode_text(["lake", "sea"])[:, :-1].sum(0)
    assert torch.allclose(text[3, :-1], F.normalize(both, dim=0), atol=1e-6), "synonyms are averaged"
    plain = zsseg(tiny, prompts=0).encode_text(["cow"], ["a {}"])
    assert torch.equal(plain[:, :-1], tiny.encode_text(["cow"], ["a {}"]))


def test_what_training_knew_is_kept_with_the_weights(tiny: DenseCLIP) -> None:
    first, second = zsseg(tiny, ["cow"]), zsseg(tiny, [])
    second.load_state_dict(first.state_dict())
    assert second.known == ("cow",)


def test_text_of_another_kind_is_refused(tiny: DenseCLIP) -> None:
    segmentor = zsseg(tiny)
    with pytest.raises(ValueError, match=r"expected \(C, 33\) of `encode_text`"):
        segmentor(pictures(1, 3, 64, 64), tiny.encode_text(["cow"]))


# From pictures to maps.


def test_the_map_is_the_ensemble_of_query_and_crop_written_out(tiny: DenseCLIP) -> None:
    segmentor = zsseg(tiny, ["cow"])
    images = pictures(1, 3, 32, 64)
    with torch.no_grad():
        # Wide pens, so that masks differ, and one that draws nothing.
        segmentor.decoder.pen[-1].weight.mul_(20)
        text = segmentor.encode_text(NAMES)
        encoded = segmentor.encode(images)
        queries, pixels, _ = encoded.more
        got = segmentor.decode(encoded, text)
        masks = segmentor.decoder.draw(queries[-1], pixels)
        total = torch.zeros_like(got)
        for q in range(5):
            said = F.normalize(segmentor.classes(queries[-1][0, q]), dim=0)
            words = torch.cat([text[:, :-1], F.normalize(segmentor.nothing, dim=1)])
            by_query = (tiny.logit_scale * words @ said).softmax(0)[:-1]
            big = F.interpolate(masks[:, q : q + 1], (32, 64), mode="bilinear") > 0
            by_crop = torch.ones(3)
            if big.any():
                cut = crops(images, big, 32, tiny.mean)[0][0]
                by_crop = (tiny.logit_scale * text[:, :-1] @ tiny.encode_image(cut)[0]).softmax(0)
            # Training knew the first word alone.
            p = by_query**0.3 * by_crop**0.7
            p[0] = by_query[0] ** 0.7 * by_crop[0] ** 0.3
            total += p[:, None, None] * masks[0, q].sigmoid()
    assert got.shape == (1, 3, 8, 16) and torch.allclose(got, total, atol=1e-4)
    assert segmentor(images, text).shape == (1, 3, 32, 64)


def test_the_ensemble_trusts_the_query_for_known_words_and_the_crop_for_others() -> None:
    trained, clip = torch.tensor([[[0.9, 0.9]]]), torch.tensor([[[0.1, 0.1]]])
    known = geometric_ensemble(trained, clip, torch.tensor([True, False]), 0.8)[0, 0]
    assert known.tolist() == pytest.approx([0.9**0.8 * 0.1**0.2, 0.9**0.2 * 0.1**0.8], rel=1e-5)


def test_without_the_ensemble_clip_is_not_asked(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentor = zsseg(tiny, ensemble=0.0)
    text = segmentor.encode_text(NAMES)
    monkeypatch.setattr(DenseCLIP, "encode_image", lambda *_: pytest.fail("it was asked"))
    assert segmentor(pictures(1, 3, 64, 64), text).shape == (1, 3, 64, 64)
    assert "image tower" not in segmentor.weights_at_inference()


# What it learns from.


def test_the_loss_is_that_of_the_best_matching_at_every_layer(tiny: DenseCLIP) -> None:
    segmentor = zsseg(tiny)
    with torch.no_grad():
        text = segmentor.encode_text(NAMES)
        encoded = segmentor.encode(pictures(2, 3, 32, 64))
        terms = segmentor.loss(encoded, text, Target.of(labelled()))
        queries, pixels, images = encoded.more
        found = {"class": 0.0, "focal": 0.0, "dice": 0.0}
        for layer in queries:
            logits, masks = segmentor.said(layer, text[:, :-1]), segmentor.decoder.draw(layer, pixels)
            nats, weight, focal, dice = 0.0, 0.0, 0.0, 0.0
            for b, there in ((0, [0, 1]), (1, [2])):
                log = logits[b].log_softmax(-1)
                small = F.interpolate(masks[b : b + 1], (32, 64), mode="bilinear")[0]
                wanted = [(labelled()[b] == c).float()[None, None] for c in there]
                cost = torch.zeros(5, len(there))
                for q in range(5):
                    drawn = masks[b, q][None, None]
                    for k, c in enumerate(there):
                        at = F.interpolate(wanted[k], drawn.shape[2:], mode="nearest-exact")
                        pixel = 20 * sigmoid_focal_loss(drawn, at).mean() + dice_loss(drawn, at).sum()
                        cost[q, k] = pixel - log[q, c].exp()
                pairs = [
                    (cost[q, 0] + cost[r, -1] * (len(there) - 1), q, r) for q in range(5) for r in range(5)
                ]
                pairs = [(float(c), q, r) for c, q, r in pairs if len(there) == 1 or q != r]
                _, q, r = min(pairs)
                chosen = [q, r][: len(there)]
                for k, query in enumerate(chosen):
                    drawn = small[query][None, None]
                    focal += sigmoid_focal_loss(drawn, wanted[k]).mean().item() / 3
                    dice += dice_loss(drawn, wanted[k]).item() / 3
                for query in range(5):
                    of = there[chosen.index(query)] if query in chosen else 3
                    share = 1.0 if query in chosen else 0.1
                    nats, weight = nats - share * log[query, of].item(), weight + share
            found["class"] += nats / weight
            found["focal"], found["dice"] = found["focal"] + focal, found["dice"] + dice
        # The prompt's: crops of the three true masks.
        prompt = 0.0
        for b, c in ((0, 0), (0, 1), (1, 2)):
            mask = (labelled()[b] == c)[None, None]
            cut = crops(images[b : b + 1], mask, 32, tiny.mean)[0][0]
            prompt -= (tiny.logit_scale * text[:, :-1] @ tiny.encode_image(cut)[0]).log_softmax(0)[
                c
            ].item() / 3
    assert {k: terms[k].item() for k in found} == pytest.approx(found, rel=1e-3)
    assert terms["prompt"].item() == pytest.approx(prompt, rel=1e-3)
    total = found["class"] + 20 * found["focal"] + found["dice"] + prompt
    assert terms["total"].item() == pytest.approx(total, rel=1e-3)


def test_a_picture_without_a_known_class_teaches_no_mask(tiny: DenseCLIP) -> None:
    segmentor = zsseg(tiny)
    encoded, text = segmentor.encode(pictures(2, 3, 64, 64)), segmentor.encode_text(NAMES)
    terms = segmentor.loss(encoded, text, Target.of(torch.full((2, 64, 64), NO_LABEL)))
    assert terms["focal"] == terms["dice"] == terms["prompt"] == 0 and terms["class"] > 0


def test_gradients_go_to_body_decoder_and_prompt_and_masks_do_not_pull_words(make_tiny: MakeTiny) -> None:
    segmentor = zsseg(make_tiny().requires_grad_(False))
    text = segmentor.encode_text(NAMES)
    terms = segmentor.loss(segmentor.encode(pictures(2, 3, 32, 64)), text, Target.of(labelled()))
    assert segmentor.prompt is not None
    (terms["class"] + terms["focal"] + terms["dice"]).backward()
    assert segmentor.prompt.vectors.grad is None, "masks leave the words where they are"
    lost = [n for n, p in segmentor.named_parameters() if p.requires_grad and p.grad is None]
    assert lost == ["prompt.vectors"]
    before = segmentor.nothing.grad.clone()
    terms["prompt"].backward()
    assert segmentor.prompt.vectors.grad.abs().sum() > 0 and torch.equal(segmentor.nothing.grad, before)


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    segmentor = {**SMALL, "ending": ""}
    return {**RECIPE, "base": "mini/zsseg", "clip": {"name": str(tiny_checkpoint)}, "segmentor": segmentor}


def test_a_training_lowers_its_loss_leaves_clip_alone_and_names_no_unseen_word(recipe: dict) -> None:
    with named_while_training() as named:
        run = train(recipe, steps=12, optimizer={"head_lr": 3.0e-3}, progress=False)
    totals = [record["total"] for record in run.log]
    assert sum(totals[-3:]) < sum(totals[:3])
    assert set(run.log[0]) == {"step", "class", "focal", "dice", "prompt", "total"}
    assert run.reference is not None and same(weights(run.model.clip), weights(run.reference))
    changed = moved(run.model, weights(zsseg(run.reference, list(run.model.known), ending="")))
    assert {name.split(".")[0] for name in changed} == {"body", "decoder", "classes", "nothing", "prompt"}
    assert isinstance(run.model, ZSSeg) and set(run.model.known) <= named.seen and not named.unseen


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)
    assert again.model.known == whole.model.known != ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": 1.5}, "ensemble is 1.5; expected 0"),
        ({"prompts": -1}, "prompts is -1; expected 0"),
        ({"queries": 0}, "queries is 0"),
        ({"encoder": "resnet"}, "no encoder 'resnet'"),
    ],
)
def test_wrong_options_say_what_was_expected(tiny: DenseCLIP, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zsseg(tiny, **options)
