"""The matrix of versions can be built from what pyproject.toml says."""

from __future__ import annotations

import re
import tomllib

from versions import PROJECT, oldest
from wheelhouse import needed


def test_every_requirement_has_an_oldest_version_that_can_be_asked_for() -> None:
    asked = oldest()
    assert {"torch==2.6.*", "open_clip_torch==2.29.*", "pytest==8.0.*"} <= set(asked)
    assert len(asked) == len({line.partition("=")[0] for line in asked})


def test_the_matrix_runs_what_is_there_and_a_little_of_each_kind_of_damage() -> None:
    makefile = (PROJECT.parent / "Makefile").read_text(encoding="utf-8")
    (named,) = re.findall(r"^MATRIX \?= \$\(addprefix tests/,(.+)\)$", makefile, re.MULTILINE)
    assert "reliability" in named.split()
    assert all((PROJECT.parent / "tests" / name).is_dir() for name in named.split())


def test_wheels_for_a_card_hold_all_that_the_package_needs_beside_torch() -> None:
    dependencies = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    asked = {line.partition("==")[0].lower().replace("_", "-") for line in needed()}
    named = {line.partition(">=")[0].lower().replace("_", "-") for line in dependencies}
    assert named - asked == {"torch", "torchvision"}
    # What another one needs is there; what torch needs, and the package itself, are not.
    assert {"huggingface-hub", "matplotlib"} <= asked and not {"sympy", "infoclip-lite"} & asked
