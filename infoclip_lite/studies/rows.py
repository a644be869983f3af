"""The rows of the reports that ship, as dataclasses: a number is asked for by name, a wrong name is an error.

Keys of the JSON files stay as they are; where the code's word is another ("ci95" for "half"), the
translation stands here, once.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from ..core.reports import read_report
from ..core.statistics import Interval, Row, Score

METRICS = ("mIoU_seen", "mIoU_unseen", "hIoU")  # of every report
STUFF = "mIoU_stuff"  # beside them where the data set counts its stuff apart
SPLITS = ("test-known", "test")  # new scenes of known instances, and new instances
SHORT = {"mIoU_seen": "seen", "mIoU_unseen": "unseen", STUFF: "stuff", "hIoU": "hIoU"}  # in a table's head
REPORTED = SPLITS[-1]  # what a claim is about: known instances are remembered

StudyTable = dict[str, dict[str, Score]]


def shown_metrics(measured: Container[str]) -> tuple[str, ...]:
    """The metrics that a row shows, in their order: `METRICS`, and that of stuff where it was measured.

    Args:
        measured: names of what was measured.

    >>> shown_metrics({"mIoU_seen", "mIoU_unseen", "hIoU", "mIoU_stuff", "pAcc"})
    ('mIoU_seen', 'mIoU_unseen', 'mIoU_stuff', 'hIoU')
    """
    seen, unseen, harmonic = METRICS
    return (seen, unseen, *((STUFF,) if STUFF in measured else ()), harmonic)


def study_table(name: str) -> StudyTable:
    """The table of a study: {variant: {"test-known/hIoU": Score}}, fractions.

    Args:
        name: of a report with a table, such as "repair".

    Raises:
        FileNotFoundError: no such report ships.
    """
    return table_of(read_report(name))


def table_of(report: Row) -> StudyTable:
    """The "table" of a study's report, its rows read as scores."""
    return {label: _scores(rows) for label, rows in report["table"].items()}


def _scores(rows: Row) -> dict[str, Score]:
    return {key: Score.from_json(row) for key, row in rows.items()}


@dataclass(frozen=True)
class RankRange:
    """The place of a method in a table, and the places that the intervals allow; 1 is the best.

    Attributes:
        rank: by the mean.
        best, worst: that the paired 95% intervals allow, pair by pair.
        corrected: (best, worst) when all pairs together are to hold (Holm).
    """

    rank: int
    best: int
    worst: int
    corrected: tuple[int, int]

    @classmethod
    def from_json(cls, row: Row) -> RankRange:
        """A row {"rank", "from", "to", "corrected"} of the report "leaderboard"."""
        first, last = row["corrected"]
        return cls(row["rank"], row["from"], row["to"], (first, last))

    def to_json(self) -> dict[str, object]:
        """The row that the report holds."""
        return {"rank": self.rank, "from": self.best, "to": self.worst, "corrected": list(self.corrected)}


@dataclass(frozen=True)
class Method:
    """One row of the leaderboard.

    Attributes:
        family: of segmentors, such as "CAT-Seg".
        tuned: what of CLIP was trained.
        backend: the way of inference, a key of the report's `speed`: methods that differ only in their
            weights share it.
        parameters: numbers of weights: "total", "trained", and at "inference".
        labelled_scenes: that its training saw, its start's included.
        scores: split -> metric -> Score, fractions.
        paper: whether this is what the paper describes, or our variant; None where there is no paper.
        ranks: split -> place by hIoU; empty until all methods are known.
        group: of the board: what a method was told of scenes.
        labels: what its training saw of a scene: "none" or "masks".
    """

    family: str
    tuned: str
    backend: str
    parameters: Mapping[str, int]
    labelled_scenes: int
    scores: Mapping[str, Mapping[str, Score]]
    paper: bool | None = None
    ranks: Mapping[str, RankRange] = field(default_factory=dict)
    group: str = ""
    labels: str = "none"

    @classmethod
    def from_json(cls, row: Row, splits: Sequence[str]) -> Method:
        """A row of the report "leaderboard"."""
        scores = {split: _scores(row[split]) for split in splits}
        ranks = {split: RankRange.from_json(place) for split, place in row.get("ranks", {}).items()}
        plain = {
            key: row[key]
            for key in ("family", "tuned", "backend", "parameters", "labelled_scenes", "group", "labels")
        }
        return cls(**plain, scores=scores, paper=row.get("paper"), ranks=ranks)

    def to_json(self) -> dict[str, object]:
        """The row that the report holds."""
        row: dict[str, object] = {"family": self.family, "tuned": self.tuned}
        if self.paper is not None:
            row["paper"] = self.paper
        row |= {
            "backend": self.backend,
            "parameters": dict(self.parameters),
            "labelled_scenes": self.labelled_scenes,
            "group": self.group,
            "labels": self.labels,
        }
        for split, scores in self.scores.items():
            row[split] = {key: score.to_json() for key, score in scores.items()}
        if self.ranks:
            row["ranks"] = {split: place.to_json() for split, place in self.ranks.items()}
        return row


@dataclass(frozen=True)
class Speed:
    """Time of one way of inference.

    Attributes:
        ms: milliseconds a picture.
        ratio: times CLIP's own forward pass, median over rounds.
        low, high: first and third quartile of that over rounds.
        mb: 10^6 bytes a picture of what it has at once beside weights, words and picture; see
            `alive_at_most`.
    """

    ms: float
    ratio: float
    low: float
    high: float
    mb: float

    def to_json(self) -> dict[str, float]:
        """The row that the report holds."""
        return dict(vars(self))


@dataclass(frozen=True)
class Leaderboard:
    """The report "leaderboard".

    Attributes:
        size, scenes, words: side of the test scenes in pixels, how many of each split, how many words
            compete.
        seen: nouns whose pixels were learnt from.
        seeds: of every training.
        methods: by name, best mean hIoU on new instances first.
        speed: by way of inference.
        separation: split -> how many seeds tell neighbours apart; see `studies.leaderboard.separation`.
    """

    size: int
    scenes: int
    words: int
    seen: Sequence[str]
    seeds: int
    methods: Mapping[str, Method]
    speed: Mapping[str, Speed]
    separation: Mapping[str, Sequence[Row]]

    def time_of(self, label: str) -> float:
        """Time of a picture under this method, in forward passes of CLIP."""
        return self.speed[self.methods[label].backend].ratio

    def scores(self, split: str = REPORTED, metric: str = "hIoU") -> dict[str, Score]:
        """The scores of all methods on one split."""
        return {label: method.scores[split][metric] for label, method in self.methods.items()}


def read_leaderboard() -> Leaderboard:
    """The leaderboard that ships.

    Raises:
        FileNotFoundError: none ships.
    """
    report = read_report("leaderboard")
    methods = {label: Method.from_json(row, SPLITS) for label, row in report["rows"].items()}
    speed = {name: Speed(**row) for name, row in report["speed"]["backends"].items()}
    plain = {key: report[key] for key in ("size", "scenes", "words", "seen", "seeds", "separation")}
    return Leaderboard(**plain, methods=methods, speed=speed)


@dataclass(frozen=True)
class InferenceCost:
    """What a picture costs under one segmentor.

    Attributes:
        what: size of tower and picture.
        model: the segmentor.
        ms_a_picture: milliseconds.
        parameters: weights that a picture meets.
        parts: the same by part.
    """

    what: str
    model: str
    ms_a_picture: float
    parameters: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class TrainingWay:
    """One way to take a training step, of the report "speed".

    Attributes:
        what: the way.
        images_per_s: pictures a second.
        ratio: speed by that of float32.
        kept_mb: 10^6 bytes kept for the gradient; None where it was not measured.
        fraction_of_peak: multiplications and additions of a step by its time and the device's peak.
    """

    what: str
    images_per_s: float
    ratio: float
    kept_mb: float | None
    fraction_of_peak: float

    @classmethod
    def from_json(cls, row: Row) -> TrainingWay:
        """A row of "training" in the report "speed"."""
        return cls(**{key.replace("share_", "fraction_"): value for key, value in row.items()})

    def to_json(self) -> dict[str, object]:
        """The row that the report holds."""
        return {key.replace("fraction_", "share_"): value for key, value in vars(self).items()}


def training_ways() -> list[TrainingWay]:
    """The ways to take a training step that the report "speed" compares.

    Raises:
        FileNotFoundError: no such report ships.
    """
    return [TrainingWay.from_json(row) for row in read_report("speed")["training"]]


@dataclass(frozen=True)
class Point(Interval):
    """A measure at one step of a training, mean over seeds with its 95% interval."""

    step: float

    def to_json(self) -> dict[str, object]:
        """The row that the report holds."""
        return {"step": self.step, **super().to_json()}


Curves = dict[str, list[Point]]  # metric -> one point for each evaluated step


def map_curves() -> dict[str, Curves]:
    """Metrics and probes along plain fine-tuning: {"tuning/rate": {metric: [Point, ...]}}.

    Raises:
        FileNotFoundError: no such report ships.
    """
    cells = read_report("degradation_map")["cells"]
    return {label: _curves(cell["curves"]) for label, cell in cells.items()}


def curves_json(curves: Curves) -> dict[str, list[dict[str, object]]]:
    """Curves as the report holds them."""
    return {metric: [point.to_json() for point in points] for metric, points in curves.items()}


def _curves(rows: Row) -> Curves:
    return {metric: [_point(row) for row in points] for metric, points in rows.items()}


def _point(row: Row) -> Point:
    return Point(row["mean"], row["half"], row["step"])


@dataclass(frozen=True)
class EstimatorError:
    """How far an estimator is from the truth on one task.

    Attributes:
        task, estimator, n: which, and with how many samples.
        mean, low, high: estimate minus truth in nats, and its 95% interval over seeds.
        limit: the largest value the estimator can give at this n, or None.
    """

    task: str
    estimator: str
    n: int
    mean: float
    low: float
    high: float
    limit: float | None


@dataclass(frozen=True)
class KnownTask:
    """A task of known truth.

    Attributes:
        task: name and parameters.
        truth: exact nats.
        dim_x, dim_y: dimensions of both variables.
    """

    task: str
    truth: float
    dim_x: int
    dim_y: int


@dataclass(frozen=True)
class EstimatorReport:
    """The report "information".

    Attributes:
        seeds: independent samples of each task.
        tasks: in the order of the report.
        errors: one row for each task, estimator and n.
    """

    seeds: int
    tasks: Sequence[KnownTask]
    errors: Sequence[EstimatorError]

    def at(self, n: int) -> dict[tuple[str, str], EstimatorError]:
        """The errors with n samples, by (task, estimator)."""
        return {(row.task, row.estimator): row for row in self.errors if row.n == n}


def read_estimators() -> EstimatorReport:
    """What the estimators' benchmark found.

    Raises:
        FileNotFoundError: no such report ships.
    """
    report = read_report("information")
    tasks = [KnownTask(row["task"], row["truth"], row["dim_x"], row["dim_y"]) for row in report["tasks"]]
    return EstimatorReport(report["seeds"], tasks, [EstimatorError(**row) for row in report["errors"]])
