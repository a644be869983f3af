"""Chimera-Seg's reports as figures and rows of tables; each draws what is there, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import LEVEL, Row, paired_interval, read_interval
from ..studies.chimera_seg import TRIES, label_of
from .pictures import difference_plot
from .tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS: Mapping[str, str] = {
    "mIoU_seen": "seen nouns",
    "mIoU_unseen": "unseen nouns",
    "mIoU_stuff": "stuff",
}
SORTS: Mapping[str, str] = {"test": "new", "test-known": "known"}
# Columns of a table of variants: (split, metric) of each.
_COLUMNS: Mapping[str, tuple[str, str]] = {
    f"{name}, {sort}": (split, metric)
    for metric, name in (*GROUPS.items(), ("hIoU", "hIoU"))
    for split, sort in SORTS.items()
}


def plot_heads(report: Row, *, split: str = "test", height: float = 2.6) -> Figure:
    """Both heads over the steps of a training, by group, and their difference in hIoU, with 95% bands.

    Args:
        report: of `infoclip-lite benchmark chimera_heads`.
        split: of the scenes.
        height: of a panel in inches.

    Raises:
        ValueError: a report in which no head has two seeds.
    """
    import matplotlib.pyplot as plt

    if not report["curves"]:
        raise ValueError("got a report without a curve; expected one head with two seeds at least")
    figure, axes = plt.subplots(1, 4, figsize=(4 * height, height), layout="constrained")
    for axis, (metric, name) in zip(axes, GROUPS.items(), strict=False):
        for colour, (head, curves) in zip(shades(2), report["curves"].items(), strict=False):
            _band(axis, curves[f"{split}/{metric}"], colour, head)
        axis.set(title=name, ylim=(0, None))
    axes[0].set_ylabel("mIoU (%)")
    axes[0].legend(frameon=False)
    gap = axes[3]
    gap.axhline(0, color="black", linewidth=0.8)
    if report["differences"]:
        _band(gap, report["differences"][f"{split}/hIoU"], "0.35", "head minus linear")
    gap.set(title="hIoU, head minus linear", ylabel="points")
    for axis in axes:
        axis.set(xlabel="step", xscale="log")
        _steps(axis, report)
    sns.despine(figure)
    return figure


def _steps(axis: Axes, report: Row) -> None:
    """The looks as ticks, all but the last but one, which the last one would cover."""
    steps = [point["step"] for point in next(iter(next(iter(report["curves"].values())).values()))]
    shown = [*steps[:-2], steps[-1]]
    axis.set_xticks(shown, [str(step) for step in shown], rotation=45)
    axis.minorticks_off()


def _band(axis: Axes, points: Sequence[Row], colour: object, label: str) -> None:
    steps = [point["step"] for point in points]
    middle = [100 * point["mean"] for point in points]
    low, high = ([100 * (p["mean"] + sign * p["half"]) for p in points] for sign in (-1, 1))
    axis.plot(steps, middle, "o-", color=colour, label=label, markersize=3, linewidth=1.4)
    axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


def plot_contrasts(report: Row, *, height: float = 0.32) -> Figure:
    """Planned contrasts of hIoU in points, on new and on known instances.

    A line each, with its own 95% interval; a star beside it where the difference holds with all planned ones
    of that kind of instance counted.

    Args:
        report: of `chimera_seg` or `chimera_heads`.
        height: of a line in inches.

    Raises:
        ValueError: a report without a contrast.
    """
    import matplotlib.pyplot as plt

    found = {split: report["contrasts"].get(split, []) for split in SORTS}
    lines = max(len(rows) for rows in found.values())
    if not lines:
        raise ValueError("got a report without a contrast; expected two variants that share two seeds")
    size = (8.0, 1.0 + height * lines)
    figure, axes = plt.subplots(1, 2, figsize=size, sharex=True, layout="constrained")
    for axis, (split, rows) in zip(axes, found.items(), strict=True):
        named = {f"{row['first']} minus {row['second']}": read_interval(row) for row in rows}
        difference_plot(axis, named, labels=split == "test")
        axis.margins(x=0.12)  # room for a star
        for line, row in enumerate(rows):
            if row["corrected"] <= LEVEL:
                end = (100 * (row["mean"] + row["half"]), line)
                axis.annotate("*", end, xytext=(4, -5), textcoords="offset points")
        axis.set_title(f"{SORTS[split]} instances", fontsize=10)
    return figure


def plot_gammas(report: Row, labels: Sequence[str], *, split: str = "test", height: float = 2.6) -> Figure:
    """hIoU over the constant that is taken from seen logits; a ring where validation scenes would have it.

    Args:
        report: of `chimera_seg`.
        labels: of variants; those that are not there are left out.
        split: of the scenes.
        height: in inches.

    Raises:
        ValueError: none of them is there.
    """
    import matplotlib.pyplot as plt

    there = [label for label in labels if label in report["calibration"]]
    if not there:
        raise ValueError(f"got {list(labels)}; expected some of {', '.join(report['calibration']) or 'none'}")
    figure, axis = plt.subplots(figsize=(2 * height, height), layout="constrained")
    for colour, label in zip(shades(len(there)), there, strict=True):
        row = report["calibration"][label]
        sweep = {float(gamma): 100 * metrics["hIoU"] for gamma, metrics in row["sweep"][split].items()}
        axis.plot(list(sweep), list(sweep.values()), "o-", color=colour, label=label, markersize=3)
        if row["gamma"] is not None:
            best = float(row["gamma"])
            axis.plot(best, sweep[best], "o", color=colour, markersize=10, fillstyle="none")
    axis.set(xlabel="gamma, taken from every seen logit", ylabel="hIoU (%)", ylim=(0, None))
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(figure)
    return figure


def part_rows(report: Row, labels: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Variants as rows of a table: groups apart, new instances first, known ones beside them.

    Args:
        report: of `chimera_seg` or `chimera_heads`.
        labels: which; None is all. Those that are not there are left out.

    Returns:
        Percent with 95% intervals; a dash where none was measured.
    """
    chosen = list(report["table"]) if labels is None else labels
    return [
        {
            "variant": label,
            "seeds": len(report["table"][label]["test/hIoU"]["values"]),
            **{
                column: percent(report["table"][label].get(f"{split}/{metric}"))
                for column, (split, metric) in _COLUMNS.items()
            },
        }
        for label in chosen
        if label in report["table"]
    ]


def paired_rows(report: Row, pairs: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    """Differences of two variants, seed by seed, as far as both have the seeds; columns as of `part_rows`.

    Args:
        report: of `chimera_seg` or `chimera_heads`.
        pairs: (first, second) variants, two seeds of each at least; the difference is first - second.

    Returns:
        Points with 95% intervals over the pairs' own seeds; None where one of the two was not measured.
    """
    rows: list[dict[str, object]] = []
    for first, second in pairs:
        row: dict[str, object] = {"difference": f"{first} minus {second}", "seeds": 0}
        for column, (split, metric) in _COLUMNS.items():
            cells = [report["table"][label].get(f"{split}/{metric}") for label in (first, second)]
            if not all(cells):
                row[column] = None
                continue
            # Seeds are the first of each row, in their order.
            row["seeds"] = seeds = min(len(cell["values"]) for cell in cells)
            ours, theirs = ([100 * value for value in cell["values"][:seeds]] for cell in cells)
            row[column] = paired_interval(ours, theirs)
        rows.append(row)
    return rows


def zero_shot_rows(report: Row) -> list[dict[str, object]]:
    """The teacher itself, with the columns of `part_rows`: numbers without seeds.

    Args:
        report: of `chimera_seg`.

    Returns:
        Percent, one row a read-out or mean of read-outs; none where it was not measured.
    """
    return [
        {
            "variant": f"CLIP, zero-shot: {read_out}",
            "seeds": None,
            **{column: percent(splits[split].get(metric)) for column, (split, metric) in _COLUMNS.items()},
        }
        for read_out, splits in report["zero_shot"].items()
    ]


def look_rows(report: Row, *, metric: str = "hIoU", split: str = "test") -> list[dict[str, object]]:
    """Both heads at each look of a training, and their difference in points, paired by seed.

    Args:
        report: of `chimera_heads`.
        metric: a key of `GROUPS`, or "hIoU".
        split: of the scenes.
    """
    key = f"{split}/{metric}"
    by_step: dict[int, dict[str, object]] = {}
    columns = {head: curves[key] for head, curves in report["curves"].items()}
    columns["head minus linear"] = report["differences"].get(key, [])
    for name, points in columns.items():
        for point in points:
            by_step.setdefault(point["step"], {"step": point["step"]})[name] = percent(point)
    return list(by_step.values())


def try_rows(report: Row) -> list[dict[str, object]]:
    """What was tried of every setting on validation scenes, hIoU in percent, and what was taken.

    Args:
        report: of `infoclip-lite benchmark chimera_seg_grid`.
    """
    measured = report["measured"]
    return [
        {
            "setting": setting,
            "hIoU of each try": ", ".join(
                f"{each}: {100 * measured[label_of(setting, each)]['hIoU']:.1f}" for each in TRIES[setting]
            ),
            "taken": taken,
        }
        for setting, taken in report["best"].items()
    ]


def cost_rows(report: Row) -> list[dict[str, object]]:
    """What a picture costs at inference, by size and model.

    Args:
        report: of `infoclip-lite benchmark chimera_cost`.

    Returns:
        Rows with milliseconds, the same as a multiple of Chimera-Seg's own with CLIP's head at that size, and
        weights that a picture meets, in millions, and of which frozen, None for what is no chimera.
    """
    own = {row["what"]: row["ms_a_picture"] for row in report["rows"] if row["model"] == "Chimera-Seg"}
    return [
        {
            "size": row["what"],
            "model": row["model"],
            "ms a picture": row["ms_a_picture"],
            "times Chimera-Seg's": row["ms_a_picture"] / own[row["what"]],
            "weights (M)": row["parameters"] / 1e6,
            "of which frozen": row["parts"]["frozen"] / 1e6 if "frozen" in row["parts"] else None,
        }
        for row in report["rows"]
    ]


def contrast_rows(report: Row, split: str = "test") -> list[dict[str, object]]:
    """Planned contrasts as rows of a table: the difference in points, its p-value, and Holm's.

    Args:
        report: of `chimera_seg` or `chimera_heads`.
        split: of the scenes.
    """
    over_nouns = report.get("contrasts_over_nouns", {})
    rows: list[dict[str, object]] = []
    for row in report["contrasts"].get(split, []):
        drawn = over_nouns.get(f"{row['first']} - {row['second']}") if split == "test" else None
        ends = "–" if drawn is None else f"{100 * drawn['low']:+.1f} to {100 * drawn['high']:+.1f}"
        rows.append(
            {
                "contrast": f"{row['first']} minus {row['second']}",
                "hIoU": read_interval(row).percent,
                "p": row["p"],
                "p, all planned": row["corrected"],
                "95% over nouns": ends,
            }
        )
    return rows


def gamma_rows(report: Row, labels: Sequence[str]) -> list[dict[str, object]]:
    """What a gamma chosen on validation scenes adds on the others, in points of hIoU.

    Args:
        report: of `chimera_seg`.
        labels: which; those that are not there, or had nothing to choose by, are left out.
    """
    rows: list[dict[str, object]] = []
    for label in labels:
        row = report["calibration"].get(label)
        if row is None or row["gamma"] is None:
            continue
        gamma, sweep = row["gamma"], row["sweep"]
        added = {
            f"adds, {sort}": 100 * (sweep[split][gamma]["hIoU"] - sweep[split]["0.0"]["hIoU"])
            for split, sort in SORTS.items()
        }
        best = max(metrics["hIoU"] for metrics in sweep["test"].values()) - sweep["test"]["0.0"]["hIoU"]
        rows.append({"variant": label, "gamma": float(gamma), **added, "fitted to the new": 100 * best})
    return rows
