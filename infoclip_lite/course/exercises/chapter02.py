"""Chapter 2: what fine-tuning on a few words does to the others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy import stats

from ...core.reports import read_report
from ...core.statistics import interval
from ...information import linear_cka
from . import exercise
from .compare import Wrong, answered, close, tensor


@exercise("2.1", "A harmonic mean stays near the smaller of two numbers.")
def harmonic(answer: Callable[..., object]) -> None:
    """The answer is a function: seen, unseen mIoU -> 2 S U / (S + U)."""
    traps = [
        (0.35, "that is the arithmetic mean"),
        (0.06 / 0.7, "the factor 2 is missing"),
        (0.06**0.5, "that is the geometric mean"),
    ]
    close(answer(0.6, 0.1), 2 * 0.6 * 0.1 / 0.7, what="0.6 and 0.1", tolerance=1e-4, traps=traps)
    close(answer(0.0, 0.0), 0.0, what="0 and 0", tolerance=1e-9)


@exercise(
    "2.2", "Ignored pixels teach nothing; pixels called background teach that unseen things are nothing."
)
def training_target(answer: Callable[..., object]) -> None:
    """The answer is a function: mask (H, W), seen ids -> mask counted in seen, 255 elsewhere."""
    mask, seen = torch.tensor([[0, 1, 2, 3], [4, 5, 255, 3]]), [1, 3, 4, 0]
    truth = torch.full_like(mask, 255)
    for new, old in enumerate(seen):
        truth[mask == old] = new
    got = tensor(
        answer(mask.clone(), seen), (2, 4), what="the target", perhaps="one label for each pixel"
    ).long()
    if torch.equal(got, truth):
        return
    unseen = ~torch.isin(mask, torch.tensor(seen))
    perhaps = "did you overwrite the mask while reading it? Always ask the old one"
    if torch.equal(got, torch.where(unseen, 255, mask)):
        perhaps = (
            "right pixels, old numbers: seen word number k must be k, so that it fits the k-th text embedding"
        )
    elif (got[unseen] != 255).any():
        perhaps = "unseen pixels must be 255: any other number teaches that they are something else"
    raise Wrong(f"{got.tolist()} for {mask.tolist()} and seen {seen}", f"{truth.tolist()}", perhaps)


@exercise(
    "2.3",
    "Comparing each seed with itself removes what the seeds have in common; few seeds need a wide interval.",
)
def paired(answer: Callable[..., object]) -> None:
    """The answer is a function.

    before, after (a number a seed) -> mean change, half-width of its interval.
    """
    before, after = [0.10, 0.20, 0.30, 0.40, 0.55], [0.14, 0.22, 0.37, 0.43, 0.60]
    changes = torch.tensor(after, dtype=torch.float64) - torch.tensor(before, dtype=torch.float64)
    truth, n = interval(changes.tolist()), len(changes)
    result = answered(answer(before, after))
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Wrong(
            f"a {type(result).__name__}", "two numbers, mean and half-width", "return both: mean, half"
        )
    mean, half = result
    close(
        mean, truth.mean, what="the mean change", tolerance=1e-4, traps=[(-truth.mean, "after minus before")]
    )
    pooled = (torch.tensor(before).var() + torch.tensor(after).var()).sqrt().item()
    t, root = stats.t.ppf(0.975, n - 1), n**0.5
    traps = [
        (
            1.96 * changes.std().item() / root,
            "1.96 is for many seeds: five need Student's t with 4 degrees of freedom",
        ),
        (t * changes.std(correction=0).item() / root, "divide by n - 1 in the standard deviation: ddof=1"),
        (t * changes.std().item(), "divide by the root of n: the mean varies less than one seed"),
        (2 * truth.ci95, "that is the whole width"),
        (t * pooled / root, "you did not pair: take the deviation of the changes"),
    ]
    close(half, truth.ci95, what="the half-width", tolerance=1e-4, traps=traps)


@exercise("2.4", "CKA sees the geometry among features, not whether they still point at their words.")
def disguise(answer: Callable[..., object]) -> None:
    """The answer is a function: x (n, d) -> features with CKA 1 that point elsewhere, such as -x."""
    # One is added, so that features have a common direction to be turned away from.
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1.0
    y = tensor(
        answer(x.clone()),
        (200, 16),
        what="the disguised features",
        perhaps="the same number of rows and columns",
    )
    alike, cosine = linear_cka(x, y).item(), torch.nn.functional.cosine_similarity(x, y).mean().item()
    got, expected = (
        f"CKA {alike:.3f}, mean cosine {cosine:.2f}",
        "CKA above 0.999 and a mean cosine below 0.1",
    )
    if not alike > 0.999:
        raise Wrong(got, expected, "that changes the geometry: turn all features in the same way")
    if cosine >= 0.1:
        raise Wrong(got, expected, "they still point where they did: scaling alone turns nothing")


@exercise("2.5", "What needs no labels of unseen words can still warn you of losing them.")
def stop(answer: Callable[..., object]) -> None:
    """The answer is a function: log of one training without unseen metrics -> the step to stop at."""
    curves = read_report("degradation")["curves"]["plain-few"].values()
    gains, losses = [], []
    for curve in curves:
        # What a training without labels of unseen words can know; the rest is what the choice is judged by.
        shown = [{key: record[key] for key in ("step", "mIoU_seen", "image_to_text")} for record in curve]
        step = answered(answer(shown))
        found = [record for record in curve if record["step"] == step]
        if not found:
            steps = ", ".join(f"{record['step']:g}" for record in curve)
            raise Wrong(f"step {step}", f"one of {steps}", 'return record["step"], not its place in the list')
        gains.append(found[0]["mIoU_seen"] - curve[0]["mIoU_seen"])
        losses.append(found[0]["mIoU_unseen"] - curve[0]["mIoU_unseen"])
    gain, change = sum(gains) / len(gains), sum(losses) / len(losses)
    got = f"seen mIoU {gain:+.3f}, unseen mIoU {change:+.3f} on average of {len(gains)} seeds"
    if gain < 0.1:
        raise Wrong(got, "seen mIoU at least +0.100", "you stopped before anything was learnt")
    if change <= 0:
        raise Wrong(
            got,
            "unseen mIoU above zero-shot",
            "you stopped too late: watch the recall of captions instead of seen mIoU",
        )
