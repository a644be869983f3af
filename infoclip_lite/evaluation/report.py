"""What an evaluation found, as numbers, tables, JSON and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.files import whole_file
from .metrics import SegmentationMetrics


@dataclass(frozen=True)
class Report:
    """What was measured and on what.

    Attributes:
        metrics: pAcc, mIoU, mIoU_seen, mIoU_unseen, hIoU as fractions, without calibration (gamma = 0).
        per_class: IoU of each class name; None where the class is neither in the targets nor predicted.
        calibration: the same metrics for each gamma subtracted from the scores of seen classes.
        details: data set, protocol, settings, versions, hardware, git revision and wall time in seconds.
        classes: one row a class: name, seen, iou, accuracy (of its pixels), pixels (in the targets).
        confusions: the most frequent mistakes: target, prediction, pixels, share (of the target's pixels).
        worst: the pictures with the lowest mIoU: index, path (None if it has none), mIoU, pAcc.
    """

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)
    confusions: list[dict[str, Any]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self, path: Path | None = None) -> str:
        """The report as JSON, None for NaN; written whole to `path` if one is given."""
        text = json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)
        return _written(text, path)

    def to_markdown(self, path: Path | None = None) -> str:
        """The report as Markdown tables; written whole to `path` if one is given."""
        rows = [("all", self.metrics), *((f"gamma {gamma}", values) for gamma, values in self.calibration.items())]
        parts = [
            f"# {self.details.get('model')} on {self.details.get('dataset')} ({self.details.get('split')})",
            _table(["", *self.metrics], [[name, *(_percent(v) for v in values.values())] for name, values in rows]),
            "## Classes\n",
            _table(
                ["class", "", "IoU", "accuracy", "pixels"],
                [
                    [r["name"], "" if r["seen"] else "unseen", _percent(r["iou"]), _percent(r["accuracy"]), r["pixels"]]
                    for r in self.classes
                ],
            ),
            "## Most frequent mistakes\n",
            _table(
                ["is", "was taken for", "share of its pixels", "pixels"],
                [[r["target"], r["prediction"], _percent(r["share"]), r["pixels"]] for r in self.confusions],
            ),
            "## Worst pictures\n",
            _table(
                ["picture", "mIoU", "pAcc"],
                [[r["path"] or f"number {r['index']}", _percent(r["mIoU"]), _percent(r["pAcc"])] for r in self.worst],
            ),
            "## Details\n",
            _table(["", ""], [[key, value] for key, value in self.details.items()]),
        ]
        return _written("\n".join(parts), path)


def build_report(
    names: Sequence[str],
    sweep: dict[float, SegmentationMetrics],
    gammas: Sequence[float],
    pictures: Sequence[dict[str, Any]],
    details: dict[str, Any],
    top: int = 20,
) -> Report:
    """A report from counted pixels.

    Args:
        names: of the classes.
        sweep: the counts for each gamma, 0 among them.
        gammas: those that were asked for.
        pictures: index, path, mIoU and pAcc of each.
        details: what is known of the evaluation.
        top: number of mistakes and of worst pictures.
    """
    plain = sweep[0.0]
    iou, accuracy, pixels = (_plain(x.tolist()) for x in (plain.per_class(), plain.accuracy(), plain.pixels()))
    seen = (~plain.unseen).tolist()
    columns = zip(names, seen, iou, accuracy, pixels, strict=True)
    classes = [dict(zip(("name", "seen", "iou", "accuracy", "pixels"), row, strict=True)) for row in columns]
    confusions = [
        {"target": names[target], "prediction": names[prediction], "pixels": count, "share": count / pixels[target]}
        for target, prediction, count in plain.mistakes(top)
    ]
    counted = [picture for picture in pictures if picture["mIoU"] is not None]
    worst = sorted(counted, key=lambda picture: (picture["mIoU"], picture["index"]))[:top]
    calibration = {str(gamma): sweep[gamma].compute() for gamma in gammas}
    return Report(plain.compute(), dict(zip(names, iou, strict=True)), calibration, details, classes, confusions, worst)


def _written(text: str, path: Path | None) -> str:
    if path is not None:
        with whole_file(Path(path)) as scratch:
            scratch.write_text(text + "\n")
    return text


def _plain(values: list[float]) -> list[Any]:
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _without_nan(value: Any) -> Any:
    """NaN is not JSON: None in its place."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
