"""Every trained system on one bench: tuned alike, on the same scenes; what was chosen is what was best."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.core.reports import JsonObject, list_reports, read_report
from infoclip_lite.core.statistics import Score
from infoclip_lite.datasets import held_out_data
from infoclip_lite.datasets.collage import dev_nouns, seen_nouns, stuff, unseen_nouns
from infoclip_lite.studies import chimera_seg, repair
from infoclip_lite.studies import systems as study
from infoclip_lite.studies.rows import METRICS, SPLITS
from infoclip_lite.studies.runs import SCENES, _as_json, gather_any, run_path, same_scenes, score_tuning
from infoclip_lite.studies.variants import Variant, in_voc_like, in_wide
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning

# Rows where CLIP's own weights learn: what learns, and the label in `repair`.
TUNED = {
    "CLIP tuned, q and v": ("qv", "qv: plain"),
    "CLIP tuned, every weight": ("full", "full: plain"),
    "CLIP tuned, distilled (KL)": ("full", "full: kl"),
    "InfoCLIP, paper's weights": ("qv", "qv: infoclip, paper's weights"),
    "InfoCLIP (ours)": ("qv", "qv: infoclip, anchors, gap"),
}


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


def test_every_system_learns_from_as_many_scenes_and_is_tested_on_those_of_the_wide_split() -> None:
    trainings = {**study.candidates(), **study.variants(), **study.ablations()}
    data = load_finetuning("mini/plain").data
    scenes = held_out_data(data, "test", length=1)
    nouns, unseen = (*seen_nouns(), *dev_nouns(), *unseen_nouns()), {*dev_nouns(), *unseen_nouns()}
    assert scenes.names == (*nouns, *stuff()) and {scenes.names[i] for i in scenes.unseen} == unseen
    for label, variant in trainings.items():
        recipe = variant.load(3)
        assert recipe.steps * recipe.batch == study.STEPS * study.BATCH, label
        assert same_scenes(recipe.data, data), label
        assert recipe.data["seen"] == list(seen_nouns()), label
        assert recipe.evaluation.at == [] and recipe.machine.dtype == "bfloat16", label
        assert (recipe.optimizer.warmup, recipe.optimizer.cooldown) == (40, None), label


def test_another_splits_words_do_not_stay_in_the_wide_one() -> None:
    plain = Variant("mini/plain")
    for variant in (Variant("mini/map"), in_voc_like(plain), in_voc_like(in_wide(plain))):
        assert same_scenes(in_wide(variant).load(0).data, load_finetuning("mini/plain").data)


def test_every_system_has_three_rates_or_a_fourth_and_no_training_is_there_twice() -> None:
    found = study.candidates()
    for name, system in study.SYSTEMS.items():
        assert list(system.rates) == sorted(system.rates) and len(system.rates) in (3, 4), name
        for rate in system.rates:
            recipe = found[f"{name} | {rate:g}"].load(0)
            rates = recipe.optimizer
            if name in TUNED:
                assert (recipe.tune, rates.lr, rates.head_lr) == (TUNED[name][0], rate, None), name
            else:
                # What is pretrained in it keeps the same distance to the rest.
                assert recipe.tune == "none" and rates.head_lr == rate, name
                assert rates.lr == pytest.approx(0.1 * rate), name
    tables = ({**study.candidates(), **relabelled(study.few())}, {**study.variants(), **study.ablations()})
    for table in tables:
        contents = [repr(replace(variant.load(0), name="")) for variant in table.values()]
        assert len(set(contents)) == len(contents)


def relabelled(variants: dict[str, Variant]) -> dict[str, Variant]:
    return {f"few: {label}": variant for label, variant in variants.items()}


def test_until_rates_are_chosen_all_have_the_middle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "CHOSEN", {"ZSSeg": 1e-2})
    for name, system in study.SYSTEMS.items():
        rate = 1e-2 if name == "ZSSeg" else sorted(system.rates)[1]
        assert study.variants()[name].load(0) == study.candidates()[f"{name} | {rate:g}"].load(0)


def test_rows_of_other_studies_are_theirs_but_for_rate_length_and_scenes() -> None:
    """Strengths are not chosen anew."""
    theirs = {label: repair.variants()[name] for label, (_, name) in TUNED.items()}
    theirs |= {"Chimera-Seg": chimera_seg.VARIANTS["head, SGD, SAM"]}
    ours = study.variants()
    for label, variant in theirs.items():
        row, other = ours[label].load(0), variant.load(0)
        changed = {key for key in vars(row) if getattr(row, key) != getattr(other, key)}
        assert changed <= {"steps", "data", "optimizer", "evaluation", "machine"}, label
        assert ours[label].paper == variant.paper, label


def test_the_same_trainings_with_eight_nouns_stand_beside_those_with_all() -> None:
    candidates, eight = study.candidates(), load_finetuning("mini/map-head").data
    for label, variant in study.few().items():
        ours, theirs = variant.load(0), candidates[label].load(0)
        assert ours == replace(theirs, data=ours.data), label
        assert len(ours.data["seen"]) == 8 and same_scenes(ours.data, eight), label


def test_the_rows_with_eight_nouns_ship() -> None:
    few = study.few()
    assert set(gather_any(few, study.GRID_SEEDS, study.FOLDER / "few")) == set(few)


def test_rates_are_chosen_on_seeds_that_are_not_reported() -> None:
    assert min(study.GRID_SEEDS) >= 100


def test_every_system_is_run_without_what_it_adds() -> None:
    labels = list(study.ablations())
    # What the others add is asked by the studies that they come from; the head is what all are compared with.
    asked = set(study.SYSTEMS) - {study.PIXELS, "Chimera-Seg", *TUNED}
    assert {label.split(": ")[0] for label in labels} == asked and len(asked) == 7
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
    measured = {}
    for name in ("PACL", "ZSSeg"):
        *rest, last = study.SYSTEMS[name].rates
        measured |= {f"{name} | {rate:g}": {"hIoU": 0.3 if rate == 3e-3 else 0.1} for rate in rest}
    assert study.best_rates(measured) == {}, "of each the last one is missing"
    measured[f"ZSSeg | {last:g}"] = {"hIoU": 0.4}
    assert study.best_rates(measured) == {"ZSSeg": last}


@pytest.mark.skipif("systems_grid" not in list_reports(), reason="rates are still being tried")
def test_what_was_chosen_is_what_was_best_on_validation_scenes() -> None:
    report = read_report("systems_grid")
    assert study.best_rates(report["measured"]) == study.CHOSEN and report["best"] == study.CHOSEN
    assert report["read_out"] == study.READ_OUT


@pytest.mark.skipif("systems_grid" not in list_reports(), reason="rates are still being tried")
def test_who_was_best_at_the_edge_had_one_further_try() -> None:
    for name, best in study.CHOSEN.items():
        rates = study.SYSTEMS[name].rates
        assert len(rates) == 4 or best == rates[1], name


def test_tuning_looks_at_validation_scenes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    def quick(
        recipe: FineTuneRecipe, starts: Any, score: Any, watch: Any, progress: bool, state: None
    ) -> JsonObject:
        assert score is score_tuning
        done.append(len(recipe.data["seen"]))
        return record(recipe, 0.3 if 3e-3 in (recipe.optimizer.head_lr, recipe.optimizer.lr) else 0.2)

    done: list[int] = []
    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    report = study.tune(folder=tmp_path, out=tmp_path / "grid.json")
    assert set(report["measured"]) == set(study.candidates())
    assert set(report["few"]) == set(study.few()) <= set(report["measured"])
    assert done == [25] * len(report["measured"]) + [8] * len(report["few"]), "these come last"
    # Of those whose tries are all as good, the first.
    every_weight = {name: study.SYSTEMS[name].rates[0] for name in TUNED if TUNED[name][0] == "full"}
    assert report["best"] == {**dict.fromkeys(study.SYSTEMS, 3e-3), **every_weight}


def test_rows_come_before_ablations_and_the_report_is_of_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    done: list[tuple[str, int]] = []
    rows = study.variants()
    known = {repr(row.load(seed)): label for label, row in rows.items() for seed in range(5)}

    def quick(
        recipe: FineTuneRecipe, starts: Any, score: Any, watch: Any, progress: bool, state: None
    ) -> JsonObject:
        label = known.get(repr(recipe), "an ablation")
        done.append((label, recipe.seed))
        return record(recipe, 0.2 + 0.01 * recipe.seed + 0.1 * (label == study.PIXELS))

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    report = study.systems(seeds=5, folder=tmp_path, out=tmp_path / "systems.json")
    first = [label for label, _ in done[: 5 * len(rows)]]
    assert "an ablation" not in first and set(done[5 * len(rows) :]) == {
        ("an ablation", seed) for seed in range(3)
    }
    free = [f"CLIP as it is: {name}" for name in READ_OUTS]
    assert report["missing"] == [] and list(report["table"]) == [*rows, *free]
    labels = {name: system.labels for name, system in study.SYSTEMS.items()}
    assert report["labels"] == {**labels, **dict.fromkeys(free, "nothing")}
    assert set(report["ablations"]) == set(study.ablations())
    own = Score.from_json(report["ablations"]["ZSSeg: masks alone"]["test/hIoU"])
    assert len(own.values) == 3 and own.difference is not None and own.difference.mean == pytest.approx(0)
    pairs = [(row["first"], row["second"]) for row in report["contrasts"]["test"]]
    assert pairs == list(study.CONTRASTS)
    trained = report["contrasts"]["test"][0]
    assert trained["mean"] == pytest.approx(0.22) and trained["corrected"] >= trained["p"]
    # A run more, and nothing is run again.
    before = len(done)
    study.systems(seeds=5, folder=tmp_path, out=tmp_path / "systems.json")
    assert len(done) == before


def test_every_read_out_is_a_row_on_both_test_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def of_read_out(name: str, section: Mapping[str, object], split: str, scenes: int) -> dict[str, float]:
        asked.append((name, split))
        assert section["seen"] == list(seen_nouns()) and scenes == SCENES
        # The best of test scenes is not the one that validation scenes chose.
        return dict.fromkeys(METRICS, 0.1 * SPLITS.index(split) + (0.1 if name == study.READ_OUT else 0.15))

    monkeypatch.setattr(study, "of_read_out", of_read_out)
    for label in (study.PIXELS, "PACL"):
        for seed in range(2):
            keep(tmp_path, label, seed, record(study.variants()[label].load(seed), 0.3 + 0.01 * seed))
    report = study.report(seeds=2, folder=tmp_path, out=tmp_path / "systems.json")
    assert sorted(asked) == sorted((name, split) for name in READ_OUTS for split in SPLITS), "each once"
    for place, split in enumerate(SPLITS):
        for name in READ_OUTS:
            free = Score.from_json(report["table"][f"CLIP as it is: {name}"][f"{split}/hIoU"])
            assert free.mean == pytest.approx((0.1 if name == study.READ_OUT else 0.15) + 0.1 * place)
            assert free.ci95 == 0
        trained = report["contrasts"][split][0]
        assert trained["second"] == study.FREE == f"CLIP as it is: {study.READ_OUT}"
        assert trained["mean"] == pytest.approx(0.305 - 0.1 - 0.1 * place)
    assert set(report["missing"]) == {*study.variants(), *study.ablations()} - {study.PIXELS, "PACL"}


def test_a_report_needs_the_row_that_all_others_are_compared_with(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected \"CAT-Seg's head\": run"):
        study.report(folder=tmp_path, out=tmp_path / "systems.json")


def test_questions_are_of_rows_that_there_are() -> None:
    known = {*study.variants(), study.FREE}
    assert len(set(study.CONTRASTS)) == len(study.CONTRASTS) == 6
    assert {label for pair in study.CONTRASTS for label in pair} <= known


def test_every_way_of_inference_is_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: dict[str, Any] = {}

    def measure(models: dict[str, Any], *, rounds: int) -> JsonObject:
        timed.update(models)
        return {"rounds": rounds}

    monkeypatch.setattr(study, "measure_speed", measure)
    assert study.speed(rounds=3, out=tmp_path / "speed.json")["rounds"] == 3
    # Tuned CLIPs infer as one another, and CLIP-ES trains a head like CAT-Seg's.
    alike = {"CLIP-ES", *TUNED} - {"CLIP tuned, q and v"}
    assert set(timed) == set(study.SYSTEMS) - alike
    assert timed["ZSSeg"].family == "ZSSeg" and timed["Chimera-Seg"].body.channels == 128
