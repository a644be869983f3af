"""Chapter 12: from mini to paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from scipy import stats

from ...core.statistics import ci95_of_mean
from ...training.recipe import Recipe, load_finetuning
from . import exercise
from .compare import Wrong, answered, close


def _flat(recipe: Recipe) -> dict[str, object]:
    """All keys of a recipe, those of a section as section.key."""
    keys: dict[str, object] = {}
    for name, value in asdict(recipe).items():
        if isinstance(value, dict):
            keys |= {f"{name}.{key}": inside for key, inside in value.items()}
        else:
            keys[name] = value
    return keys


def _differ(one: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    """Keys with different values; None and a section that is not there are the same."""
    return {key for key in (*one, *other) if one.get(key) != other.get(key)}


@exercise(
    "12.1",
    "A recipe is all that changes between a laptop and a cluster: read the difference before you pay for it.",
)
def differing(answer: Callable[..., object]) -> None:
    """The answer is a function: two recipes -> the keys that differ, as section.key, the name aside."""
    pairs = (
        ("mini/plain", "mini/kl"),
        ("paper/catseg-vitb16", "paper/infoclip-vitb16"),
        ("mini/infoclip", "paper/infoclip-vitb16"),
    )
    for names in pairs:
        recipes = [load_finetuning(name) for name in names]
        one, other = (_flat(recipe) for recipe in recipes)
        truth = _differ(one, other) - {"name"}
        sections = _differ(*(vars(recipe) for recipe in recipes)) - {"name"}
        found = _keys(answered(answer(*recipes)))
        if found == truth | {"name"}:
            raise Wrong(
                "the name among the keys",
                "what changes the training",
                "leave the name out: it only labels reports",
            )
        if found == sections and sections != truth:
            mistake = "a section that differs says little: name the keys in it, such as optimizer.lr"
            raise Wrong(f"whole sections, {', '.join(sorted(sections))}", f"{len(truth)} keys", mistake)
        if found in ({*one} - truth, {*one} - truth - {"name"}):
            raise Wrong("the keys that are equal", "those that differ", "turn the comparison round")
        if found != truth:
            odd = min(map(str, found ^ truth))
            mistake = (
                f"look at {odd!r} again; flat(recipe) has all keys, and one recipe may have "
                "some that the other lacks"
            )
            raise Wrong(f"{len(found)} keys for {names[0]} and {names[1]}", f"{len(truth)} keys", mistake)


def _keys(found: object) -> set[object]:
    if not isinstance(found, Iterable):
        raise Wrong(f"a {type(found).__name__}", "a set of keys", "collect the keys in a set")
    return set(found)


@exercise("12.2", "What a kill costs is the time since the last state, never the whole run.")
def lost(answer: Callable[..., object]) -> None:
    """The answer is a function: step_seconds, save_every, killed_at -> seconds of work done again."""
    # The last kill comes right after a state, when nothing is lost.
    for seconds, every, step in ((1.5, 200, 4730), (0.5, 100, 80), (2.0, 50, 1000)):
        traps = [
            (seconds * step, "that is all that was done: the run goes on from its last state"),
            (
                seconds * (every - step % every),
                "that is the time to the next state; what is lost lies behind the last",
            ),
            (seconds * every, "that is the worst case; here the step is known"),
            (float(step % every), "those are steps; a step has a time"),
        ]
        truth = seconds * (step % every)
        traps = [(value, mistake) for value, mistake in traps if value != truth]
        what = f"a kill at step {step} with a state every {every} steps"
        close(
            answer(seconds, every, step),
            truth,
            what=what,
            tolerance=1e-6,
            unit=" s",
            traps=traps,
            otherwise="count steps since the state",
        )


@exercise(
    "12.3",
    "Dividing a batch saves memory and leaves gradients alone, but an objective whose samples are "
    "pictures meets fewer of them.",
)
def most_bits(answer: Callable[..., object]) -> None:
    """The answer is a function.

    batch, processes, accumulate -> the most bits among the pictures of a pass.
    """
    # Divided by nothing, by processes, by both, by passes.
    for batch, processes, accumulate in ((4, 1, 1), (4, 4, 1), (16, 2, 2), (32, 1, 4)):
        share = batch / (processes * accumulate)
        traps = [
            (
                math.log2(batch),
                "the objective sees the pictures of one pass in one process, not the whole batch",
            ),
            (math.log2(batch / processes), "each pass sees its part only: accumulate divides too"),
            (math.log2(batch / accumulate), "each process sees its part only: processes divide too"),
            (math.log(share), "those are nats: take the logarithm to base 2"),
            (share, "those are pictures: the largest information of n samples is log2 n bits"),
        ]
        traps = [(value, mistake) for value, mistake in traps if abs(value - math.log2(share)) > 1e-6]
        what = f"a batch of {batch}, {processes} processes, accumulate {accumulate}"
        close(
            answer(batch, processes, accumulate),
            math.log2(share),
            what=what,
            tolerance=1e-6,
            unit=" bits",
            traps=traps,
        )


@exercise("12.4", "Before you compare, ask how many seeds it takes to see the gain that you hope for.")
def seeds_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: deviation, gain -> the fewest seeds whose half-width is at most the gain."""
    # Of few seeds the law matters most: with the normal one too few seem enough.
    for deviation, gain in ((1.0, 0.6), (0.5, 0.6), (2.0, 0.6)):
        truth = next(n for n in range(2, 10_000) if ci95_of_mean(deviation, n) <= gain)
        normal = next(n for n in range(2, 10_000) if 1.96 * deviation / math.sqrt(n) <= gain)
        one_sided = next(
            n for n in range(2, 10_000) if stats.t.ppf(0.95, n - 1) * deviation / math.sqrt(n) <= gain
        )
        traps = [
            (
                normal,
                "1.96 is for a known deviation; of few seeds it is estimated: take Student's t with "
                "n - 1 degrees of freedom",
            ),
            (one_sided, "0.95 leaves five percent on one side alone: a two-sided interval takes 0.975"),
            (truth - 1, "one too few: look at the interval of your answer"),
            (truth + 1, "one fewer would do"),
        ]
        traps = [(value, mistake) for value, mistake in traps if value != truth]
        what = f"a deviation of {deviation:g} and a gain of {gain:g}"
        close(
            answer(deviation, gain),
            truth,
            what=what,
            tolerance=0.5,
            traps=traps,
            otherwise="half width = t(n - 1) deviation / sqrt(n)",
        )


# Why a change to one of these is no way to make the same experiment fit.
_OTHER_EXPERIMENTS = {
    "machine.accumulate": "accumulate shows the objective a part of the batch: two pictures hold one "
    "bit at most, and one holds none",
    "batch": "with fewer pictures in the batch the objective has fewer samples, and gradients are "
    "noisier: another experiment",
    "data.size": "smaller crops are cheaper, but another experiment: the relation has fewer patches",
    "clip.name": "a smaller CLIP is another experiment",
    "objective.name": "another objective saves memory by not being InfoCLIP",
    "objective.axis": "another axis is another objective",
    "segmentor.name": "another segmentor is another experiment",
    "segmentor.size": "a smaller head is another experiment",
    "tune": "with fewer weights that learn it is another experiment",
}


@exercise("12.5", "Of all knobs that save memory, few leave the experiment alone.")
def fits(answer: object) -> None:
    """The answer is a dict of changes to "paper/infoclip-vitb16": a third of the memory, all else equal."""
    changes = answered(answer)
    if not isinstance(changes, dict):
        raise Wrong(
            f"a {type(changes).__name__}", "a dict of keys and values", "write {'section': {'key': value}}"
        )
    try:
        changed = load_finetuning("paper/infoclip-vitb16", **changes)
    except ValueError as error:
        raise Wrong(str(changes), "keys of a recipe", str(error)) from error
    now, before = _flat(changed), _flat(load_finetuning("paper/infoclip-vitb16"))
    for key in _differ(now, before):
        if key in _OTHER_EXPERIMENTS:
            raise Wrong(
                f"{key} = {now.get(key)!r}", "the same training with less memory", _OTHER_EXPERIMENTS[key]
            )
    if changed.machine.checkpointing:
        return
    got, mistake = "no fewer activations", "look at the knobs of section 4"
    if changed.machine.dtype != "float32":
        got = "about half of the activations"
        mistake = "16-bit numbers halve what is kept; section 4 has a knob that keeps almost nothing"
    raise Wrong(got, "a third of them or less", mistake)
