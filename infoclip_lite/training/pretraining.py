"""Pretrain a small CLIP on Collage's captions: image-text contrast only, no pixel label is ever read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..clip.model import DenseCLIP, Tokenizer
from ..clip.tower import TowerPass
from ..datasets.collage import Collage, all_nouns, describe, stuff


@cache
def caption_words() -> tuple[str, ...]:
    """Every word that a caption can name; read from the pack when it is first asked for."""
    return (*all_nouns(), *stuff())


@dataclass(frozen=True)
class Stage:
    """A stretch of pretraining on one kind of scene.

    Attributes:
        steps: how many optimizer steps.
        size: side of the scenes in pixels.
        keep: share of the patches that the image tower sees (FLIP).
        objects: fewest and most objects in a scene.
        scale: smallest and largest object, as a fraction of `size`.
        close_ups: share of scenes with one object that fills the frame.
    """

    steps: int
    size: int
    keep: float
    objects: tuple[int, int]
    scale: tuple[float, float]
    close_ups: float = 0.0


class CaptionedScenes(Dataset):
    """Scenes for contrast: (image uint8, words in the image, words in the caption, caption).

    Two scenes in three are made of the segmentation vocabulary, the third of every word in the pack. Half of
    the captions name all that can be seen, half a random part of it.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        collage = partial(Collage, "train", stage.size, seed=seed, length=10**9)
        self.seed, self.close_ups = seed, stage.close_ups
        self.scenes = [
            collage(classes, objects=stage.objects, scale=stage.scale) for classes in (None, caption_words())
        ]
        self.near = [
            collage(classes, objects=(1, 1), scale=(0.8, 1.6)) for classes in (None, caption_words())
        ]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, str]:
        rng = random.Random(f"caption/{self.seed}/{index}")
        kinds = self.near if rng.random() < self.close_ups else self.scenes
        canvas, _, _, present = kinds[index % 3 == 0].render(index)
        named = present
        if rng.random() < 0.5:
            share = rng.random()
            named = [w for w in present if rng.random() < share] or [
                present[int(rng.random() * len(present))]
            ]
        return torch.from_numpy(canvas), _multi_hot(present), _multi_hot(named), describe(rng, named)


def _multi_hot(words: Sequence[str]) -> Tensor:
    hot = torch.zeros(len(caption_words()))
    hot[[caption_words().index(w) for w in words]] = 1
    return hot


def caption_tokens(tokenizer: Tokenizer) -> Tensor:
    """Ids of every token that a caption can hold, sorted (n,)."""
    rng = random.Random(0)
    # articles and joints differ with what stands beside a noun
    company: tuple[list[str], ...] = ([], ["cow"], ["cow", "sky"])
    sentences = [
        describe(rng, [noun, "grass", *other])
        for noun in caption_words()
        for other in company
        for _ in range(8)
    ]
    ids = torch.unique(tokenizer(sentences))
    return torch.unique(torch.cat([ids, torch.unique(tokenizer(["", *caption_words()]))]))


def contrastive_loss(image: Tensor, text: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy where a caption may be true of several images.

    With `matches` the identity this is CLIP's loss (2103.00020, figure 3); several positives share the target
    evenly (as in UniCL, 2204.03610), so that two pictures of a dog do not push each other's caption away.

    Args:
        image, text: (B, D) unit vectors.
        matches: (B, B) bool, caption j is true of image i.
        scale: inverse temperature.

    Returns:
        A scalar in nats.
    """
    logits = scale * image @ text.T
    target = matches.float()
    by_image = -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_text = -(target / target.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_image + by_text) / 2


class Pretraining:
    """The task that `fit` runs: stages of growing scenes, computed in `dtype` with float32 weights."""

    def __init__(
        self,
        clip: DenseCLIP,
        stages: Sequence[Stage],
        *,
        batch: int,
        lr: float,
        weight_decay: float,
        seed: int,
        dtype: torch.dtype,
    ):
        self.clip, self.stages, self.batch = clip, list(stages), batch
        self.lr, self.weight_decay, self.seed, self.dtype = lr, weight_decay, seed, dtype
        self.module: nn.Module = clip.model

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
        """Batches in order; one worker renders while the model trains."""
        begin = 0
        for stage in self.stages:
            low, high = max(first, begin), min(last, begin + stage.steps)
            if low < high:
                indices = [list(range(s * self.batch, (s + 1) * self.batch)) for s in range(low, high)]
                loader = DataLoader(
                    CaptionedScenes(stage, self.seed), batch_sampler=indices, num_workers=1, prefetch_factor=4
                )
                for batch in loader:
                    yield stage, *batch
            begin += stage.steps

    def loss(self, step: int, batch: tuple) -> dict[str, Tensor]:
        """Contrast of one batch: {"total", "scale"}."""
        stage, canvas, present, named, captions = batch
        device = self.clip.device
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + step)
        images = canvas.to(device).permute(0, 3, 1, 2).float() / 255
        ids = self.clip.tokenize(captions)
        image, text = self._embed(images, ids, stage.keep, generator)
        present, named = present.to(device), named.to(device)
        matches = named @ present.T == named.sum(1, keepdim=True)  # (caption, image): all it names is there
        scale = self.clip.logit_scale.clamp(max=100)
        return {"total": contrastive_loss(image, text, matches.T, scale), "scale": scale.detach()}

    def _embed(
        self, images: Tensor, ids: Tensor, keep: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Image and text embeddings, computed on a copy of the weights in self.dtype that passes gradients
        back.
        """
        weights = {f"clip.model.{n}": p.to(self.dtype) for n, p in self.module.named_parameters()}
        return torch.func.functional_call(_Towers(self.clip), weights, (images, ids, keep, generator))


class _Towers(nn.Module):
    def __init__(self, clip: DenseCLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(
        self, images: Tensor, ids: Tensor, keep: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        tokens, grid = self.clip.embed(images, keep, generator)
        tower = TowerPass(tokens, grid, self.clip.blocks, run=self.clip.block)
        image = self.clip.project(tower.leaving[:, 0])
        return image, self.clip.encode_tokens(ids)
