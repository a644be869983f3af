"""Chapter 1: from a global vector to dense features."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ...clip import DenseCLIP, load_clip
from ...clip.blocks import project_out, project_qkv
from ...clip.readouts import READ_OUTS
from ...clip.tower import TowerPass
from ...datasets import Collage
from ...evaluation import SegmentationMetrics
from ...segmentors import ZeroShotSegmentor
from . import exercise
from .compare import Wrong, close, listed, number, tensor

# Test scenes on which a blend is judged; the notebook shows others, on which it is chosen.
_KEPT_ASIDE = 40
_CLEARLY = 0.005  # of mIoU: less is luck on forty scenes


@functools.cache
def _clip() -> DenseCLIP:
    return load_clip("collage-mini")


@exercise("1.1", "Patches grow with the area of a picture, pairs of tokens with its square.")
def tokens(answer: Callable[..., object]) -> None:
    """The answer is a function: height, width, patch -> number of tokens, CLS included."""
    for height, width, patch in ((96, 96, 8), (224, 336, 16)):
        rows, columns = height // patch, width // patch
        traps = [
            (rows * columns, "those are the patches; CLS is a token too"),
            (rows * rows + 1, "a picture need not be square"),
            (rows + columns + 1, "rows times columns, not rows plus columns"),
        ]
        what = f"{height} x {width} pixels in patches of {patch}"
        close(
            answer(height, width, patch),
            rows * columns + 1,
            what=what,
            tolerance=0.4,
            unit=" tokens",
            traps=traps,
        )


@exercise("1.2", "What the last block adds to a patch is news from a few places that everybody listens to.")
def favourite(answer: Callable[..., object]) -> None:
    """The answer is a function: weights (1 + N, 1 + N) -> (row, column) of the patch most listened to."""
    # One patch is heard by all, another listens to everybody, and CLS has a favourite of its own: each
    # mistake finds another patch.
    side, heard, listener = 5, (3, 1), (0, 4)
    weights = torch.full((26, 26), 0.01)
    weights[1:, 1 + side * heard[0] + heard[1]] += 0.3
    weights[:, 0] += 0.5
    weights[1 + side * listener[0] + listener[1]] += 0.05
    weights[0, 1 + side * 2 + 2] += 20.0
    found = tuple(int(number(i)) for i in listed(answer(weights), what="the answer", perhaps="(row, column)"))
    mistakes: dict[tuple[int, ...], str] = {
        listener: "you took the mean over columns: a row says to whom a token listens, a column who "
        "listens to it",
        (2, 2): "CLS listens there; ask the patches only, weights[1:, ...]",
        (0, 0): "the first token is CLS, to which everybody listens here: leave out its column too",
        (heard[1], heard[0]): "row first, then column",
        divmod(side * heard[0] + heard[1] + 1, side): "off by one: token 0 is CLS, so patch n is token n + 1",
    }
    if found != heard:
        raise Wrong(f"{found} on a grid of 5 x 5", f"{heard}", mistakes.get(found, "look at the hint"))


@exercise("1.3", "In mIoU every word counts alike, however few pixels it has.")
def miou(answer: Callable[..., object]) -> None:
    """The answer is a function: labels, truth, number of words -> mean IoU of the words that occur."""
    # Twelve pixels in which each way of averaging gives another number, and two words that occur nowhere.
    truth = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    labels = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 0, 1]])
    ious = []
    for c in range(3):
        ious.append((((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum()).item())
    right = [((labels == c) & (truth == c)).sum().item() for c in range(3)]
    recalls = [right[c] / n for c in range(3) if (n := (truth == c).sum().item())]
    traps = [
        (
            (labels == truth).double().mean().item(),
            "that is the share of right pixels: divide for each word, then take the mean",
        ),
        (
            sum(recalls) / len(recalls),
            "you divided by the pixels that are the word; those that were wrongly called it count as well",
        ),
        (sum(ious[:2]) / 2, "a word that was called though it is not there counts too, with 0"),
        (sum(ious) / 5, "you counted words that occur in neither as 0: leave them out"),
    ]
    value = answer(labels, truth, 5)
    if isinstance(value, torch.Tensor) and value.isnan().any():
        raise Wrong(
            "nan", f"{sum(ious) / 3:.3f}", "a word that occurs nowhere gives 0 / 0: leave it out of the mean"
        )
    close(value, sum(ious) / 3, what="12 pixels and 5 words, 3 of which occur", tolerance=1e-3, traps=traps)


@exercise("1.4", "Let patches mix with those that are like themselves, and they keep their place.")
@torch.no_grad()
def value_value(answer: Callable[..., object]) -> None:
    """The answer is a function: a pass through the tower before its last block -> patch tokens (B, N, W)."""
    entering = torch.randn(2, 10, _clip().width, generator=torch.Generator().manual_seed(0))
    tower = TowerPass(entering, (3, 3), _clip().blocks[-1:])
    block = tower.last
    q, k, v = project_qkv(block, entering)

    def mixed(a: Tensor, b: Tensor, scale: float = v.shape[-1] ** -0.5) -> Tensor:
        return project_out(block, (a @ b.transpose(-1, -2) * scale).softmax(-1) @ v)[:, 1:].double()

    perhaps = "patch tokens only: drop CLS with [:, 1:]"
    got = tensor(answer(tower), (2, 9, _clip().width), what="the result for 1 + 9 tokens", perhaps=perhaps)
    truth = mixed(v, v)
    traps = [
        (mixed(v, v, 1.0), "divide by the square root of d before the softmax"),
        (mixed(q, q), "those are queries with queries (ClearCLIP)"),
        (mixed(k, k), "those are keys with keys"),
        (mixed(q, k), "those are queries with keys, as the block was trained"),
        (truth + entering[:, 1:], "leave out the residual"),
        (READ_OUTS["value"](tower).double(), "nothing was mixed: that is the read-out value"),
    ]
    if not torch.allclose(got, truth, atol=1e-4):
        says = next(
            (mistake for trap, mistake in traps if torch.allclose(got, trap, atol=1e-4)), "look at the hint"
        )
        raise Wrong(
            f"tokens that are {(got - truth).abs().max():.2f} away at most",
            "the same tokens up to 0.0001",
            says,
        )


@functools.cache
def _kept_aside(name: str) -> Tensor:
    """Cosines (40, words, H, W) of the scenes kept aside under one read-out."""
    scenes = Collage("test", length=_KEPT_ASIDE)
    words = _clip().encode_text(scenes.names)
    return ZeroShotSegmentor(_clip(), name)(torch.stack([scenes[i].image for i in range(_KEPT_ASIDE)]), words)


def _blend_miou(names: tuple[str, ...]) -> float:
    scenes = Collage("test", length=_KEPT_ASIDE)
    labels = torch.stack([_kept_aside(name) for name in names]).mean(0).argmax(1)
    metrics = SegmentationMetrics(len(scenes.names))
    metrics.update(labels, torch.stack([scenes[i].mask for i in range(_KEPT_ASIDE)]))
    return metrics.compute()["mIoU"]


@exercise(
    "1.5",
    "Read-outs that err differently help each other; what was chosen on one set is reported on another.",
)
@torch.no_grad()
def blend(answer: object) -> None:
    """The answer is a tuple of one to five read-outs whose mean is clearly better than each of them alone, on
    scenes kept aside.
    """
    given = [answer] if isinstance(answer, str) else listed(answer, what="the answer")
    names = tuple(str(name) for name in given)
    unknown = [name for name in names if name not in READ_OUTS]
    if unknown or not 1 <= len(names) <= 5:
        raise Wrong(
            repr(names),
            f"one to five of {', '.join(READ_OUTS)}",
            "spell the names as in the table of section 7",
        )
    alone_best, score = max(_blend_miou((name,)) for name in names), _blend_miou(names)
    if score <= alone_best + _CLEARLY:
        alone, alike = (
            "one read-out alone has nobody to correct it",
            "they may err alike: pair one that knows places with one that knows things",
        )
        perhaps = alone if len(set(names)) == 1 else alike
        raise Wrong(
            f"mIoU {score:.3f} for {' + '.join(names)}",
            f"more than {alone_best + _CLEARLY:.3f}: the best of them alone has {alone_best:.3f}",
            perhaps,
        )
