"""The matrix of versions can be built from what pyproject.toml says."""

from __future__ import annotations

from versions import oldest


def test_every_requirement_has_an_oldest_version_that_can_be_asked_for() -> None:
    asked = oldest()
    assert {"torch==2.6.*", "open_clip_torch==2.29.*", "pytest==8.0.*"} <= set(asked)
    assert len(asked) == len({line.partition("=")[0] for line in asked})
