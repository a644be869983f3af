"""From a recipe to what it trains: twice the same, and whoever called keeps chance and CLIP as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from resume import same, weights
from torch import Tensor

from infoclip_lite import DenseCLIP, train
from infoclip_lite.datasets import Collage
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.training.build import build_pretraining, build_task
from infoclip_lite.training.finetuning import FineTuning, release, trained_weights
from infoclip_lite.training.recipe import load_finetuning, load_recipe

MakeTiny = Callable[..., DenseCLIP]
SMALL_BODY = {"encoder": "tu-mobilenetv3_small_050", "weights": None, "width": 32, "pool": 2}
PRETRAIN: dict[str, Any] = {
    "task": "pretrain",
    "name": "small",
    "model": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    },
    "stages": [{"steps": 3, "keep": 0.5}],
    "pool": 12,
    "local": 0.5,
    "batch": 4,
    "dtype": "float32",
}
# One recipe of every kind of chance: a head, an objective with weights, a body that looks at pictures first.
DRAWN: dict[str, dict[str, Any]] = {
    "plain": {},
    "infoclip": {"objective": {"name": "infoclip", "axis": "pixel"}},
    "chimera": {
        "segmentor": {"name": "chimera", **SMALL_BODY},
        "tune": "none",
        "objective": {"name": "chimera", "smallest": 4},
    },
}


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(tiny_checkpoint)},
        "steps": 2,
        "batch": 2,
        "data": {"name": "collage", "size": 32, "seen": ["bird", "chair"]},
        "evaluation": {"at": [], "scenes": 1},
        "machine": {"dtype": "float32"},
    }


# Chance.


@pytest.mark.parametrize("kind", DRAWN)
def test_building_a_task_leaves_the_global_generator_alone_and_is_the_same_twice(
    recipe: dict, kind: str
) -> None:
    loaded = load_finetuning(recipe, **DRAWN[kind])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = build_task(loaded)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)  # whatever was drawn before must not matter
    second, _ = build_task(loaded)
    assert same(weights(first.module), weights(second.module))
    if kind != "plain":
        other, _ = build_task(load_finetuning(recipe, **DRAWN[kind], seed=1))
        assert not same(weights(first.module), weights(other.module)), "another seed, other weights"


def test_building_a_pretraining_leaves_the_global_generator_alone_and_is_the_same_twice(
    tmp_path: Path,
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    stemmed = {**PRETRAIN, "stem": {"directions": 8}}
    first = build_pretraining(load_recipe(stemmed), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second, other = (build_pretraining(load_recipe(stemmed, seed=seed), tmp_path) for seed in (0, 1))
    assert same(weights(first.module), weights(second.module))
    assert not same(weights(first.module), weights(other.module))


def test_a_whole_training_draws_nothing_from_the_global_generator(recipe: dict) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(recipe, progress=False, objective={"name": "infoclip", "axis": "pixel"})
    assert torch.equal(torch.get_rng_state(), before)


# Whose CLIP it is.


def test_the_reference_is_a_frozen_copy_of_the_clip_before_training(recipe: dict) -> None:
    task, reference = build_task(load_finetuning(recipe))
    clip = task.segmentor.clip
    assert same(weights(clip), weights(reference)) and clip is not reference
    assert not any(p.requires_grad for p in reference.parameters())
    assert not {p.data_ptr() for p in clip.parameters()} & {p.data_ptr() for p in reference.parameters()}


def task_on(clip: DenseCLIP, tune: str) -> FineTuning:
    return FineTuning(
        ZeroShotSegmentor(clip), Collage("train", 32, length=8, seen=["bird"]), batch=2, tune=tune
    )


def gradient(task: FineTuning) -> list[Tensor]:
    """Gradients of the fused q, k and v matrices of every block."""
    clip = task.segmentor.clip
    clip.zero_grad(set_to_none=True)
    task.loss(0, next(iter(task.batches(0, 1))))["total"].backward()
    return [block.attn.in_proj_weight.grad for block in (*clip.blocks, *clip.text_blocks)]


def hooks(clip: DenseCLIP) -> int:
    return sum(len(p._backward_hooks or ()) for p in clip.parameters())


def test_two_tunings_of_queries_and_values_do_not_stack_their_hooks(make_tiny: MakeTiny) -> None:
    clip = make_tiny()
    first = hooks(task_on(clip, "qv").segmentor.clip)
    again = task_on(clip, "qv")
    assert first == hooks(clip) == len(clip.gradient_hooks) == 8, (
        "a matrix and a bias of two blocks in each tower"
    )
    alone = gradient(task_on(make_tiny(), "qv"))
    assert all(torch.equal(a, b) for a, b in zip(gradient(again), alone, strict=True))


def test_a_full_tuning_after_one_of_queries_and_values_has_no_hook_left(make_tiny: MakeTiny) -> None:
    clip = make_tiny()
    keys = [g.chunk(3)[1] for g in gradient(task_on(clip, "qv"))]
    assert not any(k.any() for k in keys)
    full = task_on(clip, "full")
    assert hooks(clip) == 0 and clip.gradient_hooks == []
    alone = gradient(task_on(make_tiny(), "full"))
    assert all(torch.equal(a, b) for a, b in zip(gradient(full), alone, strict=True))
    # the read-out is "value": keys of the last image block have no gradient, those of all others do
    assert sum(bool(g.chunk(3)[1].any()) for g in alone) == 3


@pytest.mark.parametrize("tune", ["full", "image", "qv", "none"])
def test_what_is_released_is_frozen_and_has_no_hooks(make_tiny: MakeTiny, tune: str) -> None:
    clip = make_tiny()
    trained = trained_weights(clip, tune)
    assert {id(p) for p in clip.parameters() if p.requires_grad} == {id(p) for p in trained}
    assert hooks(clip) == (8 if tune == "qv" else 0)
    release(clip)
    assert (
        hooks(clip) == 0 and clip.gradient_hooks == [] and not any(p.requires_grad for p in clip.parameters())
    )
    release(clip)  # twice is no error


@pytest.mark.parametrize("tune", ["qv", "full"])
def test_a_finished_run_has_no_hooks(recipe: dict, tune: str) -> None:
    run = train(recipe, progress=False, tune=tune)
    assert hooks(run.model.clip) == 0 and run.model.clip.gradient_hooks == []
    clip = run.model.clip.requires_grad_(True)
    # One number of a unit vector: their squares always add up to one, which has no gradient but rounding.
    clip.encode_dense(torch.rand(1, 3, 32, 32), "vanilla")[0, 0, 0, 0].backward()
    assert clip.blocks[0].attn.in_proj_weight.grad.chunk(3)[1].any(), (
        "whoever trains it on may train its keys"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": 0}, "pool is 0; expected at least 1"),
        ({"local": -1.0}, "local is -1.0; expected at least 0"),
        ({"channel_dropout": 1.0}, "expected 0 .. 1, less than 1"),
        ({"stages": []}, "expected at least one {steps, keep}"),
        ({"classes": 1.0}, "without a stem; expected one"),
        ({"linear_start": True}, "without a stem; expected one"),
        ({"classes": 1.0, "stem": {}}, "there is no text section"),
    ],
)
def test_a_pretraining_that_cannot_be_is_refused_as_it_is_read(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe(PRETRAIN | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read_outs": ["valeu"]}, "valeu"),
        ({"stages": [{"stepz": 3}]}, "unknown key 'stepz' in a stage"),
        ({"stem": {"direction": 8}}, "unknown key 'direction' in stem"),
        ({"stem": {"directions": 1100}}, "expected 1 .. 1000"),
        ({"stem": {"directions": 8}, "mean": [0.5] * 3}, "the stem's"),
    ],
)
def test_what_is_wrong_is_said_before_the_long_work(
    changes: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infoclip_lite.training.build.build_pool", None)
    monkeypatch.setattr("infoclip_lite.training.build.stem_examples", None)
    recipe = load_recipe(PRETRAIN | changes)
    with pytest.raises(ValueError, match=message):
        build_pretraining(recipe, tmp_path)
