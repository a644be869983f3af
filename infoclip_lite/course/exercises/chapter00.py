"""Chapter 0: what a CLIP can do."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...clip import DenseCLIP, load_clip
from ...datasets import Collage
from ...datasets.collage import Scene
from ...evaluation import segment
from . import exercise
from .compare import Case, Wrong, answered, close_each, listed, number, varies

# The scene that the chapter shows, one that goes well, and its words.
# Of the validation scenes: an example that is chosen by eye is not chosen on test scenes.
_SPLIT, _SCENE = "val", 2
_WORDS = ("potted plant", "flower", "sky", "sand")
_SEARCHED = ("a chair", "a potted plant and a flower")
# Scenes that the chapter does not show, six of each seed: few, so that a check takes seconds.
_OTHERS, _FEW = (7, 9), 6


# Loaded once for all exercises of the chapter: a check that takes seconds is not run twice.
@functools.cache
def _clip() -> DenseCLIP:
    return load_clip("collage-mini")


def _labels(scene: Scene, words: Sequence[str]) -> Tensor:
    """(H, W) places in `words`."""
    return torch.from_numpy(segment(scene.image, list(words), model=_clip()).labels).long()


@exercise("0.1", "A cosine compares directions only: doubling an embedding changes nothing.")
def cosine(answer: Callable[..., object]) -> None:
    """The answer is a function: two tensors (d,) -> their cosine."""
    # Lengths of 5, so that each forgotten division gives another number; then opposite ones, then any.
    a, b = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([4.0, 0.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    pairs = {"(3, 4, 0) and (4, 0, 3)": (a, b), "a and -7 a": (a, -7 * a)}
    for d in (2, 16):
        u, v = 3 * torch.randn(2, d, generator=generator)
        pairs[f"two vectors of {d} numbers"] = (u, v)
    close_each(
        [_cosine_case(what, u, v, answer(u.clone(), v.clone())) for what, (u, v) in pairs.items()],
        tolerance=1e-3,
    )


def _cosine_case(what: str, u: Tensor, v: Tensor, got: object) -> Case:
    truth = torch.nn.functional.cosine_similarity(u, v, dim=0).item()
    traps = [
        (float(u @ v), "that is the product; divide it by both lengths"),
        (float(u @ v / u.norm()), "that divides by the length of a only"),
        (-truth, "opposite directions have -1: keep the sign"),
        (1 - truth, "that is a distance: 0 would mean the same direction"),
        (float((u - v).norm()), "that is the distance of the two, not their angle"),
    ]
    return Case(what, got, truth, traps)


@exercise(
    "0.2",
    "A word that is not in the picture can only take pixels away; say which words competed when you "
    "quote a score.",
)
@torch.no_grad()
def share_right(answer: Callable[..., object]) -> None:
    """The answer is a function: scene, words, names, clip -> share of pixels with the right word."""
    # Four words of many: labels count in these, the mask in all, and who compares the two is told so.
    pictures = Collage(_SPLIT)
    names = list(pictures.names)
    asked = {
        f"scene {_SCENE} with its own four words": (pictures[_SCENE], list(_WORDS)),
        "scene 12 with all words": (pictures[12], names),
        "scene 58 with its own words": (pictures[58], list(pictures[58].nouns)),
    }
    cases = []
    for what, (scene, words) in asked.items():
        labels = _labels(scene, words)
        places = torch.tensor([names.index(word) for word in words])
        truth = float((places[labels] == scene.mask).double().mean())
        traps = [
            (
                float((labels == scene.mask).double().mean()),
                "you compared numbers that count in different lists: labels count in words, the mask in "
                "names",
            ),
            (1 - truth, "that is the share of wrong pixels"),
            (100 * truth, "that is in per cent: return a share from 0 to 1"),
            (truth * labels.numel(), "that is a number of pixels: take the mean"),
        ]
        cases.append(Case(what, answer(scene, list(words), list(names), _clip()), truth, traps))
    close_each(cases, tolerance=1e-3)


@functools.cache
def _confused(seed: int) -> Counter[tuple[str, str]]:
    """How many pixels of a few scenes are the first word and were called the second."""
    pictures = Collage(_SPLIT, seed=seed, length=_FEW)
    count = len(pictures.names)
    table = torch.zeros(count * count, dtype=torch.int64)
    for scene in (pictures[i] for i in range(_FEW)):
        pairs = count * scene.mask + _labels(scene, pictures.names)
        table += torch.bincount(pairs.flatten(), minlength=len(table))
    named = [(is_, called) for is_ in pictures.names for called in pictures.names]
    return Counter(dict(zip(named, table.tolist(), strict=True)))


@exercise("0.3", "Looking for failures on purpose tells you more about a model than its best picture.")
@torch.no_grad()
def mixed_up(answer: Callable[..., object]) -> None:
    """The answer is a function: scenes, names, clip -> (what it is, what it is called) most often."""
    given: dict[int, tuple[str, ...]] = {}
    for seed in _OTHERS:
        pictures = Collage(_SPLIT, seed=seed, length=_FEW)
        pair = answer([pictures[i] for i in range(_FEW)], list(pictures.names), _clip())
        given[seed] = tuple(map(str, listed(pair, what="the answer", perhaps="return two names")))
    varies(list(given.values()), what="the worst mistake of the scenes that it gets")
    for seed, pair in given.items():
        _check_pair(pair, _confused(seed))


def _check_pair(pair: tuple[str, ...], counts: Counter[tuple[str, str]]) -> None:
    wrong = Counter({names: pixels for names, pixels in counts.items() if names[0] != names[1]})
    (right, most), *_ = wrong.most_common(1)
    if pair == right:
        return
    if len(pair) != 2 or pair not in counts:
        raise Wrong(repr(pair), "two of the scenes' words", "return names, not numbers: (what it is, called)")
    perhaps = "count the pixels of every pair of words over all the scenes, not scene by scene"
    if pair[0] == pair[1]:
        perhaps = "that is a word that was called by its name: look at wrong pixels only"
    elif pair == right[::-1]:
        perhaps = "the other way round: first what it is, by the mask, then what it is called"
    expected = f"the pair with most pixels, {most}; yours has {counts[pair]}"  # type: ignore[index]
    raise Wrong(f"{pair[0]!r} called {pair[1]!r}", expected, perhaps)


@functools.cache
def _twelve() -> Tensor:
    pictures = Collage(_SPLIT)
    return torch.stack([pictures[i].image for i in range(12)])


@exercise("0.4", "A search always answers; whether there was anything to find is another question.")
@torch.no_grad()
def search(answer: Callable[..., object]) -> None:
    """The answer is a function: clip, images, sentence -> numbers of the three best pictures, best first."""
    clip, images = _clip(), _twelve()
    # The same pictures in another order too: whoever does not look at them finds the same numbers again.
    stacks = (images, images.flip(0))
    asked = [(stack, sentence) for stack in stacks for sentence in _SEARCHED]
    found = [
        [int(number(i)) for i in listed(answer(clip, stack, sentence), what="the answer")]
        for stack, sentence in asked
    ]
    varies(found, what="the pictures that fit this sentence")
    for places, (stack, sentence) in zip(found, asked, strict=True):
        cosines = clip.encode_image(stack) @ clip.encode_prompts([sentence])[0]
        best = cosines.argsort(descending=True).tolist()
        if places == best[:3]:
            continue
        perhaps = "look at the hint"
        if places == best[:-4:-1]:
            perhaps = "these are the three that fit worst: the largest cosine is the best"
        elif set(places) == set(best[:3]):
            perhaps = "the right three in another order: the best comes first"
        elif len(places) != 3:
            perhaps = "return three numbers"
        raise Wrong(f"{places} for {sentence!r}", f"{best[:3]}", perhaps)


@exercise(
    "0.5",
    "Being sure and being right are two things: a threshold that drops the nameless drops much that was "
    "right.",
)
def tells_apart(answer: Callable[..., object]) -> None:
    """The answer is a function.

    votes (H, W), nameless (H, W) bool -> share of pairs in which the nameless pixel has the smaller vote.
    """
    generator = torch.Generator().manual_seed(0)
    cases = []
    for shift in (0.15, 0.02, -0.1):
        # Few nameless pixels among many: a share of pixels is not a share of pairs.
        nameless = torch.rand(20, 30, generator=generator) < 0.2
        votes = (0.6 + 0.2 * torch.randn(20, 30, generator=generator) - shift * nameless).clamp(0, 1)
        votes += 1e-4 * torch.rand(20, 30, generator=generator)  # no ties
        first, second = votes[nameless], votes[~nameless]
        truth = float((first[:, None] < second).double().mean())
        traps = [
            (1 - truth, "the other way round: count pairs in which the nameless pixel has the smaller vote"),
            (float(second.mean() - first.mean()), "that is the difference of the means: count pairs"),
            (
                float((first < second.mean()).double().mean()),
                "each nameless pixel with each other one, not with their mean",
            ),
            (truth * len(first) * len(second), "that is a number of pairs: take the mean"),
        ]
        got = answered(answer(votes.numpy().copy(), nameless.numpy().copy()))
        cases.append(Case(f"{len(first)} nameless pixels", got, truth, traps))
    close_each(cases, tolerance=2e-3)
