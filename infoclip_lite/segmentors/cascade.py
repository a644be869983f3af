"""Cascade-CLIP (2406.00670): words ask several depths of a frozen CLIP that has learnt prompts.

    prompts -> blocks -> groups of their outputs, each summed up (NGA) -> a decoder a group -> sum of maps

Sizes, order of norms and losses are those of the official code [S]; which blocks form a group
in a tower of another depth than twelve, and that nothing is left out at random (dropout), is ours [O]:
a training that was stopped and goes on must give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.blocks import ResidualBlock
from ..core.labels import NO_LABEL
from .base import Encoded, Segmentor, Target, check_text, enlarged
from .known_words import KnowsWords
from .queries import dice_loss, sigmoid_focal_loss

FOCAL, DICE = 100.0, 1.0  # weights of the two losses [S]
_NOTHING_LEFT = 1e-4  # a probability below which a logit would say nothing any more


class CascadeSegmentor(KnowsWords, Segmentor):
    """Deep prompts, neighbourhood Gaussian aggregation (NGA) and cascaded decoders on a frozen CLIP.

    Args:
        clip: the model; only prompts and what is beside CLIP learn.
        templates: the prompt that class names are put in, for training and test alike.
        groups: decoders; the last looks at CLIP's own output, the others at groups of earlier blocks. One is
            ZegCLIP's (2212.03588), without a cascade.
        prompts: learnt tokens before every block (10 on VOC, 35 on Context, 50 on COCO [S]).
        layers: of each decoder.
        heads: of its cross-attention.
        handicap: what the probability of a word that training labelled is lowered by where words compete:
            0.1 where unseen words are not known in training [S].

    Raises:
        ValueError: no group or more than the tower has blocks for, no prompt, heads that do not divide the
            width, or a handicap outside 0 .. 1.
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
        handicap: float = 0.1,
    ) -> None:
        super().__init__()
        width, dim = clip.width, clip.embed_dim
        if not 0 <= handicap < 1:
            raise ValueError(f"handicap is {handicap}; expected a probability, 0 .. 1")
        if prompts < 1 or layers < 1:
            raise ValueError(f"got prompts={prompts}, layers={layers}; expected at least 1 of each")
        if heads < 1 or dim % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the joint space's width {dim}")
        self.clip = clip
        self.templates = tuple(templates)
        self.read_outs = ("vanilla",)
        self.handicap = handicap
        self.groups = groups_of_blocks(len(clip.blocks), groups)
        taps = sum(len(group) for group in self.groups)
        # Prompts begin as visual prompt tuning has them: uniform, as wide as a patch embedding would [S].
        reach = math.sqrt(6 / (3 * clip.patch_size**2 + width))
        self.prompts = nn.Parameter(torch.empty(len(clip.blocks), prompts, width).uniform_(-reach, reach))
        self.prompt_projection = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.prompt_projection.weight, mode="fan_out")
        # One norm for all blocks, the official code's `prompt_norm`, and behind it one for each tap [S].
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

    @property
    def family(self) -> str:
        """The paper's name."""
        return "Cascade-CLIP"

    def stages(self) -> list[nn.Module]:
        """The layers of the decoders."""
        return [layer for decoder in self.decoders for layer in decoder.children()]

    def encode(self, images: Tensor) -> Encoded:
        """What CLIP with prompts makes of pictures, at several depths.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            CLIP's own patches (B, D, h, w) as `dense`; its CLS (B, D), and (B, N, D) of each group but
            the last, as `more`. Unit vectors, but for the groups' weighted sums.
        """
        tokens, grid = self.clip.embed(images)
        count = grid[0] * grid[1]
        # The official code drops a tenth of these numbers at random; left out, so that a training that
        # was stopped and goes on gives what one does that was not [O].
        learnt = self.prompt_projection(self.prompts).to(tokens.dtype)  # (blocks, prompts, W)
        taps: list[Tensor] = []
        tapped = {block for group in self.groups for block in group}
        blocks = cast(Sequence[ResidualBlock], self.clip.blocks)
        for index, block in enumerate(blocks):
            # What the block before made of the prompts is thrown away: every block has prompts of its own.
            between = learnt[index].expand(len(tokens), -1, -1)
            tokens = torch.cat([tokens[:, :1], between, tokens[:, -count:]], 1)
            tokens = self.clip.block(block, tokens)
            if index in tapped:
                norm, projection = self.tap_norms[len(taps)], self.tap_projections[len(taps)]
                patches = norm(self.prompt_norm(tokens[:, -count:]))
                taps.append(F.normalize(patches @ projection, dim=-1))
        own = self.clip.project(self.prompt_norm(tokens))
        patches = own[:, -count:].mT.unflatten(2, grid)
        return Encoded(patches, (own[:, 0], *self._aggregated(taps)))

    def _aggregated(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """NGA: the weighted sum of each group's blocks (B, N, D)."""
        sums = []
        first = 0
        for group, weights in zip(self.groups, self.neighbours, strict=True):
            own = torch.stack(list(taps[first : first + len(group)]))  # (blocks of the group, B, N, D)
            # Neither a mean nor scaled to unit length again: the official code's sum [S].
            sums.append(torch.einsum("g,gbnd->bnd", weights.to(own.dtype), own))
            first += len(group)
        return sums

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """CLIP's words, and whether training knew them.

        Args:
            names: C words or phrases.
            templates: prompts; None takes the segmentor's.

        Returns:
            (C, D + 1) float32: unit vectors, and behind each 1 if training labelled the word, else 0.

        Raises:
            ValueError: as `DenseCLIP.encode_text`.
        """
        text = super().encode_text(names, templates)
        return torch.cat([text, self.flags(names, text)], 1)

    def _parts(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """(C, D) unit vectors and (C,) bool, whether training knew the word; it knew none without flags."""
        words = text[:, : self.clip.embed_dim] if text.ndim == 2 else text
        check_text(self.clip, words)
        flags = text[:, self.clip.embed_dim :]
        return words, flags.any(1) if flags.shape[1] else torch.zeros_like(words[:, 0], dtype=torch.bool)

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """The sum of what the decoders say, words that training labelled a little less sure.

        Args:
            encoded: of `encode`.
            text: (C, D + 1) of `encode_text`, or (C, D) unit vectors, none of which training knew.
            pooling: not used.

        Returns:
            (B, C, h, w) logits.

        Raises:
            ValueError: text of another width.
        """
        words, seen = self._parts(text)
        maps = self.maps(encoded, words)
        return torch.where(seen[:, None, None], less_sure(maps, self.handicap), maps)

    def maps(self, encoded: Encoded, words: Tensor) -> Tensor:
        """The sum of what the decoders say, as it is trained.

        Args:
            encoded: of `encode`.
            words: (C, D) unit vectors.

        Returns:
            (B, C, h, w) logits.
        """
        cls, *groups = encoded.more
        # Relationship descriptor of ZegCLIP, (B, C, 2 D): a word times the picture's CLS, and the word [S].
        seen_by_picture = words * cls[:, None]
        related = torch.cat([seen_by_picture, words.expand_as(seen_by_picture)], -1)
        memories = [*groups, encoded.dense.flatten(2).mT]
        asked = zip(memories, self.relations, self.decoders, strict=True)
        scores = [_ask(decoder, relation(related), memory) for memory, relation, decoder in asked]
        return torch.stack(scores).sum(0).unflatten(2, encoded.dense.shape[2:])

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """Focal and Dice loss, each a mean over the masks that are in the batch [S].

        Ignored pixels are a wrong answer of every word, as in the official code [S]. Where a batch is
        divided, every part counts its own masks.

        Args:
            encoded: of `encode`.
            text: (C, D + 1) of the trained words.
            target: what is known of the pixels.

        Returns:
            {"focal", "dice", "total"}, total = 100 focal + 1 dice.
        """
        words, _ = self._parts(text)
        logits = enlarged(self.maps(encoded, words).float(), target.labels.shape[-2:])
        labelled = target.labels != NO_LABEL
        places = torch.where(labelled, target.labels, 0)
        # (B, C, H, W), one where the word is the pixel's; one_hot refuses NO_LABEL, so it is masked after it.
        wanted = (F.one_hot(places, len(text)).movedim(-1, 1) * labelled[:, None]).to(logits.dtype)
        present = wanted.amax((2, 3))
        masks = present.sum().clamp(min=1)
        # Focal over all words, Dice over those that are there: of an absent mask there is nothing to overlap.
        focal = sigmoid_focal_loss(logits, wanted).mean((2, 3)).sum() / masks
        dice = (dice_loss(logits, wanted) * present).sum() / masks
        return {"focal": focal, "dice": dice, "total": FOCAL * focal + DICE * dice}


class CrossLayer(nn.Module):
    """Words look at patches: cross-attention and a feed-forward layer, each with a residual and a norm after.

    There is no self-attention among the words [S].

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
    """The map (B, C, N) of a decoder: the last layer's scores, the mean over its heads [S]."""
    # The last layer's softmax and what follows are never computed: a map is made before them.
    *before, last = decoder.children()
    for layer in before:
        words = layer(words, patches)
    return last.scores(words, patches).mean(1)  # type: ignore[operator]


def groups_of_blocks(depth: int, groups: int) -> list[list[int]]:
    """Which blocks the decoders before the last one look at: the later half of the tower, less its last.

    Args:
        depth: blocks of the tower.
        groups: decoders, the last of which looks at CLIP's own output.

    Returns:
        For each decoder but the last its blocks, counted from 0.

    Raises:
        ValueError: no group, or more than there are blocks for.

    >>> groups_of_blocks(12, 3), groups_of_blocks(6, 3), groups_of_blocks(6, 1)
    ([[5, 6, 7], [8, 9, 10]], [[2, 3], [4]], [])
    """
    # Of twelve blocks the official 5 to 10 [S]; of another depth the same half [O].
    later = list(range(max(0, depth // 2 - 1), depth - 1))
    wanted = groups - 1
    if not 0 <= wanted <= len(later):
        raise ValueError(f"groups is {groups}; expected 1 .. {len(later) + 1} for a tower of {depth} blocks")
    if not wanted:
        return []
    # Runs of neighbours, as even as can be, the longer ones first.
    size, more = divmod(len(later), wanted)
    sizes = [size + (place < more) for place in range(wanted)]
    return [later[sum(sizes[:place]) : sum(sizes[: place + 1])] for place in range(wanted)]


def less_sure(logits: Tensor, handicap: float) -> Tensor:
    """Logits whose sigmoid is smaller by a handicap, in the same order as they came.

    Args:
        logits: of any shape.
        handicap: 0 .. 1; 0 changes nothing.

    Returns:
        Like logits. Where nothing would be left of a probability, words keep their order below all others.
    """
    if not handicap:
        return logits
    left = logits.float().sigmoid() - handicap
    sure = left.clamp(min=_NOTHING_LEFT)
    return (sure.logit() + (left - sure)).to(logits.dtype)


def gaussian_weights(count: int) -> Tensor:
    """First weights of NGA: exp(-n^2 / 2) for the n-th block before a group's last [S].

    >>> gaussian_weights(3)
    tensor([0.1353, 0.6065, 1.0000])
    """
    distance = torch.arange(count - 1, -1, -1, dtype=torch.float32)
    return torch.exp(-distance.square() / 2)
