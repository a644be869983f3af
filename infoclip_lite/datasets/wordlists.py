"""Words that no caption names: common nouns to distil, and words like a noun of the pack to be measured on.

`common.json`, `synonyms.json` and `definitions.json` in data/words ship with the package and are read
here; `build` makes them again from WordNet 3.0 and the frequencies of the package wordfreq.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypedDict

from ..core.files import data_dir, whole_file
from .collage import all_nouns, stuff
from .wordnet import WordNet

COMMON, SAMPLED, HELD_OUT = 4000, 100, 50
CHECKED = {"ox": "cow", "couch": "sofa", "puppy": "dog", "automobile": "car"}  # shown by themselves
# Nouns of the pack when the lists were drawn, and no longer: without them other words would be drawn.
_LEFT = ("clock", "monkey", "pencil", "doll")
_KINDS = {"animal", "artifact", "food", "object", "plant", "substance"}
_PEOPLE = {"worker": 9, "athlete": 9, "adult": 1, "juvenile": 2}  # people to be seen, and steps below
_COMPOUND = 2.5  # off the frequency of several words: wordfreq takes them for independent
_RAREST = 2.5  # wordfreq's Zipf scale: one word in three million
_SOURCE = {
    "wordnet": "3.0 (Debian wordnet-base 1:3.0-37)",
    "licence": "WordNet 3.0 license, Copyright 2006 by Princeton University",
    "frequencies": "wordfreq 3.1 (a tool of the builder)",
}
COMMON_RULE = (
    "The 4000 most frequent lemmas of WordNet whose first sense is an animal, artifact, food, object, plant "
    "or substance, or a person below the first senses of worker, athlete, adult and juvenile; lower case, "
    "letters only, three or more; in WordNet's tagged texts at least as often a noun as anything else; "
    "several words only where those texts have them, and counted as 300 times rarer than wordfreq guesses. "
    "No word of the pack, none of choices.json's unfit ones, and none that contains a held-out word."
)
SYNONYMS_RULE = (
    "Lemmas of the synset of a noun of the pack and of its hyponyms one or two steps below (one word; or "
    "several in the noun's own synset) whose first sense that is; nearest to one noun alone; not in the pack "
    "and sharing no whole word with it, singular or plural; Zipf frequency 2.5 or more; sense of each noun "
    "and words with another everyday meaning as in choices.json, checked by hand before anything was "
    "measured. Nouns in random order give one word each until 150 are drawn; shuffled; the first 100 may be "
    "distilled, the last 50 are held out."
)


class Synonym(NamedTuple):
    """A word, the noun of the pack that it means, and how many steps below that noun WordNet has it."""

    word: str
    noun: str
    steps: int


class _Choices(TypedDict):
    senses: dict[str, str]
    without: list[str]
    dropped: list[str]
    unfit: list[str]


def pack_stuff() -> tuple[str, ...]:
    """The kinds of background of the pack, sorted: the order that distillation draws them in."""
    return tuple(sorted(stuff()))


@cache
def common_nouns() -> tuple[str, ...]:
    """Common nouns to distil, the most frequent first; none is of the pack, none is held out."""
    return tuple(_read("words/common.json")["words"])


@cache
def synonyms(*, held_out: bool = False) -> tuple[Synonym, ...]:
    """Words that mean a noun of the pack, or a kind of it.

    Args:
        held_out: the 50 that may never be distilled, instead of the 100 that may.

    Returns:
        Those that were sampled, without the words of nouns that have left the pack since.
    """
    rows = _read("words/synonyms.json")["held_out" if held_out else "synonyms"]
    return tuple(each for each in (Synonym(*row) for row in rows) if each.noun in all_nouns())


@cache
def distilled_words() -> tuple[str, ...]:
    """Everything that may be distilled: nouns and stuff of the pack, common nouns, synonyms not held out."""
    more = [*common_nouns(), *CHECKED, *(synonym.word for synonym in synonyms())]
    return tuple(dict.fromkeys([*all_nouns(), *pack_stuff(), *more]))


@cache
def definitions() -> dict[str, str]:
    """WordNet's definition of every distilled word that it has, in the sense of the list or of the pack."""
    distilled = set(distilled_words())
    told = _read("words/definitions.json")["definitions"]
    return {word: text for word, text in told.items() if word in distilled}


def build(wordnet: str | Path, folder: str | Path, *, seed: int = 0) -> None:
    """Make the lists again: the same words and definitions from the same WordNet and wordfreq.

    Args:
        wordnet: folder with WordNet's `data.noun`, `index.noun` and `cntlist.rev`.
        folder: where `choices.json` is, and the three other files are written.
        seed: of the sample.

    Raises:
        FileNotFoundError: no WordNet, or no choices.json.
        ModuleNotFoundError: the package wordfreq is not installed.
    """
    from wordfreq import zipf_frequency  # a tool of the builder alone

    def frequency(word: str) -> float:
        return zipf_frequency(word, "en")

    folder, database = Path(folder), WordNet(wordnet)
    choices: _Choices = json.loads((folder / "choices.json").read_text(encoding="utf-8"))
    drawn = sample(candidates(database, choices, frequency), SAMPLED + HELD_OUT, seed)
    kept, held_out = drawn[:SAMPLED], drawn[SAMPLED:]
    senses = {noun: _sense(database, choices, noun) for noun in (*_drawn_from(), *pack_stuff())}
    _write(
        folder / "synonyms.json",
        {
            "rule": SYNONYMS_RULE,
            "seed": seed,
            **_SOURCE,
            "synonyms": kept,
            "held_out": held_out,
            "synsets": {noun: offset for noun, offset in senses.items() if offset},
        },
    )
    refused = {*choices["unfit"], *_drawn_from(), *pack_stuff()}
    words = _common(database, frequency, refused, [synonym.word for synonym in held_out])
    _write(folder / "common.json", {"rule": COMMON_RULE, **_SOURCE, "words": words})
    for word in (*words, *CHECKED, *(synonym.word for synonym in kept)):
        senses[word] = database.sense(word.replace(" ", "_"))
    told = {word: database.synsets[offset].definition for word, offset in senses.items() if offset}
    _write(folder / "definitions.json", {**_SOURCE, "definitions": told})


def candidates(
    database: WordNet, choices: _Choices, frequency: Callable[[str], float]
) -> dict[str, list[Synonym]]:
    """Every word that the rule allows, by noun."""
    near: dict[str, list[tuple[int, str]]] = {}
    for noun in _drawn_from():
        offset = _sense(database, choices, noun)
        for lower, steps in database.under(offset, 2).items() if offset else ():
            near.setdefault(lower, []).append((steps, noun))
    taken = {_singular(part) for name in (*_drawn_from(), *pack_stuff()) for part in name.split()}
    joined = {name.replace(" ", "") for name in _drawn_from()}
    refused = {*choices["dropped"], *CHECKED}
    found: dict[str, list[Synonym]] = {}
    for offset, nouns in near.items():
        (steps, noun), *others = sorted(nouns)
        if others and others[0][0] == steps:
            continue  # as much the one noun as the other
        for lemma in database.synsets[offset].words:
            word = lemma.replace("_", " ")
            parts = word.split()
            plain = word == word.lower() and "".join(parts).isalpha() and (steps == 0 or len(parts) == 1)
            own = plain and database.senses[lemma][0] == offset
            new = "".join(parts) not in joined and not taken & {_singular(part) for part in parts}
            if own and new and word not in refused and frequency(word) >= _RAREST:
                found.setdefault(noun, []).append(Synonym(word, noun, steps))
    return found


def sample(by_noun: dict[str, list[Synonym]], count: int, seed: int) -> list[Synonym]:
    """Draw words so that they spread over nouns: in random order each gives one, then each another, ...

    Raises:
        ValueError: fewer candidates than that.
    """
    there = sum(map(len, by_noun.values()))
    if there < count:
        raise ValueError(f"got {there} candidates; expected at least {count}: relax the rule")
    rng = random.Random(seed)
    piles = [rng.sample(by_noun[noun], len(by_noun[noun])) for noun in sorted(by_noun)]
    rng.shuffle(piles)
    rounds = [pile[turn] for turn in range(max(map(len, piles))) for pile in piles if turn < len(pile)]
    drawn = rounds[:count]
    rng.shuffle(drawn)
    return drawn


def _common(
    database: WordNet, frequency: Callable[[str], float], refused: set[str], held_out: Collection[str]
) -> list[str]:
    never = {_singular(word) for word in held_out}
    people = {
        lower for root, depth in _PEOPLE.items() for lower in database.under(database.senses[root][0], depth)
    }
    ranked: list[tuple[float, str]] = []
    for lemma, senses in database.senses.items():
        first, word = database.synsets[senses[0]], lemma.replace("_", " ")
        parts = word.split()
        seen = first.kind in _KINDS or senses[0] in people
        # Of a name the synset has capitals, and the index has not.
        if not seen or lemma not in first.words or not "".join(parts).isalpha() or len(word) < 3:
            continue
        as_noun, otherwise = database.tagged.get(lemma, (0, 0))
        noun = as_noun >= otherwise and (as_noun > 0 or len(parts) == 1)
        if noun and word not in refused and not never & {_singular(part) for part in (*parts, word)}:
            ranked.append((_COMPOUND * (len(parts) > 1) - frequency(word), word))
    return [word for _, word in sorted(ranked)[:COMMON]]


def _drawn_from() -> tuple[str, ...]:
    return tuple(dict.fromkeys([*all_nouns(), *_LEFT]))


def _sense(database: WordNet, choices: _Choices, noun: str) -> str | None:
    """The synset that a noun of the pack means: as chosen, else its first."""
    if noun in choices["without"]:
        return None
    lemma, _, number = choices["senses"].get(noun, f"{noun.replace(' ', '_')}.1").partition(".")
    return database.sense(lemma, int(number))


def _singular(word: str) -> str:
    """The word without a plural's s; other plurals stay as they are."""
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _read(file: str) -> dict:
    return json.loads((data_dir() / file).read_text(encoding="utf-8"))


def _write(path: Path, content: dict) -> None:
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
