"""Cascade-CLIP (2406.00670): words ask several depths of a frozen CLIP that has learnt prompts, one decoder
for each depth.

    prompts -> blocks -> groups of block outputs, each a weighted sum (NGA) -> a decoder a group -> sum of the
    maps

Sizes, order of norms and losses are those of the official code [S]; which blocks form a group in a tower of
another depth than twelve, and that nothing is left out at random (dropout), is ours [O]: a training that was
stopped and goes on must give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..core.labels import NO_LABEL
from .base import Encoded, Segmentor, Target, check_text, enlarged

FOCAL, DICE = 100.0, 1.0  # weights of the two losses [S]
_ALPHA, _GAMMA = 0.25, 2.0  # of the focal loss [S]


class CascadeSegmentor(Segmentor):
    """Deep prompts, neighbourhood Gaussian aggregation (NGA) and cascaded decoders on a frozen CLIP.

    Args:
        clip: the model; only prompts and what is beside CLIP learn.
        templates: the prompt that class names are put in, for training and test alike.
        groups: decoders; the last looks at CLIP's own output, the others at groups of earlier blocks.
        prompts: learnt tokens before every block (10 on VOC, 35 on Context, 50 on COCO [S]).
        layers: of each decoder.
        heads: of its cross-attention.

    Raises:
        ValueError: fewer than two groups or more than the tower has blocks for, no prompt, or heads that do
            not divide the width.
    """

    independent = True  # one sigmoid a class [S]
    tunable = False  # CLIP stays frozen [P]

    def __init__(
        self,
        clip: DenseCLIP,
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        groups: int = 3,
        prompts: int = 10,
        layers: int = 3,
        heads: int = 8,
    ) -> None:
        super().__init__()
        width, dim = clip.width, clip.embed_dim
        if prompts < 1 or layers < 1:
            raise ValueError(f"got prompts={prompts}, layers={layers}; expected at least 1 of each")
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the joint space's width {dim}")
        self.clip, self.templates, self.read_outs = clip, tuple(templates), ("vanilla",)
        self.groups = groups_of_blocks(len(clip.blocks), groups)
        taps = sum(len(group) for group in self.groups)
        reach = math.sqrt(6 / (3 * clip.patch_size**2 + width))  # of the uniform first values [S]
        self.prompts = nn.Parameter(torch.empty(len(clip.blocks), prompts, width).uniform_(-reach, reach))
        self.prompt_projection = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.prompt_projection.weight, mode="fan_out")
        self.prompt_norm = nn.LayerNorm(width, eps=1e-6)
        self.tap_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(taps))
        self.tap_projections = nn.Parameter(width**-0.5 * torch.randn(taps, width, dim))
        self.neighbours = nn.ParameterList(
            nn.Parameter(gaussian_weights(len(group))) for group in self.groups
        )
        self.relations = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(groups))
        self.decoders = nn.ModuleList(
            nn.ModuleList(CrossLayer(dim, heads) for _ in range(layers)) for _ in range(groups)
        )

    def stages(self) -> list[nn.Module]:
        """The layers of the decoders."""
        return [layer for decoder in self.decoders for layer in decoder]

    def encode(self, images: Tensor) -> Encoded:
        """CLIP's own patches (B, D, h, w), unit vectors; then its CLS (B, D) and, of each group but the last,
        (B, N, D).
        """
        tokens, grid = self.clip.embed(images)
        count = grid[0] * grid[1]
        learnt = self.prompt_projection(self.prompts).to(tokens.dtype)
        taps: list[Tensor] = []
        tapped = {block for group in self.groups for block in group}
        for index, block in enumerate(self.clip.blocks):
            # What the block before made of the prompts is thrown away: every block has prompts of its own.
            between = learnt[index].expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], between, tokens[:, -count:]], 1)
            tokens = self.clip.block(block, tokens)
            if index in tapped:
                norm, projection = self.tap_norms[len(taps)], self.tap_projections[len(taps)]
                taps.append(F.normalize(norm(self.prompt_norm(tokens[:, -count:])) @ projection, dim=-1))
        own = self.clip.project(self.prompt_norm(tokens))
        patches = own[:, -count:].mT.unflatten(2, grid)
        return Encoded(patches, (own[:, 0], *self._aggregated(taps)))

    def _aggregated(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """NGA: the weighted sum of each group's blocks (B, N, D)."""
        sums, first = [], 0
        for group, weights in zip(self.groups, self.neighbours, strict=True):
            own = torch.stack(list(taps[first : first + len(group)]))
            sums.append(torch.einsum("g,gbnd->bnd", weights.to(own.dtype), own))
            first += len(group)
        return sums

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Logits (B, C, h, w): the sum of what the decoders say.

        Raises:
            ValueError: text of another width than CLIP's.
        """
        check_text(self.clip, text)
        cls, *groups = encoded.more
        seen_by_picture = text * cls[:, None]
        related = torch.cat(
            [seen_by_picture, text.expand_as(seen_by_picture)], -1
        )  # relationship descriptor of ZegCLIP
        memories = [*groups, encoded.dense.flatten(2).mT]
        total: Tensor | None = None
        for memory, relation, decoder in zip(memories, self.relations, self.decoders, strict=True):
            scores = _ask(decoder, relation(related), memory)
            total = scores if total is None else total + scores
        if total is None:
            raise ValueError("got no decoder; expected at least one")
        return total.unflatten(2, encoded.dense.shape[2:])

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """{"focal", "dice", "total"}: 100 focal + 1 dice, each a mean over the masks that are in the batch
        [S].

        Ignored pixels are a wrong answer of every word, as in the official code [S]. Where a batch is
        divided, every part counts its own masks.
        """
        logits = enlarged(self.decode(encoded, text).float(), target.labels.shape[-2:])
        labelled = target.labels != NO_LABEL
        places = torch.where(labelled, target.labels, 0)
        wanted = (F.one_hot(places, len(text)).movedim(-1, 1) * labelled[:, None]).to(logits.dtype)
        present = wanted.amax((2, 3))
        masks = present.sum().clamp(min=1)
        focal = sigmoid_focal_loss(logits, wanted).mean((2, 3)).sum() / masks
        dice = (dice_loss(logits, wanted) * present).sum() / masks
        return {"focal": focal, "dice": dice, "total": FOCAL * focal + DICE * dice}


class CrossLayer(nn.Module):
    """Words look at patches: cross-attention and a feed-forward layer, each with a residual and a norm behind
    it; no self-attention.

    Args:
        dim: D.
        heads: of the attention.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def scores(self, words: Tensor, patches: Tensor) -> Tensor:
        """q k^T / sqrt(d) before the softmax: (B, C, D) and (B, N, D) to (B, heads, C, N)."""
        q, k = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.q(words), self.k(patches)))
        return q @ k.mT * q.shape[-1] ** -0.5

    def forward(self, words: Tensor, patches: Tensor) -> Tensor:
        """Words (B, C, D) after they have looked at the patches (B, N, D)."""
        values = self.v(patches).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = self.scores(words, patches).softmax(-1) @ values
        words = self.norm_1(words + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm_2(words + self.mlp(words))


def _ask(decoder: nn.Module, words: Tensor, patches: Tensor) -> Tensor:
    """The last layer's scores, the mean over its heads, are the map (B, C, N): its softmax and what follows
    are never needed.
    """
    *before, last = decoder.children()
    for layer in before:
        words = layer(words, patches)
    return last.scores(words, patches).mean(1)  # type: ignore[operator]


def groups_of_blocks(depth: int, groups: int) -> list[list[int]]:
    """Which blocks, counted from 0, the decoders before the last one look at: the later half of the tower,
    without its last block.

    >>> groups_of_blocks(12, 3), groups_of_blocks(6, 3)
    ([[5, 6, 7], [8, 9, 10]], [[2, 3], [4]])

    Args:
        depth: blocks of the tower.
        groups: decoders.

    Raises:
        ValueError: fewer than two groups, or more than there are blocks for.
    """
    later = list(range(max(0, depth // 2 - 1), depth - 1))
    wanted = groups - 1
    if not 1 <= wanted <= len(later):
        raise ValueError(f"groups is {groups}; expected 2 .. {len(later) + 1} for a tower of {depth} blocks")
    size, more = divmod(len(later), wanted)
    sizes = [size + (place < more) for place in range(wanted)]
    return [later[sum(sizes[:place]) : sum(sizes[: place + 1])] for place in range(wanted)]


def gaussian_weights(count: int) -> Tensor:
    """First weights of NGA: exp(-n^2 / 2) for the n-th block before a group's last [S].

    >>> gaussian_weights(3)
    tensor([0.1353, 0.6065, 1.0000])
    """
    distance = torch.arange(count - 1, -1, -1, dtype=torch.float32)
    return torch.exp(-distance.square() / 2)


def sigmoid_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Focal loss of every pixel (1708.02002, alpha 0.25, gamma 2), of the shape of its inputs."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    probability = logits.sigmoid()
    right = probability * wanted + (1 - probability) * (1 - wanted)
    balance = _ALPHA * wanted + (1 - _ALPHA) * (1 - wanted)
    return balance * entropy * (1 - right) ** _GAMMA


def dice_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """1 - Dice of every mask, smoothed by one: (B, C, H, W) twice to (B, C)."""
    got = logits.sigmoid()
    overlap = (got * wanted).sum((2, 3))
    size = got.sum((2, 3)) + wanted.sum((2, 3))
    return 1 - (2 * overlap + 1) / (size + 1)
