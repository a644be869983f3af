"""Chapter 12: masks and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip.clip_es import boxes, class_aware, min_max
from ...core.labels import NO_LABEL
from ...segmentors.cascade import gaussian_weights
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
    "Neighbours of a group's last block weigh more, others less; the sum is as long as it comes out, "
    "and the weights are only where learning begins.",
)
def aggregate(answer: Callable[..., object]) -> None:
    """The answer is a function: every block's patches (B, N, D), groups of blocks -> (groups, B, N, D)."""
    asked = []
    for seed, (depth, groups) in enumerate(
        ((6, [[2, 3], [4]]), (12, [[5, 6, 7], [8, 9, 10]]), (9, [[3, 4, 5, 6], [7]]))
    ):
        generator = torch.Generator().manual_seed(seed)
        # Of any length: whoever forgets to scale them lets long patches weigh more.
        lengths = 0.2 + 3 * torch.rand(depth, 2, 5, 1, generator=generator)
        asked.append((list(lengths * torch.randn(depth, 2, 5, 4, generator=generator)), groups))
    given = [answer([each.clone() for each in layers], [list(g) for g in groups]) for layers, groups in asked]
    varies(given, what="the sums of these blocks")
    for got, (layers, groups) in zip(given, asked, strict=True):
        same_tensor(
            got,
            _aggregated(layers, groups),
            what=f"the sums of the groups {groups}",
            shape="one tensor, `torch.stack` of a sum (B, N, D) for every group",
            traps=_aggregation_traps(layers, groups),
            tolerance=1e-5,
        )


def _aggregated(
    layers: Sequence[Tensor],
    groups: Sequence[Sequence[int]],
    weigh: Callable[[int], Tensor] = gaussian_weights,
    unit: bool = True,
) -> Tensor:
    """NGA; with other weights, or patches of their own length, a slip."""
    sums = []
    for group in groups:
        taps = torch.stack([layers[block] for block in group])
        taps = F.normalize(taps, dim=-1) if unit else taps
        sums.append(torch.einsum("g,gbnd->bnd", weigh(len(group)), taps))
    return torch.stack(sums)


def _aggregation_traps(layers: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> list[tuple[Tensor, str]]:
    """What typical slips give; one that is right for these groups is none."""
    truth = _aggregated(layers, groups)

    def far(count: int) -> Tensor:
        return torch.arange(count - 1, -1, -1.0)

    def weighed(weigh: Callable[[int], Tensor]) -> Tensor:
        return _aggregated(layers, groups, weigh)

    traps = [
        (_aggregated(layers, groups, unit=False), "scale every patch of every block to unit length first"),
        (F.normalize(truth, dim=-1), "the sum is not scaled to unit length again"),
        (
            weighed(lambda n: gaussian_weights(n).flip(0)),
            "the other way round: the last block of a group weighs 1, those before it less",
        ),
        (
            weighed(lambda n: gaussian_weights(n) / gaussian_weights(n).sum()),
            "a sum, and not a mean: nothing is divided by the sum of the weights",
        ),
        (weighed(lambda n: (-far(n).square()).exp()), "a Gaussian has a 2 under its square"),
        (weighed(lambda n: (-far(n) / 2).exp()), "square the distance"),
        (weighed(torch.ones), "that is a plain sum: blocks further from the last weigh less"),
        (
            weighed(lambda n: torch.exp(-(far(n) + 1).square() / 2)),
            "the group's last block has distance 0, and weight 1",
        ),
        (
            _aggregated(layers, [[block - 1 for block in group] for group in groups]),
            "blocks are counted from 0",
        ),
    ]
    return [trap for trap in traps if not torch.allclose(trap[0], truth, atol=1e-5)]


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


# A block of a tower, and a learnt map from a word to a token.
_Block = Callable[[Tensor], Tensor]
_Tower = tuple[Tensor, Tensor, list[_Block], dict[int, _Block]]


@exercise(
    "12.6",
    "The tower is the same and frozen; it finds another thing because another word stands where CLS stood. "
    "The price: a pass for every word.",
)
def look_for(answer: Callable[..., object]) -> None:
    """The answer is a function: word (D,), tokens (B, 1 + N, W), blocks, maps -> patches (B, N, W)."""
    asked = [
        _small_tower(seed, *shape) for seed, shape in enumerate(((6, (1, 2)), (4, (0, 2)), (7, (2, 3, 4))))
    ]
    given = [
        answer(word.clone(), tokens.clone(), list(blocks), dict(maps)) for word, tokens, blocks, maps in asked
    ]
    varies(given, what="the patches after this word was looked for")
    for got, tower in zip(given, asked, strict=True):
        _, tokens, blocks, maps = tower
        same_tensor(
            got,
            _looked(tower),
            what=f"the patches after {len(blocks)} blocks",
            shape="patches alone, (B, N, W): leave the first token away at the end",
            traps=_look_traps(tower),
            tolerance=1e-5,
            otherwise=f"before blocks {', '.join(map(str, maps))} the first token becomes the word's map",
        )


def _small_tower(seed: int, depth: int, places: Sequence[int]) -> _Tower:
    """A word, tokens, blocks in which patches look at each other and at CLS, and a map for each place."""
    generator = torch.Generator().manual_seed(seed)
    width, dim = 6, 4

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def block() -> _Block:
        key, value = drawn(width, width), drawn(width, width) / width**0.5

        def through(tokens: Tensor) -> Tensor:
            return tokens + (tokens @ key @ tokens.mT / width).softmax(-1) @ tokens @ value

        return through

    def linear() -> _Block:
        weight, bias = drawn(dim, width), drawn(width)
        return lambda word: word @ weight + bias

    blocks, maps = [block() for _ in range(depth)], {place: linear() for place in places}
    return F.normalize(drawn(dim), dim=0), drawn(2, 6, width), blocks, maps


def _looked(tower: _Tower, *, after: bool = False, beside: bool = False, added: bool = False) -> Tensor:
    """ClsCLIP's pass; with an option, a slip."""
    word, tokens, blocks, maps = tower
    count = tokens.shape[1] - 1

    def instead(tokens: Tensor, place: int) -> Tensor:
        if place not in maps:
            return tokens
        cls = maps[place](word).expand(len(tokens), 1, -1)
        return torch.cat([cls + tokens[:, :1] if added else cls, tokens[:, 0 if beside else 1 :]], 1)

    for place, block in enumerate(blocks):
        tokens = instead(block(tokens), place) if after else block(instead(tokens, place))
    return tokens[:, -count:]


def _look_traps(tower: _Tower) -> list[tuple[Tensor, str]]:
    """What typical slips give."""
    word, tokens, blocks, maps = tower
    first, last = min(maps), max(maps)

    def at(maps: Mapping[int, _Block]) -> Tensor:
        return _looked((word, tokens, blocks, dict(maps)))

    return [
        (at({}), "CLS is still there: before some blocks the word takes its place"),
        (_looked(tower, after=True), "the word is put *before* the block of that number, not behind it"),
        (_looked(tower, beside=True), "the word stands beside CLS: it has to take its place"),
        (_looked(tower, added=True), "the word was added to CLS: it has to take its place"),
        (
            at({first: maps[first]}),
            "the word was put once: it is put again before every block that has a map",
        ),
        (
            at({last: maps[last]}),
            "only the last map was used: the word is put before every block that has one",
        ),
        (at(dict.fromkeys(maps, maps[first])), "every block has a map of its own"),
        (at({place + 1: each for place, each in maps.items()}), "blocks are counted from 0"),
    ]


@exercise(
    "12.7",
    "A CAM finds a part of a thing, likeness the rest of it, as long as it starts within the thing's box.",
)
def spread(answer: Callable[..., object]) -> None:
    """The answer is a function: cams (K, h, w), near (N, N), level -> cams spread from their boxes."""
    asked = [_boxed(seed, *size) for seed, size in enumerate(((6, 7, 0.4), (8, 5, 0.5), (7, 9, 0.3)))]
    given = [answer(cams.clone(), near.clone(), level) for cams, near, level in asked]
    varies(given, what="these CAMs, spread along this likeness")
    for got, (cams, near, level) in zip(given, asked, strict=True):
        same_tensor(
            got,
            class_aware(cams, near, level),
            what=f"{len(cams)} CAMs, spread",
            shape="as many maps as there were, each (h, w)",
            traps=_spread_traps(cams, near, level),
            tolerance=1e-4,
        )


def _boxed(seed: int, rows: int, columns: int, level: float) -> tuple[Tensor, Tensor, float]:
    """Two CAMs with two parts above the level each, a diagonal and an L; a likeness of all patches."""
    generator = torch.Generator().manual_seed(seed)
    cams = (level - 0.1) * torch.rand(2, rows, columns, generator=generator)
    for cam, place in zip(cams, (0, 1), strict=True):
        cam[place, 0], cam[place + 1, 1] = 1.0, level + 0.1  # corners that touch: one part, a box of 2 x 2
        cam[rows - 2, columns - 3 : columns - 1] = cam[rows - 3, columns - 3] = level + 0.2  # an L
    near = torch.rand(rows * columns, rows * columns, generator=generator).pow(4)
    return cams, near / near.sum(-1, keepdim=True), level


def _spread_traps(cams: Tensor, near: Tensor, level: float) -> list[tuple[Tensor, str]]:
    """What typical slips give."""
    from scipy import ndimage

    def scaled(inside: Tensor) -> Tensor:
        return min_max((cams * inside).flatten(1) @ near.T).view_as(cams)

    above = cams > level
    filled = torch.stack([boxes(each) for each in above])
    whole, edges = torch.zeros_like(cams), torch.zeros_like(cams)
    for k, each in enumerate(above):
        down, across = (each.any(dim).nonzero().flatten() for dim in (1, 0))
        whole[k, down.min() : down.max() + 1, across.min() : across.max() + 1] = 1
        for rows, columns in ndimage.find_objects(ndimage.label(each.numpy())[0]):
            edges[k, rows, columns] = 1
    plain = (cams * filled).flatten(1) @ near.T
    largest = plain / plain.amax(-1, keepdim=True)
    return [
        (scaled(torch.ones_like(cams)), "nothing was boxed in: a patch takes from those inside a box alone"),
        (scaled(above.float()), "the whole box counts, and not only what is above the level"),
        (scaled(whole), "one box around everything: each connected part has a box of its own"),
        (
            scaled(edges),
            "patches that touch at a corner are connected, too: give `label` a structure of ones",
        ),
        (
            min_max(cams.flatten(1) @ near.T).view_as(cams) * filled,
            "you boxed in what comes out: box in what is spread, and let it leave its box",
        ),
        (
            min_max((cams * filled).flatten(1) @ near).view_as(cams),
            "the other way round: row i of `near` says from whom patch i takes",
        ),
        (min_max((filled).flatten(1) @ near.T).view_as(cams), "the CAM is spread, and not its box"),
        (cams * filled, "nothing was spread: multiply by the likeness"),
        (plain.view_as(cams), "bring every map to 0 .. 1 at the end"),
        (largest.view_as(cams), "bring every map to 0 .. 1: take off its least value, too"),
    ]
