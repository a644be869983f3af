"""What an evaluation found, as numbers, tables, JSON and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..core.files import whole_file
from .metrics import SegmentationMetrics


@dataclass(frozen=True)
class ClassRow:
    """One class of a report.

    Attributes:
        name: the class's name.
        seen: whether training labelled it.
        iou: fraction; None where the class is neither in the targets nor predicted.
        accuracy: fraction of its pixels that were labelled right; None where it is in no target.
        pixels: in the targets.
    """

    name: str
    seen: bool
    iou: float | None
    accuracy: float | None
    pixels: int


@dataclass(frozen=True)
class Confusion:
    """A mistake that was made often.

    Attributes:
        target: what it is.
        prediction: what it was taken for.
        pixels: how many.
        fraction: of the target's pixels.
    """

    target: str
    prediction: str
    pixels: int
    fraction: float


@dataclass(frozen=True)
class PictureScore:
    """One picture of an evaluation.

    Attributes:
        index: in the data set.
        path: of the picture; None if it has none.
        mIoU, pAcc: fractions; None where nothing counts.
    """

    index: int
    path: str | None
    mIoU: float | None
    pAcc: float | None


@dataclass(frozen=True)
class Report:
    """What was measured and on what.

    Attributes:
        metrics: pAcc, mIoU, mIoU_seen, mIoU_unseen, hIoU as fractions, without calibration (gamma = 0).
        per_class: IoU of each class name; None where the class is neither in the targets nor predicted.
        calibration: the same metrics for each gamma subtracted from the scores of seen classes.
        details: data set, protocol, settings, versions, hardware, git revision and wall time in
            seconds.
        classes: a row for each class.
        confusions: the most frequent mistakes, most pixels first.
        worst: the pictures with the lowest mIoU, lowest first.
    """

    metrics: dict[str, float]
    per_class: dict[str, float | None]
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)
    classes: list[ClassRow] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)
    worst: list[PictureScore] = field(default_factory=list)

    def to_json(self, path: Path | None = None) -> str:
        """The report as JSON, None for NaN; written whole to `path` if one is given."""
        # strict JSON: browsers and other languages refuse a whole file for one NaN
        text = json.dumps(_without_nan(asdict(self)), indent=1, allow_nan=False)
        return _written(text, path)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote; NaN for None among the metrics.

        Raises:
            ValueError: no JSON, or that of something else.
        """
        try:
            content = json.loads(text)
            content["metrics"] = _with_nan(content["metrics"])
            content["calibration"] = {
                gamma: _with_nan(values) for gamma, values in content["calibration"].items()
            }
            content["classes"] = [ClassRow(**row) for row in content["classes"]]
            content["confusions"] = [Confusion(**row) for row in content["confusions"]]
            content["worst"] = [PictureScore(**row) for row in content["worst"]]
            return cls(**content)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"this is no report ({error!r}); expected what Report.to_json wrote") from error

    def to_markdown(self, path: Path | None = None) -> str:
        """The report as Markdown tables; written whole to `path` if one is given."""
        details = self.details
        parts = [
            f"# {details.get('model')} on {details.get('dataset')} ({details.get('split')})",
            self._metrics_table(),
            "## Classes\n",
            self._classes_table(),
            "## Most frequent mistakes\n",
            self._confusions_table(),
            "## Worst pictures\n",
            self._worst_table(),
            "## Details\n",
            _table(["", ""], [[key, value] for key, value in details.items()]),
        ]
        return _written("\n".join(parts), path)

    def _metrics_table(self) -> str:
        rows = [
            ("all", self.metrics),
            *((f"gamma {gamma}", values) for gamma, values in self.calibration.items()),
        ]
        return _table(["", *self.metrics], [[name, *map(_percent, values.values())] for name, values in rows])

    def _classes_table(self) -> str:
        rows = [
            [row.name, "" if row.seen else "unseen", _percent(row.iou), _percent(row.accuracy), row.pixels]
            for row in self.classes
        ]
        return _table(["class", "", "IoU", "accuracy", "pixels"], rows)

    def _confusions_table(self) -> str:
        rows = [[row.target, row.prediction, _percent(row.fraction), row.pixels] for row in self.confusions]
        return _table(["is", "was taken for", "fraction of its pixels", "pixels"], rows)

    def _worst_table(self) -> str:
        rows = [
            [row.path or f"number {row.index}", _percent(row.mIoU), _percent(row.pAcc)] for row in self.worst
        ]
        return _table(["picture", "mIoU", "pAcc"], rows)


def build_report(
    names: Sequence[str],
    sweep: Mapping[float, SegmentationMetrics],
    gammas: Sequence[float],
    pictures: Sequence[PictureScore],
    details: Mapping[str, object],
    top: int = 20,
) -> Report:
    """A report from counted pixels.

    Args:
        names: of the classes.
        sweep: the counts for each gamma, 0 among them.
        gammas: those that were asked for.
        pictures: the score of each.
        details: what is known of the evaluation.
        top: number of mistakes and of worst pictures.
    """
    plain = sweep[0.0]
    classes = _class_rows(names, plain)
    return Report(
        metrics=plain.compute(),
        per_class={row.name: row.iou for row in classes},
        calibration={str(gamma): sweep[gamma].compute() for gamma in gammas},
        details=details,
        classes=classes,
        confusions=_confusion_rows(classes, plain, top),
        worst=_worst_rows(pictures, top),
    )


def _class_rows(names: Sequence[str], metrics: SegmentationMetrics) -> list[ClassRow]:
    seen = (~metrics.unseen).tolist()
    iou, accuracy = metrics.per_class().tolist(), metrics.accuracy().tolist()
    pixels = metrics.pixels().tolist()
    return [
        ClassRow(name, seen[i], _finite(iou[i]), _finite(accuracy[i]), pixels[i])
        for i, name in enumerate(names)
    ]


def _confusion_rows(classes: Sequence[ClassRow], metrics: SegmentationMetrics, top: int) -> list[Confusion]:
    return [
        Confusion(classes[target].name, classes[prediction].name, count, count / classes[target].pixels)
        for target, prediction, count in metrics.mistakes(top)
    ]


def _worst_rows(pictures: Sequence[PictureScore], top: int) -> list[PictureScore]:
    """Of those in which something counts; of equal ones the first in the data set."""
    scored = [(picture.mIoU, picture.index, picture) for picture in pictures if picture.mIoU is not None]
    return [picture for _, _, picture in sorted(scored, key=lambda row: row[:2])[:top]]


def _written(text: str, path: Path | None) -> str:
    if path is not None:
        with whole_file(Path(path)) as scratch:
            scratch.write_text(text + "\n")
    return text


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _with_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: math.nan if value is None else value for key, value in values.items()}


def _without_nan(value: object) -> object:
    """NaN is not JSON: None in its place."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    # a bar or a line break in a name would end the cell
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
