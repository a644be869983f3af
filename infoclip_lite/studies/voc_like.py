"""What is trained against what is not, in the VOC-like split: other words compete, other nouns are labelled.

Settings are those of the eight-noun split: nothing is tuned here but which read-out stands for those without
training, the best on validation scenes by seen nouns. Rows of Chimera-Seg on these scenes are read and not
run again.
"""

from __future__ import annotations

from pathlib import Path

from ..clip.readouts import READ_OUTS
from ..core.files import data_dir
from ..core.reports import JsonObject, write_report
from ..core.statistics import contrasts, interval
from ..datasets.collage.words import stuff
from ..datasets.collage.words import voc_like as words_like_voc
from . import chimera_seg, degradation_map, repair
from .rows import SPLITS, StudyTable
from .runs import SCENES, TUNING_SCENES, Records, gather, gather_any, of_read_out, run_variants, score_run
from .study import table, table_json, untrained_row
from .variants import Variant, in_voc_like, settings_of

FOLDER = data_dir() / "rows" / "voc_like"
FREE = "the best read-out"
# A cost-aggregation head on the frozen CLIP: tables compare with it. Its rate is the best of the five that
# the map of chapter 02 tried, on validation scenes of the eight-noun split; it is tried no further.
PIXELS = "CAT-Seg's head"
PIXEL_RATE = 1e-3
# The label here, and in `repair`: the two that stand highest where queries and values alone learn.
TUNED = {"CLIP tuned, q and v": "qv: plain", "InfoCLIP (ours), q and v": "qv: infoclip, anchors, gap"}
# The label here, and in `chimera_seg`.
BORROWED = {
    "Chimera-Seg, linear map": "voc: linear, all positions",
    "Chimera-Seg, CLIP's blocks": "voc: head, all positions",
}


def variants() -> dict[str, Variant]:
    """What is trained here."""
    theirs = repair.variants()
    rows = {PIXELS: _head(), **{label: theirs[name] for label, name in TUNED.items()}}
    return {label: in_voc_like(row) for label, row in rows.items()}


def _head() -> Variant:
    """The head of the map, for 600 of its 800 steps and looked at when it is over, in its recipe's split."""
    return Variant(
        "mini/map-head",
        {
            "steps": 600,
            "optimizer": {"head_lr": PIXEL_RATE},
            "evaluation": {"at": []},
            # As the repair study multiplies.
            "machine": {"dtype": "bfloat16"},
        },
    )


def best_pixel_rate() -> float:
    """The rate of the head with the highest mean hIoU on validation scenes at the end, on the map."""
    cells = {label: cell for label, cell in degradation_map.cells().items() if label.startswith("head/")}
    records = gather_any(cells, range(3), degradation_map.FOLDER)
    means = {
        label: interval([run["evaluations"][-1]["hIoU"] for run in runs]).mean
        # One seed says less than the differences between neighbours.
        for label, runs in records.items()
        if len(runs) > 1
    }
    return float(max(means, key=lambda label: means[label]).removeprefix("head/"))


def voc_like(
    *, seeds: int = 3, part: tuple[int, int] = (1, 1), folder: Path = FOLDER, out: Path | None = None
) -> JsonObject:
    """Run what is missing, and write voc_like.json with what all seeds have finished.

    Args:
        seeds: of every row.
        part: (k, n) does the k-th of n parts of the runs.
        folder: where finished runs are kept.
        out: where the report is written; data/reports by default.

    Returns:
        {"variants", "missing", "seeds", "words": {"seen", "unseen", "stuff"}, "read_outs": {split: {name:
        metrics}}, "read_out": the best on validation scenes by seen nouns, "table", "contrasts", "seconds"}:
        fractions. Every trained row is compared with that read-out; p-values are corrected for all of them
        (Holm).

    Raises:
        FileNotFoundError: the head's row is not finished.
    """
    rows = variants()
    run_variants(rows, range(seeds), folder, lambda run: score_run(run, probes=False), part=part)
    records = gather(rows, range(seeds), folder)
    if PIXELS not in records:
        raise FileNotFoundError(
            f"{folder} has {list(records)} with all {seeds} seeds; expected {PIXELS!r}: run "
            "`infoclip-lite benchmark voc_like` to its end"
        )
    scores = table({**records, **_borrowed(seeds)}, PIXELS)
    section, (seen, unseen) = rows[PIXELS].load(0).data, words_like_voc()
    read_outs = {
        split: {name: of_read_out(name, section, split, count) for name in READ_OUTS}
        for split, count in (("val", TUNING_SCENES), *((split, SCENES) for split in SPLITS))
    }
    # Validation scenes show none of the four unseen nouns, so they have no hIoU.
    best = max(READ_OUTS, key=lambda name: read_outs["val"][name]["mIoU_seen"])
    scores[FREE] = untrained_row({split: read_outs[split][best] for split in SPLITS})
    content = {
        "variants": settings_of(rows),
        "missing": [label for label in (*rows, *BORROWED) if label not in scores],
        "seeds": seeds,
        "words": {"seen": seen, "unseen": unseen, "stuff": stuff()},
        "read_outs": read_outs,
        "read_out": best,
        "table": table_json(scores),
        "contrasts": {split: _contrasts(scores, split) for split in SPLITS},
        "seconds": {label: [run["seconds"]["train"] for run in runs] for label, runs in records.items()},
    }
    return write_report("voc_like", content, out)


def _borrowed(seeds: int) -> Records:
    """Chimera-Seg's rows that all seeds have finished."""
    of_theirs = {name: chimera_seg.VARIANTS[name] for name in BORROWED.values()}
    found = gather(of_theirs, range(seeds), chimera_seg.FOLDER)
    return {label: found[name] for label, name in BORROWED.items() if name in found}


def _contrasts(scores: StudyTable, split: str) -> list[dict[str, object]]:
    """Each trained row against the best read-out, in hIoU; counted are those that are not there yet, too."""
    asked = {label: row[f"{split}/hIoU"] for label, row in scores.items()}
    pairs = [(label, FREE) for label in asked if label != FREE]
    found = contrasts(asked, pairs, planned=len(variants()) + len(BORROWED))
    return [each.to_json() for each in found]
