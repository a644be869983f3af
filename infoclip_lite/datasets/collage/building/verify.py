"""Whether every picture of Collage is there and is the one that its manifest names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...fetching.fetch import hash_file
from .credits import credits


def verify(target: Path) -> int:
    """Check the cut-outs, grounds, photographs and credits, and return how many pictures there are.

    Raises:
        FileNotFoundError: the manifest, the credits or a picture is missing.
        ValueError: a manifest that is none, a picture's bytes that are not those of the manifest, a picture
            without licence or author, or credits of another manifest.
    """
    # Whatever an editor or a disk did to the lists: there are too many ways to name each.
    try:
        return _verified(target, *_lists(target))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"the lists of {target} cannot be read ({type(error).__name__}: {error}); expected manifest.json "
            "and photographs.json as `infoclip-lite data rebuild` writes them"
        ) from error


def _verified(target: Path, manifest: dict[str, Any], photographs: list[dict[str, Any]]) -> int:
    found = _records(manifest, photographs)
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
    if _text(target / "CREDITS.md") != credits(manifest, photographs) + "\n":
        raise ValueError(
            f"{target / 'CREDITS.md'}: got other credits than the manifest's, expected the text that "
            "`infoclip-lite data rebuild` writes"
        )
    return len(found)


def hashes(target: Path) -> dict[str, str]:
    """{file: SHA-256} that the manifest gives; empty where there is none yet."""
    if not (target / "manifest.json").exists():
        return {}
    return {record["file"]: record["sha256"] for record in _records(*_lists(target))}


def _lists(target: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return json.loads(_text(target / "manifest.json")), json.loads(_text(target / "photographs.json"))


def _records(manifest: dict[str, Any], photographs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*manifest["pictures"], *manifest["textures"], *photographs]


def _text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"no {path}; expected a pack, build it with `infoclip-lite data rebuild`")
    return path.read_text(encoding="utf-8")
