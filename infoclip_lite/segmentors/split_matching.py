"""Split Matching (2505.05023): queries for seen classes, and queries for regions that nobody labelled.

    frozen CLIP -> features -> MFE -> mask queries, in two groups
        seen group         matched with the true masks; learns classes
        candidate group    matched with pseudo masks of unlabelled pixels; learns regions' CLS embeddings

The split, two independent matchings, pseudo masks by K-means on CLIP's dense features with seeds of several
scales, region embeddings from CLS tokens, the cost of classes and masks, and MFE are the paper's [N: abstract
and reviews]. All constants, what the two losses are, what the decoder looks at, what a query's embedding is
made of, and how pseudo masks of several scales are fused (`queries.clusters`) are our reading [I].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..core.labels import NO_LABEL
from .base import Encoded, Segmentor, Target, check_text
from .queries import (
    MaskDecoder,
    Masks,
    assign,
    class_loss,
    class_masks,
    dice_cost,
    drawn_masks_loss,
    focal_cost,
    multi_scale_clusters,
    region_cls,
    semantic_map,
    to_grid,
)

CLASS, FOCAL, DICE = 1.0, 20.0, 1.0  # weights of losses and of costs, MaskFormer's [I]
NO_OBJECT = 0.1  # weight of seen queries without a mask [I]
_READ_OUT = "value"  # of the features that are clustered: last block, values alone [I]


class SplitMatching(Segmentor):
    """Mask queries in two groups on a frozen CLIP.

    Args:
        clip: the model; it stays frozen.
        templates: the prompt that class names are put in, for training and test alike.
        seen, candidates: queries of the two groups; without candidates nothing is learnt of pixels that
            nobody labelled.
        width, layers, heads: of the decoder; see `MaskDecoder`.
        pools: squares of patches that MFE looks at.
        scales: sides in patches of the windows whose means are seeds of K-means.
        alike: cosine above which two clusters are one.
        smallest: patches that a pseudo mask has at least.
        region_blocks: last blocks in which a region's CLS sees its patches alone; None: `later_blocks`.

    Raises:
        ValueError: a number out of range, or what the decoder refuses.
    """

    tunable = False  # CLIP stays frozen [I]

    def __init__(
        self,
        clip: DenseCLIP,
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        seen: int = 50,
        candidates: int = 50,
        width: int = 256,
        layers: int = 3,
        heads: int = 8,
        pools: Sequence[int] = (1, 2, 4),
        scales: Sequence[int] = (8, 16),
        alike: float = 0.9,
        smallest: int = 4,
        region_blocks: int | None = None,
    ) -> None:
        super().__init__()
        depth = len(clip.blocks)
        region_blocks = later_blocks(depth) if region_blocks is None else region_blocks
        for name, value in {"seen": seen, "smallest": smallest, "region_blocks": region_blocks}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if candidates < 0:
            raise ValueError(f"candidates is {candidates}; expected 0 (no such group) or more")
        if region_blocks > depth:
            raise ValueError(f"region_blocks is {region_blocks}; expected 1 .. {depth}")
        if not pools or not scales or min(pools) < 1 or min(scales) < 2:
            raise ValueError(
                f"got pools={tuple(pools)}, scales={tuple(scales)}; expected squares of 1 patch or more, and "
                "windows of 2 or more"
            )
        if not -1 < alike <= 1:
            raise ValueError(f"alike is {alike}; expected a cosine above -1, at most 1")
        self.clip, self.templates = clip, tuple(templates)
        self.read_outs = (_READ_OUT,)
        self.seen, self.scales = seen, tuple(scales)
        self.alike, self.smallest, self.region_blocks = alike, smallest, region_blocks
        self.splits = candidates > 0
        self.entry = nn.Conv2d(clip.width, width, 1)
        self.enhance = MultiScaleEnhancement(width, pools)
        self.decoder = MaskDecoder(width, width=width, queries=seen + candidates, layers=layers, heads=heads)
        # Queries begin by saying what CLIP says: what they add to it begins at zero.
        added = nn.Linear(width, clip.embed_dim)
        nn.init.zeros_(added.weight)
        nn.init.zeros_(added.bias)
        self.classes = nn.Sequential(nn.Linear(width, width), nn.ReLU(), added)
        self.nothing = nn.Parameter(0.02 * torch.randn(1, clip.embed_dim))  # "no object"

    @property
    def family(self) -> str:
        """The paper's name."""
        return "Split Matching"

    def stages(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return list(self.decoder.layers)

    def encode(self, images: Tensor) -> Encoded:
        """Queries that have looked at pictures.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            As `dense` the frozen CLIP's patches (B, D, h, w); as `more` queries (L, B, Q, W) after each
            layer, the seen ones first, and mask features (B, W, h, w); the pass, which regions are read off.
        """
        # CLIP learns nothing and nothing before it does: no gradient has to go through it.
        with torch.no_grad():
            tower = self.clip.tower(images, keep=self.region_blocks > 1)
            dense = F.normalize(self.clip.read(tower, _READ_OUT), dim=-1).mT.unflatten(2, tower.grid)
            patches = tower.leaving[:, 1:].mT.unflatten(2, tower.grid)
        queries, pixels = self.decoder(self.enhance(self.entry(patches)))
        return Encoded(dense, (queries, pixels), tower)

    def said(self, queries: Tensor, masks: Tensor, dense: Tensor) -> Tensor:
        """What queries are of: the mean of CLIP's features under their masks, and what they add to it [I].

        Args:
            queries: (B, Q, W).
            masks: (B, Q, h, w) logits.
            dense: (B, D, h, w) of the frozen CLIP.

        Returns:
            (B, Q, D) unit vectors.
        """
        # Masks learn where things are from masks alone, not from what would be easier to name.
        inside = masks.detach().sigmoid()
        mean = F.normalize(torch.einsum("bqhw,bdhw->bqd", inside, dense).float(), dim=-1)
        return F.normalize(mean + self.classes(queries).float(), dim=-1)

    def logits(self, said: Tensor, text: Tensor) -> Tensor:
        """Cosines times CLIP's logit scale: (..., Q, D) and words (C, D) to (..., Q, C + 1), nothing last."""
        every = torch.cat([text, F.normalize(self.nothing, dim=-1)])
        return self.clip.logit_scale.float() * said @ every.T

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """What is where: einsum of every query's words and its mask, of both groups alike.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors.
            pooling: not used.

        Returns:
            (B, C, h, w), 0 or more, what `semantic_map` gives.

        Raises:
            ValueError: text of another width than CLIP's.
        """
        check_text(self.clip, text)
        queries, pixels = encoded.more
        masks = self.decoder.draw(queries[-1], pixels)
        logits = self.logits(self.said(queries[-1], masks, encoded.dense), text)
        # Candidate queries never learnt to say "nothing": they choose among the words [I].
        seen = logits[:, : self.seen].softmax(-1)[..., :-1]
        candidates = logits[:, self.seen :, :-1].softmax(-1)
        return semantic_map(torch.cat([seen, candidates], 1), masks)

    # What it learns from.

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """The two groups' losses, summed over the decoder's layers.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors of the trained words.
            target: what is known of the pixels.

        Returns:
            {"class", "focal", "dice"} of the seen group, {"region", "candidate_focal", "candidate_dice"} of
            the other if there is one, "total" = class + region + 20 focal + 1 dice, of both.
        """
        queries, pixels = encoded.more
        wanted = class_masks(target.labels, len(text))
        drawn = [self.decoder.draw(layer, pixels) for layer in queries]
        said = [self.said(*each, encoded.dense) for each in zip(queries, drawn, strict=True)]
        answers = list(zip(said, drawn, strict=True))
        terms = _summed([self._seen_layer(*each, text, wanted) for each in answers])
        total = CLASS * terms["class"] + FOCAL * terms["focal"] + DICE * terms["dice"]
        if not self.splits:
            return {**terms, "total": total}
        # Two matchings that know nothing of each other: a query competes within its group alone.
        pseudo, regions = self.candidates(encoded, target.labels)
        theirs = _summed([self._candidate_layer(*each, pseudo, regions) for each in answers])
        total = total + CLASS * theirs["region"]
        total = total + FOCAL * theirs["candidate_focal"] + DICE * theirs["candidate_dice"]
        return {**terms, **theirs, "total": total}

    def _seen_layer(self, said: Tensor, masks: Tensor, text: Tensor, wanted: Masks) -> dict[str, Tensor]:
        """The loss of one layer's answers for labelled masks."""
        ours = masks[:, : self.seen]
        logits = self.logits(said[:, : self.seen], text)
        right = logits.softmax(-1).gather(2, wanted.ids[:, None].expand(-1, self.seen, -1))
        match = assign(mask_cost(ours, wanted) - CLASS * right, wanted.valid)
        focal, dice = drawn_masks_loss(ours, wanted, match)
        return {"class": class_loss(logits, wanted.ids, match, NO_OBJECT), "focal": focal, "dice": dice}

    def _candidate_layer(
        self, said: Tensor, masks: Tensor, pseudo: Masks, regions: Tensor
    ) -> dict[str, Tensor]:
        """The loss of one layer's answers for pseudo masks."""
        theirs = masks[:, self.seen :]
        cosines = said[:, self.seen :] @ regions.mT  # (B, Q_c, K)
        match = assign(mask_cost(theirs, pseudo) - CLASS * cosines, pseudo.valid)
        focal, dice = drawn_masks_loss(theirs, pseudo, match)
        return {"region": region_loss(cosines, match), "candidate_focal": focal, "candidate_dice": dice}

    @torch.no_grad()
    def candidates(self, encoded: Encoded, labels: Tensor) -> tuple[Masks, Tensor]:
        """Pseudo masks of what nobody labelled, and what CLIP says of each.

        Args:
            encoded: of `encode`.
            labels: (B, H, W) int64, NO_LABEL where nothing is known.

        Returns:
            Masks on the grid of patches, whose `ids` mean nothing, and (B, K, D) unit vectors. A picture may
            have no candidate at all.
        """
        dense, grid = encoded.dense, (encoded.dense.shape[2], encoded.dense.shape[3])
        found = multi_scale_clusters(dense, self.scales, threshold=self.alike)
        # A patch is nobody's if less than half of it has a label; a region loses those that are somebody's.
        unknown = to_grid((labels == NO_LABEL).float()[:, None], grid).flatten(1) > 0.5
        regions = found.members & unknown[:, None]
        valid = regions.sum(-1) >= self.smallest
        regions = regions & valid[..., None]
        if encoded.tower is None:
            raise ValueError("got pictures without their pass through CLIP; expected what `encode` gave")
        said = region_cls(self.clip, encoded.tower, regions, blocks=self.region_blocks)
        masks = regions.unflatten(2, grid).float()
        ids = torch.zeros(valid.shape, dtype=torch.int64, device=valid.device)
        return Masks(ids, masks, valid), said


class MultiScaleEnhancement(nn.Module):
    """MFE: what a feature's neighbourhoods of several sizes are like, added to it.

    x + sum_s up(conv_s(pool_s(x))); that it is residual and of several scales is the paper's [N], the rest
    our reading [I].

    Args:
        width: channels.
        pools: s, sides of the squares.
    """

    def __init__(self, width: int, pools: Sequence[int]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.AvgPool2d(side, ceil_mode=True) for side in pools)
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in pools)

    def forward(self, features: Tensor) -> Tensor:
        """Like features (B, width, h, w)."""
        size = features.shape[2:]
        total = features
        for pool, convolution in zip(self.pools, self.convolutions, strict=True):
            coarse = convolution(pool(features))
            total = total + F.interpolate(coarse, size, mode="bilinear", align_corners=False)
        return total


def later_blocks(depth: int) -> int:
    """In how many last blocks a region's CLS is kept to its region: the later two thirds of the tower [O].

    Kept to it in the last block alone, a CLS has seen the whole picture before, and names what is large in
    it: the report `oracle` has every number of blocks.

    Args:
        depth: blocks of the tower.

    >>> later_blocks(6), later_blocks(12), later_blocks(1)
    (4, 8, 1)
    """
    return depth - depth // 3


def _summed(layers: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Terms of all layers, added up."""
    return {name: torch.stack([each[name] for each in layers]).sum() for name in layers[0]}


@torch.no_grad()
def mask_cost(masks: Tensor, wanted: Masks) -> Tensor:
    """20 focal + 1 Dice of every pair: logits (B, Q, h, w) and K masks to (B, Q, K)."""
    small = wanted.at((masks.shape[2], masks.shape[3]))
    return FOCAL * focal_cost(masks, small) + DICE * dice_cost(masks, small)


def region_loss(cosines: Tensor, match: Tensor) -> Tensor:
    """1 - cosine of each matched query and its region, the mean over regions; zero if there is none.

    Args:
        cosines: (B, Q, K).
        match: (B, K) of `assign`.

    Returns:
        A scalar, 0 .. 2.
    """
    matched = match >= 0
    own = cosines.gather(1, match.clamp(min=0)[:, None])[:, 0]  # (B, K)
    return ((1 - own) * matched).sum() / matched.sum().clamp(min=1)
