"""Chapter 0: what a CLIP can do."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ...clip import DenseCLIP, load_clip
from ...datasets import Collage
from ...evaluation import segment
from . import exercise
from .compare import Wrong, close, listed, number

# The scene that the chapter shows, one that goes well: its words, and the one that is left out in section 6.
# Of the validation scenes: an example that is chosen by eye is not chosen on test scenes.
_SPLIT, _SCENE = "val", 2
_WORDS = ("potted plant", "flower", "sky", "sand")
_MISSING = "flower"
_SEARCHED = ("a chair", "a potted plant and a flower")


# Loaded once for all exercises of the chapter: a check that takes seconds is not run twice.
@functools.cache
def _clip() -> DenseCLIP:
    return load_clip("collage-mini")


@functools.cache
def _right(scene: int, words: tuple[str, ...]) -> float:
    """Share of a scene's pixels that get their word when `words` compete."""
    pictures = Collage(_SPLIT)
    places = torch.tensor([pictures.names.index(word) for word in words])
    labels = torch.from_numpy(segment(pictures[scene].image, list(words), model=_clip()).labels).long()
    return float((places[labels] == pictures[scene].mask).double().mean())


@exercise("0.1", "A cosine compares directions only: doubling an embedding changes nothing.")
def cosine(answer: Callable[..., object]) -> None:
    """The answer is a function: two tensors (d,) -> their cosine."""
    # Lengths of 5, so that each forgotten division gives another number.
    a, b = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([4.0, 0.0, 3.0])
    truth = torch.nn.functional.cosine_similarity(a, b, dim=0).item()
    traps = [
        (float(a @ b), "that is the product; divide it by both lengths"),
        (float(a @ b / a.norm()), "that divides by the length of a only"),
        (1 - truth, "that is a distance: 0 would mean the same direction"),
        (float((a - b).norm()), "that is the distance of the two, not their angle"),
    ]
    close(answer(a, b), truth, what="(3, 4, 0) and (4, 0, 3)", tolerance=1e-3, traps=traps)
    close(
        answer(a, -7 * a),
        -1.0,
        what="a and -7 a",
        tolerance=1e-3,
        traps=[(1.0, "opposite directions have -1: keep the sign")],
    )


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
    scene, names, words = pictures[_SCENE], list(pictures.names), _WORDS
    labels = torch.from_numpy(segment(scene.image, list(words), model=_clip()).labels).long()
    truth = _right(_SCENE, words)
    untranslated = float((labels == scene.mask).double().mean())
    traps = [
        (
            untranslated,
            "you compared numbers that count in different lists: labels count in words, the mask in names",
        ),
        (1 - truth, "that is the share of wrong pixels"),
        (100 * truth, "that is in per cent: return a share from 0 to 1"),
        (truth * labels.numel(), "that is a number of pixels: take the mean"),
    ]
    close(
        answer(scene, list(words), names, _clip()),
        truth,
        what=f"scene {_SCENE} with its own four words",
        tolerance=1e-3,
        traps=traps,
    )
    close(
        answer(pictures[12], names, names, _clip()),
        _right(12, tuple(names)),
        what="scene 12 with all words",
        tolerance=1e-3,
    )


@exercise("0.3", "Looking for failures on purpose tells you more about a model than its best picture.")
@torch.no_grad()
def failure(answer: object) -> None:
    """The answer is the number of a scene with fewer than six in ten pixels right"""
    got = number(answer, "the number of a scene")
    if got != int(got) or not 0 <= got < 100:
        raise Wrong(
            f"{got:g}",
            "a whole number from 0 to 99",
            "you gave the share of right pixels instead of the number of the scene",
        )
    names = tuple(Collage(_SPLIT).names)
    right = _right(int(got), names)
    if right >= 0.6:
        found = f"scene {int(got)}, with {right:.0%} of its pixels right"
        raise Wrong(
            found,
            "fewer than 60% right",
            f"this scene goes well when all {len(names)} words compete: go on looking",
        )


@functools.cache
def _twelve() -> Tensor:
    pictures = Collage(_SPLIT)
    return torch.stack([pictures[i].image for i in range(12)])


@exercise("0.4", "A search always answers; whether there was anything to find is another question.")
@torch.no_grad()
def search(answer: Callable[..., object]) -> None:
    """The answer is a function: clip, images, sentence -> numbers of the three best pictures, best first."""
    clip, images = _clip(), _twelve()
    vectors = clip.encode_image(images)
    for sentence in _SEARCHED:
        cosines = vectors @ clip.encode_prompts([sentence])[0]
        best = cosines.argsort(descending=True).tolist()
        found = [int(number(i)) for i in listed(answer(clip, images, sentence), what="the answer")]
        if found != best[:3]:
            perhaps = "look at the hint"
            if found == best[:-4:-1]:
                perhaps = "these are the three that fit worst: the largest cosine is the best"
            elif set(found) == set(best[:3]):
                perhaps = "the right three in another order: the best comes first"
            elif len(found) != 3:
                perhaps = "return three numbers"
            raise Wrong(f"{found} for {sentence!r}", f"{best[:3]}", perhaps)


@exercise(
    "0.5",
    "Being sure and being right are two things: a threshold that drops the nameless drops much that was "
    "right.",
)
@torch.no_grad()
def none_of_these(answer: object) -> None:
    """The answer is a threshold: half of what has no word is left out, six in ten other pixels are kept."""
    threshold, pictures = number(answer, "the threshold"), Collage(_SPLIT)
    scene, words = pictures[_SCENE], [word for word in _WORDS if word != _MISSING]
    if not 0 <= threshold < 1:
        raise Wrong(
            f"{threshold:g}", "a share of the vote, from 0 up to but not including 1", "you gave per cent"
        )
    # Its true word is not among those that compete: a threshold is all that can leave it out.
    nameless = (scene.mask == pictures.names.index(_MISSING)).numpy()
    missing = segment(scene.image, words, model=_clip(), threshold=threshold).labels == 255
    dropped, kept = missing[nameless].mean(), 1 - missing[~nameless].mean()
    got = (
        f"threshold {threshold:.2f}, which leaves out {dropped:.0%} of the {_MISSING} and keeps "
        f"{kept:.0%} of the rest"
    )
    expected = "at least 50% left out and at least 60% kept"
    if dropped < 0.5:
        raise Wrong(
            got,
            expected,
            f"the threshold is too low: the vote for a wrong word on the {_MISSING} is above it",
        )
    if kept < 0.6:
        raise Wrong(got, expected, "the threshold is too high: the right words do not reach it either")
