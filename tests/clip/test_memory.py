"""A frozen teacher that remembers: trainings side by side learn the same, and it looks once."""

from __future__ import annotations

import pytest
import torch

from infoclip_lite import DenseCLIP, Run, train
from infoclip_lite.clip.memory import remembered_features


def tuned(objective: str = "cka", **changes: object) -> Run:
    quick = {"steps": 2, "batch": 2, "evaluation": {"at": []}, "machine": {"dtype": "bfloat16"}}
    return train("mini/map", objective={"name": objective}, progress=False, **{**quick, **changes})


def teacher_looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """From now on, for every look at patches: whether it was without a gradient, as a teacher's."""
    looks: list[bool] = []
    tower = DenseCLIP.encode_dense

    def counted(clip: DenseCLIP, *inputs: object) -> torch.Tensor:
        looks.append(not torch.is_grad_enabled())
        return tower(clip, *inputs)

    monkeypatch.setattr(DenseCLIP, "encode_dense", counted)
    return looks


def test_a_teacher_that_remembers_looks_once_and_teaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {name: tuned(name) for name in ("cka", "feature")}
    looks = teacher_looks(monkeypatch)
    with remembered_features():
        beside = {name: tuned(name) for name in ("cka", "feature")}
    assert sum(looks) == 2, "a look a step, of whichever training asks first"
    for name, run in alone.items():
        assert [r["total"] for r in run.log] == [r["total"] for r in beside[name].log]
        for key, value in run.model.state_dict().items():
            assert torch.equal(value, beside[name].model.state_dict()[key]), key


def test_other_pictures_and_another_read_out_are_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = teacher_looks(monkeypatch)
    with remembered_features():
        tuned()
        tuned(seed=1)
        tuned(segmentor={"name": "zero_shot", "read_outs": ["sclip"]})
    assert sum(looks) == 6


def test_another_number_format_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = teacher_looks(monkeypatch)
    with remembered_features():
        tuned()
        tuned(machine={"dtype": "float32"})
    assert sum(looks) == 4
