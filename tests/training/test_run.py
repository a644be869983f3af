"""The loop and its recipes: the same numbers twice, going on after a stop, and errors a reader of YAML can
use.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from resume import Weights, assert_same_run, same, stopped_and_gone_on, weights
from torch import Tensor, nn

from infoclip_lite import DenseCLIP, Run, evaluate, load_clip, train
from infoclip_lite.clip import save_clip
from infoclip_lite.core.states import read_state
from infoclip_lite.datasets import Collage
from infoclip_lite.objectives import build_objective
from infoclip_lite.segmentors import CostAggregationSegmentor
from infoclip_lite.training import build
from infoclip_lite.training import run as training
from infoclip_lite.training.build import build_segmentor
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.loop import fit
from infoclip_lite.training.pretraining import Pretraining
from infoclip_lite.training.recipe import (
    FineTuneRecipe,
    OptimizerSection,
    PointsRecipe,
    PretrainRecipe,
    list_recipes,
    load_recipe,
)


class Line:
    """Fit y = 3x + 1; a small task in which every part of the loop can be seen."""

    dtype = torch.float32

    def __init__(self, lr: float = 0.1, nan_at: int | None = None, stop_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = nn.Linear(1, 1)
        self.lr, self.nan_at, self.stop_at = lr, nan_at, stop_at
        self.rates: list[float] = []

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self.lr, "weight_decay": 0.0}]

    def batches(self, first: int, last: int) -> Iterator[Tensor]:
        for step in range(first, last):
            yield torch.randn(16, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, step: int, batch: Tensor) -> dict[str, Tensor]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        error = (self.module(batch) - 3 * batch - 1).square().mean()
        return {
            "fit": error.detach(),
            "rest": torch.tensor(float("nan") if step == self.nan_at else 0.0),
            "total": error,
        }


def test_the_loop_learns_and_logs_every_step() -> None:
    task = Line()
    log = fit(task, steps=150)
    assert [record["step"] for record in log] == list(range(150))
    assert all(record.keys() == {"step", "fit", "rest", "total"} for record in log)
    assert log[-1]["total"] < 1e-3 < log[0]["total"]


def test_two_runs_give_the_same_numbers() -> None:
    first, second = Line(), Line()
    assert fit(first, steps=20) == fit(second, steps=20) and same(
        weights(first.module), weights(second.module)
    )


def test_no_steps_change_nothing() -> None:
    task = Line()
    before = weights(task.module)
    assert fit(task, steps=0) == [] and same(before, weights(task.module))


def test_rate_warms_up_and_falls_as_a_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(Line(lr=0.5), steps=24, warmup=4)
    wanted = [0.5 * (i + 1) / 4 for i in range(4)] + [
        0.25 * (1 + math.cos(math.pi * i / 20)) for i in range(20)
    ]
    assert rates == pytest.approx(wanted)


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        seen.append(
            torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]])
            .norm()
            .item()
        )
        return step(self, *args, **kwargs)

    class Steep(Line):
        def loss(self, step: int, batch: Tensor) -> dict[str, Tensor]:
            return {"total": 1e6 * super().loss(step, batch)["total"]}

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    fit(Steep(), steps=3, clip_norm=0.25)
    assert seen == pytest.approx([0.25] * 3, rel=1e-3)


def test_evaluations_come_before_their_step_and_after_the_last() -> None:
    log = fit(Line(), steps=4, evaluate=lambda step: {"mIoU": float(step)}, evaluate_at=[0, 2, 4])
    assert [record["step"] for record in log] == [0, 0, 1, 2, 2, 3, 4]
    assert [record["mIoU"] for record in log if "mIoU" in record] == [0, 2, 4]


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, stop: int) -> None:
    calls: list[int] = []

    def measure(step: int) -> dict[str, float]:
        calls.append(step)
        return {"mIoU": step / 10}

    options = {"steps": 12, "warmup": 3, "save_every": 3, "evaluate": measure, "evaluate_at": [0, 6, 12]}
    whole = Line()
    wanted = fit(whole, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(Line(stop_at=stop), folder=tmp_path, **options)
    resumed = Line()
    assert fit(resumed, folder=tmp_path, **options) == wanted
    assert same(weights(resumed.module), weights(whole.module))
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == wanted
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "state.pt"]


def test_a_run_stopped_in_its_last_evaluation_still_gets_it(tmp_path: Path) -> None:
    def stopped(step: int) -> dict[str, float]:
        raise KeyboardInterrupt

    options = {"steps": 6, "save_every": 3, "folder": tmp_path, "evaluate_at": [6]}
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), evaluate=stopped, **options)
    log = fit(Line(), evaluate=lambda step: {"mIoU": 0.5}, **options)
    assert log[-1] == {"step": 6, "mIoU": 0.5} and len(log) == 7


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = Line()
    log = fit(first, steps=5, folder=tmp_path)
    again = Line(stop_at=0)
    assert fit(again, steps=5, folder=tmp_path) == log and same(weights(again.module), weights(first.module))


def test_a_loss_that_is_not_finite_stops_with_its_name_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"'rest' is nan at step 5.*lower the learning rate"):
        fit(Line(nan_at=5), steps=9, folder=tmp_path, save_every=2)
    assert read_state(tmp_path)["step"] == 4
    healthy = Line()
    assert len(fit(healthy, steps=9, folder=tmp_path, save_every=2)) == 9
    assert all(value.isfinite().all() for value in weights(healthy.module).values())


def test_a_full_disk_keeps_the_last_good_state(tmp_path: Path, full_disk: Callable) -> None:
    fit(Line(), steps=2, folder=tmp_path)
    before = (tmp_path / "state.pt").read_bytes()

    class Large(Line):
        def __init__(self) -> None:
            super().__init__()
            self.module.register_buffer("ballast", torch.zeros(100_000))

    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "state.pt.old").write_bytes(before)
    with pytest.raises(OSError, match=r"cannot write .*state\.pt"), full_disk():
        fit(Large(), steps=2, folder=tmp_path / "large")
    assert os.listdir(tmp_path / "large") == ["state.pt.old"]


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "task": "finetune",
        "name": "small",
        "clip": {"name": str(tiny_checkpoint)},
        "steps": 6,
        "data": {"name": "collage", "size": 32},
        "batch": 2,
        "optimizer": {"warmup": 2, "lr": 1.0e-3},
        "machine": {"dtype": "float32"},
        "evaluation": {"at": [0, 6], "scenes": 4},
    }


PRETRAIN = {
    "task": "pretrain",
    "name": "small",
    "model": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
    },
    "batch": 4,
    "warmup": 1,
    "dtype": "float32",
    "pool": 12,
    "local": 0.5,
    "stages": [
        {"steps": 3, "keep": 0.5},
        {"steps": 3, "keep": 1.0},
    ],
}


def test_two_fine_tunings_give_the_same_numbers_and_another_seed_others(recipe: dict) -> None:
    first, second, other = (train(recipe, progress=False, seed=seed) for seed in (0, 0, 1))
    assert first.log == second.log and same(weights(first.model), weights(second.model))
    assert first.log != other.log
    assert [record["step"] for record in first.evaluations()] == [0, 6]
    assert {"mIoU", "mIoU_unseen", "hIoU", "image_to_text", "margin_unseen", "cka_2"} <= first.evaluations()[
        -1
    ].keys()
    assert first.evaluations()[0]["cka_2"] == pytest.approx(1) and first.evaluations()[1]["cka_2"] < 1


def test_evaluating_does_not_change_the_training(recipe: dict) -> None:
    watched, alone = train(recipe, progress=False), train(recipe, progress=False, evaluation={"at": []})
    assert same(weights(watched.model), weights(alone.model))
    assert [record for record in watched.log if "total" in record] == alone.log


@pytest.mark.parametrize("task", ["finetune", "pretrain"])
def test_a_stopped_training_goes_on_bit_for_bit(recipe: dict, tmp_path: Path, task: str) -> None:
    what, kind = (recipe, FineTuning) if task == "finetune" else (PRETRAIN, Pretraining)
    whole = train(what, progress=False)
    resumed = stopped_and_gone_on(kind, 5, lambda: train(what, folder=tmp_path, progress=False, save_every=2))
    assert_same_run(resumed, whole)
    assert resumed.folder == tmp_path


def test_a_finished_training_is_read_and_not_repeated(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(recipe, folder=tmp_path, progress=False)
    monkeypatch.setattr(FineTuning, "loss", None)
    again = train(recipe, folder=tmp_path, progress=False)
    assert again.log == first.log and same(weights(again.model), weights(first.model))


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"optimizer": {"lr": 2.0e-3}}, {"tune": "qv"}, {"data": {"seen": ["cow"]}}]
)
def test_a_folder_of_another_recipe_is_refused(recipe: dict, tmp_path: Path, changes: dict) -> None:
    train(recipe, folder=tmp_path, progress=False, steps=1, evaluation={"at": []})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(ValueError, match="another recipe.*choose another folder"):
        train(recipe, folder=tmp_path, progress=False, **{"steps": 1, "evaluation": {"at": []}, **changes})
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_changes_hold_for_a_loaded_recipe_too(recipe: dict) -> None:
    loaded = load_recipe(recipe, steps=1, evaluation={"at": []})
    assert train(loaded, progress=False, seed=3).recipe.seed == 3


def test_a_run_can_be_evaluated_and_its_model_is_frozen(recipe: dict) -> None:
    run = train(recipe, progress=False)
    assert (
        isinstance(run, Run)
        and not run.model.training
        and not any(p.requires_grad for p in run.model.parameters())
    )
    held_out = Collage("val", 32, length=4)
    last = run.evaluations()[-1]
    assert evaluate(run, held_out).metrics == pytest.approx(
        {k: last[k] for k in ("pAcc", "mIoU", "mIoU_seen", "mIoU_unseen", "hIoU", "mIoU_stuff")}
    )


def test_the_model_that_was_loaded_is_not_the_one_that_is_trained(
    recipe: dict, tiny_checkpoint: Path
) -> None:
    before = tiny_checkpoint.read_bytes()
    train(recipe, progress=False)
    assert tiny_checkpoint.read_bytes() == before


def test_every_shipped_recipe_loads_and_is_listed() -> None:
    names = list_recipes()
    assert "mini/pretrain" in names and len(names) >= 2
    for name in names:
        loaded = load_recipe(name)
        assert isinstance(loaded, FineTuneRecipe | PretrainRecipe | PointsRecipe) and loaded.name


def test_a_recipe_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("task: finetune\nname: mine\nsteps: 3\noptimizer: {lr: 1.0e-5}\n")
    loaded = load_recipe(tmp_path / "r.yaml", steps=4)
    assert isinstance(loaded, FineTuneRecipe) and (loaded.name, loaded.steps, loaded.optimizer.lr) == (
        "mine",
        4,
        1e-5,
    )


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"'mini/plane'.*mini/pretrain"):
        load_recipe("mini/plane")


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"stepz": 3}, r"unknown key 'stepz'.*did you mean 'steps'"),
        ({"learning_rate_of_everything": 3}, "expected one of"),
        ({"steps": "many"}, "steps is 'many', a str; expected int"),
        ({"steps": 3.5}, "expected int"),
        ({"steps": True}, "expected int"),
        ({"optimizer": {"lr": "1e-4"}}, "1.0e-4"),
        ({"name": 7}, "name is 7"),
        ({"clip": None}, "clip is None"),
        ({"clip": {"name": None}}, "name is None"),
        ({"evaluation": {"at": 5}}, "at is 5"),
        ({"evaluation": {"at": ["0"]}}, "at is"),
        ({"segmentor": {"name": "zero_shot", "read_outs": 3}}, "read_outs"),
        ({"data": {"name": "collage", "seen": "cow"}}, "seen"),
        ({"machine": {"dtype": "float8"}}, "dtype is 'float8'"),
        ({"tune": "lora"}, "tune is 'lora'.*full"),
        ({"segmentor": {"name": "zero_shot", "read_outs": ["nothing"]}}, "unknown read-out 'nothing'"),
        ({"data": {"name": "collage", "seen": ["unicorn"]}}, "unicorn"),
        ({"evaluation": {"split": "validation"}}, "unknown split"),
        ({"evaluation": {"protocol": "catsig"}}, "unknown protocol 'catsig'; did you mean 'catseg'"),
        ({"clip": {"name": "ViT-B-61"}}, "unknown model"),
        ({"data": {"name": "colage"}}, "unknown data set 'colage'; did you mean 'collage'"),
        (
            {"data": {"name": "collage", "sise": 32}},
            "unknown key 'sise' in data set 'collage'; did you mean 'size'",
        ),
        ({"segmentor": {"name": "catsegg"}}, "unknown segmentor 'catsegg'; did you mean 'catseg'"),
        ({"objective": {"name": "k"}}, "unknown objective 'k'"),
    ],
)
def test_wrong_recipes_say_what_was_expected(recipe: dict, changes: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        train({**recipe, "steps": 1, "evaluation": {"at": []}, **changes}, progress=False)


def test_one_read_out_may_be_written_without_brackets(recipe: dict) -> None:
    """`read_outs: cls_value` in YAML is a word and no list."""
    segmentor = {"name": "zero_shot", "read_outs": "cls_value"}
    run = train({**recipe, "segmentor": segmentor, "evaluation": {"at": [0, 6], "scenes": 1}}, progress=False)
    assert run.model.read_outs == ("cls_value",) and len(run.evaluations()) == 2


@pytest.mark.parametrize("key", ["name", "steps"])
def test_missing_keys_are_named(recipe: dict, key: str) -> None:
    recipe.pop(key)
    with pytest.raises(ValueError, match=f"lacks {key}"):
        load_recipe(recipe)


@pytest.mark.parametrize("task", [None, "fine-tune", 3])
def test_an_unknown_task_names_those_there_are(recipe: dict, task: object) -> None:
    with pytest.raises(ValueError, match="expected task: finetune or pretrain"):
        load_recipe({**recipe, "task": task})


@pytest.mark.parametrize("text", ["", "just a sentence", "- a\n- list", "task: [unclosed", "a: b: c"])
def test_files_that_hold_no_recipe_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 (YAML's own words, or ours)
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("stage", "hint"),
    [({"stepz": 3}, "stepz"), ({"steps": 3}, "size|keep|lacks|missing")],
    ids=["unknown key", "missing keys"],
)
def test_wrong_stages_say_what_was_expected(stage: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        train({**PRETRAIN, "stages": [stage]}, progress=False)


def test_autocast_is_never_open_across_steps(recipe: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast keeps copies of weights while it is open: opened once around the loop it would train on those
    of step 0.
    """
    loss, seen = FineTuning.loss, []

    def watched(self: FineTuning, step: int, batch: tuple) -> dict:
        seen.append(torch.is_autocast_enabled("cpu"))
        return loss(self, step, batch)

    monkeypatch.setattr(FineTuning, "loss", watched)
    train({**recipe, "machine": {"dtype": "bfloat16"}, "steps": 2, "evaluation": {"at": []}}, progress=False)
    assert seen == [False, False]


# Heads, starts, objectives and interpolation.


@pytest.fixture(scope="session")
def deep_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[..., DenseCLIP], tiny_config: dict
) -> Path:
    """Of four blocks: enough for a cost-aggregation head of size "mini"."""
    path = tmp_path_factory.mktemp("checkpoint") / "deep.safetensors"
    model = {**tiny_config["model"], "vision_cfg": {**tiny_config["model"]["vision_cfg"], "layers": 4}}
    save_clip(make_tiny(layers=4), path, {**tiny_config, "model": model})
    return path


@pytest.fixture
def head(recipe: dict, deep_checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe whose head alone is trained, and which is also in a file."""
    head = {**recipe, "name": "head", "clip": {"name": str(deep_checkpoint)}, "tune": "none", "steps": 3}
    head |= {"segmentor": {"name": "catseg", "read_out": "cls_value"}, "evaluation": {"at": [], "scenes": 1}}
    head |= {"data": {"name": "collage", "size": 32, "seen": ["bird", "chair"]}}
    (tmp_path / "head.yaml").write_text(yaml.safe_dump(head))
    return head


@pytest.fixture
def second(head: dict, tmp_path: Path) -> dict[str, Any]:
    """The fine-tuning that begins where `head` ends."""
    return {**head, "name": "second", "tune": "qv", "start": str(tmp_path / "head.yaml")}


def begin_only(task: FineTuning, **options: Any) -> list:
    """In place of `fit`: trains heads, and leaves other tasks at their first weights."""
    return fit(task, **options) if task.tune == "none" else []


def test_a_run_begins_with_the_weights_of_its_start(
    head: dict, second: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, after = (
        weights(train(head, progress=False, seed=3).model),
        weights(train(second, progress=False, seed=3).model),
    )
    moved = {key for key in after if not torch.equal(after[key], trained[key])}
    assert any("in_proj" in key for key in moved) and any(key.startswith("aggregator.") for key in moved)
    monkeypatch.setattr(training, "fit", begin_only)
    assert same(weights(train(second, progress=False, seed=3).model), trained), "the start of the same seed"
    assert not same(weights(train({**second, "start": None}, progress=False, seed=3).model), trained)


def test_a_start_at_hand_gives_the_same_as_one_that_is_trained(
    head: dict, second: dict, tmp_path: Path
) -> None:
    own = train(second, folder=tmp_path / "run", progress=False)
    given = train(second, progress=False, start=train(head, progress=False))
    assert own.log == given.log and same(weights(own.model), weights(given.model))
    assert (tmp_path / "run" / "start" / "state.pt").exists(), (
        "kept, so that a stopped run need not train it again"
    )


def test_a_stopped_run_with_a_start_goes_on_bit_for_bit(second: dict, tmp_path: Path) -> None:
    whole = train(second, progress=False)
    resumed = stopped_and_gone_on(
        FineTuning,
        2,
        lambda: train(second, folder=tmp_path / "run", progress=False, save_every=1),
        where=lambda task: task.tune == "qv",
    )
    assert_same_run(resumed, whole)


def test_a_start_of_another_architecture_is_refused(recipe: dict, second: dict) -> None:
    plain = train(recipe, progress=False, steps=1, evaluation={"at": []})
    with pytest.raises(ValueError, match="another architecture than 'second'"):
        train(second, progress=False, start=plain)


def test_a_start_that_does_not_exist_is_told(second: dict) -> None:
    with pytest.raises(FileNotFoundError, match="no recipe 'mini/nothing'"):
        train({**second, "start": "mini/nothing"}, progress=False)


def test_the_teacher_is_the_pretrained_model_and_not_the_start(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers: list[Weights] = []
    loss = FineTuning.loss

    def watched(self: FineTuning, step: int, batch: Any) -> dict[str, Tensor]:
        if self.teacher is not None:
            teachers.append(weights(self.teacher))
        return loss(self, step, batch)

    monkeypatch.setattr(FineTuning, "loss", watched)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({**recipe, "evaluation": {"at": []}}))
    options = {"start": str(tmp_path / "plain.yaml"), "objective": {"name": "kl"}, "evaluation": {"at": []}}
    run = train({**recipe, **options}, progress=False)
    pretrained = weights(load_clip(recipe["clip"]["name"]))
    assert len(teachers) == 6 and all(same(teacher, pretrained) for teacher in teachers)
    assert run.log[0]["kl"] > 1e-6, "the start has moved away from it"


def test_the_result_has_no_trace_of_teacher_or_lpam(second: dict) -> None:
    plain = train({**second, "start": None}, progress=False, steps=1)
    held = train(
        {**second, "start": None}, progress=False, steps=1, objective={"name": "infoclip", "axis": "pixel"}
    )
    assert {"task", "compression", "transfer"} <= held.log[0].keys()
    assert weights(held.model).keys() == weights(plain.model).keys() and isinstance(
        held.model, CostAggregationSegmentor
    )
    assert not any(
        word in name for name, _ in held.model.named_modules() for word in ("lpam", "teacher", "objective")
    )
    assert not held.model._forward_hooks and not any(m._forward_hooks for m in held.model.modules())


def test_an_objective_does_not_change_what_the_training_begins_with(second: dict) -> None:
    """Runs of one seed are paired: the same first weights, the same scenes."""
    plain = train({**second, "start": None}, progress=False, steps=1)
    held = train(
        {**second, "start": None}, progress=False, steps=1, objective={"name": "infoclip", "axis": "pixel"}
    )
    assert held.log[0]["task"] == pytest.approx(plain.log[0]["total"], abs=1e-6)


@pytest.mark.parametrize("objective", [{"name": "infoclip", "axis": "pixel"}, {"name": "l2sp"}])
def test_a_stopped_training_with_an_objective_goes_on_bit_for_bit(
    recipe: dict, tmp_path: Path, objective: dict
) -> None:
    what = {**recipe, "objective": objective, "evaluation": {"at": [], "scenes": 1}, "steps": 4}
    whole = train(what, progress=False)
    resumed = stopped_and_gone_on(
        FineTuning, 3, lambda: train(what, folder=tmp_path, progress=False, save_every=2)
    )
    assert_same_run(resumed, whole)


def test_interpolation_goes_part_of_the_way_back_and_leaves_the_head(second: dict) -> None:
    tuned, half, none = (
        weights(train({**second, "start": None}, progress=False, interpolate=share).model)
        for share in (1.0, 0.5, 0.0)
    )
    start = {f"clip.{key}": value for key, value in weights(load_clip(second["clip"]["name"])).items()}
    for key, value in tuned.items():
        if key in start:
            assert torch.equal(none[key], start[key]) and torch.allclose(
                half[key], (value + start[key]) / 2, atol=1e-7
            )
        else:
            assert torch.equal(half[key], value) and torch.equal(none[key], value)
    assert any(not torch.equal(tuned[key], start[key]) for key in start)


def test_a_finished_interpolation_is_read_and_not_repeated(recipe: dict, tmp_path: Path) -> None:
    what = {**recipe, "interpolate": 0.5, "evaluation": {"at": []}}
    first, again = (train(what, folder=tmp_path, progress=False) for _ in range(2))
    assert same(weights(first.model), weights(again.model))


def test_a_head_takes_one_read_out(head: dict) -> None:
    with pytest.raises(ValueError, match=r"unknown read-out \['cls_value', 'sclip'\]"):
        train({**head, "segmentor": {"name": "catseg", "read_out": ["cls_value", "sclip"]}}, progress=False)


def test_the_first_weights_of_a_head_are_those_of_the_seed(
    head: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_recipe(head)
    built = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        built.append(weights(build_segmentor(loaded)))
    assert same(built[0], built[1]) and not same(built[0], built[2])
    monkeypatch.setattr(training, "fit", lambda task, **options: [])
    assert same(weights(train(head, progress=False, seed=1).model), built[2])


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"segmentor": {"name": "catseg", "size": "huge"}}, "unknown size 'huge'"),
        ({"loss": {"name": "dice"}}, "unknown loss 'dice'; expected one of cross_entropy, bce"),
        ({"loss": {"name": "bce", "ignored": "drop"}}, "ignored is 'drop'; expected 'skip' or 'zero'"),
        (
            {"loss": {"name": "cross_entropy", "ignored": "zero"}},
            "unknown key 'ignored' in loss 'cross_entropy'",
        ),
        ({"objective": "kl"}, "objective is 'kl'"),
    ],
)
def test_unknown_words_of_a_recipe_are_refused(recipe: dict, changes: dict, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        train({**recipe, **changes}, progress=False)


def test_an_objective_of_the_paper_refuses_a_batch_of_one(recipe: dict) -> None:
    with pytest.raises(ValueError, match='axis="batch" has 1 sample.*axis="pixel"'):
        train(
            {**recipe, "batch": 1, "evaluation": {"at": []}, "objective": {"name": "infoclip"}},
            progress=False,
        )


TUNED = [name for name in list_recipes() if isinstance(load_recipe(name), FineTuneRecipe)]
PAPER = sorted(
    name for name in TUNED if name.startswith("paper/") and load_recipe(name).segmentor["name"] == "catseg"
)


@pytest.mark.parametrize("name", PAPER)
def test_paper_recipes_have_the_papers_setting(name: str) -> None:
    """Line by line: AdamW 2e-4 (decoder, LPAM) and 2e-6 (CLIP), decay 1e-4, batch 4, 80k iterations, norm
    clipped at 0.01, crop 384.
    """
    r = load_recipe(name)
    assert isinstance(r, FineTuneRecipe)
    assert r.optimizer == OptimizerSection(2e-6, 2e-4, 1e-4, 0.01, 0) and (r.batch, r.steps) == (4, 80_000)
    assert (r.segmentor["name"], r.segmentor["read_out"]) == ("catseg", "cls_value")
    assert r.loss == {"name": "bce", "ignored": "zero"} and r.data["name"] == "coco_stuff"
    assert (r.prompt, r.start, r.clip.pretrained) == ("A photo of a {} in the scene", None, "openai")
    sizes = {
        "vitb16": ("vit_b", "ViT-B-16-quickgelu", None),
        "vitl14": ("vit_l", "ViT-L-14-336-quickgelu", 336),
    }
    shown = (r.segmentor["size"], r.clip.name, r.segmentor.get("side"))
    assert shown == sizes[name.rpartition("-")[2]], "24 x 24 patches in both"
    assert r.data["size"] == 384
    assert r.tune == ("none" if "frozen" in name else "qv") and r.interpolate == (
        0.5 if "wise" in name else 1
    )
    assert name == f"paper/{r.name}"


def test_paper_recipes_name_their_objectives() -> None:
    objectives = {name.removeprefix("paper/"): load_recipe(name).objective for name in PAPER}
    paper = {
        "name": "infoclip",
        "axis": "batch",
        "alpha": 2.0,
        "residual": "layernorm",
        "compression": 1.0,
        "transfer": 1.0,
    }
    assert objectives["infoclip-vitb16"] == objectives["infoclip-vitl14"] == paper
    assert {objectives[f"{name}-vitb16"]["name"] for name in ("kl", "feature", "pooled", "l2sp")} == {
        "kl",
        "feature",
        "pooled",
        "l2sp",
    }
    assert [
        objectives[name] for name in ("catseg-vitb16", "catseg-vitl14", "frozen-vitb16", "wise-vitb16")
    ] == [None] * 4


@pytest.mark.parametrize("name", TUNED)
def test_objectives_and_starts_of_shipped_recipes_can_be_built(
    name: str, make_tiny: Callable[..., DenseCLIP]
) -> None:
    loaded, clip = load_recipe(name), make_tiny()
    if loaded.objective is not None:
        build_objective(loaded.objective, clip, clip)
    if loaded.start is not None:
        start = load_recipe(loaded.start)
        common = ("clip", "segmentor", "data", "prompt")
        assert [getattr(loaded, key) for key in common] == [getattr(start, key) for key in common]


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_that_cannot_be_is_refused_before_training(
    recipe: dict, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "fit", lambda *a, **k: pytest.fail("it was trained"))
    with pytest.raises(ValueError, match=r"interpolate is .*; expected 0"):
        train({**recipe, "interpolate": share}, progress=False)


def test_the_reference_is_the_very_model_that_fine_tuning_began_with(
    recipe: dict, make_tiny: Callable[..., DenseCLIP], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of random weights, loaded twice, is two models."""
    seeds = iter(range(9))
    monkeypatch.setattr(build, "load_clip", lambda *_: make_tiny(seed=next(seeds)))
    run = train({**recipe, "steps": 1, "interpolate": 0.0}, progress=False)
    assert same(weights(run.model.clip), weights(run.reference))
