"""What "Add your own" shows is run as it stands there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import pytest

from infoclip_lite.clip.readouts import READ_OUTS
from infoclip_lite.datasets.registry import DATASETS
from infoclip_lite.objectives import OBJECTIVES
from infoclip_lite.segmentors import SEGMENTORS

TABLES: tuple[dict[str, Any], ...] = (READ_OUTS, OBJECTIVES, SEGMENTORS, DATASETS)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "add_your_own.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=[section.splitlines()[0] for section in SECTIONS])
def test_the_blocks_of_a_section_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = [dict(table) for table in TABLES]
    name, text = section.splitlines()[0], section.replace("```", "")
    examples = doctest.DocTestParser().get_doctest(text, {}, name, str(PAGE), 0)
    told: list[str] = []
    try:
        found = doctest.DocTestRunner().run(examples, out=told.append)
        after = [dict(table) for table in TABLES]
    finally:
        for table, rows in zip(TABLES, before, strict=True):
            table.clear()
            table.update(rows)
    assert found.attempted > 0 and found.failed == 0, "".join(told)
    assert after == before, "an example registers nothing for good"
