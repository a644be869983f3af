"""ClsCLIP: the word stands where CLS stood, one pass a word, and asked in vain once a picture."""

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
from infoclip_lite.clip.blocks import standard_block
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.segmentors import ClsCLIP, Target
from infoclip_lite.segmentors.clsclip import words_to_ask
from infoclip_lite.training.finetuning import FineTuning

MakeTiny = Callable[..., DenseCLIP]
SMALL: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2}
NAMES = ["cow", "grass", "sky", "sea"]


def clsclip(clip: DenseCLIP, **options: Any) -> ClsCLIP:
    torch.manual_seed(0)
    return ClsCLIP(clip, **{**SMALL, **options}).eval()


def labelled() -> Tensor:
    """Cow above grass, then sky in a corner and nothing known elsewhere."""
    labels = torch.full((2, 24, 32), NO_LABEL)
    labels[0, :6], labels[0, 6:], labels[1, :8, :8] = 0, 1, 2
    return labels


def test_the_word_takes_the_place_of_cls_before_its_blocks_and_nowhere_else(make_tiny: MakeTiny) -> None:
    clip = make_tiny(layers=5).requires_grad_(False)
    segmentor = clsclip(clip, blocks=[1, 2])
    text = segmentor.encode_text(NAMES)
    with torch.no_grad():
        encoded = segmentor.encode(pictures(2, 3, 24, 32))
        got = segmentor.decode(encoded, text)
        tokens, grid = clip.embed(pictures(2, 3, 24, 32))
        for c, word in enumerate(text):
            x = tokens.clone()
            for i, block in enumerate(clip.blocks):
                if i in (1, 2):
                    x = torch.cat([segmentor.words[i - 1](word).expand(2, 1, -1), x[:, 1:]], 1)
                x = standard_block(block, x)
            patches = segmentor.entry(x[:, 1:])
            for layer in segmentor.layers:
                patches = layer(patches)
            mask = segmentor.mask(patches.mT.unflatten(2, grid))[:, 0]
            assert torch.allclose(got[:, c], mask, atol=1e-4), NAMES[c]
    assert got.shape == (2, 4, 3, 4)


def test_words_may_be_asked_a_few_at_a_time(tiny: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    segmentor = clsclip(tiny)
    encoded, text = segmentor.encode(pictures(2, 3, 24, 32)), segmentor.encode_text(NAMES)
    with torch.no_grad():
        whole = segmentor.decode(encoded, text)
        monkeypatch.setattr("infoclip_lite.segmentors.clsclip._TOGETHER", 6)
        assert torch.allclose(segmentor.decode(encoded, text), whole, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected \(C, 32\)"):
        segmentor.decode(encoded, torch.zeros(2, 8))


def test_a_picture_is_asked_for_words_that_it_shows_and_one_that_is_not_there() -> None:
    ids = words_to_ask(labelled(), 4, 3)
    assert set(ids[0, :2].tolist()) == {0, 1} and ids[0, 2] in (2, 3)
    assert ids[1, 0] == 2 and len(set(ids[1].tolist())) == 3
    assert words_to_ask(labelled(), 4, 2)[0].tolist()[0] in (0, 1), "of two, one is not there"
    assert sorted(words_to_ask(labelled(), 2, 5)[0].tolist()) == [0, 1], "no more than there are"


def test_a_large_word_is_not_asked_more_than_a_small_one() -> None:
    asked = []
    for pixels in range(1, 41):
        labels = torch.ones(1, 20, 20, dtype=torch.int64)
        labels.view(-1)[:pixels] = 0
        asked.append(words_to_ask(labels, 4, 2)[0, 0].item())
    # Where two neighbours in a circle of four are asked in turn, three starts of four lead to the same one.
    assert set(asked) == {0, 1} and 10 <= asked.count(0) <= 30


def test_which_absent_word_is_asked_turns_with_the_picture() -> None:
    asked = set()
    for pixels in range(1, 9):
        labels = torch.full((1, 3, 4), NO_LABEL)
        labels.view(-1)[:pixels] = 0
        ids = words_to_ask(labels, 4, 2)[0].tolist()
        assert ids[0] == 0
        asked.add(ids[1])
    assert asked == {1, 2, 3}


def test_the_loss_is_binary_cross_entropy_on_labelled_pixels(tiny: DenseCLIP) -> None:
    segmentor = clsclip(tiny)
    encoded, text = segmentor.encode(pictures(2, 3, 24, 32)), segmentor.encode_text(NAMES)
    with torch.no_grad():
        got = segmentor.loss(encoded, text, Target.of(labelled()))["total"]
        maps = F.interpolate(segmentor.decode(encoded, text), (24, 32), mode="bilinear")
        ids, nats, pixels = words_to_ask(labelled(), 4, 3), 0.0, 0
        for b in range(2):
            known = labelled()[b] != NO_LABEL
            pixels += int(known.sum())
            for c in ids[b].tolist():
                p = maps[b, c].sigmoid()
                right = torch.where(labelled()[b] == c, p, 1 - p)
                nats -= right[known].log().sum().item()
    assert got.item() == pytest.approx(nats / (3 * pixels), rel=1e-4)
    nothing = segmentor.loss(encoded, text, Target.of(torch.full((2, 24, 32), NO_LABEL)))
    assert nothing["total"] == 0


def test_gradients_go_through_clip_to_the_words_and_clip_keeps_none(make_tiny: MakeTiny) -> None:
    segmentor = clsclip(make_tiny(layers=4).requires_grad_(False), blocks=[1, 2])
    encoded, text = segmentor.encode(pictures(2, 3, 24, 32)), segmentor.encode_text(NAMES)
    segmentor.loss(encoded, text, Target.of(labelled()))["total"].backward()
    assert all(linear.weight.grad.abs().sum() > 0 for linear in segmentor.words)
    assert [n for n, p in segmentor.named_parameters() if p.requires_grad and p.grad is None] == []
    assert all(p.grad is None for p in segmentor.clip.parameters())


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {**RECIPE, "base": "mini/clsclip", "clip": {"name": str(tiny_checkpoint)}, "segmentor": SMALL}


def test_a_training_lowers_its_loss_leaves_clip_alone_and_names_no_unseen_word(recipe: dict) -> None:
    with named_while_training() as named:
        run = train(recipe, steps=20, optimizer={"head_lr": 3.0e-3}, progress=False)
    totals = [record["total"] for record in run.log]
    assert sum(totals[-3:]) < sum(totals[:3])
    assert run.reference is not None and same(weights(run.model.clip), weights(run.reference))
    parts = {name.split(".")[0] for name in moved(run.model, weights(clsclip(run.reference)))}
    assert parts == {"words", "entry", "layers", "mask"}
    assert named.seen and not named.unseen and run.model.independent


def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    whole = train(recipe, progress=False)
    again = stopped_and_gone_on(
        FineTuning, 3, lambda: train(recipe, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(again, whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [2]}, r"blocks is \[2\]; expected some of 0 \.\. 1"),
        ({"blocks": [1, 0]}, "each once and in order"),
        ({"blocks": []}, r"blocks is \[\]"),
        ({"asked": 1}, "got layers=2, asked=1; expected at least 1 and 2"),
        ({"heads": 3}, "width is 16; expected a multiple of heads=3"),
    ],
)
def test_wrong_options_say_what_was_expected(tiny: DenseCLIP, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clsclip(tiny, **options)
