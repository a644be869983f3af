"""Where fine-tuning forgets, what keeps unseen nouns? Both reports of the repair as tables, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from ..core.colours import shades
from ..core.statistics import Contrast, Interval, Row, Score, interval, read_interval
from ..studies.repair import METHODS
from ..studies.rows import METRICS, REPORTED, SHORT, shown_metrics, table_of
from .pictures import difference_plot
from .tables import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOGETHER = "\N{NO-BREAK SPACE}"
_COLUMNS = ("columns: the training's words", "columns: the captions' nouns as well")
_AGAIN = {"over nouns": "contrasts_over_nouns", "over instances": "contrasts_over_instances"}


def strength_rows(report: Row, setting: str) -> list[dict[str, object]]:
    """Every strength that was tried in a setting, hIoU on validation scenes in percent, best method first.

    Args:
        report: of `infoclip-lite benchmark repair_grid`.
        setting: "full" or "qv".

    Returns:
        Rows {"method", "seen", "unseen", "hIoU", "taken", "all that was tried"}: the first three with the
        strength that was taken.
    """
    measured, best = report["measured"], report["best"][setting]
    rows: list[dict[str, object]] = []
    for method, taken in best.items():
        found = {strength: measured[f"{setting}: {method} | {strength}"] for strength in METHODS[method]}
        # A strength stays on one line with what came of it: some strengths are two numbers.
        tried = "; ".join(f"{each or '-'}: {100 * row['hIoU']:.1f}" for each, row in found.items())
        tried = tried.replace(" ", _TOGETHER).replace(f";{_TOGETHER}", "; ")
        cells = {SHORT[key]: 100 * found[taken][key] for key in METRICS}
        rows.append({"method": method, **cells, "taken": taken or "-", "all that was tried": tried})
    return sorted(
        rows, key=lambda row: -measured[f"{setting}: {row['method']} | {best[row['method']]}"]["hIoU"]
    )


# The same objective with the training's words as columns, and with those of captions beside them.
_PANELS: Mapping[str, tuple[str | None, str]] = {
    "kernel alignment": ("kernel alignment", "kernel alignment, anchors"),
    "InfoCLIP, information": ("infoclip, centred", "infoclip, anchors"),
    "InfoCLIP, gap": (None, "infoclip, anchors, gap"),
}


def plot_columns(report: Row, *, height: float = 2.0) -> Figure:
    """What a relation keeps, by its weight: with the training's words, and with the captions' nouns as well.

    Args:
        report: of `infoclip-lite benchmark repair_grid`.
        height: of a panel in inches.
    """
    import matplotlib.pyplot as plt

    measured, before = report["measured"], report["zero_shot"]
    size = (3.1 * len(_PANELS), 2 * height + 0.5)
    figure, axes = plt.subplots(
        2, len(_PANELS), figsize=size, sharex=True, sharey="row", layout="constrained"
    )
    for line, metric in zip(axes, ("mIoU_seen", "mIoU_unseen"), strict=True):
        for axis, (title, pair) in zip(line, _PANELS.items(), strict=True):
            axis.axhline(
                100 * measured["full: plain | "][metric], color="black", linestyle="--", linewidth=0.8
            )
            axis.axhline(100 * before[metric], color="black", linestyle=":", linewidth=0.8)
            for method, label, shade, mark in zip(pair, _COLUMNS, shades(2), "os", strict=True):
                weights = METHODS[method] if method else {}
                found = [100 * measured[f"full: {method} | {weight}"][metric] for weight in weights]
                axis.plot(
                    [float(w) for w in weights], found, color=shade, marker=mark, markersize=4, label=label
                )
            axis.set(xscale="log")
            axis.set_title(title if metric == "mIoU_seen" else "", fontsize=10)
        line[0].set_ylabel(f"{SHORT[metric]} mIoU (%)")
    for axis in axes[-1]:
        axis.set_xlabel("weight")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def score_rows(report: Row, setting: str, *, split: str = REPORTED) -> list[dict[str, object]]:
    """The methods of a setting, best mean hIoU first, and CLIP before any training; percent.

    Args:
        report: of `infoclip-lite benchmark repair`.
        setting: "full" or "qv".
        split: of the test scenes.

    Returns:
        Rows {"method", "seeds", "seen", "unseen", "stuff", "hIoU"}, each an `Interval` over seeds; before
        training there are no seeds, and numbers stand alone.
    """
    found = _of(report, setting)
    shown = shown_metrics(
        {key.split("/")[1] for row in found.values() for key in row if key.startswith(split)}
    )
    before = report["zero_shot"][split]
    rows: list[dict[str, object]] = [
        {
            "method": "before training",
            "seeds": None,
            **{SHORT[key]: percent(before.get(key)) for key in shown},
        }
    ]
    for method, row in sorted(found.items(), key=lambda pair: -pair[1][f"{split}/hIoU"].mean):
        seeds = len(row[f"{split}/hIoU"].values)
        cells = {SHORT[key]: row[f"{split}/{key}"].percent for key in shown}
        rows.append({"method": method, "seeds": seeds, **cells})
    return rows


def contrast_rows(report: Row, *, split: str = REPORTED) -> list[dict[str, object]]:
    """The planned comparisons in hIoU: over seeds, corrected, and with other nouns and instances; points.

    Args:
        report: of `infoclip-lite benchmark repair`.
        split: of the test scenes; nouns and instances are drawn on "test".

    Returns:
        Rows {"question", "difference", "p (Holm)", "over nouns", "over instances"}.
    """
    rows: list[dict[str, object]] = []
    for row in report["contrasts"][split]:
        contrast = Contrast(row["mean"], row["half"], row["p"], row["first"], row["second"], row["corrected"])
        pair = f"{contrast.first} - {contrast.second}"
        again = {what: _range(report[key].get(pair)) for what, key in _AGAIN.items()}
        question = f"{contrast.first} − {contrast.second.split(': ', 1)[1]}"
        rows.append(
            {"question": question, "difference": contrast.percent, "p (Holm)": contrast.corrected, **again}
        )
    return rows


def calibration_rows(report: Row, setting: str) -> list[dict[str, object]]:
    """New instances once the words of the training have gamma less, which validation scenes choose; percent.

    Args:
        report: of `infoclip-lite benchmark repair`.
        setting: "full" or "qv".

    Returns:
        Rows {"method", "gamma", "seen", "unseen", "hIoU", "hIoU gains"}, best hIoU first after CLIP before
        training, with intervals over seeds where there are any.
    """
    found = {
        label.removeprefix(f"{setting}: "): row
        for label, row in report["calibration"].items()
        if label.startswith(f"{setting}: ")
    }
    best = sorted(found, key=lambda method: -fmean(found[method]["test"]["hIoU"]))
    found = {"before training": report["zero_shot_calibrated"]} | {method: found[method] for method in best}
    rows: list[dict[str, object]] = []
    for method, row in found.items():
        cells = {SHORT[key]: _mean(row["test"][key]) for key in METRICS}
        gains = 100 * (fmean(row["test"]["hIoU"]) - row["sweep"]["test"]["0.0"]["hIoU"])
        rows.append({"method": method, "gamma": float(row["gamma"]), **cells, "hIoU gains": gains})
    return rows


def relation_rows(report: Row) -> list[dict[str, object]]:
    """Before LPAM and after it: how well the teacher's relation tells patches apart, by reading; percent.

    Args:
        report: of `infoclip-lite benchmark repair`.

    Returns:
        Rows {"relation", "AUROC, seen", "AUROC, unseen", "mIoU, seen", "mIoU, unseen"}.
    """
    relations: Mapping[str, Row] = report["relation"]
    what = {"AUROC": "auroc", "mIoU": "mIoU"}
    keys = {f"{name}, {g}": f"{key}_{g}" for name, key in what.items() for g in ("seen", "unseen")}
    rows: list[dict[str, object]] = []
    for label, row in relations.items():
        if not rows:
            before = {name: 100 * row[f"before {key}"]["mean"] for name, key in keys.items()}
            rows.append({"relation": "before LPAM", **before})
        after = {name: read_interval(row[f"after {key}"]).percent for name, key in keys.items()}
        rows.append({"relation": f"after, {label}", **after})
    return rows


def plot_repair(report: Row, setting: str, *, split: str = REPORTED, height: float = 0.3) -> Figure:
    """Paired differences of every method to plain fine-tuning, best hIoU first, 95% intervals over seeds.

    Args:
        report: of `infoclip-lite benchmark repair`.
        setting: "full" or "qv".
        split: of the test scenes.
        height: of a method's line in inches.
    """
    import matplotlib.pyplot as plt

    found = {method: row for method, row in _of(report, setting).items() if method != "plain"}
    order = sorted(found, key=lambda method: -found[method][f"{split}/hIoU"].mean)
    metrics: Sequence[str] = ("mIoU_seen", "mIoU_unseen", "hIoU")
    size = (10, height * len(order) + 0.9)
    figure, axes = plt.subplots(1, len(metrics), figsize=size, layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        differences = {method: found[method][f"{split}/{metric}"].difference for method in order}
        rows = {method: each for method, each in differences.items() if each is not None}
        difference_plot(axis, rows, labels=metric == metrics[0])
        axis.set_title(SHORT[metric])
    return figure


def _of(report: Row, setting: str) -> dict[str, dict[str, Score]]:
    """The table's rows of one setting, its name left out."""
    prefix = f"{setting}: "
    return {
        label.removeprefix(prefix): row for label, row in table_of(report).items() if label.startswith(prefix)
    }


def _mean(values: Sequence[float]) -> Interval | float:
    """In percent; what was not trained has one value and no interval."""
    return interval(values).percent if len(values) > 1 else 100 * values[0]


def _range(row: Row | None) -> str:
    return "" if row is None else f"[{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
