"""Chapter 12: masks and words."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.labels import NO_LABEL
from ...segmentors.pacl import text_pooled_cosines
from ...segmentors.queries import assign
from ...segmentors.queries.matching import NOBODY
from ...segmentors.zsseg import geometric_ensemble
from . import exercise
from .compare import Wrong, answered, same_tensor, tensor, varies


def _probabilities(generator: torch.Generator, queries: int, words: int) -> Tensor:
    return torch.randn(queries, words, generator=generator).mul(2).softmax(-1)


@exercise(
    "12.1",
    "Whom to trust depends on the word, not on the mask: the trained branch for what it was shown, CLIP for "
    "the rest.",
)
def ensemble(answer: Callable[..., object]) -> None:
    """The answer is a function: trained (Q, C), clip (Q, C), seen (C,) bool, w -> (Q, C)."""
    generator = torch.Generator().manual_seed(0)
    asked: list[tuple[Tensor, Tensor, Tensor, float]] = []
    for queries, words, weight in ((3, 5, 0.7), (4, 6, 0.8), (2, 4, 0.9)):
        seen = torch.arange(words) % 3 == 0
        first, second = (_probabilities(generator, queries, words) for _ in range(2))
        asked.append((first, second, seen, weight))
    given = [answer(*one) for one in asked]
    varies(given, what="the two opinions on these queries, joined")
    for got, (trained, clip, seen, weight) in zip(given, asked, strict=True):
        truth = geometric_ensemble(trained, clip, seen, weight)
        share = torch.where(seen, weight, 1 - weight)
        traps = [
            (
                geometric_ensemble(trained, clip, ~seen, weight),
                "the other way round: w is the trained branch's exponent where training knew the word",
            ),
            (trained**weight * clip ** (1 - weight), "the exponents change sides at words that are not seen"),
            (share * trained + (1 - share) * clip, "that is a weighted mean: here opinions are multiplied"),
            (
                truth / truth.sum(-1, keepdim=True),
                "no division: what is left of a query's say is part of the answer",
            ),
            (trained**share * clip**share, "the two exponents of a word sum to one"),
        ]
        same_tensor(
            got,
            truth,
            what="the ensemble",
            shape="a number for every query and word, (Q, C)",
            traps=traps,
            tolerance=1e-5,
        )


def _costs(seed: int, queries: int, masks: int) -> Tensor:
    """Whole numbers whose cheapest matching is one alone, and not what taking the best each time gives."""
    for attempt in range(1000):
        generator = torch.Generator().manual_seed(1000 * seed + attempt)
        cost = torch.rand(queries, masks, generator=generator).mul(100).round() / 10
        every = torch.ones(masks, dtype=torch.bool)
        best = assign(cost[None], every[None])[0]
        fooled = len(cost.argmin(0).unique()) < masks and not torch.equal(best, _in_turn(cost, every))
        if fooled and not torch.equal(best, best.sort().values):
            return cost
    raise RuntimeError("no such costs were drawn; expected some in a thousand")


def _in_turn(cost: Tensor, valid: Tensor) -> Tensor:
    """Every mask takes the cheapest query that is left."""
    left, found = cost.clone(), torch.full((cost.shape[1],), NOBODY)
    for mask in valid.nonzero().flatten().tolist():
        found[mask] = left[:, mask].argmin()
        left[found[mask]] = torch.inf
    return found


@exercise(
    "12.2",
    "Cheapest together, no query twice, and most queries are left without a mask: those learn to say that "
    "they are of nothing.",
)
def match(answer: Callable[..., object]) -> None:
    """The answer is a function: cost (Q, K), valid (K,) bool -> (K,) the query of each mask, or -1."""
    asked = []
    for seed, (queries, masks, empty) in enumerate(((4, 3, None), (6, 4, 1), (7, 5, 4))):
        valid = torch.ones(masks, dtype=torch.bool)
        if empty is not None:
            valid[empty] = False
        cost = _costs(seed, queries, masks)
        # An empty slot costs nothing, as one that is left at zero does: whoever asks it takes a query away.
        asked.append((cost.masked_fill(~valid, 0.0), valid))
    given = [answered(answer(cost.clone(), valid.clone())) for cost, valid in asked]
    varies(given, what="a matching that depends on the costs")
    for got, (cost, valid) in zip(given, asked, strict=True):
        _check_match(got, cost, valid)


def _check_match(got: object, cost: Tensor, valid: Tensor) -> None:
    every = torch.ones_like(valid)
    truth = assign(cost[None], valid[None])[0]
    per_mask = torch.where(valid, cost.argmin(0), NOBODY)
    traps = [
        (per_mask, "a query answers for one mask alone: taken one by one, two masks chose the same query"),
        (_in_turn(cost, valid), "the cheapest for each in turn is not the cheapest together"),
        (assign(cost[None], every[None])[0], "an empty slot is no mask: it gets -1 and takes no query"),
        (_in_turn(cost, every), "an empty slot is no mask: it gets -1 and takes no query"),
        (truth.sort().values, "scipy gives queries in their own order: put each at the place of its mask"),
        (assign(-cost[None], valid[None])[0], "that is the dearest matching: costs are to be low"),
    ]
    what = f"the queries of {len(valid)} masks"
    found = tensor(
        got, truth.shape, what=what, perhaps="one number a mask, and not a pair, nor one a query"
    ).round()
    if torch.equal(found, truth.double()):
        return
    perhaps = next((said for trap, said in traps if torch.equal(found, trap.double())), "look at the hint")
    raise Wrong(str([int(one) for one in found]), str(truth.tolist()), perhaps)


@exercise(
    "12.3",
    "A cluster may speak only of what nobody labelled, and only where enough of it is left.",
)
def fuse(answer: Callable[..., object]) -> None:
    """The answer is a function: labels (N,), clusters (N,), classes, smallest -> (N,)."""
    asked = []
    for seed, (count, slots, classes, smallest) in enumerate(((24, 4, 5, 3), (40, 5, 3, 4), (36, 6, 8, 2))):
        generator = torch.Generator().manual_seed(seed)
        clusters = torch.randint(slots, (count,), generator=generator)
        tiny = slice(0, smallest - 1)  # a cluster that is too small however its patches are counted
        clusters[tiny] = slots
        labels = torch.randint(classes, (count,), generator=generator)
        labels[torch.rand(count, generator=generator) < 0.4] = NO_LABEL
        # One cluster with one unlabelled patch too few, and one with just enough.
        for slot, wanted in ((0, smallest - 1), (1, smallest)):
            own = (clusters == slot).nonzero().flatten()
            labels[own] = 0
            labels[own[:wanted]] = NO_LABEL
        labels[tiny] = NO_LABEL
        asked.append((labels, clusters, classes, smallest))
    given = [answer(labels.clone(), clusters.clone(), *more) for labels, clusters, *more in asked]
    varies(given, what="the labels of these patches, fused")
    for got, one in zip(given, asked, strict=True):
        labels, clusters, classes, smallest = one
        unknown = labels == NO_LABEL
        traps = [
            (
                _fused(*one, count=torch.ones_like(unknown)),
                "you counted all patches of a cluster: those with a label are not its own any more",
            ),
            (_fused(labels, clusters, classes, smallest + 1), "a cluster of just `smallest` patches stays"),
            (_fused(labels, clusters, classes, 0), "clusters that are too small stay without a label"),
            (
                _fused(labels, clusters, 0, smallest),
                "a cluster is no class: its number comes after those of the classes",
            ),
            (
                _fused(*one, paint=torch.ones_like(unknown)),
                "you painted over labels: they are known, and stay",
            ),
        ]
        same_tensor(
            got,
            _fused(*one),
            what="the fused labels",
            shape="a label for every patch",
            traps=traps,
            tolerance=0.1,
        )


def _fused(
    labels: Tensor,
    clusters: Tensor,
    classes: int,
    smallest: int,
    *,
    count: Tensor | None = None,
    paint: Tensor | None = None,
) -> Tensor:
    """Labels, and clusters where there is none; `count` and `paint` say which patches a slip would take."""
    unknown = labels == NO_LABEL
    counted = unknown if count is None else count
    sizes = torch.zeros(int(clusters.max()) + 1).index_add_(0, clusters, counted.float())
    large = (sizes >= smallest)[clusters]
    return torch.where((unknown if paint is None else paint) & large, classes + clusters, labels)


@exercise(
    "12.4",
    "The word times the picture says what of the word this picture shows; the word itself stands beside it, "
    "so that nothing of it is lost.",
)
def describe(answer: Callable[..., object]) -> None:
    """The answer is a function: words (C, D), cls (B, D) -> (B, C, 2 D)."""
    asked = []
    for seed, (pictures, count, dim) in enumerate(((2, 3, 4), (3, 5, 6), (1, 4, 8))):
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(rows, dim, generator=generator) for rows in (count, pictures)]
        asked.append([F.normalize(each, dim=-1) for each in drawn])
    given = [answer(*one) for one in asked]
    varies(given, what="what these words and pictures are to each other")
    for got, (words, cls) in zip(given, asked, strict=True):
        product = words * cls[:, None]
        own, picture = words.expand_as(product), cls[:, None].expand_as(product)
        traps = [
            (torch.cat([own, product], -1), "the product comes first, and the word behind it"),
            (torch.cat([product, picture], -1), "behind the product stands the word, not the picture"),
            (torch.cat([own, picture], -1), "the first half is the word *times* the picture, entry by entry"),
            (torch.cat([product, product], -1), "behind the product stands the word by itself"),
        ]
        same_tensor(
            got,
            torch.cat([product, own], -1),
            what="the descriptor",
            shape="(B, C, 2 D): entry by entry, without a sum, for every picture and word",
            traps=traps,
        )


@exercise(
    "12.5",
    "The pooling asks the sentence where to look, so every pair of a batch has a vector of its own.",
)
def pooled(answer: Callable[..., object]) -> None:
    """The answer is a function: patches (B, N, D), text (n, D), sharpness -> (B, n)."""
    asked = []
    for seed, (pictures, count, sentences, dim, sharp) in enumerate(
        ((2, 6, 3, 5, 1.0), (3, 8, 4, 6, 10.0), (2, 5, 4, 8, 4.0))
    ):
        generator = torch.Generator().manual_seed(seed)
        patches = torch.randn(pictures, count, dim, generator=generator)
        # Of any length: whoever takes inner products for cosines looks where patches are long.
        patches = patches * (0.2 + 3 * torch.rand(pictures, count, 1, generator=generator))
        text = F.normalize(torch.randn(sentences, dim, generator=generator), dim=-1)
        asked.append((patches, text, sharp))
    given = [answer(*one) for one in asked]
    varies(given, what="how well these pictures fit these sentences")
    for got, (patches, text, sharp) in zip(given, asked, strict=True):
        same_tensor(
            got,
            text_pooled_cosines(patches, text, sharp),
            what="the cosines of pooled patches",
            shape="(B, n): every picture with every sentence",
            traps=_pooling_traps(patches, text, sharp),
        )


def _pooling_traps(patches: Tensor, text: Tensor, sharp: float) -> list[tuple[Tensor, str]]:
    """What typical slips give."""
    dots = patches @ text.T  # (B, N, n)
    cosines = F.normalize(patches, dim=-1) @ text.T

    def of(weights: Tensor, vectors: Tensor = patches) -> Tensor:
        """The cosine of what weights (B, N, n) make of the patches."""
        mixed = torch.einsum("bij,bid->bjd", weights, vectors)
        return (F.normalize(mixed, dim=-1) * text).sum(-1)

    weights = (sharp * cosines).softmax(1)
    return [
        (
            of((sharp * dots).softmax(1)),
            "s is a cosine: divide by the length of the patch before the softmax",
        ),
        ((weights * cosines).sum(1), "pool the vectors first, and take the cosine of what comes out"),
        ((weights * dots).sum(1), "what comes out of the pooling is not of unit length: take its cosine"),
        (of(weights, F.normalize(patches, dim=-1)), "what is pooled are the embeddings, as long as they are"),
        (of(cosines.softmax(1)), "the cosines are multiplied by the sharpness before the softmax"),
        (
            of((sharp * cosines).softmax(2)),
            "the softmax goes over the patches of a picture, not over sentences",
        ),
    ]
