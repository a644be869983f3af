"""What CAT-Seg's head costs against the same head written out plainly, and how that grows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.timing import kept_for_gradient, medians, take_turns
from ..segmentors.catseg import model as catseg
from ..segmentors.catseg.model import Aggregator, GuidedLinear, Up
from .peers import Contest, contest, same_outputs

# What a step of the papers has: words of a crop's data set, patches a side, pictures.
WORDS, SIDE, DIM = 40, 24, 512
# How far from that each axis is gone.
_AXES: dict[str, tuple[int, ...]] = {"words": (20, 40, 80, 160), "side": (12, 24, 48), "batch": (1, 2, 4)}


def _pairs_built(
    q: GuidedLinear, k: GuidedLinear, v: nn.Linear, x: Tensor, guidance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as the paper writes them: linear layers on [x, guidance]."""
    pair = torch.cat([x, guidance.expand(*x.shape[:-1], -1)], -1)
    return F.linear(pair, q.weight, q.bias), F.linear(pair, k.weight, k.bias), v(x)


class _PlainUp(Up):
    """As the paper writes it: a convolution of [x, guide], one guide for every class."""

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        x = self.up(x)
        pair = torch.cat([x, guide.repeat_interleave(len(x) // len(guide), 0)], 1)
        return F.relu(self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(pair))))))


class Plain(Aggregator):
    """An aggregator whose parts build every pair of features and guidance, with another one's weights."""

    def forward(
        self, features: Tensor, text: Tensor, guides: Sequence[Tensor], pooling: int | None = None
    ) -> Tensor:
        """As `Aggregator.forward`."""
        fast = catseg.project_guided
        catseg.project_guided = _pairs_built
        try:
            return super().forward(features, text, guides, pooling)
        finally:
            catseg.project_guided = fast


def written_out(aggregator: Aggregator) -> Plain:
    """The same weights in a head that is written as the paper has it."""
    twin = copy.deepcopy(aggregator)
    for up in twin.decoder:
        up.__class__ = _PlainUp
    twin.__class__ = Plain
    return twin  # type: ignore[return-value]


def against_pairs(rounds: int, *, words: int = WORDS, side: int = SIDE, batch: int = 1) -> list[Contest]:
    """The head forward, and forward and backward, against the same head written out.

    Args:
        rounds: turns of each.
        words: classes.
        side: patches.
        batch: pictures.

    Raises:
        RuntimeError: the outputs differ.
    """
    ours = _aggregator()
    plain = written_out(ours)
    inputs = _inputs(words, side, batch)
    with torch.no_grad():
        same_outputs(ours(*inputs), plain(*inputs), "the head written out")
    rows = []
    for what, step in (("forward", _forward), ("forward and backward", _both)):
        label = f"CAT-Seg's head, {what}, {words} words, {side} x {side}, against pairs that are built"
        rows.append(contest(label, partial(step, ours, inputs), partial(step, plain, inputs), rounds))
    return rows


def growth(rounds: int) -> list[dict[str, object]]:
    """Seconds and memory of a step of the head for more words, larger pictures, larger batches.

    Returns:
        For each axis {"axis", "values", "seconds", "kept_mb", "exponent"}: time grows as value**exponent, by
        least squares of logarithms.
    """
    aggregator, rows = _aggregator(), []
    for axis, values in _AXES.items():
        sizes = [{"words": WORDS, "side": SIDE, "batch": 1} | {axis: value} for value in values]
        inputs = [_inputs(**size) for size in sizes]
        steps: dict[str, Callable[[], object]] = {
            str(value): partial(_both, aggregator, each) for value, each in zip(values, inputs, strict=True)
        }
        took = medians(take_turns(steps, rounds))
        seconds = [took[str(value)] for value in values]
        kept = [kept_for_gradient(partial(_loss, aggregator, each), aggregator) / 1e6 for each in inputs]
        slope = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
        rows.append(
            {
                "axis": axis,
                "values": list(values),
                "seconds": [round(each, 4) for each in seconds],
                "kept_mb": [round(each, 1) for each in kept],
                "exponent": round(slope, 2),
            }
        )
    return rows


_Inputs = tuple[Tensor, Tensor, tuple[Tensor, Tensor]]


def _aggregator() -> Aggregator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Aggregator(catseg.VIT_B, DIM)


def _inputs(words: int, side: int, batch: int) -> _Inputs:
    """Features of pictures, words, and the two guides of ViT-B/16."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    text = F.normalize(draw(words, 1, DIM), dim=-1)
    wide, narrow = catseg.VIT_B.guidance_channels
    guides = (draw(batch, wide, 2 * side, 2 * side), draw(batch, narrow, 4 * side, 4 * side))
    return draw(batch, DIM, side, side), text, guides


def _forward(aggregator: Aggregator, inputs: _Inputs) -> None:
    with torch.inference_mode():
        aggregator(*inputs)


def _both(aggregator: Aggregator, inputs: _Inputs) -> None:
    _loss(aggregator, inputs).backward()
    aggregator.zero_grad()


def _loss(aggregator: Aggregator, inputs: _Inputs) -> Tensor:
    return aggregator(*inputs).square().mean()
