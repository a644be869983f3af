"""Reports that ship: data/reports/*.json, written whole and read by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from .environment import environment
from .files import data_dir, whole_file

# What json.loads makes of an object. A recursive type would say no more, since every index into it needs a
# cast: who reads a report turns its rows into typed ones at once.
JsonObject: TypeAlias = dict[str, Any]


def write_report(name: str, content: Mapping[str, object], out: Path | None = None) -> JsonObject:
    """Write a report with versions and hardware.

    Args:
        name: of the report, such as "degradation_map".
        content: what was measured: texts, numbers, lists and mappings of them.
        out: another file than data/reports/NAME.json.

    Returns:
        What was written, `content` and "environment".

    Raises:
        OSError: a folder that cannot be written, or a full disk.
        TypeError: a value that JSON does not know.
    """
    measured = {**content, "environment": environment()}
    with whole_file(out or data_dir() / "reports" / f"{name}.json") as scratch:
        scratch.write_text(json.dumps(measured, indent=1) + "\n")
    return measured


def read_report(name: str) -> JsonObject:
    """A report that ships.

    Args:
        name: such as "degradation_map"; `list_reports` has them all.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = data_dir() / "reports" / f"{name}.json"
    if not path.exists():
        have = ", ".join(list_reports()) or "none"
        raise FileNotFoundError(
            f"no report {name!r}; expected one of {have}: write it with `infoclip-lite benchmark {name}`"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def list_reports() -> list[str]:
    """Names of the reports that ship, sorted."""
    return sorted(path.stem for path in (data_dir() / "reports").glob("*.json"))
