"""CLIP-ZSS, first called CLIPTeacher (2310.02296): CLIP teaches a segmentation model, and is gone at test.

    training    body -> R;  R and labels and CLIP's clusters -> prototypes, losses      (pixel learning, PLM)
                R -> CLIP's CLS                                                        (global learning, GLM)
    test        body -> R, and R^T T of all words

From a third party's summary of the paper [N]: pseudo labels of unlabelled pixels from multi-scale K-means on
CLIP's dense features, prototypes from a decoder whose queries are centroids of R under the fused labels and
whose memory is CLIP's tokens, x = [alpha R^T T_seen, beta cos(R, P_pseudo)], and L = L_global + L_nel + CE +
L_bce. No constant of it is known: alpha (1), beta, weights, sizes, and that the losses are taken on the
student's own grid, are our reading [I]. L_global is not in here: it is the objective "chimera" with source
"student", a constant schedule and neither local term nor alignment, whose queue is the CLS bank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.readouts import check_read_outs
from ..core.labels import NO_LABEL
from .base import Encoded, Segmentor, Target, check_text, count
from .cascade import CrossLayer
from .chimera import Body, Weights
from .queries import dice_loss, multi_scale_clusters, sigmoid_focal_loss, to_grid

FOCAL, DICE = 100.0, 1.0  # of the non-mutually-exclusive loss (NEL), ZegCLIP's [S]
_BETA = 10.0  # of the cosines with pseudo prototypes [I]


class CLIPTeacher(Segmentor):
    """A segmentation model in the words of CLIP, taught by CLIP's clusters.

    Args:
        clip: the frozen CLIP; its text tower encodes words, its image tower teaches and is never run in
            `forward`.
        read_out: of CLIP's dense features, which are clustered.
        templates: the prompt that class names are put in, for training and test alike.
        architecture, encoder, weights, width, tuned: of the body; see `Body`.
        pool: R is the mean over squares of this many of the body's features a side.
        heads: of the decoder of prototypes.
        scales: sides in CLIP's patches of the windows whose means are seeds of K-means.
        alike: lambda, the cosine above which two clusters are one.
        smallest: patches that a cluster has at least.

    Raises:
        ValueError: a number out of range, heads that do not divide the joint space, an unknown read-out, or
            what the body refuses.
    """

    tunable = False  # CLIP stays frozen [P]

    def __init__(
        self,
        clip: DenseCLIP,
        read_out: str = "value",
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        architecture: str = "Segformer",
        encoder: str = "tu-tf_efficientnet_lite0",
        weights: Weights | None = "package",
        width: int = 256,
        tuned: bool = True,
        pool: int = 1,
        heads: int = 8,
        scales: Sequence[int] = (8, 16),
        alike: float = 0.9,
        smallest: int = 4,
    ) -> None:
        super().__init__()
        for name, value in {"pool": pool, "smallest": smallest}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if not scales or min(scales) < 2:
            raise ValueError(f"scales is {tuple(scales)}; expected windows of 2 patches or more")
        if not -1 < alike <= 1:
            raise ValueError(f"alike is {alike}; expected a cosine above -1, at most 1")
        if heads < 1 or clip.embed_dim % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the joint width {clip.embed_dim}")
        self.clip, self.weights, self.pool = clip, weights, pool
        self.read_outs, self.templates = check_read_outs([read_out]), tuple(templates)
        self.scales, self.alike, self.smallest = tuple(scales), alike, smallest
        self.body = Body(architecture, encoder, weights, width, tuned)
        self.head = nn.Conv2d(self.body.channels, clip.embed_dim, 1)
        self.prototypes = CrossLayer(clip.embed_dim, heads)

    @property
    def family(self) -> str:
        """The paper's name."""
        return "CLIP-ZSS"

    def encode(self, images: Tensor) -> Encoded:
        """The student's features.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            R (B, D, h, w), not of unit length, as `dense`; the pictures, for CLIP to look at in training, as
            `more`.

        Raises:
            ValueError: sides that do not fit the body.
        """
        images = images.to(self.clip.device)
        features = F.avg_pool2d(self.body(images), self.pool, ceil_mode=True)
        return Encoded(self.head(features).float(), (images,))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """R^T T.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.

        Raises:
            ValueError: text of another width than CLIP's.
        """
        check_text(self.clip, text)
        return torch.einsum("bdhw,cd->bchw", encoded.dense, text)

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """Pixel learning: what is labelled and what CLIP's clusters say of the rest.

        Where a batch is divided, every part counts its own pixels and masks.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors of the trained words.
            target: what is known of the pixels.

        Returns:
            {"nel", "cross_entropy", "prototypes", "total"}, total = their sum.
        """
        student, (images,) = encoded.dense, encoded.more
        classes = len(text)
        cls, dense = self._teacher(images)
        fused, slots = self.fused_labels(dense, target.labels, classes, (student.shape[2], student.shape[3]))
        # (B, C + K, h, w), one where a class or cluster is; all zero where neither is known.
        places = torch.where(fused == NO_LABEL, classes + slots, fused)
        masks = F.one_hot(places, classes + slots + 1)[..., :-1].movedim(-1, 1).to(student.dtype)
        present = masks.flatten(2).any(-1)
        prototypes = self._prototypes(student, masks, cls, dense)
        mine, pseudo = prototypes[:, :classes], F.normalize(prototypes[:, classes:], dim=-1)
        cosines = torch.einsum("bdhw,bkd->bkhw", F.normalize(student, dim=1), pseudo)
        logits = torch.cat([self.decode(encoded, text), _BETA * cosines], 1).float()
        # Every seen word is asked; of clusters those that are there.
        asked = torch.cat([torch.ones_like(present[:, :classes]), present[:, classes:]], 1)
        terms = {
            "nel": overlapping_loss(logits, masks, fused != NO_LABEL, asked),
            "cross_entropy": fused_cross_entropy(logits, fused, asked),
            "prototypes": prototype_loss(mine, text, present[:, :classes]),
        }
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    @torch.no_grad()
    def _teacher(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """CLIP's CLS (B, D) and patches (B, D, h, w), unit vectors."""
        return self.clip.encode_both(images, self.read_outs)

    @torch.no_grad()
    def fused_labels(
        self, dense: Tensor, labels: Tensor, classes: int, grid: tuple[int, int]
    ) -> tuple[Tensor, int]:
        """Labels where there are any, CLIP's clusters elsewhere, on the student's grid.

        Args:
            dense: (B, D, h', w') CLIP's patches, unit vectors.
            labels: (B, H, W) int64, NO_LABEL where nothing is known.
            classes: C.
            grid: (h, w) of the student.

        Returns:
            (B, h, w) int64: a class, C + the slot of a cluster of that picture, or NO_LABEL where the cluster
            is too small; and K, the number of slots.
        """
        found = multi_scale_clusters(dense, self.scales, threshold=self.alike)
        size = (dense.shape[2], dense.shape[3])
        # A patch may be painted if more than half of it has no label.
        unknown = to_grid((labels == NO_LABEL).float()[:, None], size).flatten(1) > 0.5
        large = (found.members & unknown[:, None]).sum(-1) >= self.smallest  # (B, K)
        painted = unknown & large.gather(1, found.labels)
        clusters = torch.where(painted, classes + found.labels, NO_LABEL).unflatten(1, size)
        mine, theirs = (_nearest(each, grid) for each in (labels, clusters))
        return torch.where(mine == NO_LABEL, theirs, mine), found.centres.shape[1]

    def _prototypes(self, student: Tensor, masks: Tensor, cls: Tensor, dense: Tensor) -> Tensor:
        """(B, C + K, D): centroids of R, after they have looked at CLIP's CLS and patches."""
        size = masks.flatten(2).sum(-1).clamp(min=1)
        centroids = torch.einsum("bshw,bdhw->bsd", masks, student) / size[..., None]
        memory = torch.cat([cls[:, None], dense.flatten(2).mT], 1)
        return self.prototypes(centroids, memory).float()

    def pretrained(self) -> list[nn.Parameter]:
        """The body's encoder, if it came with weights."""
        return [p for p in self.body.encoder.parameters() if p.requires_grad] if self.weights else []

    def weights_at_inference(self) -> dict[str, int]:
        """By part: "body" and "head"; neither CLIP nor prototypes are met."""
        return {"body": count(self.body.parameters()), "head": count(self.head.parameters())}


def _nearest(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels (B, H, W) at another size, those of the nearest pixels."""
    return F.interpolate(labels[:, None].double(), size, mode="nearest-exact")[:, 0].long()


def overlapping_loss(logits: Tensor, masks: Tensor, known: Tensor, asked: Tensor) -> Tensor:
    """ZegCLIP's non-mutually-exclusive loss (NEL): one sigmoid each, 100 focal + 1 Dice [S].

    Args:
        logits: (B, S, h, w).
        masks: (B, S, h, w), 0 or 1.
        known: (B, h, w) bool; other pixels do not count.
        asked: (B, S) bool; others do not count.

    Returns:
        A scalar, per mask that is there; focal over all that are asked, Dice over those that are there.
    """
    # Where nothing is known every answer is as right as can be, and has no gradient.
    logits = logits.masked_fill(~known[:, None], -1e4)
    present = masks.flatten(2).any(-1) & asked
    count = present.sum().clamp(min=1)
    focal = (sigmoid_focal_loss(logits, masks).mean((2, 3)) * asked).sum() / count
    dice = (dice_loss(logits, masks) * present).sum() / count
    return FOCAL * focal + DICE * dice


def fused_cross_entropy(logits: Tensor, fused: Tensor, asked: Tensor) -> Tensor:
    """Cross-entropy among the classes and clusters that are asked, in nats a known pixel; zero if none is.

    Args:
        logits: (B, S, h, w).
        fused: (B, h, w) int64, places among them, or NO_LABEL.
        asked: (B, S) bool.
    """
    among = logits.masked_fill(~asked[..., None, None], -torch.inf)
    total = F.cross_entropy(among, fused, ignore_index=NO_LABEL, reduction="sum")
    return total / (fused != NO_LABEL).sum().clamp(min=1)


def prototype_loss(prototypes: Tensor, text: Tensor, present: Tensor) -> Tensor:
    """Binary cross-entropy that pulls the prototype of a seen class to its own word and to no other [N].

    Args:
        prototypes: (B, C, D).
        text: (C, D) unit vectors.
        present: (B, C) bool, whether the class is in the picture.

    Returns:
        Nats a word, the mean over prototypes that are there; zero if none is.
    """
    scores = prototypes @ text.T  # (B, C, C)
    own = torch.eye(len(text), device=scores.device, dtype=scores.dtype).expand_as(scores)
    nats = F.binary_cross_entropy_with_logits(scores, own, reduction="none").mean(-1)
    return (nats * present).sum() / present.sum().clamp(min=1)
