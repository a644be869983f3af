"""What each part of Chimera-Seg adds: variants differ in what they name, and reports are of what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from infoclip_lite import Run
from infoclip_lite.core.files import data_dir
from infoclip_lite.core.reports import JsonObject, read_report
from infoclip_lite.core.statistics import paired_interval
from infoclip_lite.datasets import held_out_data
from infoclip_lite.datasets.collage import stuff, voc_like
from infoclip_lite.studies import chimera_seg as study
from infoclip_lite.studies.rows import METRICS
from infoclip_lite.studies.runs import _as_json, calibrated, score_tuning
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning

# What a variant may name; VOC's rows name their words too.
FREE = ("objective", "segmentor", "optimizer")


@pytest.mark.parametrize("table", [study.candidates(), study.VARIANTS], ids=["tries", "variants"])
def test_variants_share_everything_but_what_they_compare(table: dict) -> None:
    loaded = {label: variant.load(3) for label, variant in table.items()}
    base = load_finetuning("mini/chimera-mobilenet", seed=3)
    for label, recipe in loaded.items():
        free = (*FREE, *(("data",) if label.startswith("voc: ") else ()))
        assert replace(recipe, **{key: getattr(base, key) for key in free}) == base, label
        body = "tu-tf_efficientnet_lite0" if label.startswith("lite0: ") else "mobilenet_v2"
        assert recipe.segmentor["encoder"] == body and recipe.segmentor["read_out"] == "vanilla", label
    contents = [repr(recipe) for recipe in loaded.values()]
    assert len(set(contents)) == len(contents), "no training is there twice"


def test_the_body_is_not_the_stem_of_clip_and_scenes_are_of_its_size() -> None:
    recipe = load_finetuning(study.RECIPE)
    assert recipe.segmentor["encoder"] == "mobilenet_v2" and recipe.data["size"] == 96


def test_each_rung_changes_one_section() -> None:
    """Its learning rate aside, which each head has for itself."""
    rungs = [variant.load(0) for variant in study.LADDER.values()]
    for below, rung in zip(rungs, rungs[1:], strict=False):
        changed = {key for key in vars(rung) if getattr(rung, key) != getattr(below, key)} - {"optimizer"}
        assert len(changed) == 1, changed
    objectives = [rung.objective for rung in rungs]
    assert objectives[:2] == [None, None] and objectives[2]["source"] == "student"
    everywhere, falling, aligned = objectives[3:]
    assert falling == {**everywhere, "schedule": "cosine"} and everywhere["schedule"] == "constant"
    assert everywhere["dense"] > 0 == everywhere["alignment"] < aligned["alignment"]


def test_planned_are_the_rungs_of_the_ladder_and_the_two_heads() -> None:
    rungs = list(study.LADDER)
    assert study.CONTRASTS[:-1] == tuple(zip(rungs[1:], rungs, strict=False))
    assert study.CONTRASTS[-1] == ("head, all positions", "linear, all positions")
    assert {label for pair in study.CONTRASTS for label in pair} == set(study.planned())


def test_settings_have_three_tries_each_on_a_seed_that_is_not_reported() -> None:
    assert {len(tries) for tries in study.TRIES.values()} == {3}
    assert study.START.keys() == study.TRIES.keys() == study.CHOSEN.keys()
    assert all(study.CHOSEN[setting] in tries for setting, tries in study.TRIES.items())
    assert min(study.GRID_SEEDS) >= 100 > study.PLANNED_SEEDS
    assert study.TRIES["rate, linear"] == study.TRIES["rate, head"], "the same tries for both heads"


def test_what_a_setting_begins_with_is_what_the_recipe_says() -> None:
    """Or the others would be tried beside another training than the one that ships."""
    recipe = load_finetuning(study.RECIPE)
    begun = study._whole(study.START).load(0)
    assert replace(begun, name=recipe.name) == recipe


def test_the_best_try_is_the_one_with_the_highest_harmonic_mean() -> None:
    measured = {f"dense | {weight}": {"hIoU": score} for weight, score in ((1, 0.1), (10, 0.2))}
    assert study.best_tries(measured) == {}, "one of three is missing"
    measured["SGD as it begins"] = {"hIoU": 0.3}
    assert study.best_tries(measured) == {"dense": "3"}


@pytest.mark.skipif(
    not (data_dir() / "reports" / "chimera_seg_grid.json").exists(), reason="settings are still being tried"
)
def test_what_was_chosen_is_what_was_best_on_validation_scenes() -> None:
    report = read_report("chimera_seg_grid")
    found = study.best_tries(report["measured"])
    for setting, each in study.CHOSEN.items():
        assert each == found[setting], setting


def test_tuning_looks_at_validation_scenes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(
        recipe: FineTuneRecipe, starts: object, score: object, watch: object, progress: bool, state: object
    ) -> JsonObject:
        assert score is score_tuning and watch is None
        harmonic = 0.1 + 0.1 * (recipe.optimizer.head_lr == 6e-3)
        return {
            "recipe": _as_json(recipe),
            "val": {"mIoU_seen": 0.3, "mIoU_unseen": 0.2, "hIoU": harmonic},
        }

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    report = study.tune(folder=tmp_path, out=tmp_path / "grid.json")
    assert set(report["measured"]) == set(study.candidates())
    assert report["best"].keys() == study.TRIES.keys()
    assert report["best"]["rate, linear"] == report["best"]["rate, head"] == "3"


def test_in_the_voc_like_split_stuff_is_labelled_and_competes() -> None:
    recipe = study.VARIANTS["voc: head, all positions"].load(0)
    seen, unseen = voc_like()
    scenes = held_out_data(recipe.data, "test", length=1)
    groups = {name: [scenes.names[i] for i in ids] for name, ids in scenes.class_groups.items()}
    assert groups == {"seen": list(seen), "unseen": list(unseen), "stuff": list(stuff())}
    assert set(scenes.unseen).isdisjoint(scenes.class_groups["stuff"]), "its pixels are learnt from"


def test_clip_itself_is_measured_once_and_again_on_other_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(model: object, data: Any) -> SimpleNamespace:
        asked.append(len(data))
        return SimpleNamespace(metrics=dict.fromkeys(METRICS, len(data) / 10))

    monkeypatch.setattr(study, "evaluate", counted)
    (tmp_path / "zero_shot.json").write_text('{"vanilla": {}}')  # of nobody knows which scenes
    for scenes, times in ((2, 4), (2, 4), (3, 8)):
        monkeypatch.setattr(study, "SCENES", scenes)
        found = study.zero_shot(tmp_path)
        assert found["vanilla"]["test"]["hIoU"] == scenes / 10 and len(asked) == times


def runs(*values: float, gammas: tuple[float, float] = (0.0, 0.0), **fields: object) -> list[JsonObject]:
    """Records of one variant with these hIoU on test scenes; `gammas` is what 1.0 adds on val and on test."""
    found = []
    for seed, value in enumerate(values):
        metrics = {"mIoU_seen": value, "mIoU_unseen": value, "hIoU": value, "mIoU_stuff": 0.5}
        sweeps = {}
        for split in ("val", "test-known", "test"):
            added = gammas[0] if split == "val" else gammas[1]
            sweeps[split] = {"0.0": metrics, "1.0": {**metrics, "hIoU": value + added}}
        splits = dict.fromkeys(("val", "test-known", "test"), metrics)
        found.append({"seed": seed, **splits, "calibration": sweeps, **fields})
    return found


def test_intervals_of_all_variants_share_one_spread_but_not_with_another_vocabulary() -> None:
    records = {"linear": runs(0.1, 0.3), "head": runs(0.5), "voc: head, all positions": runs(0.7)}
    table = study.rows(records)
    assert list(table) == ["linear", "head"], "of VOC's there is one seed and no spread"
    wide, narrow = table["head"]["test/hIoU"], table["linear"]["test/hIoU"]
    assert wide.ci95 == pytest.approx(narrow.ci95 * 2**0.5) and wide.values == (0.5,)
    assert study.rows({"linear": runs(0.1)}) == {}


def test_contrasts_pair_the_seeds_that_both_have_and_count_those_that_are_missing() -> None:
    records = {"linear": runs(0.1, 0.2, 0.35), "head": runs(0.2, 0.35)}
    (found,) = study.contrasts_of(records, study.CONTRASTS, "test")
    wanted = paired_interval((0.2, 0.35), (0.1, 0.2))
    assert (found.first, found.second) == ("head", "linear")
    assert (found.mean, found.ci95) == pytest.approx((wanted.mean, wanted.ci95))
    assert found.corrected == pytest.approx(min(1, len(study.CONTRASTS) * found.p))
    assert study.contrasts_of({**records, "head": runs(0.2)}, study.CONTRASTS, "test") == []


def test_gamma_is_chosen_on_validation_scenes_and_shown_on_the_others() -> None:
    worse_there = calibrated(runs(0.2, 0.3, gammas=(0.1, -0.1)))
    assert worse_there["gamma"] == "1.0"
    sweep: Any = worse_there["sweep"]
    assert sweep["test"]["1.0"]["hIoU"] == pytest.approx(0.15) and set(sweep["val"]) == {"0.0", "1.0"}
    assert calibrated(runs(0.2, gammas=(-0.1, 0.1)))["gamma"] == "0.0"
    (record,) = runs(0.2)
    del record["calibration"]["val"]
    assert calibrated([record])["gamma"] is None, "nothing to choose by"


@pytest.mark.parametrize(("label", "chosen"), [("head", True), ("voc: head, all positions", False)])
def test_validation_scenes_are_scored_where_they_show_unseen_nouns(label: str, chosen: bool) -> None:
    run = Run(study.VARIANTS[label].load(0), torch.nn.Identity(), [])
    assert study._splits(run) == (("val",) if chosen else ()) + ("test-known", "test")


def test_a_report_is_written_of_whatever_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.what_is_finished(3, tmp_path)["table"] == {}
    names = held_out_data(study.LADDER["linear"].load(0).data, "test", length=1).names

    def quick(recipe: FineTuneRecipe, *_: object) -> JsonObject:
        above = 0.1 + 0.001 * recipe.seed**2 if recipe.segmentor["head"] == "semantic" else 0.0
        value = 0.2 + above + 0.01 * recipe.seed
        (record,) = runs(value, nouns=dict.fromkeys(names, value), seconds={"train": 40.0})
        return {**record, "recipe": _as_json(recipe), "seed": recipe.seed}

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    monkeypatch.setattr(study, "VARIANTS", {label: study.VARIANTS[label] for label in ("linear", "head")})
    monkeypatch.setattr(study, "zero_shot", lambda folder: {})
    first = study.chimera_seg(seeds=2, folder=tmp_path, out=tmp_path / "a.json")
    assert len(first["table"]["head"]["test/hIoU"]["values"]) == 2
    assert first["missing"] == dict.fromkeys(("linear", "head"), study.PLANNED_SEEDS - 2)
    report = study.chimera_seg_planned(folder=tmp_path, out=tmp_path / "a.json")
    assert report["missing"] == {} and set(report["table"]) == {"linear", "head"}
    assert len(report["table"]["head"]["test/hIoU"]["values"]) == study.PLANNED_SEEDS
    assert set(report["table"]["head"]) >= {f"{split}/{key}" for split in ("test", "val") for key in METRICS}
    assert [row["first"] for row in report["contrasts"]["test"]] == ["head"]
    assert report["contrasts_over_nouns"]["head - linear"]["mean"] == pytest.approx(0.106)
    assert report["seconds_a_step"] == {"linear": 0.1, "head": 0.1}
