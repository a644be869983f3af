"""Chapter 10: Chimera-Seg, end to end."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from ...clip import load_clip
from ...core.reports import read_report
from ...segmentors import ChimeraSeg
from . import exercise
from .compare import Wrong, answered, choice, close


@functools.cache
def _needs(encoder: str | None) -> int:
    """Weights that a picture needs with an encoder (None: the present one), after it has been shown one."""
    clip = load_clip("collage-mini")
    # One picture is shown, since what of a body is used is known only then. Random weights: they are counted.
    model = (ChimeraSeg(clip) if encoder is None else ChimeraSeg(clip, encoder=encoder, weights=None)).eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64), model.encode_text(["cow", "grass"]))
    return sum(model.weights_at_inference().values())


@exercise(
    "10.1", "One embedding a picture and no label bring in the unseen words; all the rest is small beside it."
)
def rung(answer: object) -> None:
    """The answer is the rung with the largest difference of hIoU to the one below it: "head, GLM"."""
    ladder = read_report("chimera")["ladder"]
    gains = {label: 100 * row["test-known/hIoU"]["mean"] for label, row in ladder.items()}
    right = max(gains, key=lambda label: gains[label])
    reasons = {
        label: f"it adds {gain:+.1f} points of hIoU to the rung below it; another {gains[right]:+.1f}"
        for label, gain in gains.items()
    }
    choice(answer, right, list(gains), what="the rung that adds most", reasons=reasons)


@exercise(
    "10.2",
    "Two to three points are known but not said. A gamma chosen on test scenes is fitted to them: use "
    "validation scenes.",
)
def best_gamma(answer: Callable[..., object]) -> None:
    """The answer is a function: report, label -> (gamma, points of hIoU over gamma = 0)."""
    report = read_report("chimera")
    for label in ("head, GLM", "head, SGD", "head, SGD, SAM", "head, SGD, all positions"):
        zero = report["table"][label]["test-known/hIoU"]["mean"]
        sweep = {float(gamma): metrics for gamma, metrics in report["calibration"][label].items()}
        best = max(sweep, key=lambda gamma: sweep[gamma]["hIoU"])
        gain = sweep[best]["hIoU"] - zero
        unseen = max(sweep, key=lambda gamma: sweep[gamma]["mIoU_unseen"])
        pair = answered(answer(report, label))
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Wrong(repr(pair), "a pair (gamma, points)", "return both: the gamma, and what it adds")
        traps = [(unseen, "that gamma is best for unseen words alone: look at hIoU")]
        close(
            pair[0],
            best,
            what=f"the gamma of {label!r}",
            tolerance=1e-6,
            traps=traps,
            otherwise="compare hIoU for all gammas",
        )
        wrong = [
            (gain, "that is a share: times 100 for points"),
            (100 * sweep[best]["hIoU"], "that is hIoU itself: subtract what gamma = 0 has"),
            (-100 * gain, "the sign: what gamma adds is hIoU with it minus hIoU without it"),
        ]
        close(
            pair[1],
            100 * gain,
            what=f"what it adds to {label!r}",
            tolerance=0.005,
            unit=" points",
            traps=wrong,
        )


@exercise(
    "10.3",
    "A harmonic mean hears the smaller number: with seen words at 50%, unseen ones have to reach "
    "twice what they have.",
)
def unseen_needed(answer: Callable[..., object]) -> None:
    """The answer is a function: seen, hiou -> unseen; h s / (2 s - h)."""
    report = read_report("chimera")
    student = report["table"]["head, SGD, SAM"]["test-known/mIoU_seen"]["mean"]
    teacher = max(metrics["hIoU"] for metrics in report["zero_shot"].values())
    # The numbers of the report, a case that can be checked in the head, and one that cannot.
    for seen, hiou in ((student, teacher), (0.5, 0.5), (0.6, 0.2)):
        truth = hiou * seen / (2 * seen - hiou)
        traps = [
            (2 * hiou - seen, "that solves the arithmetic mean: hIoU is the harmonic one"),
            (
                2 * hiou * seen / (hiou + seen),
                "that is a harmonic mean of what is given: solve for the unknown",
            ),
            (hiou**2 / seen, "that solves the geometric mean: hIoU is the harmonic one"),
            (100 * truth, "that is in percent: return a share"),
        ]
        close(
            answer(seen, hiou),
            truth,
            what=f"seen {seen:.3f} and hIoU {hiou:.3f}",
            tolerance=5e-4,
            traps=traps,
        )


@exercise(
    "10.4",
    "The body may be of any size: the words come through CLIP's pieces. What is lost is what "
    "ImageNet taught the larger one.",
)
def encoder(answer: object) -> None:
    """The answer is a name of an encoder with which the whole needs at most half of its present weights."""
    if not isinstance(answered(answer), str):
        raise Wrong(
            f"a {type(answer).__name__}", "the name of an encoder, a text", "give the name, not the model"
        )
    try:
        needs = _needs(answer)
    except ValueError as error:
        raise Wrong(
            repr(answer), "an encoder that can be built", f"is the name spelt right? {str(error)[:100]} ..."
        ) from error
    if needs > _needs(None) / 2:
        expected = f"at most {_needs(None) / 2e6:.1f} million, half of what it needs now"
        raise Wrong(
            f"{needs / 1e6:.1f} million weights",
            expected,
            "look for a smaller one: names that end in _050 are narrow",
        )
