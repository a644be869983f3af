"""The whole pack from its selection: packages in, pictures, manifest and credits out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from ....core.files import whole_file
from .credits import credits
from .pieces import cutouts, photographs, textures
from .selection import read_selection
from .workshop import Work


def build(
    target: Path,
    packages: Path | None = None,
    cache: Path | None = None,
    words: Collection[str] | None = None,
) -> dict:
    """Write cutouts/, textures/, photographs/, manifest.json, photographs.json and CREDITS.md into `target`.

    Args:
        target: folder of the pack, which must hold selection.json.
        packages: folder of the packages' files, fetched into it where missing; None: a temporary one.
        cache: folder for mattes and views, which cost the time; None computes all of them.
        words: only these nouns and kinds of ground; the rest of the folder is then left alone.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: no selection.json, or a package cannot be had.
        ValueError: a package's hash differs, or the selection breaks a rule (see `read_selection`).
    """
    selection = read_selection(target / "selection.json")
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as scratch:
        work = Work(
            Path(scratch), packages or Path(scratch) / "packages", cache or Path(scratch) / "cache", selection
        )
        for folder in ("cutouts", "textures", "photographs"):
            (work.out / folder).mkdir(parents=True)
        pictures = list(cutouts(work, words))
        grounds = list(textures(work, words))
        real = [] if words is not None else list(photographs(work))
        for folder in ("cutouts", "textures", "photographs"):
            if words is None:
                shutil.rmtree(target / folder, ignore_errors=True)
            shutil.copytree(work.out / folder, target / folder, dirs_exist_ok=True)
    nouns = {
        noun: {key: entry[key] for key in ("role", "thin", "official") if key in entry}
        for noun, entry in selection["nouns"].items()
    }
    manifest = {"nouns": nouns, "voc_like": selection["voc_like"], "pictures": pictures, "textures": grounds}
    if words is None:
        _write(target / "manifest.json", json.dumps(manifest, indent=0, ensure_ascii=False))
        _write(target / "photographs.json", json.dumps(real, indent=1, ensure_ascii=False))
        _write(target / "CREDITS.md", credits(manifest, real))
    return manifest


def _write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text.rstrip("\n") + "\n")
