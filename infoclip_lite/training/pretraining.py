"""Pretrain a small CLIP on Collage's captions; no pixel label is ever read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..clip.model import DenseCLIP, Tokenizer
from ..clip.stem import Stem, StemFeatures
from ..clip.tower import TowerPass
from ..core.files import whole_file
from ..datasets.base import fingerprint
from ..datasets.collage import describe
from .class_teacher import ClassTeacher
from .contrast import contrastive_loss, local_loss
from .distil_text import (
    Teacher,
    distil_text,
    distilled_tokens,
    encode_briefly,
    random_sentences,
    text_distillation_loss,
    text_parameters,
)
from .pool import Pool, hash_tensors, multi_hot, pack_words, some_of

# The read-out whose patches are held to words. What all patches share goes to the residual of CLS in it, and
# `value` keeps what tells them apart: on validation scenes that read-out gains, and this one loses.
LOCAL = "cls_value"


@dataclass(frozen=True)
class Stage:
    """A stretch of pretraining.

    Attributes:
        steps: how many optimizer steps.
        keep: share of the patches that the image tower sees (FLIP).
    """

    steps: int
    keep: float


@dataclass(frozen=True)
class TextSection:
    """How the text tower learns words from a sentence encoder.

    Attributes:
        steps: of distillation, before any picture is seen.
        weight: of the same loss beside contrast afterwards, so that words that no caption names stay near
            their neighbours.
        sentences: of single words in that loss, a step.
    """

    steps: int
    weight: float = 0.5
    sentences: int = 96


class WordTeacher(NamedTuple):
    """A teacher of words, and how much it is listened to."""

    teacher: Teacher
    section: TextSection


def distilled(clip: DenseCLIP, section: TextSection, kept: Path, seed: int) -> WordTeacher:
    """Distil the text tower of `clip`, in place, or take it from the folder `kept` where it was before.

    Returns:
        The teacher, for what follows.

    Raises:
        FileNotFoundError: the sentence encoder is not installed.
    """
    teacher = Teacher.from_encoder(clip.embed_dim)
    shapes = {name: list(value.shape) for name, value in text_parameters(clip.model).items()}
    taught = hash_tensors([teacher.targets])
    key = [teacher.words, teacher.captioned, taught, section.steps, seed, shapes]
    file = kept / f"text-{fingerprint(key)[:16]}.safetensors"
    if not file.exists():
        distil_text(clip.model, clip.tokenizer, teacher, section.steps, seed)
        state = {n: value.detach().contiguous() for n, value in text_parameters(clip.model).items()}
        with whole_file(file) as scratch:
            save_file(state, scratch)
    clip.model.load_state_dict(load_file(file), strict=False)
    return WordTeacher(teacher, section)


class Captions:
    """Sentences about scenes, new ones at every visit: of all that is seen, of a part, or of one word."""

    def __init__(self, present: Tensor, seed: int) -> None:
        self.present, self.seed = present, seed

    def about(self, step: int, indices: Sequence[int]) -> tuple[list[str], Tensor]:
        """A caption of each of these scenes, then a sentence of every single word that some of them shows.

        Returns:
            n sentences, and (n, words), what each names.
        """
        rng = random.Random(f"captions/{self.seed}/{step}")
        shown = [self._words(index) for index in indices]
        alone = sorted({word for words in shown for word in words})
        named = [some_of(rng, words) for words in shown] + [[word] for word in alone]
        return [describe(rng, words) for words in named], torch.stack([multi_hot(words) for words in named])

    def _words(self, index: int) -> list[str]:
        return [pack_words()[place] for place in self.present[index].nonzero().flatten().tolist()]


def caption_tokens(tokenizer: Tokenizer) -> Tensor:
    """Ids of every token that a caption can hold, sorted (n,)."""
    rng = random.Random(0)
    # articles and joints differ with what stands beside a noun
    company: tuple[list[str], ...] = ([], ["cow"], ["cow", "sky"])
    sentences = [
        describe(rng, [noun, "grass", *other]) for noun in pack_words() for other in company for _ in range(8)
    ]
    ids = torch.unique(tokenizer(sentences))
    return torch.unique(torch.cat([ids, torch.unique(tokenizer(["", *pack_words()]))]))


def known_tokens(clip: DenseCLIP, words: WordTeacher | None) -> Tensor:
    """Ids of the tokens that were trained, of captions and of what was distilled, sorted (n,)."""
    known = [caption_tokens(clip.tokenizer)]
    if words is not None:
        known.append(distilled_tokens(clip.tokenizer, words.teacher))
    return torch.unique(torch.cat(known))


class Pretraining:
    """The task that `fit` runs: contrast of a pool's scenes and their captions, computed in `dtype` with
    float32 weights.

    Args:
        clip: what is trained.
        pool: scenes.
        stages: of the training, in order.
        batch: scenes a step.
        local: weight of `local_loss` of the read-out `LOCAL`; 0 leaves it out.
        teacher: of words, beside contrast.
        classes: teacher of ImageNet's classes; for a pool of a stem's features.
        class_weight: of its loss.
        channel_dropout: chance that a scene's features lack a channel, 0 .. 1.
        lr, weight_decay: of AdamW.
        seed: of the order of scenes, their captions and what is dropped.
        dtype: of the computation.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        pool: Pool,
        stages: Sequence[Stage],
        *,
        batch: int,
        local: float = 0.0,
        teacher: WordTeacher | None = None,
        classes: ClassTeacher | None = None,
        class_weight: float = 1.0,
        channel_dropout: float = 0.0,
        lr: float,
        weight_decay: float,
        seed: int,
        dtype: torch.dtype,
    ):
        self.clip, self.pool, self.stages, self.batch = clip, pool, list(stages), batch
        self.local, self.teacher = local, teacher
        self.classes, self.class_weight = classes, class_weight
        self.channel_dropout = channel_dropout
        self.lr, self.weight_decay, self.seed, self.dtype = lr, weight_decay, seed, dtype
        self.module: nn.Module = clip.model
        self.captions = Captions(pool.present, seed)

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def groups(self) -> list[dict]:
        """Weight decay on matrices only; embeddings, gains and biases go without."""
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            plain = parameter.ndim < 2 or "embedding" in name
            (others if plain else matrices).append(parameter)
        common = {"lr": self.lr, "betas": (0.9, 0.98), "eps": 1e-6}
        return [
            {"params": matrices, "weight_decay": self.weight_decay, **common},
            {"params": others, "weight_decay": 0.0, **common},
        ]

    def batches(self, first: int, last: int) -> Iterator[tuple]:
        """Batches in order: epochs over the pool, each in an order of its own."""
        for step in range(first, last):
            rows = self._rows(step)
            indices = rows.tolist()
            captions, named = self.captions.about(step, indices)
            inputs = {key: values[rows] for key, values in self.pool.inputs.items()}
            yield inputs, self.pool.present[rows].float(), named, captions

    def _rows(self, step: int) -> Tensor:
        count = len(self.pool.present)
        places = range(step * self.batch, (step + 1) * self.batch)
        # A step lies in one epoch, or in the end of one and the beginning of the next.
        epochs = {place // count for place in places}
        orders = {
            e: torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 10_007 + e))
            for e in epochs
        }
        return torch.stack([orders[place // count][place % count] for place in places])

    def _dtype_of(self, name: str) -> torch.dtype:
        # Of 49,408 token embeddings a batch looks some hundreds up; a copy of all would cost more than that.
        return torch.float32 if name == "token_embedding.weight" else self.dtype

    def _keep(self, step: int) -> float:
        for stage in self.stages:
            if step < stage.steps:
                return stage.keep
            step -= stage.steps
        return self.stages[-1].keep

    def loss(self, step: int, batch: tuple) -> dict[str, Tensor]:
        """Of one batch: {"total", "scale"}, and "explained", "found", "classes", "text" where asked for."""
        inputs, present, named, captions = batch
        device = self.clip.device
        deep = inputs.get("deep")
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)
        inputs = {key: self._dropped(value.to(device), generator) for key, value in inputs.items()}
        ids = self.clip.tokenizer(captions).to(device)
        texts, target = self._words(step)
        # On a copy of the weights in self.dtype that passes gradients back.
        weights = {f"clip.model.{n}": p.to(self._dtype_of(n)) for n, p in self.module.named_parameters()}
        arguments = (inputs, ids, texts, self._keep(step), generator)
        image, patches, text, words = torch.func.functional_call(
            _Towers(self.clip, bool(self.local)), weights, arguments
        )
        present, named = present.to(device), named.to(device)
        # (image, caption): all that the caption names is there
        matches = present @ named.T == named.sum(1)
        scale = self.clip.logit_scale.clamp(max=100)
        total = contrastive_loss(image, text, matches, scale)
        terms = {"scale": scale.detach()}
        if patches is not None:
            alone = slice(len(image), None)  # behind the captions
            local = local_loss(patches, text[alone], matches[:, alone], scale)
            total = total + self.local * local["total"]
            terms |= {name: local[name].detach() for name in ("explained", "found")}
        if self.classes is not None and deep is not None:
            named_classes = self.classes.loss(image, deep.to(device).float(), scale)
            total = total + self.class_weight * named_classes
            terms["classes"] = named_classes.detach()
        if self.teacher is not None and target is not None:
            told = text_distillation_loss(words, target.to(device))["total"]
            total = total + self.teacher.section.weight * told
            terms["text"] = told.detach()
        return {"total": total, **terms}

    def _dropped(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Features without some of their channels, others in every scene; pixels as they are."""
        # Of the whole scene alike: what makes one thing unlike others of its noun lies in few channels.
        if not self.channel_dropout or not values.is_floating_point():
            return values
        chance = torch.rand((*values.shape[:2], 1, 1), generator=generator, device=values.device)
        return values * (chance >= self.channel_dropout) / (1 - self.channel_dropout)

    def _words(self, step: int) -> tuple[Tensor | None, Tensor | None]:
        """Token ids of sentences of single words, and where the teacher has them."""
        if self.teacher is None or not self.teacher.section.weight:
            return None, None
        teacher, section = self.teacher
        texts, named = random_sentences(teacher, section.sentences, self.seed * 1_000_003 + step)
        return self.clip.tokenizer(texts).to(self.clip.device), teacher.of(named)


class _Towers(nn.Module):
    def __init__(self, clip: DenseCLIP, local: bool) -> None:
        super().__init__()
        self.clip, self.local = clip, local

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        ids: Tensor,
        words: Tensor | None,
        keep: float,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        if "pixels" in inputs:
            tokens, grid = self.clip.embed(inputs["pixels"].float() / 255, keep, generator)
        else:
            stem = cast(Stem, self.clip.visual.conv1)
            joined = stem.join(StemFeatures(inputs["middle"].float(), inputs["deep"].float()))
            patches = stem.proj(joined.to(stem.weight.dtype))
            grid = (patches.shape[2], patches.shape[3])
            tokens = self.clip.enter(patches, keep, generator)
        tower = TowerPass(tokens, grid, self.clip.blocks, run=self.clip.block)
        image = self.clip.project(tower.leaving[:, 0])
        # Nobody asks for patches where there is no local loss: a read-out costs a good part of a block.
        patches = F.normalize(self.clip.read(tower, LOCAL), dim=-1) if self.local else None
        both = ids if words is None else torch.cat([ids, words])
        text = encode_briefly(self.clip.model, both, parts=4)
        return image, patches, text[: len(ids)], text[len(ids) :]
