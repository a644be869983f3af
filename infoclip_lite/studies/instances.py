"""What an instance is worth: collage-mini's pretraining, a quarter as long, on few instances of every noun.

One seed of each: it gives the shape of a curve, not the difference of two of its points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.files import data_dir, whole_file
from ..core.reports import JsonObject, write_report
from ..datasets.collage import Collage
from ..evaluation import evaluate, noun_recognition
from ..segmentors import ZeroShotSegmentor
from ..training.run import train
from .card import score_photographs
from .trunk import COUNTS

FOLDER = data_dir() / "rows" / "instances"
RUNS = Path("runs/instances")
# A quarter of mini/pretrain: of its steps, their warm-up, and its scenes.
QUARTER: dict[str, Any] = {"stages": [{"steps": 200, "keep": 0.4}], "warmup": 15, "pool": 10_000}
SCENES = 200


def instances(
    counts: Sequence[int] = COUNTS,
    *,
    part: tuple[int, int] = (1, 1),
    folder: Path = FOLDER,
    runs: Path = RUNS,
    out: Path | None = None,
) -> JsonObject:
    """Pretrain on at most so many instances of every noun, and write instances.json with what is finished.

    Args:
        counts: of instances.
        part: (k, n) does the k-th of n parts of them.
        folder: one small JSON for each that is finished.
        runs: where the trainings are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"counts": {count: row}, "missing", "recipe": what differs from mini/pretrain}; a row is
        {"nouns": mAP of recognition, "dense": metrics of the read-out "value", both on test scenes,
        "photographs": top-1}.
    """
    for count in list(counts)[part[0] - 1 :: part[1]]:
        path = folder / f"{count}.json"
        if not path.exists():
            row = _row(count, runs)
            with whole_file(path) as scratch:
                scratch.write_text(json.dumps(row))
    rows = {count: folder / f"{count}.json" for count in counts}
    content = {
        "counts": {
            str(count): json.loads(path.read_text(encoding="utf-8"))
            for count, path in rows.items()
            if path.exists()
        },
        "missing": [count for count, path in rows.items() if not path.exists()],
        "recipe": QUARTER,
    }
    return write_report("instances", content, out)


def _row(count: int, runs: Path) -> JsonObject:
    run = train("mini/pretrain", folder=runs / str(count), instances=count, progress=False, **QUARTER)
    clip = run.model.clip
    data = Collage("test", length=SCENES)
    nouns = [data.names[i] for group in ("seen", "unseen") for i in data.class_groups[group]]
    photographs = score_photographs(clip)
    return {
        "nouns": noun_recognition(clip, [data[i] for i in range(SCENES)], nouns),
        "dense": evaluate(ZeroShotSegmentor(clip, ("value",)), data).metrics,
        "photographs": photographs["top1"],
    }
