"""The words of Collage and the pictures of each, as the manifest lists them; no picture is opened here."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple, NotRequired, TypedDict

from ...core.files import data_dir
from .building.licences import groups_of


class _NounEntry(TypedDict):
    role: str  # "seen", "dev-unseen", "unseen" or "captions"
    thin: NotRequired[bool]
    official: NotRequired[dict[str, str]]


class _Record(TypedDict):
    """What the manifest says of a picture."""

    file: str
    sha256: str
    split: str  # "train", "val" or "test"
    licence: str
    kind: NotRequired[str]
    noun: NotRequired[str]
    instance: NotRequired[str]
    stuff: NotRequired[str]


class _VocLike(TypedDict):
    seen: list[str]
    unseen: list[str]


class _Manifest(TypedDict):
    nouns: dict[str, _NounEntry]
    voc_like: _VocLike
    pictures: list[_Record]
    textures: list[_Record]


class Instance(NamedTuple):
    """One photographed or modelled thing, or one texture.

    Attributes:
        word: the noun or the kind of stuff.
        side: "train", "val" or "test".
        kind: "photograph", "render" or, of a texture, "texture".
        groups: the groups of scenes that its licence lets it into, "cc", "gpl" or both.
        files: its pictures, relative to the pack: one photograph, or several views of a model.
    """

    word: str
    side: str
    kind: str
    groups: tuple[str, ...]
    files: tuple[str, ...]


@lru_cache(maxsize=1)
def manifest() -> _Manifest:
    """manifest.json of the pack."""
    return json.loads((data_dir() / "collage" / "manifest.json").read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def instances() -> dict[str, tuple[Instance, ...]]:
    """The instances of every noun and kind of stuff."""
    files: dict[tuple[str, str, str, str, tuple[str, ...]], list[str]] = {}
    for record in manifest()["pictures"]:
        groups = groups_of(record["licence"])
        key = (record["noun"], record["split"], record["kind"], record["instance"], groups)
        files.setdefault(key, []).append(record["file"])
    for record in manifest()["textures"]:
        groups = groups_of(record["licence"])
        key = (record["stuff"], record["split"], "texture", record["file"], groups)
        files[key] = [record["file"]]
    found: dict[str, list[Instance]] = {}
    for (word, side, kind, _, groups), pictures in files.items():
        found.setdefault(word, []).append(Instance(word, side, kind, groups, tuple(pictures)))
    return {word: tuple(each) for word, each in found.items()}


def seen_nouns() -> tuple[str, ...]:
    """The nouns whose pixels a segmentor may be trained on."""
    return _of_role("seen")


def dev_nouns() -> tuple[str, ...]:
    """The nouns that are unseen on validation scenes: every choice is made on them."""
    return _of_role("dev-unseen")


def unseen_nouns() -> tuple[str, ...]:
    """The nouns that are unseen on test scenes; a segmentor meets them in captions only."""
    return _of_role("unseen")


def segmentation_nouns() -> tuple[str, ...]:
    """The nouns that are classes: seen, dev-unseen and unseen ones, in this order."""
    return (*seen_nouns(), *dev_nouns(), *unseen_nouns())


def voc_like() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """VOC's classes that the pack has pictures of, after its 15/5 split: seen ones, unseen ones."""
    split = manifest()["voc_like"]
    return tuple(split["seen"]), tuple(split["unseen"])


@lru_cache(maxsize=1)
def stuff() -> tuple[str, ...]:
    """The kinds of background."""
    return tuple(dict.fromkeys(record["stuff"] for record in manifest()["textures"]))


def all_nouns() -> tuple[str, ...]:
    """Every noun of the pack, those outside the segmentation vocabulary too."""
    return tuple(manifest()["nouns"])


def _of_role(role: str) -> tuple[str, ...]:
    return tuple(noun for noun, entry in manifest()["nouns"].items() if entry["role"] == role)
