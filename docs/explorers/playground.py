"""The playground of estimators: `compute_information` at every position of the page's controls."""

from __future__ import annotations

import hashlib
import inspect
import json
from itertools import product
from pathlib import Path

from infoclip_lite import information as mathematics
from infoclip_lite.core.files import whole_file
from infoclip_lite.core.reports import JsonObject
from infoclip_lite.core.statistics import interval
from infoclip_lite.figures import estimators
from infoclip_lite.figures.estimators import CORRELATIONS, ESTIMATORS, MATRIX

SAMPLES, DIMENSIONS = (10, 30, 100, 300), (1, 2, 5, 10)  # the notebook's
# The matrix-based one has two controls more, and eigenvalues to find: fewer positions, or the site would wait
# minutes for it. Chapter 04 is about it, and has it whole.
MATRIX_SAMPLES, WIDTHS, ORDERS = (30, 100), (0.3, 1.0, 3.0), (1.01, 2.0, 3.0)


def information(kept: Path) -> JsonObject:
    """Draws, means and truths of all estimators; computed again only after their code has changed.

    Args:
        kept: folder of what is kept between two builds.
    """
    path = kept / f"information-{_fingerprint()}.json"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(_computed(), separators=(",", ":")), "utf-8")
    return json.loads(path.read_text("utf-8"))


def _fingerprint() -> str:
    """Of the code that the numbers come from."""
    room = Path(str(mathematics.__file__)).parent
    files = [Path(__file__), Path(inspect.getfile(estimators)), *sorted(room.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _computed() -> JsonObject:
    plain = [name for name in ESTIMATORS if name != MATRIX]
    positions: list[dict[str, object]] = [
        {"estimator": name, "n": n, "dim": dim} for name, n, dim in product(plain, SAMPLES, DIMENSIONS)
    ]
    positions += [
        {"estimator": MATRIX, "n": n, "dim": dim, "width": width, "alpha": alpha}
        for n, dim, width, alpha in product(MATRIX_SAMPLES, DIMENSIONS, WIDTHS, ORDERS)
    ]
    return {
        "rho": list(CORRELATIONS),
        "rows": [{**each, **_row(each)} for each in positions],
        "start": {"estimator": "KSG", "n": 100, "dim": 1, "rho": 0.8, "width": 1.0, "alpha": 2.0},
        # Those that are estimates of the truth: which is furthest off, the page asks before it shows.
        "of_truth": plain,
    }


def _row(position: dict[str, object]) -> JsonObject:
    try:
        view = estimators.compute_information(**position)  # type: ignore[arg-type]
    # Too few samples for so many dimensions: the page says it, as the notebook does.
    except ValueError as error:
        return {"refused": str(error)}
    found = [interval(column) for column in view.estimates.T.tolist()]
    row = {
        "truth": _rounded(view.truth.tolist()),
        "draws": [_rounded(column) for column in view.estimates.T.tolist()],
        "mean": _rounded([each.mean for each in found]),
        "half": _rounded([each.ci95 for each in found]),
        "limit": view.limit,
    }
    if view.population is not None:
        row["population"] = _rounded(view.population.tolist())
    return row


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values]
