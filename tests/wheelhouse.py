"""What the package needs beside torch, in the versions here, for pip: `python tests/wheelhouse.py`."""

from __future__ import annotations

from importlib.metadata import distribution

from packaging.requirements import Requirement

PACKAGE = "infoclip-lite"
# A machine with a GPU has them, in the build that suits its driver, and what they need.
THERE = ("torch", "torchvision")


def needed() -> list[str]:
    """One line for each package that it needs, directly or through another: "timm==1.0.19"."""
    found: dict[str, str] = {}
    waiting = [Requirement(PACKAGE)]
    asked: set[str] = set()
    while waiting:
        one = waiting.pop()
        if one.name in THERE or str(one) in asked:
            continue
        asked.add(str(one))
        there = distribution(one.name)
        found[there.name] = f"{there.name}=={there.version}"
        for line in there.requires or ():
            other = Requirement(line)
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in ("", *one.extras)):
                waiting.append(other)
    del found[distribution(PACKAGE).name]
    return sorted(found.values())


if __name__ == "__main__":
    print("\n".join(needed()))
