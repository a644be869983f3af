"""The whole pack, or a part, from its selection: packages in, pictures, manifest and credits out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ....core.files import whole_file
from ....core.lookup import nearest
from .credits import credits
from .pieces import cutouts, photographs, textures
from .selection import read_selection
from .workshop import Work

FOLDERS = ("cutouts", "textures", "photographs")


def build(
    target: Path,
    packages: Path | None = None,
    cache: Path | None = None,
    words: Collection[str] | None = None,
) -> dict[str, Any]:
    """Write cutouts/, textures/, photographs/, manifest.json, photographs.json and CREDITS.md into `target`.

    Everything is made beside the old pack, which stays as it was until all of it is there; then the new files
    take the places of the old ones. A build killed among these last moves leaves a pack that `verify`
    accepts, or whose damage it names: build the whole pack again. Killed at any time, it leaves its scratch
    folder `.build-...` too, which may be deleted.

    Args:
        target: folder of the pack, which must hold selection.json.
        packages: folder of the packages' files, fetched into it where missing; None: a temporary one.
        cache: folder for mattes and views, which cost the time; None computes all of them.
        words: only these nouns and kinds of ground; the pictures and records of others stay as they are.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: no selection.json, or a package cannot be had.
        ModuleNotFoundError: the optional extra "pack" is needed and not installed.
        ValueError: a package's hash differs, the selection breaks a rule (see `read_selection`), or a word
            is not in it.
    """
    selection = read_selection(target / "selection.json")
    _check_words(selection, words)
    _check_tools(selection, words)
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as scratch:
        room = Path(scratch)
        work = Work(room, packages or room / "packages", cache or room / "cache", selection)
        for folder in FOLDERS:
            (work.out / folder).mkdir(parents=True)
        pictures, grounds = list(cutouts(work, words)), list(textures(work, words))
        real = list(photographs(work)) if words is None else _read(target / "photographs.json", [])
        if words is not None:
            old = _read(target / "manifest.json", {"pictures": [], "textures": []})
            pictures = _merged(old["pictures"], pictures, "noun", list(selection["nouns"]), words)
            grounds = _merged(old["textures"], grounds, "stuff", list(selection["textures"]), words)
        nouns = {
            noun: {key: entry[key] for key in ("role", "thin", "official") if key in entry}
            for noun, entry in selection["nouns"].items()
        }
        manifest = {
            "nouns": nouns,
            "voc_like": selection["voc_like"],
            "pictures": pictures,
            "textures": grounds,
        }
        _write(work.out / "manifest.json", json.dumps(manifest, indent=0, ensure_ascii=False))
        _write(work.out / "photographs.json", json.dumps(real, indent=1, ensure_ascii=False))
        _write(work.out / "CREDITS.md", credits(manifest, real))
        _exchange(work.out, target, {record["file"] for record in [*pictures, *grounds, *real]})
    return manifest


def _check_words(selection: dict[str, Any], words: Collection[str] | None) -> None:
    known = [*selection["nouns"], *selection["textures"]]
    for word in words or ():
        if word not in known:
            raise ValueError(f"the selection has no {word!r}; {nearest(word, known)}")


def _check_tools(selection: dict[str, Any], words: Collection[str] | None) -> None:
    """Said before half a gigabyte is fetched, not after."""
    items = [
        item
        for noun, entry in selection["nouns"].items()
        if words is None or noun in words
        for item in entry["instances"]
    ]
    needed = {
        "embreex": ("renders models", any(item["kind"] == "render" for item in items)),
        "onnxruntime": ("cuts photographs out", any(item.get("matte") for item in items)),
    }
    for module, (use, wanted) in needed.items():
        if wanted and find_spec(module) is None:
            raise ModuleNotFoundError(
                f"{module}, which {use}, is not installed; install it: pip install 'infoclip-lite[pack]'"
            )


def _merged(
    old: list[dict], new: list[dict], key: str, order: list[str], words: Collection[str]
) -> list[dict]:
    """The new records of `words` and the old ones of all others, word by word in the selection's order."""
    kept = [record for record in old if record[key] not in words and record[key] in order]
    return sorted(kept + new, key=lambda record: order.index(record[key]))


def _exchange(out: Path, target: Path, listed: set[str]) -> None:
    """Move the new files to their places, and delete the pictures that no record names any more."""
    for folder in FOLDERS:
        (target / folder).mkdir(exist_ok=True)
        for path in (out / folder).iterdir():
            path.replace(target / folder / path.name)
    # After the pictures that they name, and before those go that the old lists name.
    for name in ("CREDITS.md", "photographs.json", "manifest.json"):
        (out / name).replace(target / name)
    for folder in FOLDERS:
        for path in (target / folder).iterdir():
            if f"{folder}/{path.name}" not in listed:
                path.unlink()


def _read(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text + "\n")
