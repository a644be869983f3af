"""Reading without training: the report "training_free" as figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn as sns

from ..core.statistics import Interval, Row, read_interval
from .pictures import difference_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KEPT = {"": "neither", " + x": "residual", " + ffn": "FFN", " + x + ffn": "both"}
_SPLITS = {"test": "new instances", "test-known": "known instances"}


def _percent(cell: Interval) -> str:
    return f"{100 * cell.mean:.1f}\n± {100 * cell.ci95:.1f}"


def plot_parts(report: Row, attentions: Sequence[str], *, height: float = 3.0) -> Figure:
    """hIoU of the last block put together from parts: a row an attention, a column what is kept beside it.

    Args:
        report: of `infoclip-lite benchmark training_free`.
        attentions: in their order from above.
        height: of the figure in inches.
    """
    import matplotlib.pyplot as plt

    size = (3.6 * height, height)
    figure, axes = plt.subplots(1, len(_SPLITS), figsize=size, squeeze=False, layout="constrained")
    for axis, (split, title) in zip(axes[0], _SPLITS.items(), strict=True):
        cells = [
            [read_interval(report["rows"][attention + kept][split]["hIoU"]) for kept in _KEPT]
            for attention in attentions
        ]
        means = np.array([[100 * cell.mean for cell in row] for row in cells])
        texts = np.array([[_percent(cell) for cell in row] for row in cells])
        sns.heatmap(
            means,
            ax=axis,
            annot=texts,
            fmt="",
            # Pale throughout, so that dark numbers can be read on every cell.
            cmap=sns.light_palette("#8ab6d6", as_cmap=True),
            cbar=False,
            xticklabels=list(_KEPT.values()),
            yticklabels=list(attentions),
            annot_kws={"fontsize": 9},
        )
        axis.set(title=title, xlabel="kept beside the attention")
        axis.tick_params(axis="y", rotation=0)
    axes[0][0].set_ylabel("attention")
    return figure


def plot_contrasts(report: Row, *, height: float = 3.6) -> Figure:
    """The planned contrasts in hIoU, a panel a split: differences in points with 95% intervals.

    Args:
        report: of `infoclip-lite benchmark training_free`.
        height: of the figure in inches.
    """
    import matplotlib.pyplot as plt

    size = (2.6 * height, height)
    figure, axes = plt.subplots(1, len(_SPLITS), figsize=size, squeeze=False, layout="constrained")
    for place, (axis, (split, title)) in enumerate(zip(axes[0], _SPLITS.items(), strict=True)):
        rows = {row["asks"]: read_interval(row) for row in report["contrasts"][split]}
        difference_plot(axis, rows, labels=place == 0)
        axis.set_title(title)
    sns.despine(figure)
    return figure
