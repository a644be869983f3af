"""Instances drawn again: each noun among its own, the same ones for every run, and nothing else changes."""

from __future__ import annotations

import pytest

from infoclip_lite import train
from infoclip_lite.datasets import held_out_data
from infoclip_lite.evaluation import evaluate
from infoclip_lite.studies import redrawn as drawn_again
from infoclip_lite.studies.redrawn import _times, draws_of, redrawn, things_of
from infoclip_lite.training.run import Run

SCENES = 12


@pytest.fixture(scope="module")
def run() -> Run:
    # As `evaluate` multiplies where nothing else is asked for.
    return train("mini/map", steps=1, evaluation={"at": []}, machine={"dtype": "float32"}, progress=False)


def test_drawn_once_each_the_score_is_the_evaluations(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def each_once(split: str, things: set, draws: int) -> list[dict]:
        return [dict.fromkeys(things, 1)] * draws

    monkeypatch.setattr(drawn_again, "draws_of", each_once)
    data = held_out_data(run.recipe.data, "test", length=SCENES)
    whole = evaluate(run, data).metrics["hIoU"]
    assert redrawn(run, scenes=SCENES, draws=2) == pytest.approx([whole, whole], abs=1e-5)


def test_other_instances_give_other_scores_and_the_same_ones_every_time(run: Run) -> None:
    first, second = (redrawn(run, scenes=SCENES, draws=5) for _ in range(2))
    assert first == second and len(set(first)) > 1


def test_as_many_of_a_noun_are_drawn_as_it_has() -> None:
    things = [("cup", 0), ("cup", 1), ("cup", 4), ("dog", 0)]
    for weights in draws_of("test", things, 50):
        assert sum(weights[thing] for thing in things[:3]) == 3 and weights[("dog", 0)] == 1
    assert len({tuple(w[t] for t in things) for w in draws_of("test", things, 50)}) > 3
    assert draws_of("test", things, 3) == draws_of("test", things[::-1], 3)


def test_two_things_of_one_noun_share_its_pixels_and_stuff_counts_once() -> None:
    weights = {("cup", 0): 2, ("cup", 1): 1, ("dog", 0): 0}
    times = _times(list(weights), weights, ["dog", "grass", "cup"])
    assert (times / drawn_again._SHARES).tolist() == [0, 1, 1.5]


def test_a_scene_tells_its_things_by_the_files_that_it_is_pasted_from() -> None:
    data = held_out_data({"name": "collage"}, "test", length=20)
    for index in range(20):
        things = things_of(data.sources(index))
        shown = {data.names[i] for i in data[index].mask.unique()}
        assert shown - {data.names[i] for i in data.class_groups["stuff"]} <= {noun for noun, _ in things}
        assert len(things) == len(set(things))


def test_pictures_without_instances_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_again, "held_out_data", lambda section, split, length: object())
    with pytest.raises(ValueError, match="got the run of 'map'; expected fine-tuning on Collage"):
        redrawn(run, scenes=2)
