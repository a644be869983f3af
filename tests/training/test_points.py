"""Training on points: what is learnt from and what never, bad scenes, and runs that are stopped and go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clouds import COUNT, VIEWS, Changed, write_pack
from resume import moved, same, stopped_and_gone_on, weights

from infoclip_lite import DenseCLIP, train
from infoclip_lite.commands.train import train_command
from infoclip_lite.core.labels import NO_LABEL
from infoclip_lite.datasets.points import Points, PointScene
from infoclip_lite.training import points as training
from infoclip_lite.training.points import PointTraining, augmented, prepare, thinned, train_points
from infoclip_lite.training.recipe import PointsRecipe, load_recipe

ONLY_LABELS = {"local_alignment": 0.0, "global_alignment": 0.0, "pseudo_labels": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Points:
    return Points("train", folder=write_pack(tmp_path_factory.mktemp("points")))


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "task": "points",
        "name": "small",
        "steps": 4,
        "batch": 2,
        "clip": {"name": str(tiny_checkpoint)},
        "encoder": {"width": 8, "neighbours": 4},
        "optimizer": {"lr": 1.0e-2, "warmup": 1},
    }


def task_of(data: Points, clip: DenseCLIP, **changes: Any) -> PointTraining:
    recipe = PointsRecipe("small", 4, batch=2, encoder={"width": 8, "neighbours": 4}, **changes)
    return PointTraining(recipe, prepare(data, clip))


def relabelled(scene: PointScene) -> torch.Tensor:
    """Unseen classes (2 and 3) exchanged: whoever never looks at them sees no difference."""
    return scene.labels.where(scene.labels < 2, 5 - scene.labels).where(scene.labels < 4, scene.labels)


def test_labels_of_unseen_classes_are_never_looked_at(recipe: dict, data: Points) -> None:
    other = Changed(data, labels=relabelled)
    assert any(not torch.equal(other[i].labels, data[i].labels) for i in range(len(data)))
    first, second = (train_points(recipe, data=each, progress=False) for each in (data, other))
    assert first.log == second.log and same(weights(first.model), weights(second.model))


def test_without_pseudo_labels_unseen_words_do_not_compete(data: Points, tiny: DenseCLIP) -> None:
    task = task_of(data, tiny, **ONLY_LABELS)
    before = task.loss(0, (0, 1))["total"]
    task.text = task.text.clone()
    task.text[list(data.unseen)] = task.text[list(data.unseen)].flip(1)
    assert torch.equal(task.loss(0, (0, 1))["total"], before)
    with_them = task_of(data, tiny)
    before = with_them.loss(0, (0, 1))["labels"]
    with_them.text = task.text
    assert not torch.equal(with_them.loss(0, (0, 1))["labels"], before)


def test_the_total_is_the_weighted_sum_and_what_weighs_nothing_is_not_computed(
    data: Points, tiny: DenseCLIP
) -> None:
    terms = task_of(data, tiny, labels=0.5, local_alignment=2.0, global_alignment=0.3).loss(0, (0, 1))
    expected = 0.5 * terms["labels"] + 2 * terms["local"] + 0.3 * terms["global"] + terms["pseudo"]
    assert terms["total"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(task_of(data, tiny, **ONLY_LABELS).loss(0, (0, 1))) == {"labels", "total"}


def test_a_lesson_has_labels_of_seen_classes_and_pseudo_labels_of_the_rest(
    data: Points, tiny: DenseCLIP
) -> None:
    own, truth = prepare(data, tiny).scenes[0], data[0].labels
    unseen = (truth == 2) | (truth == 3)
    assert torch.equal(own.labels, truth.where(~unseen, NO_LABEL))
    assert set(own.pseudo[unseen].tolist()) <= {2, 3} and (own.pseudo[~unseen] == NO_LABEL).all()


def test_clip_stays_as_it_is_and_the_encoder_learns(
    recipe: dict, data: Points, tiny_checkpoint: Path
) -> None:
    before = tiny_checkpoint.read_bytes()
    run = train_points(recipe, data=data, progress=False)
    assert tiny_checkpoint.read_bytes() == before
    begun = PointTraining(run.recipe, prepare(data, _clip(tiny_checkpoint))).module
    assert moved(begun, weights(run.model)) == {name for name, _ in begun.named_parameters()}


def _clip(path: Path) -> DenseCLIP:
    from infoclip_lite import load_clip

    return load_clip(str(path)).requires_grad_(False)


def test_a_stopped_run_goes_on_to_the_same_bits(recipe: dict, data: Points, tmp_path: Path) -> None:
    whole = train_points(recipe, data=data, progress=False)

    def run() -> Any:
        return train_points(recipe, data=data, folder=tmp_path, progress=False, save_every=1)

    resumed = stopped_and_gone_on(PointTraining, 2, run)
    assert resumed.log == whole.log and same(weights(resumed.model), weights(whole.model))


def test_a_folder_of_another_recipe_or_other_scenes_is_refused(
    recipe: dict, data: Points, tmp_path: Path
) -> None:
    train_points(recipe, data=data, folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train_points(recipe, data=data, folder=tmp_path, progress=False, seed=1)
    short = Points("train", folder=data.folder, length=2)
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train_points(recipe, data=short, folder=tmp_path, progress=False)


def test_a_step_has_the_same_scenes_wherever_a_run_begins_and_every_epoch_all(
    data: Points, tiny: DenseCLIP
) -> None:
    task = task_of(data, tiny)
    whole = list(task.batches(0, 6))
    assert whole[3:] == list(task.batches(3, 6))
    assert sorted(whole[0] + whole[1]) == sorted(whole[2] + whole[3]) == [0, 1, 2, 3]


def test_turned_clouds_keep_their_heights_and_shapes() -> None:
    points, colours = torch.rand(9, 3), torch.rand(9, 3)
    other, tinted = augmented(points, colours, torch.Generator().manual_seed(0))
    again, _ = augmented(points, colours, torch.Generator().manual_seed(0))
    assert torch.equal(other, again) and not torch.allclose(other, points)
    scale = other[:, 1] / points[:, 1]
    assert torch.allclose(scale, scale[:1].expand(9), atol=1e-5) and 0.9 <= scale[0] <= 1.1
    assert torch.allclose(torch.cdist(other, other), scale[0] * torch.cdist(points, points), atol=1e-4)
    assert tinted.min() >= 0 and tinted.max() <= 1


def test_a_thinned_lesson_keeps_what_belongs_together(data: Points, tiny: DenseCLIP) -> None:
    own = prepare(data, tiny).scenes[0]
    sizes = set()
    for seed in range(20):
        part = thinned(own, torch.Generator().manual_seed(seed))
        places = [own.points.tolist().index(point) for point in part.points.tolist()]
        assert len(set(places)) == len(places) and torch.equal(part.labels, own.labels[places])
        assert torch.equal(part.visible, own.visible[:, places])
        assert torch.equal(part.pictures, own.pictures[places]) and torch.equal(part.image, own.image)
        sizes.add(len(places))
    assert min(sizes) >= COUNT // 4 and max(sizes) <= COUNT and len(sizes) > 5


# Bad scenes


def test_scenes_without_a_labelled_point_or_a_camera_that_sees_are_learnt_from_all_the_same(
    recipe: dict, data: Points
) -> None:
    parts = {
        "labels": torch.full((COUNT,), data.ignore),
        "visible": torch.zeros(VIEWS, COUNT, dtype=torch.bool),
    }
    log = train_points(recipe, data=Changed(data, **parts), progress=False).log
    assert all(record["total"] == record["labels"] == record["local"] == 0 for record in log)
    assert all("global" not in record for record in log)


def test_the_label_that_does_not_count_is_the_data_sets_own(recipe: dict, data: Points) -> None:
    changed = Changed(data, labels=torch.full((COUNT,), -1))
    changed.ignore = -1
    log = train_points(recipe, data=changed, progress=False).log
    assert all(record["labels"] == 0 for record in log)


def test_a_cloud_of_one_point_is_learnt_from(recipe: dict, data: Points) -> None:
    alone = Changed(
        data,
        points=lambda scene: scene.points[:1],
        colours=lambda scene: scene.colours[:1],
        labels=lambda scene: scene.labels[:1],
        pixels=lambda scene: scene.pixels[:, :1],
        visible=lambda scene: scene.visible[:, :1],
    )
    assert len(train_points(recipe, data=alone, progress=False).log) == 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"points": torch.full((COUNT, 3), float("nan"))},
            "scene 0 of 'train': got 40 of 40 points with NaN",
        ),
        ({"labels": torch.full((COUNT,), 17)}, "scene 0 of 'train': got labels 17; expected 0 .. 4"),
    ],
)
def test_a_scene_that_is_none_is_named(recipe: dict, data: Points, parts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_points(recipe, data=Changed(data, **parts), progress=False)


def test_a_data_set_of_unseen_classes_alone_is_refused(recipe: dict, data: Points) -> None:
    other = Changed(data)
    other.unseen = tuple(range(5))
    with pytest.raises(ValueError, match="all 5 classes are unseen"):
        train_points(recipe, data=other, progress=False)


# Recipes and commands


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_alignment": -1.0}, "got weights .*expected none below 0"),
        ({**ONLY_LABELS, "labels": 0.0}, "and one above it"),
        ({"batch": 1}, "batch is 1 and global_alignment 1.0; expected at least 2"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"encoder": {"widht": 8}}, "unknown key 'widht' in the point encoder; did you mean 'width'"),
        ({"pseudo": 1.0}, "unknown key 'pseudo'.*did you mean 'pseudo_labels'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(recipe: dict, data: Points, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_points({**recipe, **changes}, data=data, progress=False)


def test_tasks_do_not_take_each_others_recipes() -> None:
    with pytest.raises(ValueError, match="'points' is a recipe for points; .*train_points"):
        train("mini/points")
    with pytest.raises(ValueError, match="'plain' is no recipe for points; expected one with task: points"):
        train_points("mini/plain")


def test_the_shipped_recipe_has_all_four_terms() -> None:
    recipe = load_recipe("mini/points")
    assert isinstance(recipe, PointsRecipe)
    terms = (recipe.labels, recipe.local_alignment, recipe.global_alignment, recipe.pseudo_labels)
    assert min(terms) > 0 and recipe.clip.name == "collage-mini"


def test_the_command_trains_points(
    recipe: dict, data: Points, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import yaml

    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(training, "build_clouds", lambda section, split: data)
    train_command(str(path), folder=tmp_path / "run")
    assert (tmp_path / "run" / "state.pt").exists() and "run: " in capsys.readouterr().out
