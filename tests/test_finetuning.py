"""Plain fine-tuning: only seen pixels and seen words, and only the weights that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import IGNORE, stuff
from infoclip_lite.finetuning import FineTuning
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.training import fit

MakeTiny = Callable[..., DenseCLIP]
SEEN = ["lion", "apple"]


def task(make_tiny: MakeTiny, **options: object) -> FineTuning:
    data = Collage("train", 32, seed=1, length=40, seen=SEEN, objects=(2, 4), scale=(0.4, 0.9))
    return FineTuning(ZeroShotSegmentor(make_tiny()), data, **{"batch": 4, "lr": 1e-2, **options})


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def test_only_seen_words_are_named_in_training(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning, named = task(make_tiny), []
    encode = tuning.segmentor.clip.encode_text

    def watched(names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        named.append((list(names), tuple(templates or ())))
        return encode(names, templates)

    monkeypatch.setattr(tuning.segmentor.clip, "encode_text", watched)
    tuning.loss(0, next(iter(tuning.batches(0, 1))))
    assert [sorted(names) for names, _ in named] == [sorted([*SEEN, *stuff()])]
    assert named[0][1] == ("a photo of a {}",)


def test_loss_is_the_mean_over_seen_pixels(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny)
    images, masks = next(iter(tuning.batches(0, 1)))
    clip, names = tuning.segmentor.clip, tuning.dataset.names
    logits = tuning.segmentor(images, clip.encode_text(tuning.seen, ("a photo of a {}",)))
    losses = []
    for b, row, column in ((b, r, c) for b in range(4) for r in range(32) for c in range(32)):
        name = names[int(masks[b, row, column])]
        if name in tuning.seen:
            losses.append(-logits[b, :, row, column].log_softmax(0)[tuning.seen.index(name)])
    assert len(losses) < masks.numel()
    assert tuning.loss(0, (images, masks))["total"].item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)


def test_unseen_pixels_never_enter_the_loss(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = task(make_tiny)
    images, masks = next(iter(tuning.batches(0, 1)))
    unseen = torch.isin(masks, torch.tensor(tuning.dataset.unseen))
    assert 0.05 < unseen.float().mean() < 0.95
    kept: list[Tensor] = []
    enlarge = F.interpolate

    def watched(*args: Tensor, **options: object) -> Tensor:
        kept.append(enlarge(*args, **options))
        kept[-1].retain_grad()
        return kept[-1]

    monkeypatch.setattr(F, "interpolate", watched)
    total = tuning.loss(0, (images, masks))["total"]
    total.backward()
    moved = kept[-1].grad.abs().sum(1) > 0
    assert not moved[unseen].any() and moved[~unseen].all()
    relabelled = torch.where(unseen, tuning.dataset.unseen[0], masks)
    ignored = torch.where(unseen, IGNORE, masks)
    for other in (relabelled, ignored):
        assert torch.equal(tuning.loss(0, (images, other))["total"], total)


def test_a_batch_without_a_labelled_pixel_gives_zero_and_moves_nothing(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny)
    total = tuning.loss(0, (torch.rand(2, 3, 32, 32), torch.full((2, 32, 32), tuning.dataset.unseen[0])))["total"]
    total.backward()
    assert total.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in tuning.module.parameters())


def test_batches_depend_on_the_step_alone_and_wrap_around(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny)
    (straight, _), (later, masks) = list(tuning.batches(6, 8))[1], next(iter(tuning.batches(7, 8)))
    assert torch.equal(straight, later)
    assert torch.equal(masks, torch.stack([tuning.dataset[i].mask for i in range(28, 32)]))
    assert torch.equal(next(iter(tuning.batches(10, 11)))[0], next(iter(tuning.batches(0, 1)))[0])


def test_qv_tuning_leaves_everything_else_bit_equal(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny, tune="qv", weight_decay=0.5)
    before = snapshot(tuning.module)
    fit(tuning, steps=4)
    changed = set()
    for key, value in tuning.module.state_dict().items():
        if "in_proj" in key:
            for part, new, old in zip("qkv", value.chunk(3), before[key].chunk(3), strict=True):
                if not torch.equal(new, old):
                    changed.add((key.removeprefix("clip.model.").split(".")[0], part))
        else:
            assert torch.equal(value, before[key]), key
    assert {part for _, part in changed} == {"q", "v"}, "keys stay"
    assert changed >= {("visual", "q"), ("visual", "v"), ("transformer", "q"), ("transformer", "v")}, "both towers are tuned"


def test_full_tuning_moves_both_towers_and_not_the_temperature(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny)
    before = snapshot(tuning.module)
    fit(tuning, steps=3)
    after = tuning.module.state_dict()
    unchanged = {key.removeprefix("clip.model.") for key in after if torch.equal(after[key], before[key])}
    assert "logit_scale" in unchanged
    moved = {
        "visual.conv1.weight",
        "visual.positional_embedding",
        "visual.ln_post.weight",
        "visual.proj",
        "text_projection",
        "ln_final.bias",
    }
    assert not moved & unchanged
    assert not any("resblocks.0" in key for key in unchanged)


def test_image_tuning_leaves_the_text_tower_bit_equal(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny, tune="image")
    before = snapshot(tuning.module)
    fit(tuning, steps=2)
    changed = {key for key, value in tuning.module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("clip.model.visual.") for key in changed)


def test_full_tuning_after_qv_tuning_trains_the_keys(make_tiny: MakeTiny) -> None:
    segmentor, data = ZeroShotSegmentor(make_tiny(), "vanilla"), Collage("train", 32, length=40, seen=SEEN)
    FineTuning(segmentor, data, batch=4, lr=1e-2, tune="qv")
    full = FineTuning(segmentor, data, batch=4, lr=1e-2, tune="full")
    keys = segmentor.clip.blocks[0].attn.in_proj_weight[48:96].detach().clone()
    fit(full, steps=2)
    assert not torch.equal(segmentor.clip.blocks[0].attn.in_proj_weight[48:96], keys)


def test_weight_decay_acts_on_matrices_in_full_tuning_only(make_tiny: MakeTiny) -> None:
    matrices, others = task(make_tiny, weight_decay=0.3).groups()
    assert matrices["weight_decay"] == 0.3 and others["weight_decay"] == 0
    assert all(p.ndim > 1 for p in matrices["params"]) and all(p.ndim < 2 for p in others["params"])
    assert all(group["weight_decay"] == 0 for group in task(make_tiny, tune="qv", weight_decay=0.3).groups())


def test_seen_pixels_are_learnt(make_tiny: MakeTiny) -> None:
    data = Collage("train", 32, seed=1, length=2, seen=SEEN)
    tuning = FineTuning(ZeroShotSegmentor(make_tiny()), data, batch=2, lr=1e-2)
    log = fit(tuning, steps=15, warmup=2)
    assert log[-1]["total"] < 0.7 * log[0]["total"], "two scenes, seen fifteen times"


def test_an_unknown_way_of_tuning_is_refused(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="unknown tune 'lora'"):
        task(make_tiny, tune="lora")


def test_nothing_seen_is_refused(make_tiny: MakeTiny) -> None:
    data = Collage("train", 32, seen=[])
    data.unseen = tuple(range(len(data.names)))
    with pytest.raises(ValueError, match="at least one to learn from"):
        FineTuning(ZeroShotSegmentor(make_tiny()), data, batch=2, lr=1e-3)


def test_ignore_is_what_cross_entropy_ignores() -> None:
    logits = torch.randn(2, 3)
    assert F.cross_entropy(logits, torch.tensor([0, IGNORE]), ignore_index=IGNORE) == F.cross_entropy(logits[:1], torch.tensor([0]))
