"""The report of the study on points as rows of tables and as a figure; each shows what is there, and no more.

Planned contrasts have the same form as Chimera-Seg's: `chimera.plot_contrasts` and `chimera.contrast_rows`
draw and list them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import seaborn as sns

from ..core.colours import shades
from ..core.statistics import Row, interval
from ..studies.points import FROZEN
from .chimera import GROUPS, SORTS
from .tables import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def score_rows(report: Row) -> list[dict[str, object]]:
    """Variants as rows of a table: groups apart, new instances first, known ones beside them.

    Args:
        report: of `infoclip-lite benchmark points`.

    Returns:
        Percent with 95% intervals over seeds; frozen CLIP, which nothing trains, first and without one.
    """
    return [
        {
            "variant": label,
            **{
                f"{name}, {sort}": percent(report["table"][label][f"{split}/{metric}"])
                for metric, name in (*GROUPS.items(), ("hIoU", "hIoU"))
                for split, sort in SORTS.items()
            },
        }
        for label in _frozen_first(report)
    ]


def noun_rows(report: Row, label: str) -> list[dict[str, object]]:
    """IoU of each word on new instances in percent: frozen CLIP, and a variant with its interval over seeds.

    Args:
        report: of `infoclip-lite benchmark points`.
        label: of the variant.

    Returns:
        Rows {"word", frozen CLIP, the variant, "called so in training"}: of the points of an unseen noun in
        the training's scenes, how many have its name as their pseudo label.

    Raises:
        ValueError: a variant that is not finished.
    """
    if label not in report["nouns"] or label == FROZEN:
        trained = [each for each in report["nouns"] if each != FROZEN]
        raise ValueError(f"got {label!r}; expected one of {', '.join(trained) or 'none'}")
    runs = report["nouns"][label]
    return [
        {
            "word": noun,
            FROZEN: 100 * iou,
            label: interval([run[noun] for run in runs]).percent,
            "called so in training": percent(report["pseudo_labels"].get(noun, {}).get("right")),
        }
        for noun, iou in report["nouns"][FROZEN].items()
    ]


def plot_scores(report: Row, *, height: float = 2.6) -> Figure:
    """Every variant in a line, a panel a group: dots for new instances, rings for known ones, 95% intervals.

    Args:
        report: of `infoclip-lite benchmark points`.
        height: of the panels in inches.
    """
    import matplotlib.pyplot as plt

    labels = _frozen_first(report)[::-1]
    figure, axes = plt.subplots(
        1, len(GROUPS), figsize=(3.4 * height, height), sharex=True, layout="constrained"
    )
    for axis, (metric, name) in zip(axes, GROUPS.items(), strict=True):
        for place, (split, sort) in enumerate(SORTS.items()):
            rows = [report["table"][label][f"{split}/{metric}"] for label in labels]
            axis.errorbar(
                [100 * row["mean"] for row in rows],
                [line + 0.12 - 0.24 * place for line in range(len(labels))],
                xerr=[100 * row["half"] for row in rows],
                fmt="o",
                color=shades(2)[place],
                mfc="white" if place else None,
                markersize=5,
                elinewidth=1.2,
                label=f"{sort} instances",
            )
        axis.set(title=name, xlabel="mIoU (%)")
        axis.set_yticks(range(len(labels)), labels if axis is axes[0] else [])
    axes[0].set_xlim(left=-2)  # for all panels; a dot at zero is seen whole
    handles, titles = axes[0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    sns.despine(figure)
    return figure


def _frozen_first(report: Row) -> list[str]:
    return [FROZEN, *(label for label in report["table"] if label != FROZEN)]
