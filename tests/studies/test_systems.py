"""Every trained system on one bench: tuned alike, on the same scenes; what was chosen is what was best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.core.reports import JsonObject, list_reports, read_report
from infoclip_lite.core.statistics import Score
from infoclip_lite.studies import systems as study
from infoclip_lite.studies.rows import METRICS, SPLITS
from infoclip_lite.studies.runs import _as_json, run_path, same_scenes, score_tuning
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning


def record(recipe: FineTuneRecipe, score: float) -> JsonObject:
    metrics = dict.fromkeys(METRICS, score)
    return {
        "recipe": json.loads(json.dumps(_as_json(recipe))),
        **dict.fromkeys(("val", *SPLITS), metrics),
        "nouns": {"cow": score},
        "log": [],
        "seconds": {"train": 1.0},
    }


def keep(folder: Path, label: str, seed: int, run: JsonObject) -> None:
    path = run_path(folder, label, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run))


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIP as it is, measured by nobody."""
    monkeypatch.setattr(study, "of_read_out", lambda *asked: dict.fromkeys(METRICS, 0.1))


def test_every_system_learns_from_as_many_scenes_and_is_tested_on_the_maps() -> None:
    data = load_finetuning("mini/map-head").data
    for label, variant in {**study.candidates(), **study.variants(), **study.ablations()}.items():
        recipe = variant.load(3)
        assert recipe.steps * recipe.batch == study.STEPS * study.BATCH, label
        assert same_scenes(recipe.data, data), label
        assert recipe.tune == "none" and recipe.evaluation.at == [] and recipe.machine.dtype == "bfloat16"


def test_every_system_has_the_same_rates_and_no_training_is_there_twice() -> None:
    found = study.candidates()
    assert len(found) == len(study.SYSTEMS) * len(study.RATES)
    for name in study.SYSTEMS:
        rates = [found[f"{name} | {rate:g}"].load(0).optimizer for rate in study.RATES]
        assert [each.head_lr for each in rates] == list(study.RATES)
        # What is pretrained in it keeps the same distance to the rest.
        assert all(each.lr == pytest.approx(0.1 * each.head_lr) for each in rates if each.head_lr)
    tables = ({**study.candidates()}, {**study.variants(), **study.ablations()})
    for table in tables:
        contents = [repr(replace(variant.load(0), name="")) for variant in table.values()]
        assert len(set(contents)) == len(contents)


def test_rates_are_chosen_on_seeds_that_are_not_reported() -> None:
    assert min(study.GRID_SEEDS) >= 100


def test_every_system_is_run_without_what_it_adds() -> None:
    labels = list(study.ablations())
    assert {label.split(": ")[0] for label in labels} == set(study.SYSTEMS)
    for label, variant in study.ablations().items():
        whole, part = study.variants()[label.split(": ")[0]].load(0), variant.load(0)
        changed = [key for key in vars(whole) if getattr(whole, key) != getattr(part, key)]
        assert len(changed) == 1 and changed[0] in ("segmentor", "objective", "supervision"), label
        if part.objective == whole.objective:
            # Its value before and now; one that the recipe leaves to its default is there only now.
            assert len(set(leaves(part)) ^ set(leaves(whole))) in (1, 2), f"{label}: one setting"
            assert {path for path, _ in leaves(whole)} <= {path for path, _ in leaves(part)}, "none is lost"


def leaves(recipe: FineTuneRecipe) -> list[tuple[str, str]]:
    """Every setting of a recipe by its path; what is in a list is one setting."""

    def below(path: str, value: Any) -> list[tuple[str, str]]:
        if isinstance(value, dict):
            return [leaf for key, inner in value.items() for leaf in below(f"{path}/{key}", inner)]
        return [(path, repr(value))]

    return below("", _as_json(recipe))


def test_the_best_rate_is_the_one_with_the_highest_harmonic_mean() -> None:
    measured = {f"PACL | {rate:g}": {"hIoU": score} for rate, score in ((3e-4, 0.1), (1e-3, 0.3))}
    assert study.best_rates(measured) == {}, "one of three is missing"
    measured["PACL | 0.003"] = {"hIoU": 0.2}
    assert study.best_rates(measured) == {"PACL": 1e-3}


@pytest.mark.skipif("systems_grid" not in list_reports(), reason="rates are still being tried")
def test_what_was_chosen_is_what_was_best_on_validation_scenes() -> None:
    report = read_report("systems_grid")
    assert study.best_rates(report["measured"]) == study.CHOSEN and report["best"] == study.CHOSEN
    assert report["read_out"] == study.READ_OUT


def test_the_heads_rate_is_the_best_of_the_map() -> None:
    assert study.best_pixel_rate() == study.PIXEL_RATE


def test_tuning_looks_at_validation_scenes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    def quick(
        recipe: FineTuneRecipe, starts: Any, score: Any, watch: Any, progress: bool, state: None
    ) -> JsonObject:
        assert score is score_tuning
        return record(recipe, 0.3 if recipe.optimizer.head_lr == 3e-3 else 0.2)

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    report = study.tune(folder=tmp_path, out=tmp_path / "grid.json")
    assert set(report["measured"]) == set(study.candidates())
    assert report["best"] == dict.fromkeys(study.SYSTEMS, 3e-3)


def test_rows_come_before_ablations_and_the_report_is_of_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    done: list[tuple[str, int]] = []
    rows = study.variants()
    labels = {repr(row.load(seed)): label for label, row in rows.items() for seed in range(5)}

    def quick(
        recipe: FineTuneRecipe, starts: Any, score: Any, watch: Any, progress: bool, state: None
    ) -> JsonObject:
        label = labels.get(repr(recipe), "an ablation")
        done.append((label, recipe.seed))
        return record(recipe, 0.2 + 0.01 * recipe.seed + 0.1 * (label == study.PIXELS))

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    monkeypatch.setattr(study, "borrowed", lambda seeds: {})
    report = study.systems(seeds=5, folder=tmp_path, out=tmp_path / "systems.json")
    first = [label for label, _ in done[: 5 * len(rows)]]
    assert "an ablation" not in first and set(done[5 * len(rows) :]) == {
        ("an ablation", seed) for seed in range(3)
    }
    assert report["missing"] == list(study.BORROWED), "rows of another study are not run here"
    assert set(report["ablations"]) == set(study.ablations())
    own = Score.from_json(report["ablations"]["ZSSeg: masks alone"]["test/hIoU"])
    assert len(own.values) == 3 and own.difference is not None and own.difference.mean == pytest.approx(0)
    pairs = [(row["first"], row["second"]) for row in report["contrasts"]["test"]]
    assert pairs == [pair for pair in study.CONTRASTS if not set(pair) & set(study.BORROWED)]
    trained = report["contrasts"]["test"][0]
    assert trained["mean"] == pytest.approx(0.22) and trained["corrected"] >= trained["p"]
    # A run more, and nothing is run again.
    before = len(done)
    study.systems(seeds=5, folder=tmp_path, out=tmp_path / "systems.json")
    assert len(done) == before


def test_rows_of_the_repair_study_are_read_and_must_be_of_the_same_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    theirs = study.repair.variants()
    for label in ("full: plain", "qv: plain"):
        for seed in range(2):
            # Its CLIP is tuned, so it is probed; ours is frozen, and is not.
            run = {**record(theirs[label].load(seed), 0.3), "probes": {"margin": 0.1}}
            keep(tmp_path, label, seed, run)
    found = study.borrowed(2, tmp_path)
    assert set(found) == {"CLIP tuned, every weight", "CLIP tuned, q and v"}, "what is finished"
    monkeypatch.setattr(study, "borrowed", lambda seeds: found)
    rows = study.compared({study.PIXELS: [record(theirs["qv: plain"].load(0), 0.2)] * 2}, 2)
    monkeypatch.undo()
    versus = rows["CLIP tuned, q and v"]["test/hIoU"].difference
    assert versus is not None and versus.mean == pytest.approx(0.1)
    other = theirs["qv: plain"].changed(data={"seen": ["cow"]})
    for seed in range(2):
        keep(tmp_path, "qv: plain", seed, record(other.load(seed), 0.3))
    assert set(study.borrowed(2, tmp_path)) == {"CLIP tuned, every weight"}, "of no recipe of theirs"
    monkeypatch.setattr(study.repair, "variants", lambda: {**theirs, "qv: plain": other})
    with pytest.raises(ValueError, match="'qv: plain' of the repair study has data"):
        study.borrowed(2, tmp_path)


def test_a_report_needs_the_row_that_all_others_are_compared_with(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected \"CAT-Seg's head\": run"):
        study.report(folder=tmp_path, out=tmp_path / "systems.json")
    assert study.planned_contrasts(5, tmp_path) == {split: [] for split in SPLITS}


def test_questions_are_of_rows_that_there_are() -> None:
    known = {*study.variants(), *study.BORROWED, study.FREE}
    assert len(set(study.CONTRASTS)) == len(study.CONTRASTS) == 6
    assert {label for pair in study.CONTRASTS for label in pair} <= known
    assert set(study.BORROWED.values()) <= set(study.repair.variants())
