"""Chapter 9: from global to local."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import load_clip
from ...datasets.collage import Collage, stuff
from . import exercise
from .compare import Wrong, answered, close, listed, number


class _Scenes(NamedTuple):
    """24 validation scenes.

    Attributes:
        cls: (B, D) unit vectors.
        patches: (B, N, D) unit vectors.
        share: (B, N) the part of each patch that shows an object.
        word: (B, N) class id of the most frequent word of each patch.
    """

    cls: Tensor
    patches: Tensor
    share: Tensor
    word: Tensor


@functools.cache
def _scenes() -> _Scenes:
    clip, scenes = load_clip("collage-mini"), Collage("val", size=64, length=24)
    # Validation scenes: a choice that is made here is not made on test scenes.
    rendered = [scenes[i] for i in range(24)]
    images, masks = torch.stack([s.image for s in rendered]), torch.stack([s.mask for s in rendered])
    with torch.no_grad():
        cls = clip.encode_image(images)
        patches = F.normalize(
            torch.stack([clip.encode_dense(images, name) for name in clip.read_outs]).sum(0).flatten(2).mT,
            dim=-1,
        )
    area = F.avg_pool2d(F.one_hot(masks, len(scenes.names)).float().permute(0, 3, 1, 2), 8).flatten(2)
    noun = torch.tensor([name not in stuff() for name in scenes.names])
    return _Scenes(cls, patches, area[:, noun].sum(1), area.argmax(1))


def _on_objects(cls: Tensor, patches: Tensor, count: int) -> float:
    similar = torch.einsum("bd,bnd->bn", F.normalize(cls, dim=-1), F.normalize(patches, dim=-1))
    return float(_scenes().share.gather(1, similar.topk(count).indices).mean())


_LEVEL = 0.02  # shares that differ by less are level on so few scenes


@exercise(
    "9.1",
    "More candidates, a higher ceiling: log(batch + queue) nats is all that InfoNCE can teach about "
    "one picture.",
)
def loss_of_saying_nothing(answer: Callable[..., object]) -> None:
    """The answer is a function: batch, queue -> loss in nats."""
    # Without a queue too: then the batch alone counts.
    for batch, queue in ((16, 256), (16, 0), (8, 24)):
        traps = [
            (math.log2(batch + queue), "that is bits: use the natural logarithm"),
            (math.log(batch + queue - 1), "the right one is a candidate too"),
            (math.log(batch), "the queue holds candidates too"),
            (math.log(max(1, queue)), "the other pictures of the batch are candidates too"),
            (-math.log(batch + queue), "a loss is minus the logarithm of a probability: the sign"),
        ]
        what = f"a batch of {batch} and a queue of {queue}"
        close(
            answer(batch, queue),
            math.log(batch + queue),
            what=what,
            tolerance=0.005,
            unit=" nats",
            traps=traps,
        )


@exercise(
    "9.2",
    "A small temperature chooses softly; with the root of D all positions weigh the same, and a hard "
    "choice has work to do.",
)
def heaviest_over_lightest(answer: Callable[..., object]) -> None:
    """The answer is a function: cosines (N,), temperature -> ratio, exp((max - min) / temperature)."""
    cosines = torch.linspace(0.70, 0.89, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    for temperature in (0.07, 16.0):
        truth = math.exp(0.19 / temperature)
        traps = [
            (math.exp(0.19 * temperature), "you multiplied by the temperature: divide by it"),
            (1 / truth, "that is the lightest over the heaviest"),
            (0.89 / 0.70, "that is a ratio of cosines: take the softmax first"),
            (math.exp(0.19), "where is the temperature?"),
        ]
        what = f"cosines between 0.70 and 0.89 at a temperature of {temperature:g}"
        close(answer(cosines, temperature), truth, what=what, tolerance=0.002 * truth, traps=traps)


@exercise(
    "9.3", "Fewer positions leave more of the picture out; whether they lie on objects has to be counted."
)
def smallest_first(answer: object) -> None:
    """The answer is a list of four names; the order is that of the shares on 24 scenes, ties either way."""
    cls, patches, share, _ = _scenes()
    shares = {f"{count} of 64": _on_objects(cls, patches, count) for count in (4, 16)}
    shares |= {"chance": float(share.mean()), "best 16 of 64": float(share.topk(16).values.mean())}
    right = sorted(shares, key=lambda name: shares[name])
    given = [str(name) for name in answered(answer)] if isinstance(answer, list | tuple) else [str(answer)]
    if sorted(given) != sorted(right):
        raise Wrong(
            repr(answer),
            f"a list with each of {', '.join(map(repr, right))} once",
            "spell the names as in the question",
        )

    def ordered(names: list[str]) -> bool:
        pairs = zip(names, names[1:], strict=False)
        return all(shares[smaller] <= shares[larger] + _LEVEL for smaller, larger in pairs)

    if ordered(given[::-1]):
        raise Wrong(f"{given[0]!r} first", "the smallest first", "this is the right order from the other end")
    for smaller, larger in zip(given, given[1:], strict=False):
        if shares[smaller] > shares[larger] + _LEVEL:
            wrong = f"on 24 scenes it is {shares[smaller]:.0%} against {shares[larger]:.0%}"
            perhaps = (
                "no choice by CLS beats the best possible one"
                if "best 16 of 64" in (smaller, larger)
                else "patches most like CLS hold more of the objects than patches chosen blindly"
            )
            raise Wrong(f"{smaller!r} before {larger!r}", f"{larger!r} first: {wrong}", perhaps)


@exercise(
    "9.4",
    "Whether centring helps the choice is counted, not guessed, and may change with how many positions are "
    "kept; the lesson is another matter.",
)
def centred_choice(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cls, patches, share (B, N), count -> mean share of objects, about 0.2 for 16.
    """
    cls, patches, share, _ = _scenes()
    middle, common = cls.mean(0), patches.mean((0, 1))
    for count in (16, 4):
        traps = [
            (_on_objects(cls, patches, count), "that is the choice as it is: nothing was subtracted"),
            (
                _on_objects(cls, patches - common, count),
                "only the patches were centred: the mean of cls over scenes has to go, too",
            ),
            (
                _on_objects(cls - middle, patches, count),
                "only cls was centred: the mean of all patches has to go, too",
            ),
            (
                _on_objects(cls - middle, patches - patches.mean(1, keepdim=True), count),
                "one mean for all scenes, not one a scene",
            ),
            (float(share.mean()), "that is chance: take the shares of the chosen positions only"),
        ]
        got = answer(cls.clone(), patches.clone(), share.clone(), count)
        close(
            got,
            _on_objects(cls - middle, patches - common, count),
            what=f"the share at {count} of 64",
            tolerance=1e-3,
            traps=traps,
        )


@exercise(
    "9.5",
    "Positions that differ from each other show more words than those that agree with CLS, and lie "
    "on objects less often.",
)
def choose(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cls (D,), patches (N, D), count -> indices; open, judged by the words shown.
    """
    cls, patches, _, word = _scenes()
    count, plain, yours = 8, 0, 0
    for i in range(len(cls)):
        given = answered(answer(cls[i].clone(), patches[i].clone(), count))
        places = [int(number(place)) for place in listed(given, what="the answer")]
        if len(set(places)) != count or not all(0 <= place < patches.shape[1] for place in places):
            expected = f"{count} different ones, each from 0 to {patches.shape[1] - 1}"
            raise Wrong(
                f"positions {places}",
                expected,
                "a position was chosen twice, or there are too many or too few",
            )
        yours += len(set(word[i, places].tolist()))
        plain += len(set(word[i, (patches[i] @ cls[i]).topk(count).indices].tolist()))
    if yours < plain + len(cls) / 4:
        raise Wrong(
            f"{yours / len(cls):.2f} words a scene",
            f"at least {plain / len(cls) + 0.25:.2f}, a quarter more than the {plain / len(cls):.2f} "
            "of the eight most like CLS",
            "your choice still takes patches that look like each other: compare each candidate with "
            "those already chosen",
        )
