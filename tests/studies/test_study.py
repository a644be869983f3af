"""Paired studies: nothing is run twice, parts of the work make the whole, differences are seed by seed."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from infoclip_lite import Run, train
from infoclip_lite.studies import runs as running
from infoclip_lite.studies.rows import METRICS, STUFF, shown_metrics
from infoclip_lite.studies.runs import gather, run_path, run_variants, score_run, score_tuning
from infoclip_lite.studies.study import Study, table, tuned
from infoclip_lite.studies.variants import Variant, settings_of
from infoclip_lite.training.finetuning import FineTuning
from infoclip_lite.training.recipe import load_recipe


@pytest.fixture
def recipe(tmp_path: Path, tiny_checkpoint: Path) -> str:
    """A recipe file of two steps."""
    lines = [
        "task: finetune",
        "name: small",
        f"clip: {{name: {tiny_checkpoint}}}",
        "steps: 2",
        "batch: 2",
        "data: {name: collage, size: 32}",
        "optimizer: {warmup: 0}",
        "evaluation: {scenes: 2}",
        "machine: {dtype: float32}",
    ]
    path = tmp_path / "small.yaml"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def variants(recipe: str) -> dict[str, Variant]:
    return {"plain": Variant(recipe), "hot/full": Variant(recipe, {"optimizer": {"lr": 1.0e-2}})}


def first_weight(run: Run) -> dict[str, Any]:
    return {"test": {"weight": run.model.clip.visual.proj[0, 0].item()}}


def refuse(run: Run) -> dict[str, Any]:
    raise AssertionError(f"{run.recipe.name} was run again")


def test_every_run_is_a_record_of_what_training_gives(variants: dict, tmp_path: Path) -> None:
    run_variants(variants, [0, 3], tmp_path / "study", first_weight)
    records = gather(variants, [0, 3], tmp_path / "study")
    assert {label: [r["seed"] for r in runs] for label, runs in records.items()} == {
        "plain": [0, 3],
        "hot/full": [0, 3],
    }
    alone = train(variants["hot/full"].load(3), progress=False)
    record = records["hot/full"][1]
    assert (
        record["test"] == first_weight(alone)["test"]
        and record["log"] == alone.log
        and record["label"] == "hot/full"
    )
    assert record["test"] != records["plain"][1]["test"] != records["plain"][0]["test"]
    assert record["seconds"].keys() >= {"train", "score"} and record["evaluations"] == []


def test_finished_runs_are_not_run_again(variants: dict, tmp_path: Path) -> None:
    run_variants(variants, [0], tmp_path, first_weight)
    before = run_path(tmp_path, "plain", 0).read_text()
    run_variants(variants, [0], tmp_path, refuse)
    assert run_path(tmp_path, "plain", 0).read_text() == before
    run_path(tmp_path, "plain", 0).unlink()
    scored: list[str] = []
    run_variants(variants, [0], tmp_path, lambda run: (scored.append(run.recipe.name), {"test": {}})[1])
    assert scored == ["small"], "the one that is missing, and no other"


def test_a_record_from_before_a_key_existed_is_the_run_with_its_default(
    variants: dict, tmp_path: Path
) -> None:
    run_variants(variants, [0], tmp_path, first_weight)
    path = run_path(tmp_path, "plain", 0)
    record = json.loads(path.read_text())
    del record["recipe"]["background"], record["recipe"]["machine"]["workers"]
    path.write_text(json.dumps(record))
    run_variants(variants, [0], tmp_path, refuse)
    for key, value in (("background", "background"), ("no_more", 1)):
        path.write_text(json.dumps({**record, "recipe": {**record["recipe"], key: value}}))
        with pytest.raises(AssertionError, match="was run again"):
            run_variants(variants, [0], tmp_path, refuse)


def test_a_run_that_dies_in_scoring_leaves_no_record(variants: dict, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="was run again"):
        run_variants(variants, [0], tmp_path, refuse)
    assert not run_path(tmp_path, "plain", 0).exists()
    run_variants(variants, [0], tmp_path, first_weight)
    assert (
        gather(variants, [0], tmp_path)["plain"][0]["test"]
        == first_weight(train(variants["plain"].load(0), progress=False))["test"]
    )


def test_a_run_that_was_ended_goes_on_where_it_stood(
    variants: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"plain": variants["plain"].changed(steps=4)}
    run_variants(plain, [0], tmp_path / "whole", first_weight)
    taken: list[int] = []
    loss = FineTuning.loss

    def ended(self: FineTuning, step: int, batch: Any) -> Any:
        taken.append(step)
        if len(taken) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, step, batch)

    monkeypatch.setattr(FineTuning, "loss", ended)
    states = tmp_path / "states"
    with pytest.raises(SystemExit):
        run_variants(plain, [0], tmp_path / "ended", first_weight, states=states)
    assert not run_path(tmp_path / "ended", "plain", 0).exists() and (states / "plain-0").exists()
    run_variants(plain, [0], tmp_path / "ended", first_weight, states=states)
    assert taken == [0, 1, 2, 3], "no step is taken twice"
    whole, gone_on = (
        json.loads(run_path(tmp_path / name, "plain", 0).read_text()) for name in ("whole", "ended")
    )
    assert {**whole, "seconds": 0} == {**gone_on, "seconds": 0}
    assert list(states.iterdir()) == [], "what is finished needs no state"


def test_parts_divide_the_runs(variants: dict, tmp_path: Path) -> None:
    done: list[set[tuple[float, int]]] = []
    for k in (1, 2, 3):
        ran: set[tuple[float, int]] = set()
        run_variants(
            variants,
            [4, 5],
            tmp_path,
            lambda run, ran=ran: (ran.add((run.recipe.optimizer.lr, run.recipe.seed)), {"test": {}})[1],
            part=(k, 3),
        )
        done.append(ran)
    assert sum(map(len, done)) == 4 == len(set().union(*done)), (
        "no run twice, and together they are the whole"
    )
    assert max(map(len, done)) < 4 and all(
        len(runs) == 2 for runs in gather(variants, [4, 5], tmp_path).values()
    )


def test_a_common_start_is_trained_once_a_seed(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {
        "a": Variant(recipe, {"start": recipe}),
        "b": Variant(recipe, {"start": recipe, "optimizer": {"lr": 1.0e-3}}),
    }
    trained: list[tuple[bool, int]] = []

    def counting(what: Any, **options: Any) -> Run:
        run = train(what, **options)
        trained.append((isinstance(what, str), run.recipe.seed))
        return run

    monkeypatch.setattr(running, "train", counting)
    run_variants(variants, [0, 1], tmp_path / "study", first_weight)
    assert [seed for is_start, seed in trained if is_start] == [0, 1] and len(trained) == 6
    records = gather(variants, [0, 1], tmp_path / "study")
    alone = train(variants["b"].load(1), progress=False)
    assert records["b"][1]["test"] == first_weight(alone)["test"], "as if it had been trained for this one"


def test_a_label_with_a_slash_is_one_file(tmp_path: Path) -> None:
    assert run_path(tmp_path, "lambda/1", 7) == tmp_path / "runs" / "lambda-1-7.json"


def test_gather_takes_the_variants_that_every_seed_has_finished(variants: dict, tmp_path: Path) -> None:
    run_variants(variants, [0], tmp_path, first_weight)
    run_variants({"hot/full": variants["hot/full"]}, [1], tmp_path, first_weight)
    assert list(gather(variants, [0, 1], tmp_path)) == ["hot/full"] and list(
        gather(variants, [0], tmp_path)
    ) == list(variants)


def test_gather_keeps_the_order_of_the_seeds(tmp_path: Path) -> None:
    variant = Variant("mini/plain")
    for seed in (0, 1, 2):
        path = run_path(tmp_path, "a", seed)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"seed": seed, "recipe": asdict(variant.load(seed))}))
    assert [r["seed"] for r in gather({"a": variant}, [2, 0, 1], tmp_path)["a"]] == [2, 0, 1]


def runs(*values: float) -> list[dict[str, Any]]:
    return [
        {"label": "x", "seed": i, "test": {"mIoU": v}, "probes": {"margin": 10 * v}, "log": []}
        for i, v in enumerate(values)
    ]


def test_the_table_pairs_runs_of_one_seed() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.303."""
    rows = table({"plain": runs(10, 30, 50), "ours": runs(11, 32, 53)}, "plain")
    entry = rows["ours"]["test/mIoU"]
    assert entry.values == (11, 32, 53) and entry.mean == pytest.approx(32)
    assert entry.difference.mean == pytest.approx(2)
    assert entry.difference.ci95 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert entry.ci95 == pytest.approx(4.3027 * 21 / math.sqrt(3), rel=1e-4), (
        "the runs themselves are spread 21 apart"
    )
    assert rows["ours"]["probes/margin"].difference.mean == pytest.approx(20)
    assert rows["plain"]["test/mIoU"].difference is None and set(rows["ours"]) == {
        "test/mIoU",
        "probes/margin",
    }


def test_fewer_runs_are_paired_with_the_first_of_the_baseline_and_more_are_refused() -> None:
    rows = table({"plain": runs(1, 2, 9), "ours": runs(2, 4)}, "plain")
    alone = table({"plain": runs(1, 2), "ours": runs(2, 4)}, "plain")
    assert rows["ours"] == alone["ours"] and len(rows["plain"]["test/mIoU"].values) == 3
    with pytest.raises(ValueError, match="ours has 3 runs, plain 2; expected no more"):
        table({"plain": runs(1, 2), "ours": runs(1, 2, 3)}, "plain")


def test_a_variant_changes_its_recipe() -> None:
    loaded = Variant("mini/plain", {"optimizer": {"lr": 0.5}, "tune": "qv"}).load(4)
    assert (loaded.seed, loaded.optimizer.lr, loaded.tune, loaded.name) == (4, 0.5, "qv", "plain")
    assert loaded.optimizer.warmup == load_recipe("mini/plain").optimizer.warmup, (
        "the rest of a section stays"
    )
    with pytest.raises(ValueError, match="is a recipe for pretraining"):
        Variant("mini/pretrain").load(0)
    with pytest.raises(ValueError, match="unknown key 'lrr' in optimizer"):
        Variant("mini/plain", {"optimizer": {"lrr": 1.0}}).load(0)


def test_further_changes_of_a_variant_join_those_it_has() -> None:
    first = Variant("mini/kl", {"objective": {"weight": 2.0}, "optimizer": {"lr": 0.5}}, paper=True)
    second = first.changed(optimizer={"head_lr": 0.1}, steps=3)
    recipe = second.load(0)
    assert (recipe.optimizer.lr, recipe.optimizer.head_lr, recipe.steps) == (0.5, 0.1, 3) and second.paper
    assert recipe.objective == {"name": "kl", "weight": 2.0} and first.load(0).steps != 3


def test_a_description_tells_what_differs_from_the_defaults() -> None:
    got = settings_of({"ours": Variant("mini/plain", {"tune": "qv"}, paper=True)}, seed=5)["ours"]
    assert (
        got["recipe"] == "mini/plain" and got["paper"] is True and got["tune"] == "qv" and got["steps"] == 400
    )
    assert "seed" not in got and "machine" not in got
    plain = load_recipe("mini/plain").optimizer
    assert got["optimizer"] == {"lr": plain.lr, "warmup": plain.warmup}, "of a section what differs"


def test_a_score_has_metrics_of_every_split_and_the_probes(recipe: str) -> None:
    run = train(recipe, progress=False)
    scores = score_run(run, splits=("test-known", "test"), scenes=16)
    assert set(scores) == {"test-known", "test", "probes"}
    assert {"mIoU", "mIoU_unseen", "hIoU"} <= scores["test"].keys()
    assert scores["test"] != scores["test-known"]
    assert {"margin", "relation_bits", "cka_2"} <= scores["probes"].keys() and scores["probes"]["cka_2"] < 1
    flat = table({"a": [scores, scores]}, "a")["a"]
    assert {"test/mIoU", "test-known/hIoU", "probes/margin"} <= flat.keys()


def test_a_grid_is_tuned_on_validation_scenes(variants: dict, tmp_path: Path) -> None:
    run_variants(variants, [100, 101], tmp_path, score_tuning)
    records = gather(variants, [100, 101], tmp_path)
    got, runs = tuned(records), records["hot/full"]
    assert list(got) == list(variants) and tuple(got["hot/full"]) == shown_metrics({STUFF})
    assert got["hot/full"]["mIoU_seen"] == pytest.approx(sum(r["val"]["mIoU_seen"] for r in runs) / 2)
    assert not {"test-known", "test", "probes"} & runs[0].keys(), "test scenes are not looked at"


def test_a_run_of_pretraining_has_no_such_score() -> None:
    with pytest.raises(ValueError, match="got a run of pretraining"):
        score_run(Run(load_recipe("mini/pretrain"), torch.nn.Identity(), []))


@pytest.mark.parametrize("part", [(0, 2), (3, 2)])
def test_a_part_that_cannot_be_is_refused(part: tuple[int, int], variants: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 <= k <= n"):
        run_variants(variants, [0], tmp_path, first_weight, part=part)


def test_a_run_of_another_recipe_is_run_again(variants: dict, tmp_path: Path) -> None:
    run_variants(variants, [0], tmp_path, first_weight)
    before = gather(variants, [0], tmp_path)["plain"][0]
    changed = {"plain": Variant(variants["plain"].recipe, {"steps": 1})}
    assert gather(changed, [0], tmp_path) == {}, "what is reported is of the recipe as it is now"
    run_variants(changed, [0], tmp_path, first_weight)
    after = gather(changed, [0], tmp_path)["plain"][0]
    assert (before["recipe"]["steps"], after["recipe"]["steps"]) == (2, 1) and before["test"] != after["test"]


def test_a_table_needs_its_baseline_and_pairs() -> None:
    record = {"label": "a", "seed": 0, "test": {"mIoU": 0.5}}
    with pytest.raises(ValueError, match="no baseline 'plain'; expected one of a"):
        table({"a": [record] * 2}, "plain")
    with pytest.raises(ValueError, match="b has 3 runs, a 2; expected no more"):
        table({"a": [record] * 2, "b": [record] * 3}, "a")


def scored(run: Run) -> dict[str, Any]:
    return {"test": dict.fromkeys(METRICS, run.recipe.seed + run.recipe.optimizer.lr)}


def study_of(variants: dict[str, Variant], **options: Any) -> Study:
    return Study("trial", variants, {"": "plain", "full: ": "full: plain"}, scored, **options)


@pytest.fixture
def grouped(recipe: str) -> dict[str, Variant]:
    """Two groups, each with its baseline; a variant adds its rate to its score."""
    rates = {"plain": 0.1, "ours": 0.3, "full: plain": 0.1, "full: ours": 0.6}
    return {label: Variant(recipe, {"steps": 1, "optimizer": {"lr": rate}}) for label, rate in rates.items()}


def test_a_study_compares_each_group_with_its_own_baseline(grouped: dict, tmp_path: Path) -> None:
    planned = [("ours", "plain"), ("full: ours", "ours"), ("later", "plain")]
    trial = study_of(grouped, contrasts=planned, grid={"slow": grouped["plain"]}, grid_seeds=(100,))
    written = trial.run(seeds=3, folder=tmp_path / "runs", out=tmp_path / "trial.json")
    assert written == json.loads((tmp_path / "trial.json").read_text())
    rows = written["table"]
    assert list(rows) == list(grouped) and written["missing"] == [] and written["seeds"] == 3
    assert rows["ours"]["test/hIoU"]["difference"]["mean"] == pytest.approx(0.2)
    assert rows["full: ours"]["test/hIoU"]["difference"]["mean"] == pytest.approx(0.5)
    assert not {"difference"} & (rows["plain"]["test/hIoU"].keys() | rows["full: plain"]["test/hIoU"].keys())
    assert list(written["grid"]) == ["slow"] and written["baselines"] == ["plain", "full: plain"]
    found = written["contrasts"]["test"]
    assert [(c["first"], c["second"]) for c in found] == planned[:2], "what is not measured is left out"
    assert [c["mean"] for c in found] == pytest.approx([0.2, 0.3])


def test_a_report_names_what_is_not_finished_and_needs_its_baselines(grouped: dict, tmp_path: Path) -> None:
    done = {label: grouped[label] for label in ("plain", "ours", "full: plain")}
    study_of(done).run(seeds=2, folder=tmp_path, out=tmp_path / "a.json")
    report = study_of(grouped).report(seeds=2, folder=tmp_path, out=tmp_path / "b.json")
    assert report["missing"] == ["full: ours"] and list(report["table"]) == list(done)
    with pytest.raises(FileNotFoundError, match="expected 'plain' and 'full: plain'"):
        study_of(grouped).report(seeds=3, folder=tmp_path, out=tmp_path / "c.json")


def test_what_a_study_adds_is_in_its_report(grouped: dict, tmp_path: Path) -> None:
    plain = {"plain": grouped["plain"]}
    trial = Study(
        "trial", plain, {"": "plain"}, scored, adds=lambda records, rows: {"runs": len(records["plain"])}
    )
    assert trial.run(seeds=2, folder=tmp_path, out=tmp_path / "a.json")["runs"] == 2


def test_the_longest_prefix_says_the_baseline() -> None:
    trial = study_of({})
    assert [trial.baseline_of(label) for label in ("kl", "full: kl")] == ["plain", "full: plain"]
    with pytest.raises(ValueError, match="got label 'kl'; expected one that begins with full: "):
        Study("trial", {}, {"full: ": "full: plain"}, scored).baseline_of("kl")


def test_a_row_has_a_name_that_every_system_allows(tmp_path: Path) -> None:
    assert run_path(tmp_path, "full: wise | 0.5", 3) == tmp_path / "runs" / "full- wise - 0.5-3.json"
    assert run_path(tmp_path, "full/1e-05", 0).name == "full-1e-05-0.json"
