"""CREDITS.md of Collage, from its manifest: who made what, from which package, under which licence."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from .licences import GROUPS

_HEAD = """# Collage: credits and licences

Written from `manifest.json` by `infoclip-lite data rebuild`; every picture's source, its hash and its
licence are there. The pictures were cropped, cut out, rendered, scaled and re-encoded from
these works.
A scene is pasted from pictures of one group only, so that no two licences meet that must not:

{groups}

Photographs of the real-photograph test (`photographs/`) are shown whole and are part of no scene.
"""
LINKS = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "GPL-2.0-only": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "GPL-2.0-or-later": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
}


def credits(manifest: dict[str, Any], photographs: list[dict[str, Any]]) -> str:
    """The text, in Markdown."""
    groups = "\n".join(f"- `{name}`: {', '.join(licences)}" for name, licences in GROUPS.items())
    parts = [_HEAD.format(groups=groups)]
    for title, records in (
        ("Cut-outs", manifest["pictures"]),
        ("Grounds", manifest["textures"]),
        ("Photographs of the real test", photographs),
    ):
        parts.append(
            f"## {title}\n\n| work | author | licence | package |\n|---|---|---|---|\n{rows(records)}"
        )
    parts.append("## Licences\n\n" + "\n".join(f"- {name}: <{link}>" for name, link in LINKS.items()))
    return "\n".join(parts)


def rows(records: list[dict[str, Any]]) -> str:
    """One row for each author, licence and package: the works' names, linked where an address is known."""
    works: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for record in records:
        package, _, path = record["source"].partition(":")
        name = path.rpartition("/")[2].rpartition(".")[0] or path
        key = (record["author"], record["licence"], package)
        works[key][name] = f"[{name}]({record['url']})" if "url" in record else name
    lines = []
    for (author, licence, package), names in sorted(
        works.items(), key=lambda item: (item[0][2], item[0][1], item[0][0])
    ):
        lines.append(
            f"| {', '.join(names[name] for name in sorted(names))} | {author} | {licence} | {package} |"
        )
    return "\n".join(lines) + "\n"
