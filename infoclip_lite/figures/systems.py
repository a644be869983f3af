"""The trained systems on one bench: the report "systems" as rows of tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import LEVEL, Interval, Row
from ..studies.systems import FREE
from .chimera import GROUPS, SORTS
from .pictures import difference_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..segmentors import Segmentor
    from ..studies.rows import Speed

_ALL: Mapping[str, str] = {**GROUPS, "hIoU": "hIoU"}


def system_rows(report: Row, split: str = "test") -> list[dict[str, object]]:
    """Every system on one split, a column a group of words.

    Args:
        report: of `infoclip-lite benchmark systems`.
        split: of the scenes.

    Returns:
        Percent with 95% intervals over seeds, plain numbers where nothing is trained; what training was told
        of a scene, and the seconds that it took, None where another study has them.
    """
    seconds = report["seconds"]
    return [
        {
            "system": label,
            "told": told(report, label),
            "seeds": len(row[f"{split}/hIoU"].get("values", ())) or None,
            **{name: _percent(row.get(f"{split}/{metric}")) for metric, name in _ALL.items()},
            "training (s)": float(median(seconds[label])) if label in seconds else None,
        }
        for label, row in report["table"].items()
    ]


def told(report: Row, label: str) -> str:
    """What a row's training was told of a scene; rows of other studies learnt from masks, too.

    Args:
        report: as for `system_rows`.
        label: of a row.
    """
    return "nothing" if label == FREE else report["labels"].get(label, "masks")


def ablation_rows(report: Row, split: str = "test") -> list[dict[str, object]]:
    """What a system gains without an idea of its own: the system without it, less the whole system.

    Args:
        report: as for `system_rows`.
        split: of the scenes.

    Returns:
        Points with 95% intervals of the paired differences, seed by seed; below zero the idea paid.
    """
    rows: list[dict[str, object]] = []
    for label, row in report["ablations"].items():
        system, _, change = label.partition(": ")
        pairs = {
            name: _percent(row.get(f"{split}/{metric}", {}).get("difference"))
            for metric, name in _ALL.items()
        }
        seeds = len(row[f"{split}/hIoU"]["values"])
        rows.append({"system": system, "changed": change, "seeds": seeds, **pairs})
    return rows


def contrast_rows(report: Row) -> list[dict[str, object]]:
    """The planned contrasts: differences of hIoU in points, and p-values with all that were planned counted.

    Args:
        report: as for `system_rows`.

    Returns:
        A row a contrast; None where a split lacks it.
    """
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for split, sort in SORTS.items():
        for found in report["contrasts"].get(split, []):
            pair = (found["first"], found["second"])
            blank = {f"{what}, {each}": None for each in SORTS.values() for what in ("hIoU", "p")}
            row = rows.setdefault(pair, {"contrast": f"{pair[0]} minus {pair[1]}", **blank})
            row[f"hIoU, {sort}"], row[f"p, {sort}"] = _percent(found), found["corrected"]
    return list(rows.values())


def price_rows(
    models: Mapping[str, Segmentor], passes: Mapping[str, str], speed: Mapping[str, Speed] | None = None
) -> list[dict[str, object]]:
    """What a picture costs at inference.

    Args:
        models: by system; their weights do not matter.
        passes: through CLIP's image tower, in words, by system.
        speed: by way of inference, of the leaderboard; None leaves the time out.

    Returns:
        Weights that a picture meets in millions, of CLIP's image tower and of what is beside it; and the time
        in forward passes of CLIP, None where the leaderboard has not measured it.
    """
    rows: list[dict[str, object]] = []
    for name, model in models.items():
        parts = model.weights_at_inference()
        tower = parts.pop("image tower", 0)
        row: dict[str, object] = {
            "system": name,
            "CLIP's image tower (M)": tower / 1e6,
            "beside it (M)": sum(parts.values()) / 1e6,
            "passes through the tower": passes[name],
        }
        if speed is not None:
            measured = speed.get(model.backend)
            row["time (CLIP's pass = 1)"] = None if measured is None else measured.ratio
        rows.append(row)
    return rows


def plot_systems(report: Row, *, height: float = 0.28) -> Figure:
    """Every system by group of words, new and known instances side by side, with 95% intervals over seeds.

    Args:
        report: as for `system_rows`.
        height: of a line in inches.

    Raises:
        ValueError: a report without a row.
    """
    import matplotlib.pyplot as plt

    rows = report["table"]
    if not rows:
        raise ValueError("got a report without a row; expected one system at least")
    size = (10.0, 1.1 + height * len(rows))
    figure, axes = plt.subplots(1, len(_ALL), figsize=size, sharey=True, layout="constrained")
    for axis, (metric, name) in zip(axes, _ALL.items(), strict=True):
        for place, (colour, (split, sort)) in enumerate(zip(shades(2), SORTS.items(), strict=True)):
            # New above known, so that neither interval hides the other.
            lines = [line + 0.24 * place - 0.12 for line in range(len(rows))]
            cells = [row[f"{split}/{metric}"] for row in rows.values()]
            means, halves = ([100 * cell[key] for cell in cells] for key in ("mean", "half"))
            axis.errorbar(means, lines, xerr=halves, fmt="o^"[place], color=colour, markersize=4, label=sort)
        axis.set(title=name, xlabel="hIoU (%)" if metric == "hIoU" else "mIoU (%)", xlim=(0, None))
    axes[0].set_yticks(range(len(rows)), list(rows), fontsize=9)
    axes[0].invert_yaxis()
    axes[-1].legend(title="instances", frameon=False, fontsize=8, title_fontsize=8)
    sns.despine(figure)
    return figure


def plot_contrasts(report: Row, *, height: float = 0.34) -> Figure:
    """The planned contrasts in points of hIoU, a panel a kind of instance; a star where one holds with all
    that were planned counted.

    Args:
        report: as for `system_rows`.
        height: of a line in inches.

    Raises:
        ValueError: a report without a contrast.
    """
    import matplotlib.pyplot as plt

    found = {split: report["contrasts"].get(split, []) for split in SORTS}
    lines = max(map(len, found.values()))
    if not lines:
        raise ValueError("got a report without a contrast; expected one whose two systems are finished")
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 1.0 + height * lines), layout="constrained")
    for axis, (split, rows) in zip(axes, found.items(), strict=True):
        named = {
            f"{row['first']} minus\n{row['second']}{' *' if row['corrected'] <= LEVEL else ''}": Interval(
                row["mean"], row["half"]
            )
            for row in rows
        }
        difference_plot(axis, named)
        axis.tick_params(axis="y", labelsize=8)
        axis.set_title(f"{SORTS[split]} instances", fontsize=10)
    sns.despine(figure)
    return figure


def _percent(row: Row | None) -> Interval | float | None:
    """In percent; a number alone where nothing was drawn, an interval of no width."""
    if not row:
        return None
    return Interval(100 * row["mean"], 100 * row["half"]) if row["half"] else 100 * row["mean"]
