"""What CAT-Seg's head costs against the same head in CAT-Seg's own form, and how that grows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.timing import kept_for_gradient, medians, take_turns
from ..segmentors.catseg import model as catseg
from ..segmentors.catseg.model import Aggregator, ClassAggregation, GuidedLinear, SpatialAggregation, Up
from .arithmetic import products_of
from .peers import Clock, Contest, contest, same_outputs

# At which both forms are compared: words, patches a side as at 384 pixels, width of the joint space.
WORDS, SIDE, DIM = 40, 24, 512
# Growth is measured round a smaller step, so that much more of anything is still a matter of seconds.
_BASE = {"words": 40, "side": 12, "batch": 1}
_AXES: dict[str, tuple[int, ...]] = {"words": (40, 80, 160), "side": (12, 24, 36), "batch": (1, 2, 4)}


def _pairs_built(
    q: GuidedLinear, k: GuidedLinear, v: nn.Linear, x: Tensor, guidance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as the paper writes them: linear layers on [x, guidance]."""
    pair = torch.cat([x, guidance.expand(*x.shape[:-1], -1)], -1)
    return F.linear(pair, q.weight, q.bias), F.linear(pair, k.weight, k.bias), v(x)


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in its three steps, whatever faster kernel there is."""
    logits = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    weights = (logits if mask is None else logits + mask).softmax(-1)
    return (weights @ v).transpose(-2, -3).flatten(-2)


def _turned(x: Tensor) -> Tensor:
    """Maps (B, C, h, w, hidden) with their channels first, and back: two copies."""
    return x.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1).contiguous()


class _PlainSpatial(SpatialAggregation):
    """Between the layers channels stand before classes and places, as in CAT-Seg's code [S]."""

    def forward(self, x: Tensor, appearance: Tensor) -> Tensor:
        return super().forward(_turned(x), appearance)


class _PlainClasses(ClassAggregation):
    """Likewise; and what fills few classes up takes part like any class [S]."""

    def forward(self, x: Tensor, words: Tensor, pooling: int | None = None) -> Tensor:
        return super().forward(_turned(x), words, pooling)

    def among(self, y: Tensor, words: Tensor) -> Tensor:
        classes, short = y.shape[-2], max(0, self.tokens - y.shape[-2])
        y = torch.cat([y, self.filler.expand(*y.shape[:-2], short, -1)], -2)
        words = torch.cat([words, self.filler_word.expand(*words.shape[:-2], short, -1)], -2)
        return super().among(y, words)[..., :classes, :]


class _PlainUp(Up):
    """As the paper writes it: a convolution of [x, guide], one guide for every class."""

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        x = self.up(x)
        pair = torch.cat([x, guide.repeat_interleave(len(x) // len(guide), 0)], 1)
        return F.relu(self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(pair))))))


class Plain(Aggregator):
    """An aggregator in CAT-Seg's own form, with another one's weights.

    Every pair of features and guidance is built, attention is taken in three steps, and channels stand first
    between the layers. Written anew from the official code's operations [S], of which it does a little less.
    """

    def forward(
        self, features: Tensor, text: Tensor, guides: Sequence[Tensor], pooling: int | None = None
    ) -> Tensor:
        """As `Aggregator.forward`."""
        fast = catseg.project_guided, catseg.attend_in_windows
        catseg.project_guided, catseg.attend_in_windows = _pairs_built, _attended
        try:
            return super().forward(features, text, guides, pooling)
        finally:
            catseg.project_guided, catseg.attend_in_windows = fast


_PLAIN = {"spatial": _PlainSpatial, "classes": _PlainClasses, "decoder": _PlainUp}


def written_out(aggregator: Aggregator) -> Plain:
    """The same weights in a head of CAT-Seg's own form."""
    twin = copy.deepcopy(aggregator)
    for part, kind in _PLAIN.items():
        for layer in getattr(twin, part):
            layer.__class__ = kind
    twin.__class__ = Plain
    return twin  # type: ignore[return-value]


def against_catseg(
    rounds: int, *, words: int = WORDS, side: int = SIDE, batch: int = 1, clock: Clock = perf_counter
) -> list[Contest]:
    """The head forward, and forward and backward, against the same head in CAT-Seg's own form.

    Args:
        rounds: turns of each.
        words: classes.
        side: patches.
        batch: pictures.
        clock: see `take_turns`.

    Raises:
        RuntimeError: the outputs differ.
    """
    ours = _aggregator()
    plain = written_out(ours)
    inputs = _inputs(words, side, batch)
    with torch.no_grad():
        same_outputs(ours(*inputs), plain(*inputs), "CAT-Seg's own form")
    kept = [kept_for_gradient(partial(_loss, head, inputs), head) / 1e6 for head in (ours, plain)]
    rows = []
    for what, step in (("forward", _forward), ("forward and backward", _both)):
        label = f"CAT-Seg's head, {what}, {words} words, {side} x {side}, against its own form"
        own, peer = partial(step, ours, inputs), partial(step, plain, inputs)
        # Of ours, which has the fewer of them.
        least = products_of(own)
        row = contest(label, own, peer, rounds, clock=clock, least=least)
        # Only of both passes anything is kept from the one to the other.
        if step is _both:
            row = replace(row, ours_kept_mb=round(kept[0], 1), peer_kept_mb=round(kept[1], 1))
        rows.append(row)
    return rows


def growth(rounds: int, clock: Clock = perf_counter) -> list[dict[str, object]]:
    """Seconds and memory of a step of the head for more words, larger pictures, larger batches.

    Args:
        rounds: turns of each size.
        clock: see `take_turns`.

    Returns:
        For each axis {"axis", "values", "others", "seconds", "kept_mb", "exponent"}: time grows as
        value**exponent, by least squares of logarithms, with the other axes at `others`.
    """
    aggregator, rows = _aggregator(), []
    for axis, values in _AXES.items():
        sizes = [_BASE | {axis: value} for value in values]
        inputs = [_inputs(**size) for size in sizes]
        steps: dict[str, Callable[[], object]] = {
            str(value): partial(_both, aggregator, each) for value, each in zip(values, inputs, strict=True)
        }
        took = medians(take_turns(steps, rounds, clock=clock))
        seconds = [took[str(value)] for value in values]
        kept = [kept_for_gradient(partial(_loss, aggregator, each), aggregator) / 1e6 for each in inputs]
        slope = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
        rows.append(
            {
                "axis": axis,
                "values": list(values),
                "others": {name: value for name, value in _BASE.items() if name != axis},
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
    with torch.no_grad():
        aggregator(*inputs)


def _both(aggregator: Aggregator, inputs: _Inputs) -> None:
    _loss(aggregator, inputs).backward()
    aggregator.zero_grad()


def _loss(aggregator: Aggregator, inputs: _Inputs) -> Tensor:
    return aggregator(*inputs).square().mean()
