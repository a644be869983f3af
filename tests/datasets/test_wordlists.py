"""The lists of words: what ships keeps its rule, and the builder's sample does what it says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infoclip_lite.core.files import data_dir
from infoclip_lite.datasets import wordlists
from infoclip_lite.datasets.collage import all_nouns
from infoclip_lite.datasets.wordlists import (
    CHECKED,
    Synonym,
    build,
    common_nouns,
    definitions,
    distilled_words,
    pack_stuff,
    sample,
    synonyms,
)
from infoclip_lite.datasets.wordnet import WordNet

HELD_OUT = [synonym.word for synonym in synonyms(held_out=True)]
DATABASE = {
    "data.noun": (
        "  1 a licence\n"
        "00000001 05 n 02 bovid 0 Bos 0 001 ~ 00000002 n 0000 | cattle; a remark  \n"
        "00000002 05 n 01 cow 0 002 @ 00000001 n 0000 ~ 00000003 n 0000 | female cattle; more  \n"
        "00000003 05 n 01 heifer 0 001 @ 00000002 n 0000 | young cow  \n"
    ),
    "index.noun": "  1 a licence\ncow n 1 2 @ ~ 1 1 00000002  \nheifer n 1 1 @ 1 0 00000003  \n",
    "cntlist.rev": "cow%1:05:00:: 1 8\ncow%2:37:00:: 1 3\n",
}


def test_nothing_held_out_can_be_distilled() -> None:
    assert 45 < len(set(HELD_OUT)) <= 50, "without those of nouns that have left the pack"
    assert not set(HELD_OUT) & set(distilled_words())
    parts = {part for word in distilled_words() for part in word.split()}
    assert not set(HELD_OUT) & parts
    assert not set(HELD_OUT) & set(definitions())


def test_words_to_be_measured_on_are_new_and_mean_a_noun_of_the_pack() -> None:
    both = [*synonyms(), *synonyms(held_out=True)]
    words = {synonym.word for synonym in both}
    assert 145 < len(words) <= 150 and not words & {*all_nouns(), *pack_stuff(), *CHECKED}
    assert {synonym.noun for synonym in both} <= set(all_nouns())
    assert not any(set(synonym.word.split()) & set(synonym.noun.split()) for synonym in both)


def test_the_pack_is_the_first_of_what_is_distilled_and_nothing_is_there_twice() -> None:
    pack = (*all_nouns(), *pack_stuff())
    assert distilled_words()[: len(pack)] == pack
    assert len(set(distilled_words())) == len(distilled_words()) >= len(common_nouns()) == 4000
    assert set(definitions()) <= set(distilled_words())


def test_a_sample_takes_one_word_of_every_noun_before_another_of_any() -> None:
    piles = {noun: [Synonym(f"{noun}{number}", noun, 1) for number in range(5)] for noun in "abc"}
    drawn = sample(piles, 6, seed=0)
    assert sorted(synonym.noun for synonym in drawn) == list("aabbcc")
    assert drawn == sample(piles, 6, seed=0) != sample(piles, 6, seed=1)
    with pytest.raises(ValueError, match="got 15 candidates; expected at least 16"):
        sample(piles, 16, seed=0)


def test_the_database_is_read_with_its_kinds_words_and_steps(tmp_path: Path) -> None:
    for name, content in DATABASE.items():
        (tmp_path / name).write_text(content)
    database = WordNet(tmp_path)
    assert database.synsets["00000001"] == ("animal", ("bovid", "Bos"), ("00000002",), "cattle")
    assert database.under("00000001", 2) == {"00000001": 0, "00000002": 1, "00000003": 2}
    assert database.sense("cow") == "00000002" and database.sense("yak") is None
    assert database.tagged["cow"] == (8, 3)


def test_a_folder_without_wordnet_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install wordnet-base"):
        WordNet(tmp_path)


# The rules. A synset: its kind (4 act, 5 animal, 6 artifact, 13 food, 18 person, 20 plant), words, synsets
# below. A word's first synset is its first sense.


def write_wordnet(folder: Path, synsets: dict[str, tuple[int, str, str]], tagged: dict[str, str]) -> None:
    senses: dict[str, list[str]] = {}
    with (folder / "data.noun").open("w") as data:
        for name, (kind, words, below) in synsets.items():
            spelt = " ".join(f"{word} 0" for word in words.split())
            lower = "".join(f" ~ {to} n 0000" for to in below.split())
            head = f"{name} {kind:02} n {len(words.split()):02x} {spelt}"
            data.write(f"{head} {len(below.split()):03}{lower} | a {name}; more\n")
            for word in words.split():
                senses.setdefault(word.lower(), []).append(name)
    with (folder / "index.noun").open("w") as index:
        for lemma, names in senses.items():
            index.write(f"{lemma} n {len(names)} 0 {len(names)} 0 {' '.join(names)}\n")
    with (folder / "cntlist.rev").open("w") as counts:
        for lemma, count in tagged.items():
            as_noun, otherwise = count.split()
            counts.write(f"{lemma}%1:05:00:: 1 {as_noun}\n{lemma}%2:37:00:: 1 {otherwise}\n")


CHOICES = {"senses": {"dog": "dog.2"}, "without": ["hot dog"], "dropped": ["bossy"], "unfit": ["turd"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a list is made for a pack of three nouns and one ground; a word's frequency is 4 or as given."""
    given = {"heifer": 2.5, "stot": 2.49, "hammer": 4.2, "claw hammer": 6.6, "file": 4.05}
    frequencies = SimpleNamespace(zipf_frequency=lambda word, language: given.get(word, 4.0))
    monkeypatch.setitem(sys.modules, "wordfreq", frequencies)
    monkeypatch.setattr(wordlists, "all_nouns", lambda: ("cow", "dog", "hot dog"))
    monkeypatch.setattr(wordlists, "stuff", lambda: ("grass",))
    (tmp_path / "choices.json").write_text(json.dumps(CHOICES))
    return tmp_path


def lists(folder: Path, monkeypatch: pytest.MonkeyPatch, sampled: int, held_out: int) -> tuple[dict, ...]:
    """What `build` writes with so many words drawn: synonyms, common nouns, definitions."""
    monkeypatch.setattr(wordlists, "SAMPLED", sampled)
    monkeypatch.setattr(wordlists, "HELD_OUT", held_out)
    build(folder, folder)
    names = ("synonyms", "common", "definitions")
    return tuple(json.loads((folder / f"{name}.json").read_text()) for name in names)


PEOPLE = {name: (18, name, "") for name in ("worker", "athlete", "adult", "juvenile")}


def test_words_to_be_measured_on_keep_the_rule(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synsets = {
        "chase": (4, "dog springer", ""),  # the first sense of both
        "cow": (5, "cow moo_beast milch_cow Bess bossy", "heifer mongrel"),
        "heifer": (5, "heifer young_cattle springer stot", "calf whelp"),
        "calf": (5, "calf", "calflet"),
        "calflet": (5, "calflet", ""),
        "dog": (5, "dog hound hotdog dogs puppy", "mongrel whelp"),
        "mongrel": (5, "mongrel", ""),  # as much the one noun as the other
        "whelp": (5, "whelp", ""),  # one step below the dog, two below the cow
        "sausage": (13, "hot_dog frankfurter", ""),
        "monkey": (5, "monkey baboon", ""),  # of the pack when the words were drawn
        **PEOPLE,
    }
    write_wordnet(folder, synsets, {})
    expected = [("moo beast", "cow", 0), ("heifer", "cow", 1), ("calf", "cow", 2)]
    expected += [("hound", "dog", 0), ("whelp", "dog", 1), ("baboon", "monkey", 0)]
    synonyms, common, definitions = lists(folder, monkeypatch, 3, 3)
    drawn = [tuple(row) for row in synonyms["synonyms"] + synonyms["held_out"]]
    assert sorted(drawn) == sorted(expected) and len(synonyms["held_out"]) == 3
    assert synonyms["synsets"] == {"cow": "cow", "dog": "dog", "monkey": "monkey"}
    held_out = {word for word, _, _ in synonyms["held_out"]}
    told = set(definitions["definitions"])
    assert not held_out & {*common["words"], *told}
    assert {word for word, _, _ in synonyms["synonyms"]} - {"moo beast"} <= set(common["words"]) <= told
    assert definitions["definitions"]["dog"] == "a dog" and "hot dog" not in told
    with pytest.raises(ValueError, match="got 6 candidates; expected at least 7"):
        lists(folder, monkeypatch, 3, 4)


def test_common_nouns_keep_the_rule(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synsets = {
        "cow": (5, "cow moo", ""),
        "haste": (4, "run", ""),
        "tool": (6, "hammer claw_hammer hand_tool moos_cart run saw file ax mp3 Stanley turd monkey", ""),
        "grass": (20, "grass", ""),
        "ghost": (18, "ghost", ""),
        **PEOPLE,
        "worker": (18, "worker", "smith"),
        "smith": (18, "smith", "farrier"),
        "farrier": (18, "farrier", "shoer"),
        "shoer": (18, "shoer", ""),
        "adult": (18, "adult", "lady"),
        "lady": (18, "lady", "dame"),
        "dame": (18, "dame", ""),
        "juvenile": (18, "juvenile", "kid"),
        "kid": (18, "kid", "toddler"),
        "toddler": (18, "toddler", "tot"),
        "tot": (18, "tot", ""),
    }
    write_wordnet(folder, synsets, {"claw_hammer": "1 0", "moos_cart": "1 0", "saw": "2 3", "file": "3 3"})
    people = ["adult", "athlete", "farrier", "juvenile", "kid", "lady", "shoer", "smith", "toddler", "worker"]
    held_out, sampled = lists(folder, monkeypatch, 0, 1)[1], lists(folder, monkeypatch, 1, 0)[1]
    assert held_out["words"] == ["hammer", "claw hammer", "file", *people]
    # Four of a compound count as 1.5: it comes last.
    assert sampled["words"] == ["hammer", "claw hammer", "file", *sorted([*people, "moo"]), "moos cart"]
    monkeypatch.setattr(wordlists, "COMMON", 2)
    assert lists(folder, monkeypatch, 1, 0)[1]["words"] == ["hammer", "claw hammer"]


def test_the_lists_that_ship_are_made_again(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq", reason="wordfreq (the extra pretrain) is not installed")
    wordnet = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
    if not wordnet.is_dir():
        pytest.skip(f"no WordNet in {wordnet}: apt-get install wordnet-base")
    words = data_dir() / "words"
    (tmp_path / "choices.json").write_bytes((words / "choices.json").read_bytes())
    build(wordnet, tmp_path)
    for name in ("synonyms.json", "common.json", "definitions.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((words / name).read_text())
