"""The matrix of versions can be built from what pyproject.toml says."""

from __future__ import annotations

import re

from versions import PROJECT, oldest


def test_every_requirement_has_an_oldest_version_that_can_be_asked_for() -> None:
    asked = oldest()
    assert {"torch==2.6.*", "open_clip_torch==2.29.*", "pytest==8.0.*"} <= set(asked)
    assert len(asked) == len({line.partition("=")[0] for line in asked})


def test_the_matrix_runs_what_is_there_and_a_little_of_each_kind_of_damage() -> None:
    makefile = (PROJECT.parent / "Makefile").read_text(encoding="utf-8")
    (named,) = re.findall(r"^MATRIX \?= \$\(addprefix tests/,(.+)\)$", makefile, re.MULTILINE)
    assert "reliability" in named.split()
    assert all((PROJECT.parent / "tests" / name).is_dir() for name in named.split())
