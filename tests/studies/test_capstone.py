"""The capstone: equal cost, seeds that nobody knew, a comparison in numbers, and nothing trained twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from infoclip_lite import load_clip
from infoclip_lite.datasets import Collage
from infoclip_lite.evaluation import evaluate
from infoclip_lite.segmentors import ZeroShotSegmentor
from infoclip_lite.studies import capstone
from infoclip_lite.studies.capstone import RIVAL, Judgement, check_entry, judge_recipe
from infoclip_lite.studies.rows import METRICS
from infoclip_lite.studies.runs import run_path
from infoclip_lite.studies.variants import Variant
from infoclip_lite.training.recipe import load_finetuning

SMALL = """
task: finetune
name: small
clip: {{name: {clip}}}
segmentor: {{name: zero_shot, read_outs: [value]}}
steps: 2
batch: 2
data: {{name: collage, size: 32}}
optimizer: {{warmup: 0}}
evaluation: {{at: [1, 2], scenes: 2}}
machine: {{dtype: float32}}
"""
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a recipe with some lines over a budget of two steps, against a rival that goes half way back."""
    budget = tmp_path / "small.yaml"
    budget.write_text(SMALL.format(clip=tiny_checkpoint))
    monkeypatch.setattr(capstone, "BUDGET", str(budget))
    monkeypatch.setattr(capstone, "RIVAL", ("rival", Variant(str(budget), {"interpolate": 0.5})))
    monkeypatch.setattr(capstone, "SCENES", 6)

    def recipe(*lines: str, name: str = "mine") -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text("\n".join([f"base: {budget}", f"name: {name}", *lines]))
        return str(path)

    return recipe


def test_every_pair_is_scored_on_scenes_of_its_own_seed(write: Write, tmp_path: Path) -> None:
    recipe = write("optimizer: {lr: 3.0e-2}")
    # A CLIP that knows words: a random one has every pixel wrong, before and after.
    Path(capstone.BUDGET).write_text(SMALL.format(clip="collage-mini"))
    judged = judge_recipe(recipe, seeds=2, seed=70, folder=tmp_path / "a")
    assert list(judged.scores) == ["yours", "rival", "zero-shot"] and judged.name == "mine"
    assert judged.seed == 70 and judged.seconds.keys() == {"yours", "rival"}
    clip = load_clip("collage-mini")
    plain = ZeroShotSegmentor(clip, clip.read_outs)
    for place, seed in enumerate((70, 71)):
        yours, rival = (
            json.loads(run_path(tmp_path / "a", label, seed).read_text()) for label in ("yours", "rival")
        )
        scenes = Collage("test", size=32, seed=seed, length=6)
        assert yours["zero-shot"]["pAcc"] == pytest.approx(evaluate(plain, scenes).metrics["pAcc"])
        assert yours["zero-shot"] == rival["zero-shot"] != yours["test"] != rival["test"]
        assert yours["recipe"]["seed"] == rival["recipe"]["seed"] == seed and yours["evaluations"] == []
        for metric, values in judged.scores["yours"].items():
            assert values[place] == yours["test"][metric]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds of every judgement from here on; nothing is trained."""
    seen: list[list[int]] = []
    metrics = dict.fromkeys(METRICS, 0.5)
    record = {"test": metrics, "zero-shot": metrics, "seconds": {"start": 0.0, "train": 1.0}}

    def run(variants: dict, seeds: Sequence[int], *_: object, **__: object) -> None:
        seen.append(list(seeds))

    monkeypatch.setattr(capstone, "run_variants", run)
    monkeypatch.setattr(
        capstone, "gather", lambda variants, seeds, _: {label: [record for _ in seeds] for label in variants}
    )
    return seen


def test_seeds_are_drawn_and_each_judgement_has_its_own(
    write: Write, tmp_path: Path, asked: list[list[int]]
) -> None:
    firsts = {judge_recipe(write(), seeds=3, folder=tmp_path / "a").seed for _ in range(4)}
    assert len(firsts) == 4 and min(firsts) >= 10_000, "away from those of reports and notebooks"
    assert all(seeds == list(range(seeds[0], seeds[0] + 3)) for seeds in asked)
    assert judge_recipe(write(), seed=5, folder=tmp_path / "a").seed == 5


def test_a_judgement_that_is_broken_off_goes_on_with_its_seed(
    write: Write, tmp_path: Path, asked: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def killed(variants: dict, seeds: Sequence[int], *_: object, **__: object) -> None:
        begun.extend(seeds)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(capstone, "run_variants", killed)
        with pytest.raises(KeyboardInterrupt):
            judge_recipe(write(), folder=tmp_path / "a")
    drawn = begun[0]
    judged = judge_recipe(write(), folder=tmp_path / "a")
    assert judged.seed == drawn and asked[-1] == begun == [drawn, drawn + 1, drawn + 2]
    kept = json.loads((tmp_path / "a" / "judgement.json").read_text())
    assert kept["seed"] == drawn and kept["difference"] == {"mean": 0.0, "half": 0.0}
    assert judge_recipe(write(), folder=tmp_path / "a").seed != drawn, "a finished one is not gone on with"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("steps: 3",), "learns from 6 labelled scenes (3 steps of 2); expected at most 4"),
        (("batch: 3",), "learns from 6 labelled scenes (2 steps of 3); expected at most 4"),
        (("start: {budget}",), "learns from 8 labelled scenes (2 steps of 2 + 2 steps of 2)"),
        (("data: {{seen: [chair]}}",), "data of mine is"),
        (("data: {{size: 48}}",), "another contest"),
        (("clip: {{name: collage-mini}}",), "clip of mine is"),
        (("start: mini/head", "steps: 1", "batch: 1"), "data of head is"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_costs_more_or_learns_from_other_things_is_refused(
    lines: tuple[str, ...], said: str, write: Write
) -> None:
    recipe = write(*(line.format(budget=capstone.BUDGET) for line in lines))
    with pytest.raises(ValueError) as error:
        judge_recipe(recipe)
    assert said in str(error.value) and "expected" in str(error.value)


def test_less_than_the_budget_and_another_way_to_learn_may_enter(write: Write) -> None:
    entry = check_entry(write("steps: 1", "tune: qv", "objective: {name: l2sp, weight: 0.1}"))
    assert (entry.steps, entry.tune) == (1, "qv")


def test_mistakes_are_told(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds is 1; expected at least 2"):
        judge_recipe(write(), seeds=1)
    with pytest.raises(ValueError, match="seed is -1"):
        judge_recipe(write(), seed=-1)
    with pytest.raises(FileNotFoundError, match=r"no recipe 'nope\.yaml'"):
        judge_recipe("nope.yaml")
    with pytest.raises(ValueError, match="expected a recipe, a YAML file"):
        judge_recipe(tmp_path / "mine.py")
    with pytest.raises(ValueError, match="is a recipe for pretraining"):
        judge_recipe("mini/pretrain")


def judgement(*points: float) -> Judgement:
    """A recipe that is so many points above the rival, seed by seed."""
    base = [0.30, 0.34, 0.32]
    metrics = {"mIoU_seen": base, "mIoU_unseen": base}
    yours = [value + point / 100 for value, point in zip(base, points, strict=True)]
    rival, plain = {**metrics, "hIoU": base}, {**metrics, "hIoU": base}
    scores = {"yours": {**metrics, "hIoU": yours}, RIVAL[0]: rival, "zero-shot": plain}
    return Judgement("mine", 123456, scores, {"yours": 61.0, RIVAL[0]: 59.0})


def test_the_table_says_in_numbers_where_zero_is() -> None:
    # A deviation of 1 point over 3 seeds: a half-width of 4.303 / sqrt(3) = 2.48.
    sure, unsure = str(judgement(3, 4, 5)), str(judgement(-1, 0, 1))
    assert "+4.0 points, 95% interval +1.5 to +6.5 over 3 seeds; zero is 1.5 points outside" in sure
    assert "-2.5 to +2.5 over 3 seeds; zero is 2.5 points inside" in unsure
    assert "zero is 1.5 points outside" in str(judgement(-3, -4, -5))
    head, _, *rows, _ = sure.splitlines()
    assert "seeds 123456 to 123458" in head and "--seed 123456" in head
    assert [row[:36].strip() for row in rows] == ["yours", RIVAL[0], "zero-shot"]
    assert rows[0].split()[-1] == "61" and "36.0 +-" in rows[0] and "32.0 +-" in rows[2]


def test_the_rival_costs_what_everybody_may_spend() -> None:
    rival, budget = RIVAL[1].load(0), load_finetuning(capstone.BUDGET)
    assert capstone._labelled(rival) == capstone._labelled(budget) == 3200
    assert (rival.data, rival.clip) == (budget.data, budget.clip) and rival.objective is None
