"""The trained systems on one bench: the report "systems" as rows of tables and a figure.

Planned contrasts have the same form as Chimera-Seg's: `chimera.plot_contrasts` and `chimera.contrast_rows`
draw and list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import Row
from .chimera import GROUPS, SORTS
from .tables import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..segmentors import Segmentor

_ALL: Mapping[str, str] = {**GROUPS, "hIoU": "hIoU"}


def system_rows(report: Row, split: str = "test") -> list[dict[str, object]]:
    """Every system on one split, a column a group of words.

    Args:
        report: of `infoclip-lite benchmark systems`.
        split: of the scenes.

    Returns:
        Percent with 95% intervals over seeds, plain numbers where nothing is trained; what training was told
        of a scene.
    """
    return [
        {
            "system": label,
            "told": report["labels"][label],
            **{name: percent(row.get(f"{split}/{metric}")) for metric, name in _ALL.items()},
        }
        for label, row in report["table"].items()
    ]


def chosen_rows(grid: Row) -> list[dict[str, object]]:
    """Every system at its chosen rate on validation scenes, best hIoU first, among them the best read-out.

    Args:
        grid: of `infoclip-lite benchmark systems_grid`.

    Returns:
        Percent, of one seed; what training was told of a scene.
    """
    found = {}
    for system, rate in grid["best"].items():
        tries = _tries(grid, system)
        found[system] = {
            "told": grid["labels"][system],
            "rates tried": len(tries),
            "rate": f"{rate:g}",
            **_shown(tries[rate]),
        }
    free = {
        "told": "nothing",
        "rates tried": None,
        "rate": None,
        **_shown(grid["read_outs"][grid["read_out"]]),
    }
    found[f"CLIP as it is: {grid['read_out']}"] = free
    rows = [{"system": system, **row} for system, row in found.items()]
    return sorted(rows, key=lambda row: row["hIoU"], reverse=True)


def _tries(grid: Row, system: str) -> dict[float, Row]:
    """Metrics by rate, lowest first."""
    found = {}
    for label, metrics in grid["measured"].items():
        name, _, rate = label.rpartition(" | ")
        if name == system:
            found[float(rate)] = metrics
    return dict(sorted(found.items()))


def _shown(metrics: Row) -> dict[str, float]:
    return {name: 100 * metrics[metric] for metric, name in _ALL.items()}


def plot_rates(grid: Row, *, height: float = 0.22) -> Figure:
    """hIoU of every system over its learning rates on validation scenes, and of the best read-out.

    The chosen rate stands out; a system that has not had all its tries yet has none.

    Args:
        grid: as for `chosen_rows`.
        height: of a line in inches.

    Raises:
        ValueError: a report in which nothing was tried.
    """
    import matplotlib.pyplot as plt

    found = {system: tries for system in grid["labels"] if (tries := _tries(grid, system))}
    if not found:
        raise ValueError("got a grid without a training; expected one system at least")
    figure, axis = plt.subplots(figsize=(6.5, 0.7 + height * len(found)), layout="constrained")
    colour, chosen, free = shades(3)
    for line, (system, tries) in enumerate(found.items()):
        scores = [100 * metrics["hIoU"] for metrics in tries.values()]
        axis.plot(scores, [line] * len(scores), color=colour, linewidth=1, alpha=0.4)
        # The higher the rate the larger its mark.
        sizes = [10 * (1 + place) for place in range(len(scores))]
        colours = [chosen if rate == grid["best"].get(system) else colour for rate in tries]
        axis.scatter(scores, [line] * len(scores), s=sizes, color=colours, zorder=3)
    read_out = grid["read_out"]
    axis.axvline(100 * grid["read_outs"][read_out]["hIoU"], color=free, linestyle="--", linewidth=1)
    axis.set(xlabel="hIoU (%)", xlim=(0, None))
    axis.set_yticks(range(len(found)), list(found), fontsize=8)
    axis.invert_yaxis()
    sns.despine(figure)
    return figure


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
            name: percent(row.get(f"{split}/{metric}", {}).get("difference")) for metric, name in _ALL.items()
        }
        seeds = len(row[f"{split}/hIoU"]["values"])
        rows.append({"system": system, "changed": change, "seeds": seeds, **pairs})
    return rows


def price_rows(
    models: Mapping[str, Segmentor], passes: Mapping[str, str], speed: Mapping[str, Row]
) -> list[dict[str, object]]:
    """What a picture costs at inference.

    Args:
        models: by system; their weights do not matter.
        passes: through CLIP's image tower, in words, by system.
        speed: "backends" of `infoclip-lite benchmark systems_speed`, by system.

    Returns:
        Weights that a picture meets in millions, of CLIP's image tower and of what is beside it; time in
        passes of CLIP, and memory beside weights in 10^6 bytes.
    """
    rows: list[dict[str, object]] = []
    for name, model in models.items():
        parts = model.weights_at_inference()
        tower = parts.pop("image tower", 0)
        row = {
            "system": name,
            "CLIP's image tower (M)": tower / 1e6,
            "beside it (M)": sum(parts.values()) / 1e6,
            "passes through the tower": passes[name],
            "time (CLIP's = 1)": float(speed[name]["ratio"]),
            "memory (MB)": float(speed[name]["mb"]),
        }
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
