"""What captions alone can teach: pictures and sentences, contrasted as PACL does (2212.04994)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...clip import DenseCLIP
from ...datasets.base import SegmentationDataset, Trainable, fingerprint
from ...datasets.wordlists import common_nouns
from ...segmentors.pacl import text_pooled_cosines
from ..acceleration import autocast
from ..contrast import shared_cross_entropy
from ..finetuning import FineTuning
from .base import Supervision, WithoutMasks, before_cutting

PROMPTS = (  # around a noun of the caption [P, appendix A]
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
_OF_PICTURES = frozenset({"art", "collage", "image", "photo", "photograph", "picture", "view"})


class Told(NamedTuple):
    """A picture and one sentence about it.

    Attributes:
        image: (3, size, size) float32 in [0, 1].
        mask: (size, size) int64, of which no pixel counts.
        sentence: a caption, or one of its nouns in a prompt.
        named: nouns of the sentence.
        known: nouns of all captions of the picture.
        skipped: damaged files that it stands in for.
    """

    image: Tensor
    mask: Tensor
    sentence: str
    named: frozenset[str]
    known: frozenset[str]
    skipped: tuple[str, ...]


class Nouns:
    """Finds the nouns of a caption in a list, the longest first, plurals in s too [O].

    PACL's nouns are a tagger's; a list needs none, and finds what is on it.

    Args:
        words: nouns, of one to three words; "a, b" and "a|b" are two.

    >>> Nouns(["fire", "fire hydrant", "dog"]).of("Two dogs at a fire hydrant.")
    ['dog', 'fire hydrant']
    """

    def __init__(self, words: Iterable[str]) -> None:
        parts = (part.strip().lower() for word in words for part in re.split(r"[,|]", word))
        self.words = frozenset(part for part in parts if part and part not in _OF_PICTURES)

    def of(self, caption: str) -> list[str]:
        """Nouns of a sentence, in their order; none is no error.

        Args:
            caption: the sentence.
        """
        tokens = re.findall(r"[a-z]+", caption.lower())
        found, at = [], 0
        while at < len(tokens):
            for length in (3, 2, 1):
                phrase = " ".join(tokens[at : at + length])
                noun = next((each for each in (phrase, phrase.removesuffix("s")) if each in self.words), None)
                if noun is not None:
                    found.append(noun)
                    at += length - 1
                    break
            at += 1
        return found


class ToldScenes(SegmentationDataset):
    """Scenes with a sentence each, another one for every number, the same in every run.

    Args:
        scenes: whose items have `captions`.
        nouns: that are looked for in them.
        prompts: around a noun.
        share: of pictures that are told by a noun of their caption and not by all of it.
        seed: of the choice.

    Raises:
        ValueError: on reading, a picture without a caption.
    """

    def __init__(
        self, scenes: Trainable, nouns: Nouns, *, prompts: Sequence[str], share: float, seed: int
    ) -> None:
        super().__init__(scenes.names, split=scenes.split, ignore=scenes.ignore, unseen=scenes.unseen)
        self.scenes, self.nouns, self.prompts = scenes, nouns, tuple(prompts)
        self.share, self.seed = share, seed

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Told:
        item: Any = self.scenes[index]
        if not item.captions:
            raise ValueError(
                f"{getattr(item, 'path', f'item {index}')} has no caption; expected one for every picture"
            )
        rng = random.Random(f"sentences/{self.seed}/{index}")
        caption = item.captions[int(rng.random() * len(item.captions))]
        named = self.nouns.of(caption)
        alone, which, prompt = rng.random() < self.share, rng.random(), rng.random()
        known = frozenset(noun for each in item.captions for noun in self.nouns.of(each))
        skipped = tuple(getattr(item, "skipped", ()))
        # A caption none of whose words is a known noun is told as it is.
        if not (alone and named):
            return Told(item.image, item.mask, caption, frozenset(named), known, skipped)
        noun = named[int(which * len(named))]
        sentence = self.prompts[int(prompt * len(self.prompts))].format(noun)
        return Told(item.image, item.mask, sentence, frozenset({noun}), known, skipped)

    def place(self, number: int) -> int:
        """As the scenes."""
        return self.scenes.place(number)

    def settings(self) -> dict[str, object]:
        """The scenes, and how sentences are chosen."""
        words = fingerprint([sorted(self.nouns.words), self.prompts])
        return {
            "of": fingerprint(self.scenes.describe()),
            "words": words,
            "share": self.share,
            "seed": self.seed,
        }


class Captions(Supervision):
    """Captions, in a recipe: `supervision: {name: captions, ...}`.

    Args:
        prompts: around a noun of a caption.
        nouns: share of pictures that are told by such a noun; a half in a re-implementation [N].
        sharpness: what cosines are multiplied with before the softmax over patches; 1 as written [P].

    Raises:
        ValueError: no prompt or one without {}, a share outside 0 .. 1, or a sharpness that is not above 0.
    """

    def __init__(
        self, *, prompts: Sequence[str] = PROMPTS, nouns: float = 0.5, sharpness: float = 1.0
    ) -> None:
        if not prompts or any("{}" not in prompt for prompt in prompts):
            raise ValueError(f"prompts is {list(prompts)}; expected one or more, with {{}} for the noun")
        if not 0 <= nouns <= 1:
            raise ValueError(f"nouns is {nouns}; expected a share of 0 .. 1")
        if not sharpness > 0:
            raise ValueError(f"sharpness is {sharpness}; expected a number above 0")
        self.prompts, self.share, self.sharpness = tuple(prompts), nouns, sharpness

    def scenes(self, scenes: Trainable, clip: DenseCLIP, *, seed: int, workers: int) -> Trainable:
        """Pictures and sentences; see `Supervision.scenes`."""
        # Captions name what they like, unseen classes too: unseen means without labels of pixels.
        words = [*scenes.words, *getattr(scenes, "caption_words", ()), *common_nouns()]
        return ToldScenes(
            before_cutting(scenes, WithoutMasks),
            Nouns(words),
            prompts=self.prompts,
            share=self.share,
            seed=seed,
        )

    def task(self, *arguments: Any, **options: Any) -> CaptionTuning:
        """Contrast of pictures and sentences."""
        return CaptionTuning(*arguments, **options, sharpness=self.sharpness)


Sentences = tuple[Tensor, list[str], Tensor]  # (images, one sentence each, which picture shows which)


class CaptionTuning(FineTuning):
    """The task that `fit` runs: symmetric InfoNCE of every picture with every sentence of the batch.

    The segmentor's dense embeddings are pooled anew for every sentence; see `text_pooled_cosines`. A sentence
    whose nouns another picture's captions name too is true of both, and they share the target [O].

    Args:
        arguments, options: of `FineTuning`.
        sharpness: of the pooling.

    Raises:
        ValueError: an objective beside it, a batch that is divided, or what `FineTuning` refuses.
    """

    def __init__(self, *arguments: Any, sharpness: float = 1.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sharpness = sharpness

    def _check(self, anchors: Sequence[str]) -> None:
        super()._check(anchors)
        if self.objective is not None:
            raise ValueError("got an objective beside captions; expected none: it looks at labels of pixels")
        if self.parts > 1:
            raise ValueError(
                "got a batch in parts (accumulate, or several processes); "
                "expected a whole one: every picture is contrasted with every sentence"
            )

    def batches(self, first: int, last: int) -> Iterator[Any]:
        """(images, sentences, matches) of each step.

        Raises:
            OSError: as `FineTuning.batches`.
        """
        for told in self.loaded(first, last, list):
            self.skipped.update(name for each in told for name in each.skipped)
            images = torch.stack([each.image for each in told])
            yield images, [each.sentence for each in told], matching(told)

    def loss(self, step: int, batch: Any) -> dict[str, Tensor]:
        """{"total"} in nats.

        Raises:
            ValueError: a segmentor whose dense embeddings are not in the joint space.
        """
        images, sentences, matches = batch
        clip = self.segmentor.clip
        with autocast(clip.device, self.dtype):
            text = clip.encode_prompts([shortened(clip, each) for each in sentences])
            dense = self.segmentor.encode(images.to(clip.device)).dense
        if dense.shape[1] != clip.embed_dim:
            raise ValueError(
                f"the patches of {type(self.segmentor).__name__} are {dense.shape[1]} wide, its CLIP's words "
                f"{clip.embed_dim}; expected the same: captions teach what is compared with words"
            )
        cosines = text_pooled_cosines(dense.flatten(2).mT.float(), text, self.sharpness)
        return {"total": shared_cross_entropy(clip.logit_scale.float() * cosines, matches.to(clip.device))}


def matching(told: Sequence[Told]) -> Tensor:
    """Which sentence is true of which picture, as far as nouns can tell.

    Args:
        told: pictures and their sentences.

    Returns:
        (B, B) bool, picture i and sentence j: its own; the same sentence; or nouns that picture i's captions
        name all. A sentence without known nouns is true of its own picture alone.
    """

    def shows(mine: Told, other: Told) -> bool:
        if mine is other or mine.sentence == other.sentence:
            return True
        return bool(other.named) and other.named <= mine.known

    return torch.tensor([[shows(mine, other) for other in told] for mine in told])


def shortened(clip: DenseCLIP, sentence: str) -> str:
    """The beginning of a sentence that a text tower has room for; open_clip cuts long ones as well.

    Args:
        clip: whose context it is.
        sentence: of any length.
    """
    encode = getattr(clip.tokenizer, "encode", None)
    words = sentence.split()
    context = getattr(clip.model, "context_length", 77)
    # Begin and end of a sentence are tokens too.
    while encode is not None and len(words) > 1 and len(encode(" ".join(words))) + 2 > context:
        words.pop()
    return " ".join(words)
