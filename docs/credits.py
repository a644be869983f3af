"""Whose works the site's pictures are made of, and under which licence."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from infoclip_lite.core.files import data_dir
from infoclip_lite.core.reports import JsonObject
from infoclip_lite.datasets.collage.building.credits import LINKS


class Credited(Protocol):
    """A picture that is made of others: what to call it, and files of the pack."""

    @property
    def title(self) -> str:
        """What to call it."""

    @property
    def sources(self) -> Sequence[str]:
        """Files of the pack that it is made of."""


def credits_table(pictures: Iterable[Credited]) -> str:
    """HTML: whose works the pictures are made of, and under which licence."""
    by_file = {
        record["file"]: record
        for record in (
            *records("manifest.json", "pictures"),
            *records("manifest.json", "textures"),
            *records("photographs.json"),
        )
    }
    rows = []
    for picture in pictures:
        for place, file in enumerate(picture.sources):
            first = f'<th scope="rowgroup" rowspan="{len(picture.sources)}">{html.escape(picture.title)}</th>'
            rows.append(f"<tr>{'' if place else first}{_credit(by_file[file])}</tr>")
    head = "<tr><th>picture</th><th>work</th><th>author</th><th>licence</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def records(file: str, key: str | None = None) -> list[JsonObject]:
    """What the pack says of its pictures.

    Args:
        file: a JSON file of the pack.
        key: of a list in it; None where the file is one.
    """
    content = json.loads((data_dir() / "collage" / file).read_text())
    return content if key is None else content[key]


def _credit(record: JsonObject) -> str:
    name = Path(record["file"]).stem
    licence = record["licence"]
    cells = (
        _link(record.get("url"), name),
        html.escape(record["author"]),
        _link(LINKS.get(licence), licence),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _link(address: str | None, text: str) -> str:
    text = html.escape(text)
    return f'<a href="{html.escape(address)}" rel="noreferrer">{text}</a>' if address else text
