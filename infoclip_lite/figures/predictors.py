"""Do bits predict what is kept? The report "predictors" as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osv^DP"  # a tuning each, so that colour is not all that tells them apart


def plot_kept(report: Row, probes: Sequence[str], *, height: float = 2.6) -> Figure:
    """A panel for each probe: its value against what is kept of unseen nouns, a point a step and training.

    Args:
        report: of `infoclip-lite benchmark predictors`.
        probes: which, names of the report.
        height: of a panel in inches.
    """
    import matplotlib.pyplot as plt

    points: Sequence[Row] = report["points"]
    tunings = list(dict.fromkeys(point["tuning"] for point in points))
    # At most two in a row: beside each other four would be too small to be read.
    across, down = min(2, len(probes)), -(-len(probes) // 2)
    size = (1.4 * height * across, height * down + 0.5)
    figure, axes = plt.subplots(down, across, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis in axes.flat[len(probes) :]:
        axis.axis("off")
    for axis, probe in zip(axes.flat, probes, strict=False):
        axis.axhline(0, color="black", linewidth=0.6)
        for tuning, mark, shade in zip(tunings, _MARKS, shades(len(tunings)), strict=False):
            own = [point for point in points if point["tuning"] == tuning]
            axis.plot(
                [point[probe] for point in own],
                [100 * point["kept"] for point in own],
                mark,
                color=shade,
                markersize=4,
                alpha=0.7,
                label=tuning,
            )
        axis.set_xlabel(probe, fontsize=9)
    figure.supylabel("unseen mIoU less zero-shot's (points)", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        markerscale=1.8,
        frameon=False,
        fontsize=9,
    )
    sns.despine(figure)
    return figure


def plot_correlations(report: Row, *, height: float = 0.32) -> Figure:
    """Spearman's rho of every probe with what is kept, over all trainings and within tunings, 95% intervals.

    Args:
        report: of `infoclip-lite benchmark predictors`.
        height: of a probe's line in inches.
    """
    import matplotlib.pyplot as plt

    rows: Mapping[str, Row] = report["correlation"]
    figure, axis = plt.subplots(figsize=(6.5, height * len(rows) + 1.1), layout="constrained")
    scopes = {"all": "over all trainings", "within": "within a tuning, mean"}
    for place, ((scope, label), shade) in enumerate(zip(scopes.items(), shades(2), strict=True)):
        for line, row in enumerate(rows.values()):
            found = row[scope]
            spread = [[found["rho"] - found["low"]], [found["high"] - found["rho"]]]
            axis.errorbar(
                found["rho"],
                line + 0.24 * (place - 0.5),
                xerr=spread,
                fmt="os"[place],
                color=shade,
                capsize=2,
                markersize=4,
                label=label if line == 0 else None,
            )
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlim=(-1.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="Spearman's rank correlation")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    sns.despine(figure)
    return figure


def stopping_rows(report: Row) -> list[dict[str, str]]:
    """The contest of early stopping as rows of a table, most hIoU first; points with 95% intervals."""
    rules: Mapping[str, Row] = report["stopping"]
    ordered = sorted(rules, key=lambda rule: -rules[rule]["hIoU"]["mean"])

    def shown(row: Row, sign: str = "") -> str:
        return f"{100 * row['mean']:{sign}.1f} ± {100 * row['half']:.1f}"

    return [
        {
            "stop by": rule,
            **{key: shown(rules[rule][key]) for key in ("seen", "unseen", "hIoU")},
            "hIoU less the last step's": shown(rules[rule]["difference"], "+"),
        }
        for rule in ordered
    ]
