"""The paper's recipe of points: its settings, dry runs, and steps on a made folder of RGB-D frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from resume import moved, same, stopped_and_gone_on, weights
from scans import write_scannet, write_scans

from infoclip_lite import DenseCLIP
from infoclip_lite.commands.train import train_command
from infoclip_lite.datasets.points import CLOUDS, Scans, build_clouds
from infoclip_lite.datasets.points.scans import SCANNET_UNSEEN
from infoclip_lite.evaluation.points import count_points
from infoclip_lite.training import dry_run as module
from infoclip_lite.training import points as training
from infoclip_lite.training.dry_run import Estimate, dry_run
from infoclip_lite.training.points import Looks, PointTraining, prepare, train_points
from infoclip_lite.training.recipe import OptimizerSection, PointsRecipe, list_recipes, load_recipe
from infoclip_lite.training.stand_in import point_stand_in

NAME = "paper/points-scannet"
# Sizes that a test can afford, under what the recipe says.
SMALL: dict[str, Any] = {"batch": 2, "encoder": {"width": 8}, "data": {"frames": 2, "points": 30, "size": 32}}


def recipe_of(**changes: Any) -> PointsRecipe:
    loaded = load_recipe(NAME, **changes)
    assert isinstance(loaded, PointsRecipe)
    return loaded


@pytest.fixture
def random_clip(make_tiny: Callable[..., DenseCLIP], monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A random CLIP of twelve blocks in place of the recipe's; what was asked for."""
    asked: list[tuple] = []

    def load(*which: object) -> DenseCLIP:
        asked.append(which)
        return make_tiny(layers=12)

    monkeypatch.setattr(training, "load_clip", load)
    return asked


@pytest.fixture(scope="module")
def scannet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scannet(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own(tmp_path: Path) -> dict[str, Any]:
    """Changes of the recipe for a folder of one's own, and few steps."""
    root = str(write_scans(tmp_path / "rooms"))
    data = {"name": "scans", "root": root, "unseen": ["lamp"], "frames": 2, "size": 32}
    return {**SMALL, "data": data, "steps": 3, "optimizer": {"lr": 1e-2, "warmup": 1}}


def test_the_recipe_says_what_the_mechanism_is_and_how_long_it_takes() -> None:
    recipe = recipe_of()
    assert recipe.clip.name == "ViT-B-16-quickgelu" and recipe.clip.pretrained == "openai"
    assert (recipe.labels, recipe.local_alignment, recipe.global_alignment, recipe.pseudo_labels) == (1,) * 4
    assert recipe.batch * recipe.steps == pytest.approx(100 * 1201, rel=1e-2), "epochs"
    assert recipe.optimizer == OptimizerSection(1e-3, None, 1e-2, 1.0, 150)
    assert recipe.data["name"] == "scannet" and f"paper/{recipe.name}" == NAME


def test_points_have_a_mini_and_a_paper_recipe_with_all_four_terms() -> None:
    every = {name: load_recipe(name) for name in list_recipes()}
    own = {name: r for name, r in every.items() if isinstance(r, PointsRecipe)}
    assert [name.split("/")[0] for name in own] == ["mini", "paper"]
    for r in own.values():
        assert min(r.labels, r.local_alignment, r.global_alignment, r.pseudo_labels) > 0


@pytest.mark.parametrize("noise", [False, True])
def test_a_dry_run_does_one_of_everything_and_keeps_nothing(
    noise: bool,
    scannet: Path,
    random_clip: list[tuple],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "seconds_of", lambda read: read() and 1.5)
    root = tmp_path / "nowhere" if noise else scannet
    small = {**SMALL, "data": {**SMALL["data"], "root": str(root)}}
    found = dry_run(NAME, noise=noise, folder=tmp_path / "run", **small)
    assert (found.steps, found.saves, found.picture) == (15_000, 76, None)
    # The encoder learns, CLIP does not: it is kept beside it.
    assert 0 < found.trained == found.parameters < found.reference and found.step > 0
    assert random_clip == [("ViT-B-16-quickgelu", None if noise else "openai")]
    assert ("measured on" in str(found)) == noise and list(tmp_path.iterdir()) == []
    assert found.waiting == 1.5, "a batch of scenes"
    assert noise or "of a step: fewer `frames`" in str(found)


def test_scenes_that_are_read_apart_were_not_read_by_a_step(
    scannet: Path, random_clip: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    own = Scans.__getitem__
    monkeypatch.setattr(Scans, "__getitem__", lambda self, index: read.append(index) or own(self, index))
    monkeypatch.setattr(module, "_steps_taken", lambda steps: 2)
    one = {**SMALL, "batch": 1, "global_alignment": 0.0, "data": {**SMALL["data"], "root": str(scannet)}}
    dry_run(NAME, **one)
    assert sorted(read) == [0, 1, 2]


def test_what_helps_a_starved_training_is_what_it_has() -> None:
    one = Estimate("CPU", 9, 9, 0.5, 0.4, None, 9, 1.0, 9, steps=1, pictures=0, saves=1)
    assert "80% of a step: raise `machine.workers`" in str(one)
    assert "80% of a step: fewer `frames`" in str(replace(one, remedy="fewer `frames`"))


def test_noise_is_for_scans_whose_size_is_said() -> None:
    with pytest.raises(ValueError, match="got noise for 'points', of data .*what ships needs no noise"):
        dry_run("mini/points", noise=True)
    with pytest.raises(ValueError, match="and a number of points"):
        dry_run(NAME, noise=True, data={"points": None})
    unknown = "in data set of points 'scannet'; did you mean 'frames'"
    with pytest.raises(ValueError, match=f"unknown key 'frame' {unknown}"):
        dry_run(NAME, noise=True, data={"frame": 2})
    with pytest.raises(ValueError, match="got frames=0, points=many and size=336; expected at least 1"):
        dry_run(NAME, noise=True, data={"frames": 0, "points": "many"})
    with pytest.raises(ValueError, match="expected scans in files"):
        dry_run(NAME, noise=True, data={"name": "scan"})


def test_noise_takes_the_options_that_the_scans_have(monkeypatch: pytest.MonkeyPatch) -> None:
    def tinted(split: str, *, frames: int, points: int, size: int, tint: float) -> None:
        """Scans with an option more; noise asks for its signature alone."""

    changed = recipe_of(data={"tint": 0.5})
    with pytest.raises(ValueError, match="unknown key 'tint' in data set of points 'scannet'"):
        point_stand_in(changed)
    monkeypatch.setitem(CLOUDS, "scannet", tinted)
    assert len(point_stand_in(changed)[1]) == 100


def test_a_missing_data_set_is_said_before_any_weights_are_fetched(
    random_clip: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOCLIP_LITE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="scannetv2_train.txt"):
        train_points(NAME, progress=False)
    assert random_clip == []


def test_one_step_on_scannets_files_moves_the_encoder(scannet: Path, random_clip: list[tuple]) -> None:
    small = {**SMALL, "data": {**SMALL["data"], "root": str(scannet)}}
    run = train_points(NAME, progress=False, steps=1, **small)
    assert len(run.text) == 20, "ScanNet's words"
    assert set(run.log[0]) == {"step", "labels", "local", "global", "pseudo", "total"}
    assert run.log[0]["total"] == pytest.approx(
        sum(run.log[0][term] for term in ("labels", "local", "global", "pseudo")), rel=1e-5
    )
    data = build_clouds(run.recipe.data, "train")
    begun = PointTraining(run.recipe, prepare(data, training.load_clip())).module
    assert moved(begun, weights(run.model))


def test_it_is_measured_on_what_was_not_learnt_from(scannet: Path, random_clip: list[tuple]) -> None:
    small = {**SMALL, "data": {**SMALL["data"], "root": str(scannet)}}
    run = train_points(NAME, progress=False, steps=1, **small)
    data = build_clouds(run.recipe.data, "val")
    assert data.split == "val" and {data.names[i] for i in data.unseen} == set(SCANNET_UNSEEN)
    counted = count_points(lambda scene: run.model(scene.points, scene.colours, run.text), data)
    assert {"mIoU_seen", "mIoU_unseen", "hIoU"} <= set(counted.compute())


def test_the_teacher_looks_at_scenes_in_files_when_they_are_met(own: dict, random_clip: list[tuple]) -> None:
    data = build_clouds(own["data"], "train")
    clip = training.load_clip()
    lazy = prepare(data, clip)
    assert isinstance(lazy.scenes, Looks) and len(lazy.scenes) == 3
    data.in_memory = True  # type: ignore[misc]
    ahead = prepare(data, clip)
    assert isinstance(ahead.scenes, list)
    for now, then in zip(ahead.scenes, lazy.scenes, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(now, then, strict=True))
    loaded = recipe_of(**own)
    first, second = (PointTraining(loaded, each).loss(0, (0, 2)) for each in (ahead, lazy))
    assert first == second


def test_labels_of_unseen_classes_are_dropped_and_clip_calls_their_points(
    own: dict, random_clip: list[tuple]
) -> None:
    data = build_clouds({**own["data"], "unseen": ["box"]}, "train")
    lesson = prepare(data, training.load_clip()).scenes[0]
    # The box, two points of the wall, and the lamp behind the camera.
    assert lesson.labels.tolist() == [-1, 0, 0, 2] and lesson.pseudo.tolist() == [1, -1, -1, -1]


def test_a_stopped_run_goes_on_to_the_same_bits(own: dict, random_clip: list[tuple], tmp_path: Path) -> None:
    whole = train_points(NAME, progress=False, **own)

    def run() -> Any:
        return train_points(NAME, folder=tmp_path / "run", progress=False, save_every=1, **own)

    resumed = stopped_and_gone_on(PointTraining, 2, run)
    assert resumed.log == whole.log and same(weights(resumed.model), weights(whole.model))


def test_a_scene_that_is_none_is_named_when_it_is_met(own: dict, random_clip: list[tuple]) -> None:
    for scene in range(3):
        (Path(own["data"]["root"]) / f"room{scene}" / "points.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scene \d of 'train': room\d: .*points.npz cannot be read"):
        train_points(NAME, progress=False, **own)


def test_where_the_files_are_makes_no_other_run(own: dict, random_clip: list[tuple], tmp_path: Path) -> None:
    train_points(NAME, folder=tmp_path / "run", progress=False, **own)
    there = Path(own["data"]["root"]).rename(tmp_path / "elsewhere")
    own["data"] = {**own["data"], "root": str(there)}
    assert len(train_points(NAME, folder=tmp_path / "run", progress=False, **own).log) == 3
    own["data"] = {**own["data"], "frames": 1}
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        train_points(NAME, folder=tmp_path / "run", progress=False, **own)


def test_data_of_an_unknown_name_or_none_are_refused(own: dict) -> None:
    with pytest.raises(ValueError, match="expected name: one word, and its options"):
        load_recipe("mini/points", data={"root": "rooms"})
    with pytest.raises(ValueError, match="unknown data set of points 'scan'; did you mean 'scans'"):
        train_points(NAME, progress=False, **{**own, "data": {"name": "scan"}})


def test_the_command_takes_the_folder_of_the_data_sets(
    scannet: Path, random_clip: list[tuple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"base": NAME, "name": "small", "steps": 1, **SMALL}))
    train_command("small.yaml", root=scannet)
    assert (tmp_path / "runs" / "small" / "0" / "state.pt").exists()
