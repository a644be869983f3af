"""Chapter 7: InfoCLIP, end to end."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...core.reports import read_report
from ...core.statistics import interval, paired_interval
from ...studies.rows import study_table
from . import exercise
from .compare import Wrong, answered, choice, close, tensor

# Rivals that ask the frozen CLIP about every picture, which costs them its forward pass.
_TEACHERS = ("full: infoclip-paper", "full: feature", "full: kl", "full: pooled")


@exercise(
    "7.1",
    "Mixing old and new weights costs nothing and keeps as much here: a table without it flatters "
    "whatever has a teacher.",
)
def rival(answer: object) -> None:
    """The answer is the rival without a teacher that is not surely below InfoCLIP: "full: wise"."""
    table = study_table("infoclip")
    ours = table["full: infoclip"]["test-known/hIoU"].values
    rivals = [
        name for name in table if name.startswith("full: ") and "," not in name and name != "full: infoclip"
    ]
    reasons, right = {}, []
    for name in rivals:
        gap = paired_interval(ours, table[name]["test-known/hIoU"].values)
        if name in _TEACHERS:
            reasons[name] = "it asks the frozen CLIP about every picture: that is a teacher's forward pass"
        elif gap.low > 0:
            points = f"{100 * gap.mean:.1f} +- {100 * gap.ci95:.1f} points"
            reasons[name] = f"InfoCLIP is {points} above it: surely worse"
        else:
            right.append(name)
    choice(
        answer, right[0], rivals, what="a rival without a teacher that is not surely worse", reasons=reasons
    )


@exercise(
    "7.2",
    "Squares of independent errors add up. Pairing is right either way; it narrows only what a seed "
    "does to both methods alike.",
)
def unpaired(answer: Callable[..., object]) -> None:
    """The answer is a function: two lists of scores -> root of the summed squares of their half-widths."""
    table = study_table("infoclip")
    # Both ways of tuning: a function is asked for, not a number.
    for kind in ("", "full: "):
        ours, theirs = (list(table[kind + name]["test-known/hIoU"].values) for name in ("infoclip", "plain"))
        a, b = interval(ours).ci95, interval(theirs).ci95
        traps = [
            (paired_interval(ours, theirs).ci95, "that is the paired interval: here the seeds are unrelated"),
            (a + b, "half-widths do not add up, their squares do: independent errors rarely agree"),
            (a**2 + b**2, "the root is missing"),
            (interval(ours + theirs).ci95, "that is one interval for all the scores together"),
            (100 * (a * a + b * b) ** 0.5, "that is in points: return it in the unit of the scores"),
        ]
        close(
            answer(ours, theirs),
            (a * a + b * b) ** 0.5,
            what=f"{kind}infoclip minus {kind}plain",
            tolerance=2e-4,
            traps=traps,
        )


@exercise(
    "7.3", "A strength is a choice, too: made on validation scenes and other seeds, for every rival alike."
)
def best_setting(answer: Callable[..., object]) -> None:
    """The answer is a function: grid, method -> the setting with the largest hIoU."""
    grid = read_report("infoclip")["grid"]
    for method in ("feature", "kl", "pooled", "l2sp", "wise", "infoclip-paper", "infoclip"):
        settings = [name for name in grid if name.startswith(f"{method}, ")]
        right = max(settings, key=lambda name: grid[name]["hIoU"])
        given = answered(answer(grid, method))
        if given not in settings:
            raise Wrong(
                repr(given),
                f"one of the settings of {method!r}",
                "return the name of the setting; it begins with the method and a comma",
            )
        if given != right:
            seen, worst = (
                pick(settings, key=lambda name: grid[name][key])
                for pick, key in ((max, "mIoU_seen"), (min, "hIoU"))
            )
            perhaps = (
                "that one is best for seen words: look at hIoU"
                if given == seen
                else "compare hIoU, and take the largest"
            )
            perhaps = "that is the smallest hIoU: take the largest" if given == worst != seen else perhaps
            raise Wrong(
                f"{given!r} with hIoU {100 * grid[given]['hIoU']:.1f}",
                f"one with {100 * grid[right]['hIoU']:.1f}",
                perhaps,
            )


@exercise(
    "7.4", "One weighted mean, after the training: the cheapest way back to what the pretrained weights knew."
)
def go_back(answer: Callable[..., object]) -> None:
    """The answer is a function: pretrained, tuned, share -> (1 - share) * pretrained + share * tuned."""
    generator = torch.Generator().manual_seed(0)
    pretrained, tuned = (
        {"weight": torch.randn(3, 2, generator=generator), "bias": torch.randn(3, generator=generator)}
        for _ in range(2)
    )
    # Not 0.5 alone, at which the two parts may be swapped unseen.
    for share in (0.5, 0.8, 0.0):
        mixed = answered(answer(dict(pretrained), dict(tuned), share))
        if not isinstance(mixed, dict) or set(mixed) != set(tuned):
            expected = "a dictionary with the names of the two that came in"
            raise Wrong(
                f"{sorted(mixed) if isinstance(mixed, dict) else type(mixed).__name__}",
                expected,
                "mix name by name",
            )
        for name, weights in tuned.items():
            perhaps = "mix the tensors as they are, element by element"
            got = tensor(mixed[name], weights.shape, what=f"the mixed {name}", perhaps=perhaps)
            if torch.allclose(got, ((1 - share) * pretrained[name] + share * weights).double(), atol=1e-5):
                continue
            swapped = torch.allclose(
                got, (share * pretrained[name] + (1 - share) * weights).double(), atol=1e-5
            )
            perhaps = (
                "the other way round: `share` is the part of the tuned weights"
                if swapped
                else "the two parts have to add up to one"
            )
            raise Wrong(
                f"another {name} at a share of {share}",
                f"{1 - share:.1f} pretrained and {share:.1f} tuned",
                perhaps,
            )


@exercise(
    "7.5",
    "Two ways that keep the same thing do not add up; what they are to be compared with is the "
    "better one alone.",
)
def surplus(answer: Callable[..., object]) -> None:
    """The answer is a function.

    grid, strength -> points of hIoU over the better one alone (-0.3 and -1.7).
    """
    grid = read_report("infoclip")["grid"]
    for strength in (3, 10):
        both, info = (100 * grid[f"infoclip, {strength}{tail}"]["hIoU"] for tail in (", wise 0.5", ""))
        wise = 100 * grid["wise, 0.5"]["hIoU"]
        truth = both - max(info, wise)
        traps = [
            (
                both - min(info, wise),
                "that is over the worse of the two: the better one is what there is to beat",
            ),
            (both - (info + wise) / 2, "that is over their mean: the better one is what there is to beat"),
            (truth / 100, "that is a share: times 100 for points"),
            (-truth, "the sign: both minus the better one alone"),
            (both, "that is hIoU itself: subtract the better one alone"),
        ]
        close(
            answer(grid, strength),
            truth,
            what=f"a strength of {strength}",
            tolerance=0.002,
            unit=" points",
            traps=traps,
        )
