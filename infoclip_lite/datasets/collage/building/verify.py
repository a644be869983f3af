"""Whether every picture of Collage is there and is the one that its manifest names."""

from __future__ import annotations

import json
from pathlib import Path

from ...fetching.fetch import hash_file


def verify(target: Path) -> int:
    """Check the cut-outs, grounds and photographs, and return how many there are.

    Raises:
        FileNotFoundError: the manifest or a picture is missing.
        ValueError: a picture's bytes are not those of the manifest, or it has no licence or author.
    """
    found = records(target)
    for record in found:
        if not record.get("licence") or not record.get("author"):
            raise ValueError(f"{record['file']} has no licence or no author; expected both in the manifest")
        path = target / record["file"]
        if not path.exists():
            raise FileNotFoundError(f"no {path}; build the pack again with `infoclip-lite data rebuild`")
        digest = hash_file(path)
        if digest != record["sha256"]:
            raise ValueError(
                f"{path}: got SHA-256 {digest}, expected {record['sha256']}; the file was changed or damaged"
            )
    return len(found)


def records(target: Path) -> list[dict]:
    """What the manifest says of every cut-out, ground and photograph.

    Raises:
        FileNotFoundError: the manifest is missing.
    """
    found: list[dict] = []
    for name in ("manifest.json", "photographs.json"):
        if not (target / name).exists():
            raise FileNotFoundError(
                f"no {target / name}; expected a pack, build it with `infoclip-lite data rebuild`"
            )
        listing = json.loads((target / name).read_text())
        found += listing if isinstance(listing, list) else listing["pictures"] + listing["textures"]
    return found


def hashes(target: Path) -> dict[str, str]:
    """{file: SHA-256} that the manifest gives; empty where there is none yet."""
    if not (target / "manifest.json").exists():
        return {}
    return {record["file"]: record["sha256"] for record in records(target)}
