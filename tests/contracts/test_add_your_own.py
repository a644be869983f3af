"""What "Add your own" shows is run as it stands there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from infoclip_lite.datasets.registry import DATASETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_your_own.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=[section.splitlines()[0] for section in SECTIONS])
def test_the_blocks_of_a_section_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(DATASETS)
    examples = doctest.DocTestParser().get_doctest(section.replace("```", ""), {}, section.splitlines()[0], str(PAGE), 0)
    told: list[str] = []
    try:
        found = doctest.DocTestRunner().run(examples, out=told.append)
    finally:
        DATASETS.clear()
        DATASETS.update(before)
    assert found.attempted > 0 and found.failed == 0, "".join(told)
