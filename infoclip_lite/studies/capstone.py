"""The capstone: a recipe of one's own against the best cheap rival, at equal cost, on scenes drawn for it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.files import whole_file
from ..core.reports import JsonObject
from ..core.statistics import Interval, interval, paired_interval
from ..datasets import build_data
from ..evaluation import evaluate
from ..segmentors import ZeroShotSegmentor
from ..training.acceleration import autocast, dtype_of
from ..training.recipe import FineTuneRecipe, load_finetuning, merged
from ..training.run import Run
from .rows import METRICS
from .runs import SCENES, Records, Scoring, gather, run_variants
from .variants import Variant

# The recipe whose cost and data are everybody's: as many labelled scenes, of these nouns, in this size.
BUDGET = "mini/plain-few"
# Who is to be beaten: the best of what costs no teacher, at that cost. Another one is another line here.
RIVAL = ("WiSE-FT, queries and values", Variant("mini/plain-few-qv", {"interpolate": 0.5}))
YOURS, ZERO_SHOT = "yours", "zero-shot"
# Drawn seeds begin here: smaller ones are those of reports, notebooks and of settings that were chosen.
_FIRST, _LAST = 10_000, 1_000_000
_SPLIT = "test"


@dataclass(frozen=True)
class Judgement:
    """What a recipe scored beside its rival and CLIP itself.

    Attributes:
        name: of the reader's recipe.
        seed: first of the seeds that trainings and scenes were drawn with.
        scores: method -> metric of nouns -> one fraction a seed, the same seeds for all.
        seconds: method -> seconds of a training, mean over the seeds; CLIP itself is not trained.
    """

    name: str
    seed: int
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    seconds: Mapping[str, float]

    @property
    def difference(self) -> Interval:
        """hIoU of nouns, the recipe minus its rival, paired by seed; fractions."""
        return paired_interval(*(self.scores[method]["hIoU"] for method in (YOURS, RIVAL[0])))

    def to_json(self) -> dict[str, object]:
        """What is kept in the folder."""
        difference = self.difference.to_json()
        return {**vars(self), "rival": RIVAL[0], "difference": difference}

    def __str__(self) -> str:
        lines = [
            f"{self.name}: trainings and scenes of seeds {self.seed} to {self.seed + self._seeds - 1}; "
            f"the same again with --seed {self.seed}",
            f"{'mIoU of nouns, %':<36}{'seen':>7}{'unseen':>8}{'hIoU':>15}{'s a training':>14}",
            *map(self._row, self.scores),
            self._verdict(),
        ]
        return "\n".join(lines)

    @property
    def _seeds(self) -> int:
        return len(self.scores[YOURS]["hIoU"])

    def _row(self, method: str) -> str:
        seen, unseen, both = (interval(self.scores[method][key]) for key in METRICS)
        seconds = f"{self.seconds[method]:.0f}" if method in self.seconds else ""
        hiou = f"{100 * both.mean:.1f} +-{100 * both.ci95:4.1f}"
        return f"{method:<36}{100 * seen.mean:>7.1f}{100 * unseen.mean:>8.1f}{hiou:>15}{seconds:>14}"

    def _verdict(self) -> str:
        """The difference, its interval, and how far zero is from the interval's nearer end."""
        d = self.difference
        distance = 100 * abs(abs(d.mean) - d.ci95)
        where = "outside" if d.excludes_zero else "inside"
        return (
            f"{YOURS} minus {RIVAL[0]}, hIoU: {100 * d.mean:+.1f} points, 95% interval "
            f"{100 * d.low:+.1f} to {100 * d.high:+.1f} over {self._seeds} seeds; "
            f"zero is {distance:.1f} points {where}"
        )


def judge_recipe(
    recipe: str | Path,
    *,
    seeds: int = 3,
    seed: int | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> Judgement:
    """Train a recipe and its rival with seeds that nobody knew, and score both on scenes that nobody saw.

    Args:
        recipe: YAML file (or name) of fine-tuning: the data and CLIP of `BUDGET`, no more labelled scenes.
        seeds: pairs of trainings; the k-th is scored on scenes of its own, so that the interval speaks of
            other trainings and of other scenes.
        seed: the first of them; None draws one, or takes that of a judgement that was broken off in `folder`.
        folder: where finished runs are kept, runs/judge/NAME by default; the same call goes on from there.
        progress: show progress bars.

    Returns:
        A Judgement; it is kept in the folder as judgement.json too.

    Raises:
        ValueError: fewer than two seeds, a negative one, or a recipe that costs more than the rival, learns
            from other data or tunes another CLIP.
        FileNotFoundError: no such recipe.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}; expected at least 2: one pair has no interval")
    if seed is not None and seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    entry = check_entry(recipe)
    where = folder or Path("runs") / "judge" / entry.name.replace("/", "-")
    first = _first_seed(where, seed)
    variants = {YOURS: _unwatched(Variant(str(recipe))), RIVAL[0]: _unwatched(RIVAL[1])}
    drawn = range(first, first + seeds)
    run_variants(variants, drawn, where, _scoring(), progress=progress)
    records = gather(variants, drawn, where)
    judgement = Judgement(entry.name, first, _scores(records), _seconds(records))
    with whole_file(where / "judgement.json") as scratch:
        scratch.write_text(json.dumps(judgement.to_json(), indent=1) + "\n")
    # Finished: the next judgement draws again.
    (where / "drawn.json").unlink(missing_ok=True)
    return judgement


def check_entry(recipe: str | Path) -> FineTuneRecipe:
    """A recipe that may be judged.

    Args:
        recipe: name or YAML file.

    Raises:
        ValueError: it costs more than `BUDGET`, learns from other data or tunes another CLIP; a recipe of
            pretraining, or no recipe at all.
        FileNotFoundError: no such recipe.
    """
    if Path(recipe).suffix == ".py":
        raise ValueError(
            f"got {recipe}; expected a recipe, a YAML file of a few lines: 'base: {BUDGET}' and what is "
            "different; an objective of your own becomes a name by one line in a table (docs/add_your_own.md)"
        )
    entry, budget = load_finetuning(recipe), load_finetuning(BUDGET)
    # Where it starts, too: what was learnt there from other pixels would be brought along.
    for stage in _stages(entry):
        for section in ("data", "clip"):
            got, expected = getattr(stage, section), getattr(budget, section)
            if got != expected:
                raise ValueError(
                    f"{section} of {stage.name} is {got}; expected that of {BUDGET}, {expected}: with other "
                    "scenes, words or weights it is another contest, so leave the section out and begin with "
                    f"base: {BUDGET}"
                )
    cost, most = _labelled(entry), _labelled(budget)
    if cost > most:
        raise ValueError(
            f"{recipe} learns from {cost} labelled scenes ({_sum(entry)}); expected at most {most}, as "
            f"{BUDGET} does ({_sum(budget)}): take fewer steps or a smaller batch"
        )
    return entry


def _stages(recipe: FineTuneRecipe) -> list[FineTuneRecipe]:
    """What is trained for a recipe: where it starts, and itself."""
    return [recipe] if recipe.start is None else [*_stages(load_finetuning(recipe.start)), recipe]


def _labelled(recipe: FineTuneRecipe) -> int:
    return sum(stage.steps * stage.batch for stage in _stages(recipe))


def _sum(recipe: FineTuneRecipe) -> str:
    return " + ".join(f"{stage.steps} steps of {stage.batch}" for stage in _stages(recipe))


def _unwatched(variant: Variant) -> Variant:
    """A variant that is not evaluated on the way, which takes time and changes nothing."""
    return replace(variant, changes=merged(variant.changes, {"evaluation": {"at": []}}))


def _first_seed(folder: Path, seed: int | None) -> int:
    """The seed that was asked for, or that of a judgement that was broken off here, or a new one."""
    kept = folder / "drawn.json"
    if seed is None and kept.exists():
        seed = int(json.loads(kept.read_text(encoding="utf-8"))["seed"])
    elif seed is None:
        seed = _FIRST + secrets.randbelow(_LAST - _FIRST)
    # Before anything is trained: a judgement that is killed goes on with the same scenes.
    with whole_file(kept) as scratch:
        scratch.write_text(json.dumps({"seed": seed}))
    return seed


def _scoring() -> Scoring:
    """Metrics of a run, and of the CLIP that it began with, on test scenes of the run's own seed."""
    untrained: dict[int, Mapping[str, float]] = {}

    def score(run: Run) -> dict[str, object]:
        recipe, reference = run.recipe, run.reference
        if not isinstance(recipe, FineTuneRecipe) or reference is None:
            raise ValueError("got a run of pretraining; expected one of fine-tuning")
        scenes = build_data({**recipe.data, "seed": recipe.seed, "length": SCENES}, _SPLIT)
        with autocast(reference.device, dtype_of(recipe.machine.dtype)):
            if recipe.seed not in untrained:
                plain = ZeroShotSegmentor(reference, reference.read_outs)
                untrained[recipe.seed] = evaluate(plain, scenes).metrics
            return {_SPLIT: evaluate(run, scenes).metrics, ZERO_SHOT: untrained[recipe.seed]}

    return score


def _scores(records: Records) -> dict[str, dict[str, list[float]]]:
    def of(runs: Sequence[JsonObject], group: str) -> dict[str, list[float]]:
        return {key: [run[group][key] for run in runs] for key in METRICS}

    return {label: of(runs, _SPLIT) for label, runs in records.items()} | {
        ZERO_SHOT: of(records[YOURS], ZERO_SHOT)
    }


def _seconds(records: Records) -> dict[str, float]:
    totals = {
        label: [run["seconds"]["start"] + run["seconds"]["train"] for run in runs]
        for label, runs in records.items()
    }
    return {label: sum(values) / len(values) for label, values in totals.items()}
