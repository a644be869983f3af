"""The list that the pack is built from, read and checked: which source file is which noun, instance and side.

An entry of a noun is one source file. Entries with the same `id` are one instance (views and variants of one
thing); entries with the same `series` are different instances of one hand. Neither may lie on two sides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .licences import WHOLE_ONLY, groups_of

SPLITS = ("train", "val", "test")
GROUND_SPLITS = ("train", "test")  # validation scenes are pasted on the grounds of train
ROLES = ("seen", "dev-unseen", "unseen", "captions")
FEWEST = {False: (4, 2), True: (3, 1)}  # instances to learn from (validation included) and to test, by `thin`


def read_selection(path: Path) -> dict[str, Any]:
    """The checked selection.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a licence is missing or forbidden, a noun has too few instances for its role, an instance,
            series or source lies on two sides, a ground lies in neither train nor test, or a photograph of
            the real test is learnt from or is a ground.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}; expected the list of nouns and source files that ships with the pack"
        )
    selection = json.loads(path.read_text(encoding="utf-8"))
    for noun, entry in selection["nouns"].items():
        if entry["role"] not in ROLES:
            raise ValueError(f"{noun}: got role {entry['role']!r}, expected one of {', '.join(ROLES)}")
        _check_licences(noun, entry["instances"])
        if entry["role"] != "captions":
            _check_count(noun, entry)
    for stuff, entries in selection["textures"].items():
        _check_licences(stuff, entries)
    _check_sides(selection)
    for photograph in selection["photographs"]:
        if photograph.get("licence") not in WHOLE_ONLY:
            _check_licences(photograph["noun"], [photograph])
        if photograph["noun"] not in selection["nouns"]:
            raise ValueError(f"{photograph['source']}: noun {photograph['noun']!r} is not in the vocabulary")
    return selection


def instances(entry: dict[str, Any], split: str) -> set[str]:
    """The ids of a noun's instances on one side."""
    return {item["id"] for item in entry["instances"] if item["split"] == split}


def _check_licences(word: str, entries: list[dict[str, Any]]) -> None:
    for item in entries:
        if not item.get("licence"):
            raise ValueError(
                f"{word}: {item['source']} has no licence; expected an SPDX name, or leave the picture out"
            )
        if not item.get("author"):
            raise ValueError(f"{word}: {item['source']} has no author; expected whom to credit")
        groups_of(item["licence"])


def _check_count(noun: str, entry: dict[str, Any]) -> None:
    thin = bool(entry.get("thin"))
    learn = len(instances(entry, "train") | instances(entry, "val"))
    test = len(instances(entry, "test"))
    if learn < FEWEST[thin][0] or test < FEWEST[thin][1]:
        raise ValueError(
            f"{noun}: got {learn} instances to learn from and {test} to test, a segmentation noun needs "
            f"{FEWEST[thin][0]} and {FEWEST[thin][1]}; give it the role captions"
        )


def _check_sides(selection: dict[str, Any]) -> None:
    """Nothing lies on two sides, and no photograph of the real test is learnt from or pasted on."""
    grounds = {
        item["source"]: item["split"] for entries in selection["textures"].values() for item in entries
    }
    for source, split in grounds.items():
        if split not in GROUND_SPLITS:
            raise ValueError(
                f"ground {source}: got split {split!r}, expected {' or '.join(GROUND_SPLITS)}; "
                "validation scenes use the grounds of train"
            )
    side: dict[str, str] = {}
    for key, split, source in _keys(selection):
        if split not in SPLITS:
            raise ValueError(f"{source}: got split {split!r}, expected one of {', '.join(SPLITS)}")
        if side.setdefault(key, split) != split:
            raise ValueError(
                f"{key} lies in {side[key]} and in {split} ({source}); an instance or series has one side"
            )
    for photograph in selection["photographs"]:
        if side.get(f"source {photograph['source']}", "test") != "test":
            raise ValueError(
                f"{photograph['source']} is in the real-photograph test and in training; take it out of one"
            )
        if photograph["source"] in grounds:
            raise ValueError(
                f"{photograph['source']} is in the real-photograph test and a ground; take it out of one"
            )


def _keys(selection: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for noun, entry in selection["nouns"].items():
        for item in entry["instances"]:
            yield f"instance {item['id']}", item["split"], item["source"]
            yield f"source {item['source']}", item["split"], item["source"]
            if "series" in item:
                yield f"series {item['series']} of {noun}", item["split"], item["source"]
    for entries in selection["textures"].values():
        for item in entries:
            yield f"texture {item['source']}", item["split"], item["source"]
