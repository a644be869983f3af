"""Chapter 15: from mini to paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import cast

import torch
from scipy import stats
from torch import Tensor, nn

from ...core.statistics import ci95_of_mean
from ...training.recipe import Recipe, load_finetuning
from . import exercise
from .compare import Case, Wrong, answered, close_each, listed, varies


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
    "15.1",
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


class _Training:
    """A small training: everything that its next step depends on.

    Args:
        seed: of the first weights and of the batches.

    Attributes:
        model, optimizer, generator, step: what a step uses, and how many are done.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.model = nn.Linear(4, 1)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=self.generator))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.step = 0

    def advance(self, steps: int) -> None:
        """Take some steps: a batch is drawn, and the rate falls with every step."""
        with torch.enable_grad():  # whatever the notebook has switched off
            for _ in range(steps):
                inputs = torch.randn(8, 4, generator=self.generator)
                for group in self.optimizer.param_groups:
                    group["lr"] = 0.1 * (1 - self.step / 40)
                loss = (self.model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.step += 1

    def parts(self) -> dict[str, Tensor]:
        """A copy of what a step depends on, part by part, each as one tensor."""
        moments = [
            value.detach().float().flatten()
            for state in self.optimizer.state_dict()["state"].values()
            for value in state.values()
        ]
        return {
            "weights": nn.utils.parameters_to_vector(self.model.parameters()).detach().clone(),
            "moments of the optimizer": torch.cat(moments) if moments else torch.zeros(0),
            "state of the generator": self.generator.get_state(),
            "number of steps done": torch.tensor(self.step),
        }


_LOST = {
    "weights": "the model's state_dict is missing, or was not put back",
    "moments of the optimizer": "the optimizer remembers, too: its moments are part of the state",
    "state of the generator": "the next batch is another: keep generator.get_state(), and set_state it",
    "number of steps done": "the rate depends on the step: keep the number, and put it back",
}


@exercise(
    "15.2",
    "A state is everything that the next step depends on, copied: weights, moments, where the data are, the "
    "number of the step.",
)
def go_on(answer: object) -> None:
    """The answer is a pair of functions.

    save(training) -> state; load(training, state) makes a new training go on from there, bit by bit.
    """
    pair = listed(answer, what="the answer", perhaps="hand over both functions: (save, load)")
    if len(pair) != 2 or not all(callable(part) for part in pair):
        raise Wrong(f"{len(pair)} things", "two functions", "hand over both functions: (save, load)")
    save, load = cast(Sequence[Callable[..., object]], pair)
    for seed, done, more in ((0, 7, 5), (1, 3, 9)):
        training = _Training(seed)
        training.advance(done)
        then = training.parts()
        state = answered(save(training))
        # The first one trains on before it is killed: a state that was not copied moves with it.
        training.advance(more)
        after, fresh = training.parts(), _Training(seed + 100)
        load(fresh, state)
        _check_state(fresh.parts(), then, after)
        fresh.advance(more)
        if not all(torch.equal(fresh.parts()[name], after[name]) for name in after):
            advice = "something that a step depends on is shared between the two trainings: copy it"
            raise Wrong("other weights after the same steps", "the same, bit by bit", advice)


def _check_state(got: Mapping[str, Tensor], then: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    for name, value in then.items():
        if torch.equal(got[name], value):
            continue
        moved = torch.equal(got[name], after[name])
        live = "state_dict holds the tensors themselves, which move on: copy.deepcopy it"
        raise Wrong(
            f"the {name} of {'a later step' if moved else 'another training'}",
            f"the {name} when the state was written",
            live if moved else _LOST[name],
        )


@exercise(
    "15.3",
    "Dividing a batch saves memory and leaves gradients alone, but an objective whose samples are "
    "pictures meets fewer of them.",
)
def most_bits(answer: Callable[..., object]) -> None:
    """The answer is a function.

    batch, processes, accumulate -> the most bits among the pictures of a pass.
    """
    cases = []
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
        cases.append(Case(what, answer(batch, processes, accumulate), math.log2(share), traps))
    close_each(cases, tolerance=1e-6, unit=" bits")


@exercise("15.4", "Before you compare, ask how many seeds it takes to see the gain that you hope for.")
def seeds_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: deviation, gain -> the fewest seeds whose half-width is at most the gain."""
    cases = []
    # Of few seeds the law matters most: with the normal one too few seem enough.
    for deviation, gain in ((1.0, 0.6), (0.5, 0.6), (2.0, 0.6), (0.3, 1.0)):
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
        cases.append(Case(what, answer(deviation, gain), truth, traps))
    close_each(cases, tolerance=0.5, otherwise="half width = t(n - 1) deviation / sqrt(n)")


_Changes = Mapping[str, object]
# Recipe, what is changed in it, and why that is another training; None: it is the same one.
_KNOBS: tuple[tuple[str, _Changes, str | None], ...] = (
    ("paper/infoclip-vitb16", {"machine": {"checkpointing": True}}, None),
    ("paper/infoclip-vitb16", {"optimizer": {"lr": 1.0}}, "another rate is another training"),
    (
        "paper/infoclip-vitb16",
        {"machine": {"accumulate": 2}},
        "accumulate shows the objective a part of the batch, and its samples are the pictures",
    ),
    ("paper/infoclip-vitb16", {"machine": {"workers": 8, "compile": True}, "data": {"root": "d"}}, None),
    ("mini/infoclip", {"machine": {"accumulate": 2}}, None),
    ("mini/catseg", {"machine": {"accumulate": 4}}, None),
    (
        "paper/infoclip-vitb16",
        {"machine": {"checkpointing": True}, "steps": 1},
        "a free knob beside one that is not: fewer steps are another training",
    ),
    ("paper/catseg-vitb16", {"machine": {"channels_last": True}, "name": "ours"}, None),
    ("paper/catseg-vitb16", {"data": {"size": 192}}, "smaller crops have fewer patches"),
    ("mini/infoclip", {"batch": 4}, "with fewer pictures gradients are noisier"),
    ("mini/infoclip", {"evaluation": {"at": [0, 60, 120], "scenes": 20}}, None),
    ("mini/infoclip", {"objective": {"axis": "class"}}, "another axis is another objective"),
    ("mini/plain", {"tune": "qv"}, "with fewer weights that learn it is another training"),
)
_SAME = "where files are, who reads them, what is kept in memory and what is measured changes no step"


@exercise("15.5", "Of all knobs that save memory, few leave the experiment alone.")
def same_training(answer: Callable[..., object]) -> None:
    """The answer is a function: before, after (recipes) -> whether they train the same, up to rounding."""
    recipes = [(load_finetuning(name), load_finetuning(name, **changes)) for name, changes, _ in _KNOBS]
    given = [answered(answer(before, after)) for before, after in recipes]
    varies([bool(got) for got in given], what="True for some changes, False for others")
    for got, (name, changes, reason) in zip(given, _KNOBS, strict=True):
        if isinstance(got, str) or bool(got) != (reason is None):
            truth = "True" if reason is None else "False"
            if reason is None and "accumulate" in str(changes):
                reason = "this objective looks at no picture beside another: passes of a batch add up to it"
            raise Wrong(f"{got!r} for {dict(changes)} in {name}", truth, reason or _SAME)
