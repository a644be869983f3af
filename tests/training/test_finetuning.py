"""Fine-tuning: only seen pixels and seen words, only the weights that were asked for, and a teacher that
nothing touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from resume import same, stopped, weights
from torch import Tensor

from infoclip_lite import DenseCLIP
from infoclip_lite.clip.loading import build_clip
from infoclip_lite.clip.memory import remembered_features
from infoclip_lite.clip.stem import MEAN, STD, Stem, lite0_weights
from infoclip_lite.core.labels import IGNORE, NO_LABEL
from infoclip_lite.core.lookup import build
from infoclip_lite.core.states import read_state
from infoclip_lite.datasets import Collage
from infoclip_lite.datasets.collage import stuff
from infoclip_lite.objectives import (
    Batch,
    InfoCLIPObjective,
    Objective,
    View,
    WeightAnchor,
    build_objective,
    interpolate,
)
from infoclip_lite.segmentors import (
    AggregationConfig,
    CostAggregationSegmentor,
    Segmentor,
    Target,
    ZeroShotSegmentor,
)
from infoclip_lite.segmentors.base import CRITERIA, CrossEntropy
from infoclip_lite.segmentors.cascade import CascadeSegmentor
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.loop import fit
from infoclip_lite.training.recipe import OptimizerSection

MakeTiny = Callable[..., DenseCLIP]
SEEN = ["bird", "chair"]


def task(make_tiny: MakeTiny, **options: object) -> FineTuning:
    data = Collage("train", 32, seed=1, length=40, seen=SEEN, objects=(2, 4), scale=(0.4, 0.9))
    return tuned(ZeroShotSegmentor(make_tiny()), data, **options)


def tuned(
    segmentor: Segmentor, data: Collage, *, loss: dict | None = None, batch: int = 4, **options: object
) -> FineTuning:
    """The task, with rates given one by one."""
    rates = {key: options.pop(key) for key in ("lr", "head_lr", "weight_decay") if key in options}
    if loss is not None:
        segmentor.criterion = build(CRITERIA, loss, what="loss")
    return FineTuning(
        segmentor, data, batch=batch, optimizer=OptimizerSection(**{"lr": 1e-2, **rates}), **options
    )


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
    assert tuning.loss(0, (images, masks))["total"].item() == pytest.approx(
        torch.stack(losses).mean().item(), rel=1e-4
    )


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
    total = tuning.loss(0, (torch.rand(2, 3, 32, 32), torch.full((2, 32, 32), tuning.dataset.unseen[0])))[
        "total"
    ]
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
    before = weights(tuning.module)
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
    assert changed >= {("visual", "q"), ("visual", "v"), ("transformer", "q"), ("transformer", "v")}, (
        "both towers are tuned"
    )


def test_full_tuning_moves_both_towers_and_not_the_temperature(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny)
    before = weights(tuning.module)
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


# A stem stays frozen.

STEMMED = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


def build_stemmed() -> DenseCLIP:
    torch.manual_seed(0)
    model = build_clip(STEMMED, {"directions": 8})
    model.visual.conv1.fill(lite0_weights())
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    return DenseCLIP(model, tokenizer, mean=(MEAN,) * 3, std=(STD,) * 3, read_outs=("cls_value",)).eval()


def trunk(clip: DenseCLIP) -> dict[str, Tensor]:
    """A copy of the weights of a stem that are no parameters."""
    stem = clip.visual.conv1
    assert isinstance(stem, Stem)
    return {name: buffer.clone() for name, buffer in stem.named_buffers()}


@pytest.mark.parametrize("tune", ["full", "image", "qv"])
@pytest.mark.parametrize("objective", [None, "l2sp", "feature"])
def test_no_tuning_moves_a_stems_trunk(tune: str, objective: str | None) -> None:
    clip, teacher = build_stemmed(), build_stemmed().requires_grad_(False)
    before, projection = trunk(clip), clip.visual.conv1.proj.weight.detach().clone()
    held = {}
    if objective is not None:
        held = {"objective": build_objective({"name": objective}, clip, teacher), "teacher": teacher}
    data = Collage("train", 32, seed=1, length=4, seen=SEEN)
    tuning = tuned(ZeroShotSegmentor(clip), data, batch=2, tune=tune, lr=0.1, weight_decay=0.5, **held)
    fit(tuning, steps=2)
    assert len(before) > 60 and same(trunk(clip), before)
    assert torch.equal(clip.visual.conv1.proj.weight, projection) == (tune == "qv")
    assert {id(p) for p in tuning.trained} <= {id(p) for p in clip.parameters()}


def test_a_stem_is_tuned_when_that_is_asked_for() -> None:
    clip, pixels = build_stemmed(), torch.rand(1, 3, 32, 32)
    before, keys, features = trunk(clip), list(clip.model.state_dict()), clip.encode_dense(pixels)
    data = Collage("train", 32, seed=1, length=4, seen=SEEN)
    tuning = tuned(ZeroShotSegmentor(clip), data, batch=2, tune="stem", lr=1e-3)
    assert torch.equal(clip.encode_dense(pixels), features), "nothing changes before the first step"
    fit(tuning, steps=2)
    moved = {n: p for n, p in clip.visual.conv1.named_parameters() if n in before}
    assert moved.keys() == before.keys() and set(clip.model.state_dict()) == set(keys)
    changed = [name for name, value in moved.items() if not torch.equal(value, before[name])]
    assert {"first.weight", "head.weight", "deep.bias"} <= set(changed)
    tuned(ZeroShotSegmentor(clip), data, batch=2, tune="stem", lr=1e-3)  # a second training of the same model


def test_a_stem_that_is_not_there_cannot_be_tuned(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="tune is 'stem'; .* has none: expected 'full'"):
        task(make_tiny, tune="stem")


@torch.no_grad()
def test_what_holds_weights_together_does_not_look_at_a_stems_trunk() -> None:
    """L2-SP's distance of weights and WiSE-FT's way back are of what can be tuned."""
    student, pretrained = build_stemmed(), build_stemmed()
    for buffer in student.visual.conv1.buffers():
        buffer.add_(1.0)
    moved = trunk(student)
    student.visual.proj.add_(0.5)
    anchor = WeightAnchor(student.model, pretrained.model)
    # 32 x 16 weights, each half a unit away; the trunk's millions, a unit away, are not in it.
    assert anchor()["anchor"].item() == pytest.approx(0.25 * student.visual.proj.numel(), rel=1e-4)
    interpolate(student.model, pretrained.model, 0.5)
    assert torch.allclose(student.visual.proj, pretrained.visual.proj + 0.25)
    assert same(trunk(student), moved)


def test_image_tuning_leaves_the_text_tower_bit_equal(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny, tune="image")
    before = weights(tuning.module)
    fit(tuning, steps=2)
    changed = {
        key for key, value in tuning.module.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed and all(key.startswith("clip.model.visual.") for key in changed)


def test_full_tuning_after_qv_tuning_trains_the_keys(make_tiny: MakeTiny) -> None:
    segmentor, data = ZeroShotSegmentor(make_tiny(), "vanilla"), Collage("train", 32, length=40, seen=SEEN)
    tuned(segmentor, data, batch=4, lr=1e-2, tune="qv")
    full = tuned(segmentor, data, batch=4, lr=1e-2, tune="full")
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
    tuning = tuned(ZeroShotSegmentor(make_tiny()), data, batch=2, lr=1e-2)
    log = fit(tuning, steps=15, warmup=2)
    assert log[-1]["total"] < 0.7 * log[0]["total"], "two scenes, seen fifteen times"


def test_an_unknown_way_of_tuning_is_refused(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="unknown tune 'lora'"):
        task(make_tiny, tune="lora")


def test_nothing_seen_is_refused(make_tiny: MakeTiny) -> None:
    data = Collage("train", 32, seen=[])
    data.unseen = tuple(range(len(data.names)))
    with pytest.raises(ValueError, match="at least one to learn from"):
        tuned(ZeroShotSegmentor(make_tiny()), data, batch=2, lr=1e-3)


def test_pixels_without_a_label_are_what_cross_entropy_leaves_out() -> None:
    logits = torch.randn(1, 3, 1, 2)
    target = Target.of(torch.tensor([[[0, NO_LABEL]]]))
    assert CrossEntropy()(logits, target) == F.cross_entropy(logits[..., :1], torch.tensor([[[0]]]))


# The sigmoid loss, heads of their own, and objectives.


def with_head(make_tiny: MakeTiny, **options: object) -> FineTuning:
    torch.manual_seed(0)
    config = AggregationConfig(16, 1, 2, 2, 2, 8, 8, (0,), (16,), (4,), (16,), class_tokens=0)
    segmentor = CostAggregationSegmentor(
        make_tiny(), size=config, templates=("A photo of a {} in the scene",)
    )
    data = Collage("train", 32, seed=1, length=40, seen=SEEN, objects=(2, 4), scale=(0.4, 0.9))
    return tuned(segmentor, data, **options)


def with_objective(make_tiny: MakeTiny, **options: object) -> FineTuning:
    """InfoCLIP on a zero-shot segmentor, with an LPAM that is the same every time."""
    teacher = make_tiny().requires_grad_(False)
    torch.manual_seed(0)
    return task(
        make_tiny, **{"objective": InfoCLIPObjective(32, axis="pixel"), "teacher": teacher, **options}
    )


def by_hand(logits: Tensor, masks: Tensor, tuning: FineTuning, ignored: str) -> float:
    """-log sigmoid of right answers, -log (1 - sigmoid) of wrong ones, mean over pixels and seen classes."""
    terms = []
    names = tuning.dataset.names
    for b, row, column in ((b, r, c) for b in range(len(masks)) for r in range(32) for c in range(32)):
        name = names[int(masks[b, row, column])] if masks[b, row, column] != IGNORE else None
        if name not in tuning.seen and ignored == "skip":
            continue
        right = torch.tensor([word == name for word in tuning.seen])
        p = logits[b, :, row, column].double().sigmoid()
        terms.append(-torch.where(right, p, 1 - p).log().mean())
    return torch.stack(terms).mean().item()


@pytest.mark.parametrize("ignored", ["skip", "zero"])
def test_bce_is_the_sum_written_out(make_tiny: MakeTiny, ignored: str) -> None:
    tuning = task(make_tiny, batch=2, loss={"name": "bce", "ignored": ignored})
    images, masks = next(iter(tuning.batches(0, 1)))
    masks[0, :4] = IGNORE
    with torch.no_grad():
        logits = tuning.segmentor(
            images, tuning.segmentor.clip.encode_text(tuning.seen, ("a photo of a {}",))
        )
        got = tuning.loss(0, (images, masks))["total"].item()
    assert got == pytest.approx(by_hand(logits, masks, tuning, ignored), rel=1e-4)


def test_ignored_pixels_are_wrong_for_every_class_or_left_out(make_tiny: MakeTiny) -> None:
    batch = (
        torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
        torch.full((2, 32, 32), IGNORE),
    )
    skip, zero = (task(make_tiny, loss={"name": "bce", "ignored": ignored}) for ignored in ("skip", "zero"))
    assert skip.loss(0, batch)["total"].item() == 0
    with torch.no_grad():
        logits = zero.segmentor(batch[0], zero.segmentor.clip.encode_text(zero.seen, ("a photo of a {}",)))
    assert zero.loss(0, batch)["total"].item() == pytest.approx(
        -(-logits).sigmoid().log().mean().item(), rel=1e-4
    )


def test_the_heads_prompt_is_used_in_training(make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning, named = with_head(make_tiny), []
    encode = tuning.segmentor.clip.encode_text
    monkeypatch.setattr(
        tuning.segmentor.clip,
        "encode_text",
        lambda n, t, **options: (named.append(t), encode(n, t, **options))[1],
    )
    tuning.loss(0, next(iter(tuning.batches(0, 1))))
    assert named == [("A photo of a {} in the scene",)]


def test_a_head_has_a_rate_of_its_own(make_tiny: MakeTiny) -> None:
    tuning = with_head(make_tiny, lr=1e-4, head_lr=1e-2, weight_decay=0.3)
    clips = {id(p) for p in tuning.segmentor.clip.parameters()}
    seen = set()
    for group in tuning.groups():
        of_clip = {id(p) in clips for p in group["params"]}
        assert len(of_clip) == 1 and group["lr"] == (1e-4 if of_clip == {True} else 1e-2)
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}
        seen |= {id(p) for p in group["params"]}
    assert seen == {id(p) for p in tuning.segmentor.parameters() if p.requires_grad}, (
        "each weight in one group, none left out"
    )
    assert {group["lr"] for group in with_head(make_tiny, lr=1e-4).groups()} == {1e-4}, "by default CLIP's"


def test_under_qv_the_head_decays_and_clip_does_not(make_tiny: MakeTiny) -> None:
    groups = with_head(make_tiny, tune="qv", lr=1e-4, head_lr=1e-2, weight_decay=0.3).groups()
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (1e-4, 0.0),
        (1e-2, 0.3),
        (1e-2, 0.0),
    }


def test_tuning_nothing_trains_the_head_alone(make_tiny: MakeTiny) -> None:
    tuning = with_head(make_tiny, tune="none")
    before = weights(tuning.module)
    fit(tuning, steps=2)
    changed = {
        key for key, value in tuning.module.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed and not any(key.startswith("clip.") for key in changed)
    assert {key.split(".")[0] for key in changed} == {"aggregator", "upsample"}


def test_tuning_nothing_without_a_head_is_refused(make_tiny: MakeTiny) -> None:
    with pytest.raises(
        ValueError, match="tune='none' and a segmentor without a head; expected something to train"
    ):
        task(make_tiny, tune="none")


def test_options_that_exclude_each_other_are_refused(make_tiny: MakeTiny) -> None:
    with pytest.raises(ValueError, match="unknown key 'ignored' in loss 'cross_entropy'"):
        task(make_tiny, loss={"name": "cross_entropy", "ignored": "zero"})
    for half in ({"objective": InfoCLIPObjective(32)}, {"teacher": make_tiny()}):
        with pytest.raises(ValueError, match="expected both or neither"):
            task(make_tiny, **half)


@pytest.mark.parametrize("head", [False, True])
def test_the_total_is_the_task_and_the_objective(make_tiny: MakeTiny, head: bool) -> None:
    torch.manual_seed(0)
    build, objective = with_head if head else task, InfoCLIPObjective(32, axis="pixel", compression=0.5)
    teacher = make_tiny(seed=3).requires_grad_(False)
    tuning, plain = build(make_tiny, objective=objective, teacher=teacher), build(make_tiny)
    batch = next(iter(tuning.batches(0, 1)))
    terms = tuning.loss(0, batch)
    assert set(terms) == {"task", "compression", "transfer", "total"}
    assert terms["task"].item() == pytest.approx(plain.loss(0, batch)["total"].item(), abs=1e-6)
    assert terms["total"].item() == pytest.approx(
        sum(terms[k].item() * w for k, w in (("task", 1), ("compression", 0.5), ("transfer", 1)))
    )
    template = ("A photo of a {} in the scene",) if head else ("a photo of a {}",)
    read_out = "cls_value" if head else "value"
    views = [
        View(
            c.encode_dense(batch[0], read_out).flatten(2).mT,
            c.encode_text(tuning.seen, template),
            torch.tensor(1.0),
        )
        for c in (teacher, tuning.segmentor.clip)
    ]
    wanted = objective(Batch.of(teacher=views[0], student=views[1]))
    for name in ("compression", "transfer"):
        assert terms[name].item() == pytest.approx(wanted[name].item(), abs=1e-5), (
            "of the same pictures and words"
        )


@pytest.mark.parametrize("name", ["infoclip", "kl", "feature", "pooled", "l2sp"])
def test_the_teacher_stays_as_it_was_and_is_no_part_of_the_model(make_tiny: MakeTiny, name: str) -> None:
    student, teacher = make_tiny(), make_tiny().requires_grad_(False)
    objective = build_objective(
        {"name": name, **({"axis": "pixel"} if name == "infoclip" else {})}, student, teacher
    )
    data = Collage("train", 32, length=8, seen=SEEN)
    tuning = tuned(ZeroShotSegmentor(student), data, batch=2, lr=1e-2, objective=objective, teacher=teacher)
    before, words = weights(teacher), tuning.teacher_text.clone()
    log = fit(tuning, steps=2)
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert torch.equal(tuning.teacher_text, words) and all(p.grad is None for p in teacher.parameters())
    inside = {id(p) for p in tuning.module.parameters()} | {
        id(p) for group in tuning.groups() for p in group["params"]
    }
    assert not inside & {id(p) for p in teacher.parameters()}
    assert log[0].keys() >= {"task", "total"} and len(log[0]) >= 4, "the objective's terms are logged by name"


def test_lpam_is_trained_at_the_heads_rate(make_tiny: MakeTiny) -> None:
    tuning = with_objective(make_tiny, head_lr=3e-3)
    before = weights(tuning.module)
    rates = {id(p): group["lr"] for group in tuning.groups() for p in group["params"]}
    assert all(rates[id(p)] == 3e-3 for p in tuning.objective.parameters())
    fit(tuning, steps=2)
    moved = {key for key, value in tuning.module.state_dict().items() if not torch.equal(value, before[key])}
    assert {
        "objective.lpam.query.weight",
        "objective.lpam.norm_text.bias",
        "segmentor.clip.model.visual.proj",
    } <= moved


class Failing(Objective):
    """An objective whose second term is not a number from its third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        student = batch.student
        bad = torch.tensor(float("nan") if self.calls > 2 else 0.0)
        return {"good": student.dense.sum() * 0, "bad": bad, "total": student.dense.sum() * 0}


def test_an_objectives_term_that_is_not_a_number_stops_the_training(
    make_tiny: MakeTiny, tmp_path: Path
) -> None:
    tuning = task(make_tiny, objective=Failing(), teacher=make_tiny().requires_grad_(False))
    with pytest.raises(FloatingPointError, match="loss term 'bad' is nan at step 2"):
        fit(tuning, steps=4, folder=tmp_path, save_every=1)
    state = read_state(tmp_path)
    assert state["step"] == 2 and all(value.isfinite().all() for value in state["module"].values())


def test_a_stopped_run_with_an_objective_goes_on_bit_for_bit(make_tiny: MakeTiny, tmp_path: Path) -> None:
    whole = with_objective(make_tiny)
    wanted = fit(whole, steps=4)
    with stopped(FineTuning, 3):
        fit(with_objective(make_tiny), steps=4, folder=tmp_path, save_every=2)
    assert "objective.lpam.key.weight" in read_state(tmp_path)["module"]
    torch.manual_seed(7)
    other = InfoCLIPObjective(32, axis="pixel")  # begins elsewhere: the state must bring LPAM's weights
    resumed = with_objective(make_tiny, objective=other)
    assert fit(resumed, steps=4, folder=tmp_path, save_every=2) == wanted
    assert same(weights(resumed.module), weights(whole.module))


def test_anchors_are_words_of_the_objective_alone_in_the_teachers_embedding(make_tiny: MakeTiny) -> None:
    teacher, views = make_tiny(seed=3).requires_grad_(False), []

    class Watching(Objective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            views.extend((batch.teacher, batch.student))
            return {"total": batch.student.dense.sum() * 0}

    tuning = task(make_tiny, objective=Watching(), teacher=teacher, anchors=["kite", "toy boat"])
    batch = next(iter(tuning.batches(0, 1)))
    plain = task(make_tiny).loss(0, batch)["total"].item()
    assert tuning.loss(0, batch)["total"].item() == pytest.approx(plain, abs=1e-6), (
        "they have no pixels and no logits"
    )
    template, seen = ("a photo of a {}",), len(tuning.seen)
    for v, clip in zip(views, (teacher, tuning.segmentor.clip), strict=True):
        assert v.text.shape == (seen + 2, 32)
        assert torch.allclose(v.text[:seen], clip.encode_text(tuning.seen, template), atol=1e-6)
        assert torch.allclose(v.text[seen:], teacher.encode_text(["kite", "toy boat"], template), atol=1e-6)


def test_pixels_of_unseen_classes_are_called_background_where_a_recipe_says_so(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny, background="background")
    assert tuning.seen[-1] == "background" and len(tuning.seen) == len(SEEN) + len(stuff()) + 1
    unseen = torch.tensor(tuning.dataset.unseen)
    assert (tuning.relabel[unseen] == len(tuning.seen) - 1).all()
    assert tuning.relabel[IGNORE] == NO_LABEL, "what nobody labelled is no background"
    plain = task(make_tiny)
    assert tuning.seen[:-1] == plain.seen
    seen = [i for i in range(len(plain.dataset.names)) if i not in unseen.tolist()]
    assert torch.equal(tuning.relabel[seen], plain.relabel[seen])
    with pytest.raises(ValueError, match="background is 'grass', a class"):
        task(make_tiny, background="grass")


def test_anchors_must_not_name_unseen_classes(make_tiny: MakeTiny) -> None:
    unseen = task(make_tiny).dataset.names[task(make_tiny).dataset.unseen[0]]
    with pytest.raises(
        ValueError, match=rf"anchors name the unseen classes \['{unseen}'\]; expected other words"
    ):
        task(make_tiny, objective=InfoCLIPObjective(32), teacher=make_tiny(), anchors=[unseen])


@pytest.mark.parametrize("where", ["student", "lpam"])
def test_a_relation_that_is_not_a_number_stops_the_training_with_the_name_of_a_term(
    make_tiny: MakeTiny, where: str
) -> None:
    tuning = with_objective(make_tiny)
    with torch.no_grad():
        broken = (
            tuning.segmentor.clip.visual.proj if where == "student" else tuning.objective.lpam.query.weight
        )
        broken[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="loss term '(task|compression|transfer)' is nan at step 0"):
        fit(tuning, steps=1)


# What an objective needs, and what is asked for once.


class Needing(Objective):
    """Touches some parts of a batch, and keeps them."""

    def __init__(self, needs: tuple[str, ...]) -> None:
        super().__init__()
        self.needs, self.got = needs, []
        self.wants_dense = "dense" in needs

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.got.append({name: getattr(batch, name) for name in self.needs})
        return {"total": torch.zeros(())}


def counted(clip: DenseCLIP, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the methods of a CLIP, as they are called."""
    calls: list[str] = []
    for name in ("embed", "encode_text"):
        method = getattr(clip, name)
        monkeypatch.setattr(
            clip,
            name,
            lambda *args, name=name, method=method, **o: (calls.append(name), method(*args, **o))[1],
        )
    return calls


@pytest.mark.parametrize(
    ("needs", "passes"),
    [
        ((), 0),
        (("student",), 0),
        (("progress", "target"), 0),
        (("image",), 1),
        (("teacher", "student"), 1),
        (("dense",), 1),
        (("image", "dense"), 1),
    ],
)
def test_an_objective_gets_what_it_needs_and_the_teacher_does_no_more(
    make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch, needs: tuple[str, ...], passes: int
) -> None:
    teacher = make_tiny(seed=3).requires_grad_(False)
    teacher.read_outs = ("value", "sclip")
    tuning = task(make_tiny, objective=Needing(needs), teacher=teacher)
    calls = counted(teacher, monkeypatch)
    tuning.loss(0, next(iter(tuning.batches(0, 1))))
    assert calls == ["embed"] * passes and [set(given) for given in tuning.objective.got] == [set(needs)]


def test_what_an_objective_gets_is_what_its_names_say(make_tiny: MakeTiny) -> None:
    teacher = make_tiny(seed=3).requires_grad_(False)
    teacher.read_outs = ("value", "sclip")
    tuning = task(make_tiny, objective=Needing(("image", "dense", "target", "student")), teacher=teacher)
    images, masks = next(iter(tuning.batches(0, 1)))
    tuning.loss(0, (images, masks))
    (got,) = tuning.objective.got
    assert torch.allclose(got["image"], teacher.encode_image(images), atol=1e-6)
    read = [teacher.encode_dense(images, name).flatten(2).mT for name in ("value", "sclip")]
    assert torch.allclose(got["dense"], F.normalize(read[0] + read[1], dim=-1), atol=1e-5)
    for b, row, column in ((0, 0, 0), (1, 20, 7), (3, 31, 31)):
        name = tuning.dataset.names[int(masks[b, row, column])]
        assert int(got["target"][b, row, column]) == (
            tuning.seen.index(name) if name in tuning.seen else NO_LABEL
        )
    assert got["student"].text.requires_grad and got["student"].dense.requires_grad
    assert not got["image"].requires_grad and not got["dense"].requires_grad


def test_read_outs_that_an_objective_names_come_from_the_one_pass(
    make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = make_tiny(seed=3).requires_grad_(False)
    teacher.read_outs = ("value", "sclip")
    objective = Needing(("image", "dense", "compared"))
    objective.lesson, objective.chosen_by = ("vanilla",), "sclip"
    tuning = task(make_tiny, objective=objective, teacher=teacher)
    calls = counted(teacher, monkeypatch)
    images, masks = next(iter(tuning.batches(0, 1)))
    tuning.loss(0, (images, masks))
    (got,) = objective.got
    assert calls == ["embed"]
    for part, name in (("dense", "vanilla"), ("compared", "sclip")):
        wanted = teacher.encode_dense(images, name).flatten(2).mT
        assert torch.allclose(got[part], wanted, atol=1e-5) and not got[part].requires_grad, part


def test_another_teacher_is_asked_anew_where_answers_are_remembered(make_tiny: MakeTiny) -> None:
    said = []
    with remembered_features():
        for seed in (3, 4):
            objective = Needing(("image",))
            teacher = make_tiny(seed=seed).requires_grad_(False)
            tuning = task(make_tiny, objective=objective, teacher=teacher)
            images, masks = next(iter(tuning.batches(0, 1)))
            tuning.loss(0, (images, masks))
            said.append(objective.got[0]["image"])
            assert torch.allclose(said[-1], teacher.encode_image(images), atol=1e-5)
    assert not torch.allclose(*said)


def test_an_objective_sees_words_without_what_a_segmentor_puts_behind_them(make_tiny: MakeTiny) -> None:
    """Whether training knows a word is a number behind its embedding, and no part of it."""
    objective = Needing(("teacher", "student"))
    data = Collage("train", 32, seed=1, length=40, seen=SEEN, objects=(2, 4), scale=(0.4, 0.9))
    segmentor = CascadeSegmentor(make_tiny(), groups=1, prompts=2, layers=1, heads=2)
    teacher = make_tiny().requires_grad_(False)
    tuning = tuned(segmentor, data, tune="none", objective=objective, teacher=teacher, anchors=("zeppelin",))
    tuning.loss(0, next(iter(tuning.batches(0, 1))))
    (got,) = objective.got
    assert torch.allclose(got["student"].text, got["teacher"].text, atol=1e-5)


def test_a_batch_without_a_named_read_out_has_none_to_compare(make_tiny: MakeTiny) -> None:
    objective = Needing(("compared",))
    tuning = task(make_tiny, objective=objective, teacher=make_tiny(seed=3).requires_grad_(False))
    with pytest.raises(ValueError, match="batch's 'compared', which was not given"):
        tuning.loss(0, next(iter(tuning.batches(0, 1))))


def test_pictures_are_shown_smaller_than_the_loss_is_taken(make_tiny: MakeTiny) -> None:
    """As CAT-Seg's ViT-L/14: crops and labels keep their size, student and teacher see another."""

    class Watching(Objective):
        wants_dense = True

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            seen.append((tuple(batch.images.shape[2:]), tuple(batch.target.shape[1:]), batch.grid))
            assert batch.teacher.dense.shape == batch.student.dense.shape
            return {"total": batch.student.dense.sum() * 0}

    seen: list[object] = []
    config = AggregationConfig(
        hidden=16,
        layers=1,
        window=2,
        guidance_blocks=(0,),
        guidance_channels=(16,),
        guidance_width=(8,),
        decoder_channels=(16,),
        class_tokens=0,
    )
    clip = make_tiny()
    segmentor = CostAggregationSegmentor(clip, size=config, side=24)
    data = Collage("train", 40, seed=1, length=8, seen=SEEN)
    tuning = tuned(segmentor, data, objective=Watching(), teacher=make_tiny(1).requires_grad_(False))
    terms = tuning.loss(0, next(iter(tuning.batches(0, 1))))
    assert seen == [((24, 24), (40, 40), (3, 3))] and terms["task"].isfinite()
    with pytest.raises(ValueError, match="side is 0; expected 1 or more"):
        CostAggregationSegmentor(clip, size=config, side=0)


def test_progress_goes_from_zero_to_one_over_the_steps(make_tiny: MakeTiny) -> None:
    tuning = task(make_tiny, objective=Needing(("progress",)), teacher=make_tiny().requires_grad_(False))
    fit(tuning, steps=10)
    assert [given["progress"] for given in tuning.objective.got] == pytest.approx(
        [i / 9 for i in range(10)]
    ), "40 scenes, 4 a step"
    tuning.loss(99, next(iter(tuning.batches(0, 1))))
    assert tuning.objective.got[-1]["progress"] == 1, "and no further"


def test_one_step_of_training_is_its_beginning(make_tiny: MakeTiny) -> None:
    data = Collage("train", 32, length=4, seen=SEEN)
    teacher, objective = make_tiny().requires_grad_(False), Needing(("progress",))
    fit(
        tuned(ZeroShotSegmentor(make_tiny()), data, batch=4, lr=1e-2, objective=objective, teacher=teacher),
        steps=1,
    )
    assert objective.got == [{"progress": 0}]


@pytest.mark.parametrize(("tune", "times"), [("image", 1), ("full", 3), ("qv", 3)])
def test_words_of_a_frozen_text_tower_are_read_once(
    make_tiny: MakeTiny, monkeypatch: pytest.MonkeyPatch, tune: str, times: int
) -> None:
    tuning = task(make_tiny, tune=tune)
    calls = counted(tuning.segmentor.clip, monkeypatch)
    fit(tuning, steps=3)
    assert calls.count("encode_text") == times


@pytest.mark.parametrize("watched", [False, True])
def test_words_follow_a_text_tower_that_is_tuned(make_tiny: MakeTiny, watched: bool) -> None:
    """Even if the loss was looked at without gradients before."""
    tuning = task(make_tiny, objective=Needing(("student",)), teacher=make_tiny().requires_grad_(False))
    if watched:
        with torch.no_grad():
            tuning.loss(0, next(iter(tuning.batches(0, 1))))
    fit(tuning, steps=2)
    first, last = (given["student"].text for given in tuning.objective.got[-2:])
    assert (first - last).abs().max() > 1e-4
    assert last.requires_grad
