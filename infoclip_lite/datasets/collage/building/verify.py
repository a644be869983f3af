"""Whether every picture of Collage 2 is there and is the one that its manifest names."""

from __future__ import annotations

import json
from pathlib import Path

from .sources import digest_of


def verify(target: Path) -> int:
    """Check the cut-outs, grounds and photographs, and return how many there are.

    Raises:
        FileNotFoundError: the manifest or a picture is missing.
        ValueError: a picture's bytes are not those of the manifest.
    """
    records: list[dict] = []
    for name in ("manifest.json", "photographs.json"):
        if not (target / name).exists():
            raise FileNotFoundError(
                f"no {target / name}; expected a pack, build it with `infoclip-lite data rebuild`"
            )
        listing = json.loads((target / name).read_text())
        records += listing if isinstance(listing, list) else listing["pictures"] + listing["textures"]
    for record in records:
        path = target / record["file"]
        if not path.exists():
            raise FileNotFoundError(f"no {path}; build the pack again with `infoclip-lite data rebuild`")
        digest = digest_of(path)
        if digest != record["sha256"]:
            raise ValueError(
                f"{path}: got SHA-256 {digest}, expected {record['sha256']}; the file was changed or damaged"
            )
    return len(records)
