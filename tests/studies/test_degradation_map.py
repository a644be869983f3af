"""The map of fine-tuning: what a cell is called, and which rate one would use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infoclip_lite.core.reports import JsonObject, read_report
from infoclip_lite.core.statistics import Interval
from infoclip_lite.datasets import held_out_data
from infoclip_lite.datasets.collage import segmentation_nouns, stuff
from infoclip_lite.studies import degradation_map as study
from infoclip_lite.studies.rows import curves_json, map_curves
from infoclip_lite.studies.runs import _as_json
from infoclip_lite.training.build import build_segmentor
from infoclip_lite.training.recipe import FineTuneRecipe, load_finetuning

METRICS = ("mIoU_seen", *(metric for pair in study.SORTS.values() for metric in pair))


def runs(
    seen: float, unseen: float, spread: float = 0.0, seeds: int = 3
) -> dict[str, list[dict[str, float]]]:
    """Seeds that begin at 0.3 and 0.2 and end that much above, give or take `spread`."""
    found = {}
    for seed, noise in zip(range(seeds), (-spread, spread, 0.0), strict=False):
        start = {"step": 0, **{metric: 0.3 if "un" not in metric else 0.2 for metric in METRICS}}
        end = {
            metric: value + noise + (unseen if "un" in metric else seen)
            for metric, value in start.items()
            if metric != "step"
        }
        found[str(seed)] = [start, {"step": 800, **end}]
    return found


@pytest.mark.parametrize(
    ("seen", "unseen", "wanted"),
    [
        (-0.1, -0.1, "broken"),
        (0.1, -0.1, "forgetting"),
        (0.1, 0.1, "kept"),
        (0.1, -0.01, "kept"),  # below, but not by more than the seeds differ
        (0.01, -0.1, "lost"),
        (0.01, -0.01, "no gain"),
        (-0.01, 0.1, "no gain"),
    ],
)
def test_a_cell_is_called_by_what_its_intervals_say(seen: float, unseen: float, wanted: str) -> None:
    assert study.verdict(Interval(seen, 0.03), Interval(unseen, 0.03)) == wanted


def test_cells_share_one_spread_over_seeds_and_one_seed_is_enough_for_a_cell() -> None:
    zero_shot = runs(0, 0)["0"][0]
    found = {
        "full/1e-05": runs(0.1, 0.1, 0.02),
        "full/0.0001": runs(0.1, -0.1, 0.02, seeds=2),
        "qv/0.0001": runs(0.01, -0.1, seeds=1),
    }
    rows = study.cell_rows(found, zero_shot)
    assert [row["seeds"] for row in rows.values()] == [3, 2, 1]
    halves = [row["differences"][study.SEEN]["half"] for row in rows.values()]
    assert halves == pytest.approx([halves[2] / 3**0.5, halves[2] / 2**0.5, halves[2]]) and halves[2] > 0.01
    assert [row["verdict"]["test"] for row in rows.values()] == ["kept", "forgetting", "lost"]
    last = rows["full/0.0001"]["curves"][study.UNSEEN][-1]
    assert last == {"step": 800, "mean": 0.1, "half": round(halves[1], 5)}


def test_new_and_known_instances_have_verdicts_of_their_own() -> None:
    known_seen, known_unseen = study.SORTS["test-known"]
    found = {"full/1e-05": runs(-0.1, -0.1, 0.01)}
    for path in found["full/1e-05"].values():
        path[-1] |= {known_seen: 0.5, known_unseen: 0.1}
    row = study.cell_rows(found, runs(0, 0)["0"][0])["full/1e-05"]
    assert row["verdict"] == {"test": "broken", "test-known": "forgetting"}


def test_a_head_that_begins_at_random_is_measured_from_zero_shot() -> None:
    better = runs(0, 0)["0"][0] | {study.SEEN: 0.5}
    row = study.cell_rows({"head/0.01": runs(0.1, 0.1, 0.01)}, better)["head/0.01"]
    assert row["verdict"]["test"] == "broken", "0.3 is where it began, 0.5 what CLIP could before"


def test_a_rate_is_usable_by_seen_nouns_of_validation_scenes_alone() -> None:
    ends = {"full/1e-05": (0.1, 0.3), "full/0.0001": (0.3, -0.2), "full/0.001": (0.2, 0), "qv/1e-05": (0, 0)}
    found = {label: runs(*end) for label, end in ends.items()}
    for path in found["full/0.001"].values():
        path[-1][study.SEEN] = 0.9  # test scenes are not asked
    rows = study.cell_rows(found, runs(0, 0)["0"][0])
    assert study.usable(rows) == {"full": "0.0001", "qv": "1e-05"}


def test_the_map_has_five_tunings_and_five_rates_that_load() -> None:
    cells = study.cells()
    assert len(cells) == 25 + len(study.BACKGROUND_RATES)
    loaded = {label: variant.load(0) for label, variant in cells.items()}
    assert {recipe.tune for recipe in loaded.values()} == {"stem", "full", "image", "qv", "none"}
    assert {recipe.steps for recipe in loaded.values()} == {800}
    assert loaded["full/0.0003"].optimizer.lr == 3e-4
    assert {label for label, recipe in loaded.items() if recipe.background} == {
        f"background/{rate:g}" for rate in study.BACKGROUND_RATES
    }
    assert loaded["head/0.01"].optimizer.head_lr == 1e-2
    assert all(recipe.evaluation.at[-1] == recipe.steps for recipe in loaded.values())


def test_what_is_finished_is_reported_and_the_rest_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick(
        recipe: FineTuneRecipe, starts: object, score: object, watch: object, progress: bool, state: None
    ) -> JsonObject:
        path = runs(0.1, -0.1, 0.01)[str(recipe.seed % 3)]
        for at, iou in zip(path, (0.4, 0.3 - 0.1 * recipe.seed), strict=True):
            at[f"{study.IOU}cow"] = iou
        return {"recipe": _as_json(recipe), "evaluations": path}

    monkeypatch.setattr("infoclip_lite.studies.runs._run", quick)
    out = tmp_path / "map.json"
    first = study.degradation_map(seeds=2, part=(1, 3), folder=tmp_path, out=out)
    assert not first["cells"] and len(first["missing"]) == len(study.cells()), "no cell has two seeds"
    assert first["missing"]["full/1e-05"] == 1
    whole = study.degradation_map(seeds=2, folder=tmp_path, out=out)
    assert not whole["missing"] and set(whole["cells"]) == set(study.cells())
    assert whole["cells"]["full/0.0001"]["curves"][study.SEEN][-1]["step"] == 800
    assert set(whole["nouns"]) == {f"{tuning}/{rate}" for tuning, rate in whole["usable"].items()}
    assert all(rows == {"cow": {"before": 0.4, "after": 0.25}} for rows in whole["nouns"].values())


def test_the_report_that_ships_is_of_the_runs_that_ship() -> None:
    report = read_report("degradation_map")
    found = study.what_is_finished(report["seeds"])
    assert found["missing"] == report["missing"] and found["usable"] == report["usable"]
    assert found["nouns"] == report["nouns"]
    read = map_curves()
    assert read.keys() == found["cells"].keys()
    for label, cell in found["cells"].items():
        shipped = report["cells"][label]
        assert (cell["seeds"], cell["verdict"]) == (shipped["seeds"], shipped["verdict"]), label
        assert curves_json(read[label]) == shipped["curves"]
        for metric, points in cell["curves"].items():
            ends = [(points[-1][key], shipped["curves"][metric][-1][key]) for key in ("mean", "half")]
            assert all(ours == pytest.approx(theirs, abs=1e-5) for ours, theirs in ends), (label, metric)


def test_a_cell_is_watched_on_new_and_known_instances_noun_by_noun() -> None:
    recipe = load_finetuning("mini/map", evaluation={"scenes": 4}, data={"size": 32})
    watch = study.on_every_split(recipe)
    segmentor = build_segmentor(recipe)
    begun = watch(0, segmentor)
    assert begun["weight_distance"] == 0
    nouns = {key.removeprefix(study.IOU) for key in begun if key.startswith(study.IOU)}
    data = held_out_data(recipe.data, "test", length=4)
    shown = {noun for scene in (data[i] for i in range(4)) for noun in scene.nouns} - set(stuff())
    assert shown and shown <= nouns <= set(segmentation_nouns())
    for split in ("test", "test-known"):
        assert {
            f"{split}/{key}" for key in ("mIoU_seen", "mIoU_unseen", "mIoU_stuff", "hIoU")
        } <= begun.keys()
        assert 0 <= begun[f"{split}/accuracy_seen"] <= 1
    with torch.no_grad():
        for weight in segmentor.clip.model.parameters():
            weight.mul_(1.1)
    assert watch(1, segmentor)["weight_distance"] == pytest.approx(0.1, rel=1e-4)
