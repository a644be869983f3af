"""A row of a comparison: a recipe, what is changed in it, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace

from ..datasets.collage.words import seen_nouns, stuff, voc_like
from ..training.recipe import FineTuneRecipe, load_finetuning, merged


@dataclass(frozen=True)
class Variant:
    """One row of a comparison.

    Attributes:
        recipe: name of a recipe.
        changes: keys of it to replace; a section is changed key by key, as by `load_recipe`.
        paper: whether this is what the paper describes, or our variant.
    """

    recipe: str
    changes: Mapping[str, object] = field(default_factory=dict)
    paper: bool = False

    def load(self, seed: int) -> FineTuneRecipe:
        """The recipe with its changes and a seed.

        Raises:
            ValueError: a recipe for pretraining, or changes that the recipe refuses.
        """
        return load_finetuning(self.recipe, **merged(self.changes, {"seed": seed}))

    def changed(self, **changes: object) -> Variant:
        """The same with further changes, section by section."""
        return replace(self, changes=merged(self.changes, changes))


def in_wide(variant: Variant) -> Variant:
    """The same in the wide split: all words compete, and every noun is labelled that may be."""
    # All keys are named: a recipe's own `seen`, or another split's words, must not stay.
    section = {"name": "collage", "size": 96, "classes": None, "seen": list(seen_nouns())}
    return variant.changed(data=section)


def in_voc_like(variant: Variant) -> Variant:
    """The same in the VOC-like split: its own words compete, its own nouns are labelled."""
    seen, unseen = voc_like()
    return variant.changed(data={"classes": [*seen, *unseen, *stuff()], "seen": list(seen)})


def settings_of(variants: Mapping[str, Variant], seed: int = 0) -> dict[str, dict[str, object]]:
    """What each variant runs: its recipe, whether it is the paper's, and what differs from the defaults."""
    found: dict[str, dict[str, object]] = {}
    for label, variant in variants.items():
        settings = _differing(replace(variant.load(seed), seed=0))
        found[label] = {"recipe": variant.recipe, "paper": variant.paper, **settings}
    return found


def _differing(recipe: FineTuneRecipe) -> dict[str, object]:
    """Keys that differ from the defaults; of a section with fields of its own only the fields that differ."""
    plain = FineTuneRecipe(name="", steps=0)
    differing: dict[str, object] = {}
    for key, value in vars(recipe).items():
        default = getattr(plain, key)
        if value == default:
            continue
        if is_dataclass(value):
            differing[key] = {k: v for k, v in vars(value).items() if v != getattr(default, k)}
        else:
            differing[key] = value
    return differing
