"""Contact sheets: every picture that ships, small and named, to be looked at before it ships."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ....core.files import whole_file

_GROUND = (146, 168, 140)
_LINE = 12
_MARKS = {"train": "", "val": "  (val)", "test": "  (test)"}


def sheets(
    target: Path,
    folder: Path,
    words: Sequence[str] | None = None,
    *,
    cell: int = 112,
    columns: int = 14,
    rows: int = 10,
) -> list[Path]:
    """Write the pack's pictures as PNG sheets, word by word.

    Args:
        target: folder of the pack.
        folder: where the sheets go, sheet-01.png and so on; those of an earlier run are replaced, or deleted
            where there are fewer now.
        words: nouns and kinds of ground; None shows all, and the photographs of the real test.
        cell: pixels of a picture's place.
        columns: pictures in a row.
        rows: rows on a sheet.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: the pack has no manifest.
        ValueError: a word has no pictures.
    """
    manifest = target / "manifest.json"
    if not manifest.exists():
        raise FileNotFoundError(f"no {manifest}; expected a pack, build it with `infoclip-lite data rebuild`")
    listing = json.loads(manifest.read_text(encoding="utf-8"))
    records = [(r["noun"], r) for r in listing["pictures"]] + [(r["stuff"], r) for r in listing["textures"]]
    if words is None:
        photographs = json.loads((target / "photographs.json").read_text(encoding="utf-8"))
        records += [(f"photo: {r['noun']}", r) for r in photographs]
    else:
        unknown = set(words) - {word for word, _ in records}
        if unknown:
            raise ValueError(f"the pack has no pictures of {', '.join(sorted(unknown))}")
        records = [(word, record) for word, record in records if word in words]
    files: list[Path] = []
    for start in range(0, len(records), columns * rows):
        part = records[start : start + columns * rows]
        files.append(folder / f"sheet-{len(files) + 1:02d}.png")
        with whole_file(files[-1]) as scratch:
            _sheet(target, part, cell, columns).save(scratch, "PNG")
    for old in set(folder.glob("sheet-*.png")) - set(files):
        if old.stem.removeprefix("sheet-").isdigit():
            old.unlink()
    return files


def _sheet(target: Path, records: list[tuple[str, dict]], cell: int, columns: int) -> Image.Image:
    height = -(-len(records) // columns) * (cell + 2 * _LINE)
    sheet = Image.new("RGB", (columns * cell, height), _GROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (word, record) in enumerate(records):
        left, top = number % columns * cell, number // columns * (cell + 2 * _LINE)
        with Image.open(target / record["file"]) as file:
            picture = file.convert("RGBA")
        picture.thumbnail((cell - 4, cell - 4))
        sheet.paste(picture, (left + 2, top + 2), picture)
        name = Path(record["file"]).stem.removeprefix(word.replace(" ", "_") + "-")
        pen.text((left + 2, top + cell - 2), word[:18], fill=(0, 0, 0))
        pen.text(
            (left + 2, top + cell + _LINE - 2),
            (name[:18] + _MARKS.get(record.get("split", ""), "")),
            fill=(60, 0, 0),
        )
    return sheet
