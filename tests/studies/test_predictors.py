"""What probes say of what is kept: correlations and stops known by construction."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from scipy import stats

from infoclip_lite.studies import predictors as study
from infoclip_lite.studies import repair
from infoclip_lite.studies.degradation_map import SEEN, UNSEEN, cells
from infoclip_lite.studies.predictors import PROBES, Training
from infoclip_lite.studies.runs import run_path

STEPS = (0, 50, 100, 200)


def training(cell: str, seed: int, unseen: list[float], **probes: list[float]) -> Training:
    """Evaluations in which every probe follows `unseen` unless it is given."""
    path = []
    for i, step in enumerate(STEPS):
        followed = {f"cka_{block}": unseen[i] for block in range(7)}
        others = (
            "relation_bits",
            "margin",
            "margin_unseen",
            "image_to_text",
            "text_to_image",
            "noun_recognition",
            "mIoU_seen",
        )
        at = {"step": step, **followed, **dict.fromkeys(others, unseen[i]), "weight_distance": 1 - unseen[i]}
        at |= {SEEN: 0.3, UNSEEN: unseen[i], "test/hIoU": unseen[i], "hIoU": unseen[i]}
        path.append(at | {key: values[i] for key, values in probes.items()})
    return Training(cell, seed, path)


FALLING = [0.9, 0.8, 0.5, 0.2]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is true of 2,000 draws here is true of 200, in a tenth of the time."""
    monkeypatch.setattr(study, "DRAWS", 200)


def test_spearman_is_scipys_with_ties_too() -> None:
    pairs = [(0.1, 3.0), (0.4, 1.0), (0.4, 2.0), (0.9, 2.0), (0.2, -1.0)]
    assert study.spearman(pairs) == pytest.approx(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
    assert study.spearman([(1.0, 0.1), (1.0, 0.7)]) == 0.0


def test_a_probe_that_follows_is_told_from_one_that_goes_against() -> None:
    against = [1 - value for value in FALLING]
    runs = [
        training(
            f"{tuning}/{rate}",
            seed,
            [0.9, *(v - 0.01 * seed - 0.02 * rate for v in FALLING[1:])],
            margin=against,
        )
        for tuning in ("full", "qv")
        for rate in (1, 2, 3)
        for seed in (0, 1)
    ]
    follows = study.correlations(study.rhos(runs, PROBES["bits shared"]))
    assert follows["all"]["rho"] == pytest.approx(1) and follows["within"]["low"] == pytest.approx(1)
    contrary = study.correlations(study.rhos(runs, PROBES["word margin"]))
    assert contrary["qv"]["rho"] < -0.9 and contrary["all"]["high"] < 0
    assert set(follows) == {"all", "full", "qv", "within"}


def test_two_probes_are_compared_in_the_same_draws() -> None:
    rates = {"full": (0.0, 0.2, 0.4), "qv": (0.1, 0.3, 0.5)}
    runs = [
        training(
            f"{tuning}/{rate}",
            0,
            [0.9, 0.8 - rate, 0.5 - rate / 2, 0.4],
            margin=[0.9, 0.8 - rate, 0.5 - rate, 0.4],
        )
        for tuning, of in rates.items()
        for rate in of
    ]
    bits, margin, recall = (
        study.rhos(runs, PROBES[name]) for name in ("bits shared", "word margin", "caption recall")
    )
    same = study.differences(bits, recall)
    assert same == {scope: {"rho": 0.0, "low": 0.0, "high": 0.0} for scope in ("all", "within")}
    found = study.differences(margin, bits)["all"]
    rho = [study.correlations(of)["all"]["rho"] for of in (margin, bits)]
    assert (
        found["rho"] == pytest.approx(rho[0] - rho[1])
        and found["low"] <= found["rho"] <= found["high"] < 0.01
    )


def test_a_difference_between_tunings_is_no_correlation_within() -> None:
    """A probe that only knows which tuning it is."""
    low, high = [0.9, 0.3, 0.31, 0.3], [0.9, 0.7, 0.71, 0.7]
    runs = [training("full/1", 0, low, margin=[1, 0.2, 0.2, 0.2])]
    runs.append(training("qv/1", 0, high, margin=[1, 0.6, 0.6, 0.6]))
    found = study.correlations(study.rhos(runs, PROBES["word margin"]))
    assert found["all"]["rho"] > 0.8 and found["within"]["rho"] == 0


def test_a_run_stops_before_its_probe_has_fallen_too_far() -> None:
    path = training("full/1", 0, FALLING).path
    bits = PROBES["bits shared"]
    limits = (-0.05, -0.15, -0.45, -0.8)
    assert [study.stop_at(path, bits, limit)["step"] for limit in limits] == [0, 50, 100, 200]
    moved = training("full/1", 0, FALLING, weight_distance=[0.0, 0.1, 0.3, 0.8]).path
    distance = PROBES["weight distance"]
    assert [study.stop_at(moved, distance, limit)["step"] for limit in (-0.05, -0.15, -0.5)] == [0, 50, 100]
    back = training("full/1", 0, [0.9, 0.1, 0.9, 0.9]).path
    assert study.stop_at(back, bits, -0.4)["step"] == 0, "what comes after a stop is not seen"


def test_a_rule_is_set_up_on_other_tunings() -> None:
    """Under full tuning it pays to stop at once, under qv never: each is judged by the other's lesson."""
    runs = [training("full/1", seed, FALLING) for seed in (0, 1)]
    rising = {"relation_bits": [0.9, 0.8, 0.5, 0.2]}
    runs += [training("qv/1", seed, [0.1, 0.2, 0.3, 0.4], **rising) for seed in (0, 1)]
    found = study.stopping(runs)
    assert found["best of all"]["hIoU"]["mean"] == pytest.approx((0.9 + 0.4) / 2)
    assert found["last step"]["hIoU"]["mean"] == pytest.approx((0.2 + 0.4) / 2)
    assert found["bits shared"]["hIoU"]["mean"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["no training"]["difference"]["mean"] == pytest.approx((0.9 - 0.2 + 0.1 - 0.4) / 2)


def keep_repaired(folder: Path, unseen: dict[str, float], seeds: int, **probes: float) -> None:
    """Finished runs of the repair study; every probe follows `unseen`, or goes against it."""
    for label, value in unseen.items():
        for seed in range(seeds):
            path = run_path(folder, label, seed)
            path.parent.mkdir(exist_ok=True, parents=True)
            here = value + 0.01 * seed
            at = training("full/1", seed, [0.0, 0.0, 0.0, here]).path[-1]
            run = {
                "recipe": json.loads(json.dumps(asdict(repair.variants()[label].load(seed)))),
                "test": {"mIoU_unseen": here},
                "probes": {**at, **{key: sign * here for key, sign in probes.items()}},
            }
            path.write_text(json.dumps(run))


def test_repaired_trainings_are_a_point_a_variant(tmp_path: Path) -> None:
    worth = dict(zip(repair.variants(), (0.1, 0.4, 0.2, 0.3, 0.5), strict=False))
    keep_repaired(tmp_path, worth, 2, noun_recognition=-1.0)
    # The worst one stands first by this probe, the others in order: nothing is left of a correlation.
    worst = next(iter(worth))
    keep_repaired(tmp_path, {worst: worth[worst]}, 2, noun_recognition=-1.0, cka_2=20.0)
    found = study.repaired(tmp_path, seeds=2)
    assert {point["training"]: point["unseen"] for point in found["points"]} == {
        label: pytest.approx(value + 0.005) for label, value in worth.items()
    }
    assert set(found["correlation"]) == set(study.AT_THE_END)
    assert not any("margin" in name for name in found["correlation"]), "of pixels of the nouns in question"
    follows, against = found["correlation"]["CKA, block 4"], found["correlation"]["noun recognition"]
    assert follows["rho"] == pytest.approx(1) and against["rho"] == pytest.approx(-1)
    assert follows["than bits"] == {"rho": 0.0, "low": 0.0, "high": 0.0}
    assert found["correlation"]["CKA, block 2"]["rho"] == pytest.approx(0)
    assert against["than bits"]["high"] == pytest.approx(-2, abs=1e-6) == against["than bits"]["rho"]
    fewer = study.repaired(tmp_path, seeds=3)
    assert fewer == {"points": [], "correlation": {}}, "none has three seeds"


def test_the_report_is_of_the_maps_finished_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[study.Probe] = []
    own = study.rhos
    monkeypatch.setattr(study, "rhos", lambda runs, probe: (asked.append(probe), own(runs, probe))[1])
    labels = [label for label in cells() if label.startswith(("full", "qv"))]
    for label in [*labels, "head/0.01"]:
        for seed in range(2):
            path = run_path(tmp_path, label, seed)
            path.parent.mkdir(exist_ok=True, parents=True)
            run = training(label, seed, FALLING)
            recipe = asdict(cells()[label].load(seed))
            path.write_text(json.dumps({"seed": seed, "recipe": recipe, "evaluations": run.path}))
    paths = {"folder": tmp_path, "repairs": tmp_path / "repairs", "out": tmp_path / "predictors.json"}
    keep_repaired(paths["repairs"], dict(zip(repair.variants(), (0.1, 0.2, 0.3), strict=False)), 5)
    report = study.predictors(seeds=2, **paths)
    assert len(report["repaired"]["points"]) == 3
    assert asked == list(PROBES.values()), "cells are drawn once a probe"
    assert report["cells"] == labels and len(report["points"]) == len(labels) * 2 * (len(STEPS) - 1)
    assert report["points"][0]["kept"] == pytest.approx(0.8 - 0.9)
    assert set(report["correlation"]) == set(PROBES) and set(PROBES) < set(report["stopping"]) | {"seen mIoU"}
    more = study.predictors(seeds=3, **paths)
    assert more["points"] == report["points"], "a third seed that is not finished changes nothing"
    with pytest.raises(FileNotFoundError, match="no run of the first 3 seeds"):
        study.predictors(seeds=3, **{**paths, "folder": tmp_path / "empty"})
