"""Reports: rows, tables, JSON in and out, files that are written whole."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_segmentors import Neighbours, Painted, Photos, Reader

from infoclip_lite import Report, evaluate
from infoclip_lite.evaluation import ClassRow, Confusion, PictureScore, SegmentationMetrics
from infoclip_lite.evaluation.report import build_report

NAMES = ["cow", "lion", "grass"]


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(Neighbours(), Photos(), gammas=(0.5,))


def test_rows_of_known_counts() -> None:
    metrics = SegmentationMetrics.from_counts(torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]]), unseen=[1])
    pictures = [
        PictureScore(0, "a", 0.5, 0.6),
        PictureScore(1, None, None, None),
        PictureScore(2, "c", 0.1, 0.9),
    ]
    built = build_report(NAMES, {0.0: metrics}, (), pictures, {})
    assert built.classes == [
        ClassRow("cow", True, 6 / 9, 6 / 8, 8),
        ClassRow("lion", False, 3 / 6, 3 / 4, 4),
        ClassRow("grass", True, None, None, 0),
    ]
    assert built.confusions == [Confusion("cow", "lion", 2, 2 / 8), Confusion("lion", "cow", 1, 1 / 4)]
    assert built.worst == [pictures[2], pictures[0]], "without what has nothing that counts"
    assert (
        built.per_class == {"cow": 6 / 9, "lion": 0.5, "grass": None} and built.metrics == metrics.compute()
    )


def test_the_report_has_classes_mistakes_and_worst_pictures(report: Report, tmp_path: Path) -> None:
    assert [row.name for row in report.classes] == list(Photos().names)
    assert [row.seen for row in report.classes] == [True] * 5 + [False] * 2
    counts = [row.pixels for row in report.confusions]
    assert counts == sorted(counts, reverse=True) and all(
        row.target != row.prediction for row in report.confusions
    )
    scores = [row.mIoU for row in report.worst]
    assert scores == sorted(scores) and {row.path for row in report.worst} == {
        f"photos/{i}.jpg" for i in range(6)
    }
    text = report.to_markdown(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == text + "\n"
    parts = (
        "# toy on Photos (val)",
        "## Most frequent mistakes",
        "photos/0.jpg",
        "| word 6 | unseen |",
        "gamma 0.5",
    )
    assert all(part in text for part in parts)


def test_a_report_comes_back_from_json(report: Report, tmp_path: Path) -> None:
    text = report.to_json(tmp_path / "reports" / "a.json")
    assert json.loads((tmp_path / "reports" / "a.json").read_text()) == json.loads(text)
    back = Report.from_json(text)
    assert (back.metrics, back.per_class, back.calibration) == (
        report.metrics,
        report.per_class,
        report.calibration,
    )
    assert (back.classes, back.confusions, back.worst) == (report.classes, report.confusions, report.worst)
    assert back.details == json.loads(json.dumps(report.details))


def test_a_report_is_strict_json_even_where_nothing_was_counted() -> None:
    """NaN is no JSON: browsers and other languages refuse the whole file."""
    zeros = torch.zeros(1, 4, 4, dtype=torch.long)
    report = evaluate(Reader(), Painted(zeros, zeros, zeros, NAMES), gammas=(1.0,))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in a JSON file")

    content = json.loads(report.to_json(), parse_constant=refuse)
    assert content["metrics"]["mIoU_unseen"] is None and content["metrics"]["pAcc"] == 1
    back = Report.from_json(report.to_json())
    assert math.isnan(back.metrics["mIoU_unseen"]) and math.isnan(back.calibration["1.0"]["hIoU"])
    assert back.per_class["lion"] is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"metrics": 3}', '{"metrics": {}, "calibration": {}, "classes": [{}]}']
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is no report"):
        Report.from_json(text)


def test_bars_in_names_do_not_break_tables() -> None:
    metrics = SegmentationMetrics.from_counts(torch.tensor([[1]]))
    assert "| ox\\|cow |" in build_report(["ox|cow"], {0.0: metrics}, (), [], {}).to_markdown()


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, full_disk: Callable) -> None:
    (tmp_path / "a.json").write_text("old")
    report = Report({}, {f"class {i}": None for i in range(1000)})
    with pytest.raises(OSError, match="cannot write"), full_disk():
        report.to_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "old" and os.listdir(tmp_path) == ["a.json"]
