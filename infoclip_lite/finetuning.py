"""Plain fine-tuning of a segmentor on the pixels of seen classes: what degrades CLIP's alignment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .datasets.collage import IGNORE, Collage
from .segmentors import ZeroShotSegmentor


class FineTuning:
    """The task that `fit` runs: cross-entropy over the seen classes at every labelled pixel.

    Unseen nouns are never named in training and their pixels are ignored, never called background (inductive).

    Args:
        segmentor: the model; its CLIP is what is trained.
        dataset: scenes with masks; `dataset.unseen` says what to ignore.
        batch: scenes a step.
        lr: peak learning rate.
        weight_decay: of matrices, in "full" tuning.
        tune: "full" trains every weight of both towers, "qv" only the query and value projections of every block.
        prompt: the template of the class names in training.
        bf16: multiply in bfloat16 (autocast).

    Raises:
        ValueError: unknown `tune`, or no seen class.
    """

    def __init__(
        self,
        segmentor: ZeroShotSegmentor,
        dataset: Collage,
        *,
        batch: int,
        lr: float,
        weight_decay: float = 1e-4,
        tune: Literal["full", "image", "qv"] = "full",
        prompt: str = "a photo of a {}",
        bf16: bool = False,
    ) -> None:
        if tune not in ("full", "image", "qv"):
            raise ValueError(f"unknown tune {tune!r}; expected 'full', 'image' or 'qv'")
        self.segmentor, self.dataset, self.batch = segmentor, dataset, batch
        self.lr, self.weight_decay, self.tune, self.prompt, self.bf16 = lr, weight_decay, tune, prompt, bf16
        self.module: nn.Module = segmentor
        seen = [i for i in range(len(dataset.names)) if i not in dataset.unseen]
        if not seen:
            raise ValueError(f"all {len(dataset.names)} classes are unseen; expected at least one to learn from")
        self.seen = [dataset.names[i] for i in seen]
        self.relabel = torch.full((256,), IGNORE)
        self.relabel[seen] = torch.arange(len(seen))
        self.trained = _trained(segmentor, tune)

    def groups(self) -> list[dict]:
        """One group for matrices, with weight decay unless only q and v are tuned, and one for the rest."""
        decay = self.weight_decay if self.tune == "full" else 0.0  # decay would shrink the frozen keys as well
        matrices = [p for p in self.trained if p.ndim > 1]
        others = [p for p in self.trained if p.ndim < 2]
        return [{"params": matrices, "lr": self.lr, "weight_decay": decay}, {"params": others, "lr": self.lr, "weight_decay": 0.0}]

    def batches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, masks) of step s: scenes s * batch .. (s + 1) * batch - 1."""
        for step in range(first, last):
            scenes = [self.dataset[(step * self.batch + i) % len(self.dataset)] for i in range(self.batch)]
            yield torch.stack([s.image for s in scenes]), torch.stack([s.mask for s in scenes])

    def loss(self, step: int, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Pixel cross-entropy in nats: {"total"}. A batch without a labelled pixel gives zero."""
        clip = self.segmentor.clip
        images, masks = (t.to(clip.device) for t in batch)
        with torch.autocast(clip.device.type, torch.bfloat16, enabled=self.bf16):  # left at every step: it keeps copies of the weights
            logits = self.segmentor(images, clip.encode_text(self.seen, (self.prompt,))).float()
        target = self.relabel.to(masks.device)[masks]
        total = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum")
        return {"total": total / (target != IGNORE).sum().clamp(min=1)}


def _trained(segmentor: ZeroShotSegmentor, tune: str) -> list[nn.Parameter]:
    """Switch gradients on for what is tuned, off for the rest, and return the former."""
    clip = segmentor.clip
    segmentor.requires_grad_(False)
    if tune != "qv":
        towers = clip.model if tune == "full" else clip.visual
        trained = [p for name, p in towers.named_parameters() if name != "logit_scale"]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained
    trained = []
    for block in [*clip.blocks, *clip.text_blocks]:
        for parameter in (block.attn.in_proj_weight, block.attn.in_proj_bias):
            parameter.requires_grad_(True)
            parameter.register_hook(_without_keys)
            trained.append(parameter)
    return trained


def _without_keys(gradient: Tensor) -> Tensor:
    """q, k and v share one tensor; the middle third is k."""
    kept = gradient.clone()
    third = len(kept) // 3
    kept[third : 2 * third] = 0
    return kept
