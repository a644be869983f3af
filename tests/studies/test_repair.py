"""What keeps unseen nouns: methods differ in what they name and in nothing else, and are tuned alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infoclip_lite import Report, evaluate
from infoclip_lite.core.files import data_dir
from infoclip_lite.core.reports import JsonObject, read_report
from infoclip_lite.studies import repair as study
from infoclip_lite.studies.runs import _as_json, score_tuning
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning

# What a method may name: everything else is the plain training's.
FREE = ("objective", "interpolate", "anchors", "tune", "optimizer")


@pytest.mark.parametrize("table", [study.candidates(), study.variants()], ids=["candidates", "variants"])
def test_methods_share_everything_but_what_they_compare(table: dict) -> None:
    loaded = {label: variant.load(3) for label, variant in table.items()}
    base = loaded["full: plain | " if "full: plain | " in loaded else "full: plain"]
    for label, recipe in loaded.items():
        assert replace(recipe, **{key: getattr(base, key) for key in FREE}) == base, label
        setting = study.SETTINGS[label.split(":")[0]]
        assert (recipe.tune, recipe.optimizer.lr) == (setting["tune"], setting["optimizer"]["lr"]), label
    contents = [repr(recipe) for recipe in loaded.values()]
    assert len(set(contents)) == len(contents), "no training is there twice"


def test_every_method_has_as_many_tries_as_any_other_in_both_settings() -> None:
    tries = {method: len(strengths) for method, strengths in study.METHODS.items() if method != "plain"}
    assert set(tries.values()) == {4, 5}
    labels = list(study.candidates())
    assert set(study.COMPARED["full"]) == set(study.METHODS)
    for setting, methods in study.COMPARED.items():
        for method, count in ((m, tries[m]) for m in methods if m != "plain"):
            assert len([each for each in labels if each.startswith(f"{setting}: {method} | ")]) == count


def test_strengths_are_chosen_on_seeds_that_are_not_reported() -> None:
    assert min(study.GRID_SEEDS) >= 100 > study.study().planned_seeds


def test_the_best_strength_is_the_one_with_the_highest_harmonic_mean() -> None:
    measured = {
        f"full: wise | {part}": {"hIoU": score} for part, score in (("0.3", 0.1), ("0.4", 0.2), ("0.5", 0.3))
    }
    assert study.best_strengths(measured) == {}, "one of four is missing"
    measured["full: wise | 0.8"] = {"hIoU": 0.2}
    assert study.best_strengths(measured) == {"full": {"wise": "0.5"}}


@pytest.mark.skipif(
    not (data_dir() / "reports" / "repair_grid.json").exists(), reason="strengths are still being tried"
)
def test_what_was_chosen_is_what_was_best_on_validation_scenes() -> None:
    report = read_report("repair_grid")
    found = study.best_strengths(report["measured"])
    for setting, chosen in study.CHOSEN.items():
        for method, strength in chosen.items():
            assert strength == found[setting][method], f"{setting}: {method}"


def test_seven_questions_are_planned_and_their_methods_are_of_the_study() -> None:
    pairs, variants = study.contrasts(), study.variants()
    assert len(pairs) == len(set(pairs)) == 7
    assert {label for pair in pairs for label in pair} <= set(variants)
    assert set(study.study().planned) == {label for pair in pairs for label in pair}
    without = variants["full: infoclip without compression"].load(0).objective
    whole = variants[f"full: {study.BEST['full']}"].load(0).objective
    assert without == {**whole, "compression": 0.0} and whole["compression"] == 1.0


def test_only_the_siblings_reading_is_called_the_papers() -> None:
    paper = {label for label, variant in study.variants().items() if variant.paper}
    assert paper == {f"{setting}: infoclip, paper's weights" for setting in study.SETTINGS}


def test_tuning_looks_at_validation_scenes_and_reports_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(
        recipe: FineTuneRecipe, starts: object, score: object, watch: object, progress: bool, state: None
    ) -> JsonObject:
        assert score is score_tuning
        harmonic = 0.2 + 0.1 * (recipe.interpolate == 0.5)
        return {
            "recipe": _as_json(recipe),
            "val": {"mIoU_seen": 0.3, "mIoU_unseen": 0.2, "hIoU": harmonic},
        }

    asked: list[dict[str, object]] = []

    def measured(*of: object, **options: object) -> Report:
        asked.append(options)
        return evaluate(*of, limit=20, **options)

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    monkeypatch.setattr(study, "evaluate", measured)
    report = study.tune(folder=tmp_path, out=tmp_path / "grid.json")
    assert set(report["measured"]) == set(study.candidates())
    assert {setting: tuple(best) for setting, best in report["best"].items()} == study.COMPARED
    assert report["best"]["full"]["wise"] == "0.5" and "wise" not in report["best"]["qv"]
    # No constant is tried where none is reported, and the metrics without one are the same.
    assert asked == [{"gammas": ()}]
    calibrated = study.zero_shot(("val",), gammas=study.GAMMAS)["val"]
    assert len(calibrated.calibration) == len(study.GAMMAS)
    assert report["zero_shot"] == study._shown(calibrated)


def test_a_difference_is_drawn_over_nouns_with_the_same_ones_for_both() -> None:
    data = study._scenes("test")
    nouns = [name for name in data.names if name not in ("grass", "sky")]
    worse = {name: 0.2 + 0.3 * (i % 3) for i, name in enumerate(nouns)}
    better = {name: iou + 0.05 for name, iou in worse.items()}
    found = study.over_nouns([{"nouns": better}], [{"nouns": worse}])
    # Nouns differ by far more than the methods, which an unpaired draw would not survive.
    assert 0.03 < found["low"] < found["mean"] < found["high"] < 0.07
    same = study.over_nouns([{"nouns": worse}], [{"nouns": worse}])
    assert same == {"mean": 0, "low": 0, "high": 0}
    # "planet" is in no scene: only a run that sees one where none is has an IoU of it.
    alone = {name: iou for name, iou in worse.items() if name != "planet"}
    assert "planet" in worse and study.over_nouns(
        [{"nouns": worse}, {"nouns": alone}], [{"nouns": alone}] * 2
    )


def test_a_difference_is_drawn_over_instances_with_the_same_ones_for_both() -> None:
    # Draws move both methods by far more than these differ.
    worse = [{"test": {"hIoU": seed}, "redrawn": [0.1 * k + seed for k in range(40)]} for seed in (0.3, 0.4)]
    better = [
        {"test": {"hIoU": run["test"]["hIoU"] + 0.05}, "redrawn": [d + 0.05 for d in run["redrawn"]]}
        for run in worse
    ]
    found = study.over_instances(better, worse)
    assert found == pytest.approx({"mean": 0.05, "low": 0.05, "high": 0.05})


def test_the_plain_training_is_the_maps_half_as_long() -> None:
    ours, its = study.variants()["full: plain"].load(0), load_finetuning("mini/map")
    assert ours.steps * 2 == its.steps and ours.data == its.data


def test_what_is_lost_and_what_is_outvoted_are_told_apart_by_validation() -> None:
    def run(val: dict[str, float], test: dict[str, float]) -> JsonObject:
        sweep = {"val": val, "test": test}
        return {"calibration": {s: {g: {"hIoU": h} for g, h in row.items()} for s, row in sweep.items()}}

    # Best on test scenes would be another constant: it must not be taken.
    runs = [
        run({"0.0": 0.2, "1.0": 0.3}, {"0.0": 0.4 + 0.1 * seed, "1.0": 0.1 + 0.1 * seed}) for seed in (0, 1)
    ]
    found = study.at_its_gamma(runs)
    assert found["gamma"] == "1.0" and found["test"] == {"hIoU": [0.1, 0.2]}
