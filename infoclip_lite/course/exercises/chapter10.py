"""Chapter 10: from global to local."""

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
from ...objectives import SelectiveDenseDistillation
from . import exercise
from .compare import Case, Wrong, answered, close_each, listed, number, varies


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


@exercise(
    "10.1",
    "More candidates, a higher ceiling: log(batch + queue) nats is all that InfoNCE can teach about "
    "one picture.",
)
def loss_of_saying_nothing(answer: Callable[..., object]) -> None:
    """The answer is a function: batch, queue -> loss in nats."""
    cases = []
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
        cases.append(Case(what, answer(batch, queue), math.log(batch + queue), traps))
    close_each(cases, tolerance=0.002, unit=" nats")


@exercise(
    "10.2",
    "A small temperature chooses softly; with the root of D all positions weigh the same, and a hard "
    "choice has work to do.",
)
def heaviest_over_lightest(answer: Callable[..., object]) -> None:
    """The answer is a function: cosines (N,), temperature -> ratio, exp((max - min) / temperature)."""
    cases = []
    for low, high, temperature in ((0.70, 0.89, 0.07), (0.70, 0.89, 16.0), (0.10, 0.45, 0.2)):
        generator = torch.Generator().manual_seed(0)
        cosines = torch.linspace(low, high, 64)[torch.randperm(64, generator=generator)]
        width = high - low
        truth = math.exp(width / temperature)
        traps = [
            (math.exp(width * temperature), "you multiplied by the temperature: divide by it"),
            (1 / truth, "that is the lightest over the heaviest"),
            (high / low, "that is a ratio of cosines: take the softmax first"),
            (math.exp(width), "where is the temperature?"),
        ]
        what = f"cosines between {low:.2f} and {high:.2f} at a temperature of {temperature:g}"
        cases.append(Case(what, answer(cosines, temperature), truth, traps))
    close_each(cases, tolerance=0.002, relative=True)


@exercise(
    "10.3",
    "The teacher chooses, by its own patches, and its common part is taken off both: what is left to learn "
    "is what differs, where there is something.",
)
def selected_lesson(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cls (B, D), teacher (B, N, D), student (B, N, D), count -> 1 - cosine at the teacher's chosen positions,
    its mean taken off both.
    """
    cls, patches, *_ = _scenes()
    cases = []
    for seed, count in ((0, 16), (1, 4), (2, 40)):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(cls), generator=generator)[:6]
        # A student that knows something: its features lie between the teacher's and noise.
        noise = torch.randn(6, *patches.shape[1:], generator=generator) / patches.shape[-1] ** 0.5
        student = F.normalize(patches[chosen] + 1.5 * noise + 0.3, dim=-1)
        got = answer(cls[chosen].clone(), patches[chosen].clone(), student.clone(), count)
        cases.append(_lesson_case(cls[chosen], patches[chosen], student, count, got))
    close_each(cases, tolerance=1e-3)


def _lesson_case(cls: Tensor, teacher: Tensor, student: Tensor, count: int, got: object) -> Case:
    def lesson(chooser: Tensor, of_teacher: Tensor, of_student: Tensor, keep: int = count) -> float:
        kept = torch.einsum("bd,bnd->bn", cls, chooser).topk(keep).indices[..., None]
        wanted, given = (
            (features - mean).gather(1, kept.expand(-1, -1, features.shape[-1]))
            for features, mean in ((teacher, of_teacher), (student, of_student))
        )
        return 1 - float(F.cosine_similarity(given, wanted, dim=-1).mean())

    mean, nothing = teacher.mean((0, 1)), torch.zeros(teacher.shape[-1])
    # At the end of a training as many positions are kept as its smallest number says.
    module = SelectiveDenseDistillation(smallest=count)
    truth = float(module(cls, teacher, student, 1.0)["dense"])
    traps = [
        (
            lesson(student, mean, mean),
            "the student chose: the positions are those where the *teacher* is like cls",
        ),
        (lesson(teacher, nothing, nothing), "nothing was subtracted: take the teacher's mean off both"),
        (
            lesson(teacher, mean, student.mean((0, 1))),
            "the same mean for both, the teacher's: with its own "
            "the student could keep what all positions share",
        ),
        (lesson(teacher, mean, nothing), "the mean has to come off the student's features, too"),
        (lesson(teacher, mean, mean, teacher.shape[1]), "those are all positions: keep `count` of them"),
        (1 - truth, "that is the cosine: a loss goes down as it grows"),
    ]
    return Case(f"{count} of {teacher.shape[1]} positions", got, truth, traps)


@exercise(
    "10.4",
    "Whether centring helps the choice is counted, not guessed, and may change with how many positions are "
    "kept; the lesson is another matter.",
)
def centred_choice(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cls, patches, share (B, N), count -> mean share of objects, about 0.2 for 16.
    """
    cls, patches, share, _ = _scenes()
    middle, common = cls.mean(0), patches.mean((0, 1))
    cases = []
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
        truth = _on_objects(cls - middle, patches - common, count)
        cases.append(Case(f"the share at {count} of 64", got, truth, traps))
    close_each(cases, tolerance=1e-3)


@exercise(
    "10.5",
    "Positions that differ from each other show more words than those that agree with CLS, and lie "
    "on objects less often.",
)
def choose(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cls (D,), patches (N, D), count -> indices; open, judged by the words shown.
    """
    cls, patches, _, word = _scenes()
    count, chosen = 8, []
    for one, around in zip(cls, patches, strict=True):
        given = answered(answer(one.clone(), around.clone(), count))
        places = [int(number(place)) for place in listed(given, what="the answer")]
        if len(set(places)) != count or not all(0 <= place < patches.shape[1] for place in places):
            expected = f"{count} different ones, each from 0 to {patches.shape[1] - 1}"
            advice = "a position was chosen twice, or there are too many or too few"
            raise Wrong(f"positions {places}", expected, advice)
        chosen.append(places)
    varies(chosen, what="positions of the picture that it gets")
    yours = sum(len(set(word[i, places].tolist())) for i, places in enumerate(chosen)) / len(cls)
    nearest = torch.einsum("bd,bnd->bn", cls, patches).topk(count).indices
    plain = sum(len(set(words.tolist())) for words in word.gather(1, nearest)) / len(cls)
    if yours < plain + 0.25:
        raise Wrong(
            f"{yours:.2f} words a scene",
            f"at least {plain + 0.25:.2f}, a quarter more than the {plain:.2f} of the eight most like CLS",
            "your choice still takes patches that look like each other: compare each candidate with "
            "those already chosen",
        )
