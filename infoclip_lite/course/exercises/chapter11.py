"""Chapter 11: reading without training."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import DenseCLIP, load_clip
from ...clip.blocks import project_out, project_qkv, similarity
from ...clip.depth import at_depth
from ...clip.readouts import READ_OUTS
from ...clip.readouts.cliper import balanced, mutual
from ...clip.tower import TowerPass
from ...datasets import Collage
from . import exercise
from .compare import Case, Wrong, close_each, same_tensor, tensor, varies

# Scenes that a read-out is judged on: validation scenes that no notebook shows.
_SEEDS, _SCENES = (11, 13), 24
_CLEARLY = 0.02  # share of patches that a read-out must name rightly beyond NACLIP's


@exercise(
    "11.1",
    "A method's block 5 of twelve is no block of yours: say where it stands, and not what it is called.",
)
def same_depth(answer: Callable[..., object]) -> None:
    """The answer is a function: block, of, blocks -> the block at the same relative depth."""
    cases = []
    for block, of, blocks in ((11, 12, 24), (8, 12, 6), (6, 12, 24), (5, 12, 6), (1, 3, 10)):
        truth, place = at_depth(block / (of - 1), blocks), block / (of - 1) * (blocks - 1)
        traps = [
            (block * blocks // of, "from the first to the last block there are of - 1 steps, and not of"),
            (round(block * blocks / of), "from the first to the last there are of - 1 steps, and not of"),
            (round(place), "halves go up: Python's round sends every second one down"),
            (math.floor(place), "take the nearest block: you cut the fraction off"),
            (truth + 1, "blocks are counted from 0"),
        ]
        traps = [trap for trap in traps if trap[0] != truth]
        what = f"block {block} of {of} in a tower of {blocks}"
        cases.append(Case(what, answer(block, of, blocks), truth, traps))
    close_each(cases, tolerance=0.4)


@exercise("11.2", "A prior of nearness is one number for each pair of patches, the same for every picture.")
def nearness(answer: Callable[..., object]) -> None:
    """The answer is a function: rows, columns, std -> (1 + N, 1 + N)."""
    asked = ((3, 3, 1.0), (2, 4, 2.0), (4, 3, 1.5))
    given = [answer(*one) for one in asked]
    varies(given, what="the nearness of the patches of this grid")
    for got, (rows, columns, std) in zip(given, asked, strict=True):
        place = torch.arange(rows * columns)
        down = (place // columns)[:, None] - place // columns
        across = (place % columns)[:, None] - place % columns
        square = (down.square() + across.square()).double()

        def framed(near: Tensor, cls: float = 0.0) -> Tensor:
            return F.pad(near, (1, 0, 1, 0), value=cls)

        truth = (-square / (2 * std**2)).exp()
        in_line = (place[:, None] - place).square().double()
        traps = [
            (framed((-square / std**2).exp()), "a Gaussian has 2 std^2 under its square"),
            (framed((-square.sqrt() / (2 * std**2)).exp()), "square the distance"),
            (
                framed((-in_line / (2 * std**2)).exp()),
                "distance is in rows and columns, not in line",
            ),
            (framed(truth, 1.0), "CLS has no place: its row and its column are 0"),
            (framed(truth / truth.sum(-1, keepdim=True)), "no division: it is added to logits as it is"),
        ]
        same_tensor(
            got,
            framed(truth),
            what=f"the nearness on a grid of {rows} x {columns}",
            shape="one row and one column for CLS, before those of the patches",
            traps=traps,
        )


_Cell = tuple[str, bool, bool]  # attention, whether the residual is kept, whether the FFN is


@exercise(
    "11.3",
    "What a part adds is a mean of differences between rows that differ in nothing else.",
)
def adds(answer: Callable[..., object]) -> None:
    """The answer is a function: {(attention, residual, ffn): hIoU} -> what the residual adds."""
    cases = []
    for seed in (0, 1, 2):
        cells = _made_up(seed)
        other = {(a, not residual, ffn): score for (a, residual, ffn), score in cells.items()}
        own = [cells[key] - other[key] for key in cells if key[1] and key in other]
        with_, without = ([score for key, score in cells.items() if key[1] == kept] for kept in (True, False))
        forward = [
            score - cells[a, residual, False]
            for (a, residual, ffn), score in cells.items()
            if ffn and (a, residual, False) in cells
        ]
        traps = [
            (fmean(with_) - fmean(without), "a cell whose partner is missing says nothing: leave it out"),
            (-fmean(own), "with less without, and not the other way round"),
            (fmean(forward), "that is what the feed-forward layer adds"),
            (sum(own), "that is the sum: take the mean"),
            (max(own), "that is the largest: take the mean"),
        ]
        cases.append(Case(f"table {seed + 1}", answer(dict(cells)), fmean(own), traps))
    close_each(cases, tolerance=1e-6, otherwise="subtract cell by cell, then take the mean")


def _made_up(seed: int) -> Mapping[_Cell, float]:
    """Scores of a table in which three cells were not measured."""
    generator = torch.Generator().manual_seed(seed)
    attentions = ("qk", "qq", "kk", "vv", "v")
    keys = [(a, residual, ffn) for a in attentions for residual in (True, False) for ffn in (True, False)]
    scores = torch.rand(len(keys), generator=generator).tolist()
    lost = torch.randperm(len(keys), generator=generator)[:3].tolist()
    return {key: score for i, (key, score) in enumerate(zip(keys, scores, strict=True)) if i not in lost}


class _Judged(NamedTuple):
    """Scenes of one seed, in one pass.

    Attributes:
        tower: of all of them.
        words: (C, D) unit vectors.
        truth: (S, N) the word that most of a patch shows.
        known: the package's read-outs of that pass, (S, N, W) each.
    """

    tower: TowerPass
    words: Tensor
    truth: Tensor
    known: Mapping[str, Tensor]

    def right(self, tokens: Tensor) -> float:
        """Share of patches with their right word."""
        best = self.tower.told(self.words).cosines(tokens).argmax(-1)
        return float((best == self.truth).double().mean())


@functools.cache
def _judged(seed: int) -> _Judged:
    clip: DenseCLIP = load_clip("collage-mini")
    scenes = Collage("val", seed=seed, length=_SCENES)
    rendered = [scenes[i] for i in range(len(scenes))]
    masks = torch.stack([scene.mask for scene in rendered])
    side = clip.patch_size
    squares = masks.unfold(1, side, side).unfold(2, side, side).flatten(3)
    tower = clip.tower(torch.stack([scene.image for scene in rendered]))
    words, truth = clip.encode_text(scenes.names), squares.mode(-1).values.flatten(1)
    return _Judged(tower, words, truth, {name: read(tower) for name, read in READ_OUTS.items()})


@exercise(
    "11.4",
    "Constants of a paper belong to its grid and its CLIP: on yours they are a first guess, to be tried on "
    "scenes that are not reported.",
)
@torch.no_grad()
def near_keys(answer: Callable[..., object]) -> None:
    """The answer is a function: a pass through the tower -> patch tokens (B, N, W)."""
    judged = [_judged(seed) for seed in _SEEDS]
    given = [answer(each.tower) for each in judged]
    varies(given, what="what this tower makes of its tokens")
    for got, scenes in zip(given, judged, strict=True):
        shape = tuple(scenes.known["value"].shape)
        tokens = tensor(
            got, shape, what="what you return", perhaps="patch tokens only: drop CLS with [:, 1:]"
        )
        for name, own in scenes.known.items():
            if torch.allclose(tokens, own.double(), atol=1e-4):
                raise Wrong(f"the read-out {name}", "one of your own", _OF_OTHERS.get(name, "change a part"))
        _check_near(tokens.float(), scenes)


_OF_OTHERS = {
    "value": "nothing is mixed there: weigh the values by how alike keys are, and how near",
    "naclip": "those are NACLIP's constants: on 12 x 12 patches let nearness weigh more, or be narrower",
    "clearclip": "those are queries with queries, and nothing says what is near",
}


def _check_near(tokens: Tensor, scenes: _Judged) -> None:
    needed, score = scenes.right(scenes.known["naclip"]) + _CLEARLY, scenes.right(tokens)
    if score > needed:
        return
    block = scenes.tower.last
    _, k, v = project_qkv(block, scenes.tower.entering)
    plain = project_out(block, similarity(k, k).softmax(-1) @ v)[:, 1:]
    perhaps = "NACLIP adds at most 1 to the logits, five patches wide: add more, or narrower"
    if torch.allclose(tokens, plain, atol=1e-4):
        perhaps = "those are keys with keys: add a bonus for what is near before the softmax"
    elif score < scenes.right(plain):
        perhaps = "worse than keys with keys alone: what is near must gain, and what is far must not"
    raise Wrong(
        f"{score:.3f} of the patches right", f"more than {needed:.3f}: NACLIP's and a clear gain", perhaps
    )


@exercise(
    "11.5",
    "Who looks at whom is asked of the earlier blocks, what is looked at of the last one; and what everybody "
    "looks at is no answer.",
)
def early_fusion(answer: Callable[..., object]) -> None:
    """The answer is a function: attention of every block, values of every block -> (B, heads, n, d)."""
    asked = []
    for seed, (blocks, tokens) in enumerate(((4, 7), (6, 9), (3, 5))):
        generator = torch.Generator().manual_seed(seed)
        maps = torch.randn(blocks, 2, 3, tokens, tokens, generator=generator)
        # One token that everybody looks at: what cleaning is there for.
        maps[..., 2] += 2
        values = torch.randn(blocks, 2, 3, tokens, 4, generator=generator)
        asked.append((list(maps.softmax(-1)), list(values)))
    given = [answer(list(maps), list(values)) for maps, values in asked]
    varies(given, what="what these blocks make of their tokens")
    for got, (attention, layers) in zip(given, asked, strict=True):
        same_tensor(
            got,
            _fused(attention[:-1], layers),
            what=f"what {len(attention)} blocks say",
            shape="one table (B, heads, n, d) for all blocks together",
            traps=_fusion_traps(attention, layers),
            tolerance=1e-5,
            otherwise="sum up, divide columns, then rows; take what is mutual and more than usual",
        )


def _fused(
    maps: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    clean: Callable[[Tensor], Tensor] = lambda attention: mutual(balanced(attention)),
) -> Tensor:
    """CLIPer's early-layer fusion; with another way to clean, a slip."""
    return clean(torch.stack(list(maps)).sum(0)) @ torch.stack(list(values)).mean(0)


def _fusion_traps(maps: Sequence[Tensor], values: Sequence[Tensor]) -> list[tuple[Tensor, str]]:
    """What typical slips give."""
    early = maps[:-1]

    def other(clean: Callable[[Tensor], Tensor]) -> Tensor:
        return _fused(early, values, clean=clean)

    def rows(attention: Tensor) -> Tensor:
        return attention / attention.sum(-1, keepdim=True)

    def alone(attention: Tensor) -> Tensor:
        kept = balanced(attention)
        return rows((kept - kept.mean(-2, keepdim=True)).clamp(min=0))

    def usual(attention: Tensor) -> Tensor:
        kept = balanced(attention)
        return rows((kept + kept.mT) / 2)

    def turned(attention: Tensor) -> Tensor:
        kept = rows(attention)
        return mutual(kept / kept.sum(-2, keepdim=True))

    return [
        (_fused(maps, values), "the last block's own attention is left out: it is the one that is replaced"),
        (
            _fused(maps[-1:], values),
            "that is the last block's attention: sum up those of all blocks before it",
        ),
        (_fused(early, values[-1:]), "take the mean of all values, and not the last ones alone"),
        (_fused(early, values) * len(values), "take the mean of the values, not their sum"),
        (other(lambda attention: attention), "nothing was cleaned: see steps 1 and 2"),
        (other(rows), "nothing was cleaned: see steps 1 and 2"),
        (other(balanced), "step 2 is missing: keep what is mutual, and more than others get"),
        (other(mutual), "step 1 is missing: divide columns by their sums, then rows"),
        (other(turned), "first columns (dim -2), then rows (dim -1)"),
        (other(alone), "both directions count: the mean of the table and its transpose"),
        (other(usual), "take off the mean of each column, and cut at zero"),
    ]
