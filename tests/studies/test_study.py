"""Paired studies: nothing is run twice, shares of the work make the whole, and differences are taken seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from infoclip_lite import Run, train
from infoclip_lite.studies import study
from infoclip_lite.studies.study import (
    Variant,
    described,
    gather,
    run_path,
    run_variants,
    score_run,
    table,
    tune,
)
from infoclip_lite.training.recipe import load_recipe

Score = Callable[[Run], dict[str, Any]]


@pytest.fixture
def recipe(tmp_path: Path, tiny_checkpoint: Path) -> str:
    """A recipe file of two steps."""
    lines = [
        "task: finetune",
        "name: small",
        f"clip: {tiny_checkpoint}",
        "steps: 2",
        "size: 32",
        "batch: 2",
        "warmup: 0",
        "dtype: float32",
        "scenes: 2",
    ]
    path = tmp_path / "small.yaml"
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def variants(recipe: str) -> dict[str, Variant]:
    return {"plain": Variant(recipe), "hot/full": Variant(recipe, {"lr": 1.0e-2})}


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
    assert record["test"] == first_weight(alone)["test"] and record["log"] == alone.log and record["label"] == "hot/full"
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


def test_a_run_that_dies_in_scoring_leaves_no_record(variants: dict, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="was run again"):
        run_variants(variants, [0], tmp_path, refuse)
    assert not run_path(tmp_path, "plain", 0).exists()
    run_variants(variants, [0], tmp_path, first_weight)
    assert gather(variants, [0], tmp_path)["plain"][0]["test"] == first_weight(train(variants["plain"].load(0), progress=False))["test"]


def test_parts_divide_the_runs(variants: dict, tmp_path: Path) -> None:
    done: list[set[tuple[float, int]]] = []
    for k in (1, 2, 3):
        ran: set[tuple[float, int]] = set()
        run_variants(
            variants,
            [4, 5],
            tmp_path,
            lambda run, ran=ran: (ran.add((run.recipe.lr, run.recipe.seed)), {"test": {}})[1],
            part=(k, 3),
        )
        done.append(ran)
    assert sum(map(len, done)) == 4 == len(set().union(*done)), "no run twice, and together they are the whole"
    assert max(map(len, done)) < 4 and all(len(runs) == 2 for runs in gather(variants, [4, 5], tmp_path).values())


def test_a_common_start_is_trained_once_a_seed(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {
        "a": Variant(recipe, {"start": recipe}),
        "b": Variant(recipe, {"start": recipe, "lr": 1.0e-3}),
    }
    trained: list[tuple[bool, int]] = []

    def counting(what: Any, **options: Any) -> Run:
        run = train(what, **options)
        trained.append((isinstance(what, str), run.recipe.seed))
        return run

    monkeypatch.setattr(study, "train", counting)
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
    assert list(gather(variants, [0, 1], tmp_path)) == ["hot/full"] and list(gather(variants, [0], tmp_path)) == list(variants)


def test_gather_keeps_the_order_of_the_seeds(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        path = run_path(tmp_path, "a", seed)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"seed": seed}))
    assert [r["seed"] for r in gather({"a": Variant("")}, [2, 0, 1], tmp_path)["a"]] == [2, 0, 1]


def runs(*values: float) -> list[dict[str, Any]]:
    return [{"label": "x", "seed": i, "test": {"mIoU": v}, "probes": {"margin": 10 * v}, "log": []} for i, v in enumerate(values)]


def test_the_table_pairs_runs_of_one_seed() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.303."""
    rows = table({"plain": runs(10, 30, 50), "ours": runs(11, 32, 53)}, "plain")
    entry = rows["ours"]["test/mIoU"]
    assert entry.values == (11, 32, 53) and entry.mean == pytest.approx(32)
    assert entry.difference.mean == pytest.approx(2)
    assert entry.difference.ci95 == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert entry.ci95 == pytest.approx(4.3027 * 21 / math.sqrt(3), rel=1e-4), "the runs themselves are spread 21 apart"
    assert rows["ours"]["probes/margin"].difference.mean == pytest.approx(20)
    assert rows["plain"]["test/mIoU"].difference is None and set(rows["ours"]) == {
        "test/mIoU",
        "probes/margin",
    }


def test_runs_that_are_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter|longer|seeds"):
        table({"plain": runs(1, 2, 3), "ours": runs(1, 2)}, "plain")


def test_a_variant_changes_its_recipe() -> None:
    loaded = Variant("mini/plain", {"lr": 0.5, "tune": "qv"}).load(4)
    assert (loaded.seed, loaded.lr, loaded.tune, loaded.name) == (4, 0.5, "qv", "plain")
    with pytest.raises(ValueError, match="mini/pretrain is a recipe for pretraining"):
        Variant("mini/pretrain").load(0)
    with pytest.raises(ValueError, match="unknown key 'lrr'"):
        Variant("mini/plain", {"lrr": 1.0}).load(0)


def test_a_description_tells_what_differs_from_the_defaults() -> None:
    got = described({"ours": Variant("mini/plain", {"tune": "qv"}, paper=True)}, seed=5)["ours"]
    assert got["recipe"] == "mini/plain" and got["paper"] is True and got["tune"] == "qv" and got["steps"] == 200
    assert "seed" not in got and "segmentor" not in got


def test_a_score_has_metrics_of_every_split_and_the_probes(recipe: str) -> None:
    run = train(recipe, progress=False)
    scores = score_run(run, splits=("test", "test-new"), scenes=3)
    assert set(scores) == {"test", "test-new", "probes"}
    assert {"mIoU", "mIoU_unseen", "hIoU"} <= scores["test-new"].keys() and scores["test"] != scores["test-new"]
    assert {"margin", "relation_bits", "cka_2"} <= scores["probes"].keys() and scores["probes"]["cka_2"] < 1
    flat = table({"a": [scores, scores]}, "a")["a"]
    assert {"test/mIoU", "test-new/hIoU", "probes/margin"} <= flat.keys()


def test_a_grid_is_tuned_on_validation_scenes(variants: dict, tmp_path: Path) -> None:
    tune(variants, [100], tmp_path, part=(1, 2))
    assert list(gather(variants, [100], tmp_path)) == ["plain"]
    got = tune(variants, [100, 101], tmp_path)
    runs = gather(variants, [100, 101], tmp_path)["hot/full"]
    assert list(got) == list(variants) and got["hot/full"].keys() == {"mIoU_seen", "mIoU_unseen", "hIoU"}
    assert got["hot/full"]["mIoU_seen"] == pytest.approx(sum(r["val"]["mIoU_seen"] for r in runs) / 2)
    assert not {"test", "test-new", "probes"} & runs[0].keys(), "test scenes are not looked at"


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
    run_variants(changed, [0], tmp_path, first_weight)
    after = gather(changed, [0], tmp_path)["plain"][0]
    assert (before["recipe"]["steps"], after["recipe"]["steps"]) == (2, 1) and before["test"] != after["test"]


def test_a_table_needs_its_baseline_and_pairs() -> None:
    record = {"label": "a", "seed": 0, "test": {"mIoU": 0.5}}
    with pytest.raises(ValueError, match="no baseline 'plain'; expected one of a"):
        table({"a": [record] * 2}, "plain")
    with pytest.raises(ValueError, match="b has 3 runs, a 2; expected the same seeds"):
        table({"a": [record] * 2, "b": [record] * 3}, "a")
