"""The oldest versions that pyproject.toml allows, as constraints for pip: `python tests/versions.py`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_LOWER = re.compile(r"^([A-Za-z0-9._-]+)>=([0-9.]+)$")


def oldest(project: Path = PROJECT) -> list[str]:
    """One line for each requirement: "torch==2.6.*" for "torch>=2.6".

    Raises:
        ValueError: a requirement that is written in another way.
    """
    told = tomllib.loads(project.read_text())["project"]
    every = [
        *told["dependencies"],
        *(name for extra in told["optional-dependencies"].values() for name in extra),
    ]
    constraints: dict[str, str] = {}
    for requirement in every:
        found = _LOWER.match(requirement)
        if found is None:
            raise ValueError(f"pyproject.toml says {requirement!r}; expected NAME>=VERSION")
        # Of that release the last mending: a first release may be broken in ways that nobody has any more.
        release = found[2] if "." in found[2] else f"{found[2]}.0"
        constraints[found[1]] = f"{found[1]}=={release}.*"
    return sorted(constraints.values())


if __name__ == "__main__":
    print("\n".join(oldest()))
