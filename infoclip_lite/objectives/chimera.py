"""Chimera-Seg's objectives (2506.22032): what teaches a body that never saw a caption to speak CLIP's language.

Only the abstract could be read [P]: Selective Global Distillation "distils knowledge from dense features exhibiting high similarity to the CLIP
CLS token, while gradually reducing the number of features used as training progresses"; a Semantic Alignment Module "aligns dense visual
features with semantic embeddings extracted from the frozen CLIP text encoder". Everything below that these sentences leave open is our
reading [I], and each choice an option.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..datasets.collage import IGNORE
from .infoclip import View

Schedule = Literal["cosine", "linear", "step", "constant"]

def positions_kept(progress: float, positions: int, smallest: int, schedule: Schedule = "cosine") -> int:
    """K: of how many positions the picture's summary is made, from all of them down to `smallest`.

    Args:
        progress: share of the training that is over, 0 .. 1.
        positions: L, all of them.
        smallest: K at the end.
        schedule: "cosine" (slow, fast, slow), "linear", "step" (all, half-way, smallest: a third of the training each), or "constant": always
            all, which makes it the global learning module of CLIP-ZSS (2310.02296).

    Raises:
        ValueError: an unknown schedule, a progress outside 0 .. 1, or a smallest number outside 1 .. positions.

    >>> [positions_kept(p, 64, 16, "cosine") for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [64, 57, 40, 23, 16]
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(get_args(Schedule))}")
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; expected 0 (begin of training) .. 1 (its end)")
    if schedule == "constant":
        return positions
    if not 1 <= smallest <= positions:
        raise ValueError(
            f"smallest is {smallest}, but the student has {positions} positions; expected 1 .. {positions}: fewer to keep, or larger pictures"
        )
    gone = {"cosine": (1 - math.cos(math.pi * progress)) / 2, "linear": progress, "step": min(2, int(3 * progress)) / 2}[schedule]
    return round(positions - (positions - smallest) * gone)


def select(image: Tensor, dense: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the positions most similar to the picture's embedding.

    Args:
        image: (B, D) global embeddings.
        dense: (B, N, D) unit vectors.
        count: K.
    """
    return torch.einsum("bd,bnd->bn", image, dense).topk(count, sorted=True).indices


class SelectiveGlobalDistillation(nn.Module):
    """The student's positions that look most like CLIP's CLS embedding, summed up, must be told apart by it from other pictures' [I].

    With S (B, D) the teacher's CLS embeddings and R_K (B, K, D) the K positions most similar to S: W = softmax(S R_K^T / sqrt(D)),
    S^ = W R_K scaled to unit length, and the loss is InfoNCE of S^ against S, the other pictures of the batch and a queue of past S.

    Args:
        dim: D.
        smallest: K at the end of training.
        schedule: of K; see `positions_kept`.
        queue: how many past CLS embeddings are kept as further negatives; 0 keeps none.
        temperature: of InfoNCE.

    Raises:
        ValueError: numbers out of range, or an unknown schedule.
    """

    def __init__(
        self, dim: int, *, smallest: int = 16, schedule: Schedule = "cosine", queue: int = 256, temperature: float = 0.07
    ) -> None:
        super().__init__()
        if smallest < 1 or queue < 0 or not temperature > 0:
            raise ValueError(f"got smallest={smallest}, queue={queue}, temperature={temperature}; expected at least 1, at least 0, above 0")
        positions_kept(0.0, smallest, smallest, schedule)
        self.smallest, self.schedule, self.temperature = smallest, schedule, temperature
        self.queue: Tensor
        self.filled: Tensor
        self.register_buffer("queue", torch.zeros(queue, dim))  # in the state: a training that goes on finds it
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def forward(self, image: Tensor, dense: Tensor, progress: float = 0.0) -> dict[str, Tensor]:
        """{"global", "total"}: InfoNCE in nats, and the same again.

        Args:
            image: (B, D) CLS embeddings of the frozen teacher, unit vectors.
            dense: (B, N, D) unit vectors of the student.
            progress: share of the training that is over.

        Raises:
            ValueError: shapes that do not fit, more positions to keep than there are, or one picture and an empty queue.
        """
        if image.ndim != 2 or dense.ndim != 3 or image.shape != (len(dense), dense.shape[-1]) or image.shape[1] != self.queue.shape[1]:
            raise ValueError(
                f"got image {tuple(image.shape)} and dense {tuple(dense.shape)}; expected (B, {self.queue.shape[1]}) and "
                f"(B, N, {self.queue.shape[1]}), both in the joint space of one CLIP"
            )
        image = image.detach()
        others = self.queue[: int(self.filled)]
        if len(image) + len(others) < 2:
            raise ValueError("got one picture and no other to tell it from; expected a batch of at least 2")
        summary = self.summarise(image, dense, positions_kept(progress, dense.shape[1], self.smallest, self.schedule))
        logits = summary @ torch.cat([image, others]).T / self.temperature
        loss = F.cross_entropy(logits, torch.arange(len(image), device=logits.device))
        if self.training:
            self._remember(image)
        return {"global": loss, "total": loss}

    def summarise(self, image: Tensor, dense: Tensor, count: int) -> Tensor:
        """S^ (B, D), unit vectors, from the `count` positions most similar to the CLS embedding."""
        kept = dense.gather(1, select(image, dense, count)[..., None].expand(-1, -1, dense.shape[-1]))
        weights = (torch.einsum("bd,bkd->bk", image, kept) / math.sqrt(dense.shape[-1])).softmax(-1)
        return F.normalize(torch.einsum("bk,bkd->bd", weights, kept), dim=-1)

    @torch.no_grad()
    def _remember(self, image: Tensor) -> None:
        """The newest embeddings first, the oldest fall out."""
        size = len(self.queue)
        self.queue.copy_(torch.cat([image.to(self.queue), self.queue])[:size])
        self.filled.fill_(min(size, int(self.filled) + len(image)))


class SemanticAlignment(nn.Module):
    """Words look at the picture, then each must find its own pixels: class-wise BCE and Dice on similarity maps [I].

    Text queries attend to the dense features (cross-attention with a residual that starts at zero), and the maps are cosines of dense features
    and queries. Training only: at inference words are compared as they are.

    Args:
        dim: D.
        heads: of the cross-attention.
        scale, bias: where sigmoid(scale * cosine + bias) starts; both are trained.

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, dim: int, *, heads: int = 4, scale: float = 10.0, bias: float = -5.0) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {dim}")
        self.norm_text, self.norm_dense = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)
        self.scale, self.bias = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(bias))

    def forward(self, dense: Tensor, text: Tensor, target: Tensor) -> dict[str, Tensor]:
        """{"bce", "dice", "total"}; BCE in nats a class and pixel, Dice in 0 .. 1 over the classes that are in each picture.

        Args:
            dense: (B, D, h, w) unit vectors of the student.
            text: (C, D) unit vectors of the training classes.
            target: (B, H, W) class ids, 255 where nothing is known.

        Raises:
            ValueError: shapes that do not fit.
        """
        if dense.ndim != 4 or text.ndim != 2 or target.ndim != 3 or dense.shape[1] != text.shape[1] or len(dense) != len(target):
            raise ValueError(
                f"got dense {tuple(dense.shape)}, text {tuple(text.shape)} and target {tuple(target.shape)}; "
                "expected (B, D, h, w), (C, D) and (B, H, W)"
            )
        logits = F.interpolate(self.maps(dense, text), target.shape[-2:], mode="bilinear", align_corners=False).float()
        labelled = (target != IGNORE)[:, None]
        wanted = F.one_hot(torch.where(labelled[:, 0], target, 0), len(text)).movedim(-1, 1) * labelled
        bce = F.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none")
        bce = (bce * labelled).sum() / (labelled.sum() * len(text)).clamp(min=1)
        got = logits.sigmoid() * labelled
        overlap, size = (got * wanted).sum((2, 3)), got.sum((2, 3)) + wanted.sum((2, 3))
        present = wanted.amax((2, 3)) > 0
        dice = ((1 - (2 * overlap + 1) / (size + 1)) * present).sum() / present.sum().clamp(min=1)
        return {"bce": bce, "dice": dice, "total": bce + dice}

    def maps(self, dense: Tensor, text: Tensor) -> Tensor:
        """Logits (B, C, h, w) of each word after it has looked at the picture."""
        patches = self.norm_dense(dense.flatten(2).mT)
        asked = self.norm_text(text).expand(len(dense), -1, -1)
        looked = text + self.attention(asked, patches, patches, need_weights=False)[0]
        return self.scale * torch.einsum("bdhw,bcd->bchw", dense, F.normalize(looked, dim=-1)) + self.bias


class ChimeraObjective(nn.Module):
    """Both modules: distillation * SGD + alignment * SAM, beside the task loss of `FineTuning`.

    Args:
        dim: D, the width of the joint space.
        distillation: weight of Selective Global Distillation; 0 leaves it out.
        alignment: weight of Semantic Alignment; 0 leaves it out.
        smallest, schedule, queue, temperature: of `SelectiveGlobalDistillation`.
        heads: of `SemanticAlignment`.

    Raises:
        ValueError: negative weights, none at all, or what the modules refuse.
    """

    needs = ("student", "image", "target", "progress")

    def __init__(
        self,
        dim: int,
        *,
        distillation: float = 1.0,
        alignment: float = 1.0,
        smallest: int = 16,
        schedule: Schedule = "cosine",
        queue: int = 256,
        temperature: float = 0.07,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if not (distillation >= 0 and alignment >= 0 and distillation + alignment > 0):
            raise ValueError(f"got distillation={distillation}, alignment={alignment}; expected weights of 0 or more, one of them above 0")
        self.weights = {"distillation": distillation, "alignment": alignment}
        parts: dict[str, Any] = {}
        if distillation:
            parts["distillation"] = SelectiveGlobalDistillation(
                dim, smallest=smallest, schedule=schedule, queue=queue, temperature=temperature
            )
        if alignment:
            parts["alignment"] = SemanticAlignment(dim, heads=heads)
        self.parts = nn.ModuleDict(parts)

    def forward(self, *, student: View, image: Tensor, target: Tensor, progress: float) -> dict[str, Tensor]:
        """Named terms of both modules, and "total".

        Args:
            student: the student's view, patches in the order of a grid of the picture's shape.
            image: (B, D) CLS embeddings of the frozen teacher.
            target: (B, H, W) ids of the seen classes, 255 elsewhere.
            progress: share of the training that is over.
        """
        terms: dict[str, Tensor] = {}
        total = student.dense.new_zeros(())
        if "distillation" in self.parts:
            got = self.parts["distillation"](image, student.dense, progress)
            total = total + self.weights["distillation"] * got.pop("total")
            terms |= got
        if "alignment" in self.parts:
            shape = target.shape[-2:]
            rows = round(math.sqrt(student.dense.shape[1] * shape[0] / shape[1]))
            maps = student.dense.mT.unflatten(2, (rows, -1))
            got = self.parts["alignment"](maps, student.text, target)
            total = total + self.weights["alignment"] * got.pop("total")
            terms |= got
        return {**terms, "total": total}
