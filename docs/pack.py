"""What the datasheet of Collage says that its manifest knows better: counts, nouns, licences, packages."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from infoclip_lite.datasets.collage.building.licences import GROUPS, WHOLE_ONLY, groups_of

FOLDER = Path(__file__).parents[1] / "data" / "collage"
SIDES = ("train", "val", "test")
Records = list[dict[str, Any]]


def read(folder: Path = FOLDER) -> tuple[dict[str, Any], Records, Records]:
    """The manifest, the photographs of the real test, and the packages with their hashes.

    Raises:
        FileNotFoundError: the pack is not there.
    """
    names = ("manifest.json", "photographs.json", "selection.json")
    manifest, photographs, selection = (json.loads((folder / name).read_text()) for name in names)
    return manifest, photographs, selection["packages"]


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def _instances(records: Iterable[dict[str, Any]]) -> int:
    return len({record["instance"] for record in records})


def counts_part(folder: Path = FOLDER) -> str:
    """Markdown: how many of what, side by side."""
    manifest, photographs, _ = read(folder)
    pictures, textures = manifest["pictures"], manifest["textures"]
    kinds: list[tuple[str, Records, Callable[[Records], int]]] = [
        ("instances (a photograph, or all views of a model)", pictures, _instances),
        ("cut-outs", pictures, len),
        ("of them views of models", [r for r in pictures if r["kind"] == "render"], len),
        ("of them photographs", [r for r in pictures if r["kind"] == "photograph"], len),
        (f"textures of {len({r['stuff'] for r in textures})} kinds of stuff", textures, len),
    ]
    rows = [
        [
            what,
            *(f"{count([r for r in records if r['split'] == side]):,}" for side in SIDES),
            f"{count(records):,}",
        ]
        for what, records, count in kinds
    ]
    nouns = len({record["noun"] for record in photographs})
    rows.append(
        [f"whole photographs of {nouns} nouns, the real test", "", "", len(photographs), len(photographs)]
    )
    return _table(["", *SIDES, "all"], rows)


def roles_part(folder: Path = FOLDER) -> str:
    """Markdown: the nouns by role, and how many instances each role has on each side."""
    manifest, _, _ = read(folder)
    told = {
        "seen": "pixels are learnt from",
        "dev-unseen": "no pixel is learnt from; every choice looks at these",
        "unseen": "no pixel is learnt from; opened at the end",
        "captions": "in captions and pictures only, too few instances to segment",
    }
    rows = []
    for role, meaning in told.items():
        nouns = [noun for noun, entry in manifest["nouns"].items() if entry["role"] == role]
        records = [record for record in manifest["pictures"] if record["noun"] in nouns]
        sides = [_instances(r for r in records if r["split"] == side) for side in SIDES]
        rows.append([f"`{role}`", meaning, len(nouns), *sides])
    return _table(["role", "", "nouns", *SIDES], rows)


def nouns_part(folder: Path = FOLDER) -> str:
    """Markdown: every noun with pixels, with its role, official names, and instances by side, kind, group."""
    manifest, _, _ = read(folder)
    by_noun: dict[str, Records] = defaultdict(list)
    for record in manifest["pictures"]:
        by_noun[record["noun"]].append(record)
    rows = []
    for noun, entry in manifest["nouns"].items():
        if entry["role"] == "captions":
            continue
        records = by_noun[noun]
        official = ", ".join(f"{name.upper()}: {word}" for name, word in entry.get("official", {}).items())
        sides = (_instances(r for r in records if r["split"] == side) for side in SIDES)
        kinds = (_instances(r for r in records if r["kind"] == kind) for kind in ("photograph", "render"))
        groups = (_instances(r for r in records if group in groups_of(r["licence"])) for group in GROUPS)
        rows.append(
            [
                f"{noun}{' (thin)' if entry.get('thin') else ''}",
                entry["role"],
                official,
                *sides,
                *kinds,
                *groups,
            ]
        )
    head = [
        "noun",
        "role",
        "official names",
        *SIDES,
        "photographs",
        "models",
        *(f"`{group}`" for group in GROUPS),
    ]
    return _table(head, rows)


def gaps_part(folder: Path = FOLDER) -> str:
    """Markdown: which nouns with pixels a group of scenes cannot show, and the nouns of captions alone."""
    manifest, _, _ = read(folder)
    shown = {(r["noun"], g, r["split"]) for r in manifest["pictures"] for g in groups_of(r["licence"])}
    segmented = [noun for noun, entry in manifest["nouns"].items() if entry["role"] != "captions"]
    rows = []
    for group in GROUPS:
        for side in ("train", "test"):
            lost = [noun for noun in segmented if (noun, group, side) not in shown]
            rows.append([f"`{group}`", side, len(segmented) - len(lost), ", ".join(lost) or "none"])
    captions = sorted(noun for noun, entry in manifest["nouns"].items() if entry["role"] == "captions")
    split = manifest["voc_like"]
    return (
        _table(["scenes", "side", "nouns shown", "nouns without an instance there"], rows)
        + f"\nThe VOC-like split: seen {', '.join(split['seen'])}; unseen {', '.join(split['unseen'])}.\n"
        + f"\n<details><summary>{len(captions)} nouns are in captions alone</summary>\n"
        + f"\n{', '.join(captions)}.\n\n</details>\n"
    )


def licences_part(folder: Path = FOLDER) -> str:
    """Markdown: what is under which licence, and in which scenes it may be pasted."""
    manifest, photographs, _ = read(folder)
    sets = (manifest["pictures"], manifest["textures"], photographs)
    names = sorted({record["licence"] for records in sets for record in records})
    rows = []
    for name in names:
        groups = (
            "none, shown whole only" if name in WHOLE_ONLY else ", ".join(f"`{g}`" for g in groups_of(name))
        )
        rows.append([name, *(sum(r["licence"] == name for r in records) for records in sets), groups])
    authors = len({record["author"] for records in sets for record in records})
    head = ["licence", "cut-outs", "textures", "photographs of the test", "scenes"]
    return _table(head, rows) + f"\n{authors} authors are credited.\n"


def packages_part(folder: Path = FOLDER) -> str:
    """Markdown: the packages that everything comes from, and how many pictures each gave."""
    manifest, photographs, packages = read(folder)
    given: dict[str, int] = defaultdict(int)
    for record in [*manifest["pictures"], *manifest["textures"], *photographs]:
        given[record["source"].partition(":")[0]] += 1
    where = {"deb": "Debian", "npm": "npm", "pypi": "PyPI"}
    rows: list[list[object]] = [
        [
            where[p["kind"]],
            f"`{p['name']}` {p['version']}",
            given.get(p["name"], 0) or "none: the cutting tool",
            f"`{p['sha256'][:12]}`",
        ]
        for p in packages
    ]
    rows.append(["ours", "synthesised from a number", given.get("synthesised", 0), ""])
    return _table(["from", "package", "pictures", "SHA-256 begins"], rows)


def parts(folder: Path = FOLDER) -> dict[str, str]:
    """Every generated part of the datasheet, by the name of its file."""
    made = {
        "counts": counts_part,
        "roles": roles_part,
        "nouns": nouns_part,
        "gaps": gaps_part,
        "licences": licences_part,
        "packages": packages_part,
    }
    return {f"generated/pack_{name}.part.md": make(folder) for name, make in made.items()}
