"""Reports that ship: data/reports/*.json, written whole and read by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.environment import environment
from ..core.files import data_dir, whole_file


def write_report(name: str, content: dict[str, Any], out: Path | None = None) -> dict[str, Any]:
    """Write data/reports/NAME.json (or `out`), with versions and hardware, and return what was written."""
    content = {**content, "environment": environment()}
    with whole_file(out or data_dir() / "reports" / f"{name}.json") as scratch:
        scratch.write_text(json.dumps(content, indent=1) + "\n")
    return content


def read_report(name: str) -> dict[str, Any]:
    """A report that ships, such as "degradation".

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = data_dir() / "reports" / f"{name}.json"
    if not path.exists():
        have = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise FileNotFoundError(f"no report {name!r}; expected one of {have}: write it with `infoclip-lite benchmark {name}`")
    return json.loads(path.read_text())
