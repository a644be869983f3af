"""Nouns of WordNet 3.0, read from the database's own files (wndb(5WN))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Lexicographer files 03 .. 28, in order: the field that says what kind of thing a synset is.
_KINDS = (
    ["tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event"]
    + ["feeling", "food", "group", "location", "motive", "object", "person", "phenomenon", "plant"]
    + ["possession", "process", "quantity", "relation", "shape", "state", "substance", "time"]
)


class Synset(NamedTuple):
    """One sense: its kind (animal, artifact, ...), words, the synsets one step below, and its definition."""

    kind: str
    words: tuple[str, ...]
    below: tuple[str, ...]
    definition: str


class WordNet:
    """Nouns and their senses.

    Args:
        folder: with `data.noun`, `index.noun` and `cntlist.rev` (Debian's package wordnet-base puts them in
            /usr/share/wordnet).

    Attributes:
        synsets: by offset, the name that the files give them.
        senses: offsets of each lemma (lower case, "_" for a blank), the most frequent first.
        tagged: of each lemma how often it occurs in the texts that WordNet's authors tagged, as a noun
            and as anything else.

    Raises:
        FileNotFoundError: no such files.
    """

    def __init__(self, folder: str | Path) -> None:
        self.synsets: dict[str, Synset] = {}
        for line in _lines(Path(folder) / "data.noun"):
            record, _, gloss = line.partition(" | ")
            fields = record.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            pointers = fields[5 + 2 * len(words) :]
            below = [to for kind, to in zip(pointers[::4], pointers[1::4], strict=False) if kind == "~"]
            definition = gloss.split(";")[0].strip()  # remarks and examples follow it
            self.synsets[fields[0]] = Synset(
                _KINDS[int(fields[1]) - 3], tuple(words), tuple(below), definition
            )
        self.senses: dict[str, list[str]] = {}
        for line in _lines(Path(folder) / "index.noun"):
            fields = line.split()
            self.senses[fields[0]] = fields[-int(fields[2]) :]
        self.tagged: dict[str, tuple[int, int]] = {}
        for line in _lines(Path(folder) / "cntlist.rev"):
            key, _, count = line.split()
            lemma, sense = key.rsplit("%", 1)
            as_noun, otherwise = self.tagged.get(lemma, (0, 0))
            noun = sense[0] == "1"
            self.tagged[lemma] = (as_noun + int(count) * noun, otherwise + int(count) * (not noun))

    def sense(self, lemma: str, number: int = 1) -> str | None:
        """Offset of a lemma's sense, counted from 1; None if WordNet lacks the lemma."""
        senses = self.senses.get(lemma, [])
        return senses[number - 1] if senses else None

    def under(self, offset: str, depth: int) -> dict[str, int]:
        """Synsets at most `depth` steps below one, each with its least number of steps; itself with 0."""
        found, level = {offset: 0}, [offset]
        for step in range(1, depth + 1):
            level = [lower for upper in level for lower in self.synsets[upper].below if lower not in found]
            found.update(dict.fromkeys(level, step))
        return found


def _lines(path: Path) -> Iterator[str]:
    """The lines of a database file without the licence at its head, whose lines begin with a blank."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}; expected WordNet 3.0's database: `apt-get install wordnet-base` puts it in "
            "/usr/share/wordnet"
        )
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith(" "))
