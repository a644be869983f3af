"""Explorers of the site: each live cell of a notebook has one, and each number is a report's."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from infoclip_lite.core.reports import read_report
from infoclip_lite.core.statistics import difference
from infoclip_lite.figures import widgets
from infoclip_lite.studies.degradation_frames import pack, unpack
from infoclip_lite.studies.rows import read_leaderboard

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def explorers() -> ModuleType:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        return importlib.import_module("explorers")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def cells() -> list[str]:
    """Sources of all cells of code."""
    return [
        "".join(cell["source"])
        for path in NOTEBOOKS
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def test_every_explorer_of_the_site_has_its_place_in_a_notebook(explorers: ModuleType) -> None:
    names = {**explorers.INSTEAD_OF, **explorers.BELOW}
    shown = [page for cell in cells() for page in (explorers.instead_of(cell), explorers.below(cell)) if page]
    placed = [re.search(r'data-explorer="(\w+)"', page)[1] for page in shown]
    assert sorted(placed) == sorted(names.values())
    for name in names.values():
        assert (explorers.PAGE / f"{name}.js").exists()


def test_every_live_explorer_has_a_version_of_the_page(explorers: ModuleType) -> None:
    live = [name for name in vars(widgets) if name.startswith("explore_")]
    assert sorted(explorers.INSTEAD_OF) == sorted(live)


def test_credits_are_refused_where_the_stored_scene_is_another(
    explorers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = read_report("degradation_frames")
    other = pack(255 - unpack(report["images"]))
    with pytest.raises(ValueError, match="scene 0 of degradation_frames"):
        explorers.stored._scenes({**report, "images": other})


def test_what_only_imports_an_explorer_shows_none(explorers: ModuleType) -> None:
    assert explorers.instead_of("from infoclip_lite.figures.widgets import explore_training") is None
    assert explorers.instead_of("explore_what_nobody_wrote()") is None
    assert "needs JavaScript" in explorers.instead_of("explore_training()")


def test_the_leaderboard_holds_every_row_and_every_difference(explorers: ModuleType) -> None:
    data, board = explorers.stored.leaderboard(), read_leaderboard()
    assert [row["label"] for row in data["rows"]] == list(board.methods)
    labels, place = list(board.methods), 0
    for i in range(3):
        for j in range(i + 1, len(labels)):
            if j in (i + 1, len(labels) - 1):
                scores = [board.methods[labels[each]].scores["test"]["hIoU"] for each in (i, j)]
                found = difference(*scores)
                assert data["differences"]["test"][place] == pytest.approx(
                    [found.mean, found.ci95, found.p], abs=1e-6
                )
            place += 1


def test_what_an_estimator_refuses_is_said_in_its_words(explorers: ModuleType) -> None:
    row = explorers.playground._row({"estimator": "Gaussian", "n": 10, "dim": 10})
    assert row["refused"].startswith("got 10 samples")


def test_the_playground_is_computed_again_only_after_its_code_changed(
    explorers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def computed() -> dict[str, object]:
        made.append("again")
        return {"rows": []}

    monkeypatch.setattr(explorers.playground, "_computed", computed)
    for _ in range(2):
        assert explorers.playground.information(tmp_path) == {"rows": []}
    assert len(made) == 1
    monkeypatch.setattr(explorers.playground, "_fingerprint", lambda: "other")
    explorers.playground.information(tmp_path)
    assert len(made) == 2
