"""CAT-Seg (2303.11797): clean up the cosines of every patch with every word, then label pixels by them.

The cost volume has one map for each class and prompt. It is embedded, then refined in turn
over positions (shifted windows, guided by what the picture looks like) and over classes
(linear attention, guided by the words), then upsampled with the help of earlier layers of CLIP.
Every weight is shared by all classes, so any number of words can be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import DenseCLIP
from ...clip.blocks import attend
from ...clip.readouts import check_read_outs
from ...core.lookup import find
from ..base import Encoded, Segmentor


@dataclass(frozen=True)
class AggregationConfig:
    """Sizes of the head; the defaults are the official ones for ViT-B/16 (its config files, [S]).

    Attributes:
        hidden: channels of a cost map's embedding.
        layers: rounds of spatial and class aggregation.
        heads: attention heads of both.
        window: side of the windows of spatial aggregation, in patches.
        pooling: class aggregation looks at squares of this many patches.
        text_width, appearance_width: channels of the two guidances.
        guidance_blocks: blocks of the image tower, counted from 0, whose output guides the upsampling:
            one for each doubling.
        guidance_channels: channels of those after they are brought to size.
        guidance_width: of those after their projection.
        decoder_channels: channels after each doubling, multiples of 16.
        templates: prompts a class, each with a map of its own.
        class_tokens: words that class aggregation looks at together. Fewer are filled up with a learnt
            token; of more, those that no patch of the picture resembles are left out with logit -100. 0:
            all words, whatever their number.
    """

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    window: int = 12
    pooling: int = 2
    text_width: int = 128
    appearance_width: int = 128
    guidance_blocks: Sequence[int] = (3, 7)
    guidance_channels: Sequence[int] = (256, 128)
    guidance_width: Sequence[int] = (32, 16)
    decoder_channels: Sequence[int] = (64, 32)
    templates: int = 1
    class_tokens: int = 256


VIT_B = AggregationConfig()
VIT_L = AggregationConfig(guidance_blocks=(7, 15))
# For collage-mini, of six blocks and 12 x 12 patches [O]: one doubling, and few enough words for class
# aggregation to look at all of them.
MINI = AggregationConfig(
    hidden=32,
    layers=1,
    window=4,
    text_width=32,
    appearance_width=32,
    guidance_blocks=(2,),
    guidance_channels=(32,),
    guidance_width=(8,),
    decoder_channels=(16,),
    class_tokens=0,
)
SIZES = {"mini": MINI, "vit_b": VIT_B, "vit_l": VIT_L}


class CostAggregationSegmentor(Segmentor):
    """CLIP, its cost volume and the head that refines it.

    Args:
        clip: the model; its dense read-out and its text embeddings are the two sides of the cost volume.
        read_out: the dense read-out; "cls_value" is the one of CAT-Seg's code.
        size: of the head, "mini", "vit_b", "vit_l", or an AggregationConfig.
        templates: the prompt that class names are put in, for training and test alike.
        side: of training pictures in pixels, if it is not the crops' own: CAT-Seg with ViT-L/14 crops and
            takes the loss at 384, and shows CLIP 336 [S].

    Raises:
        ValueError: an unknown size or read-out, another number of templates than the head's,
            blocks the image tower does not have, a side below 1, or sizes that do not fit together.
    """

    independent = True  # one sigmoid a class [S]

    def __init__(
        self,
        clip: DenseCLIP,
        read_out: str = "cls_value",
        size: AggregationConfig | str = "mini",
        *,
        templates: Sequence[str] = ("a photo of a {}",),
        side: int | None = None,
    ) -> None:
        super().__init__()
        config = size if isinstance(size, AggregationConfig) else find(SIZES, size, "size")
        _check(config, len(clip.blocks))
        if len(templates) != config.templates:
            raise ValueError(
                f"got {len(templates)} templates; expected {config.templates}, as the head is built for"
            )
        if side is not None and side < 1:
            raise ValueError(f"side is {side}; expected 1 or more pixels, or None")
        self.clip, self.config, self.side = clip, config, side
        self.read_outs = check_read_outs([read_out])
        self.templates: tuple[str, ...] = tuple(templates)
        # Kernel and stride are both 2, 4, ...: a patch's token becomes a square of its own, without overlap.
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(clip.width, channels, 2 << i, 2 << i)
            for i, channels in enumerate(config.guidance_channels)
        )
        self.aggregator = Aggregator(config, clip.embed_dim)

    @property
    def family(self) -> str:
        """The paper's name."""
        return "CAT-Seg"

    @property
    def backend(self) -> str:
        """One way of inference, whatever was tuned."""
        return "CAT-Seg"

    def stages(self) -> list[nn.Module]:
        """The dear parts of the head, each of which may be compiled or computed again."""
        return [*self.aggregator.spatial, *self.aggregator.classes, *self.aggregator.decoder]

    def load_official(self, path: str | Path) -> None:
        """Take the weights of an official CAT-Seg checkpoint; see `official_weights`."""
        from .official_weights import load_official  # here: the table of names knows this class

        load_official(self, path)

    def encode_text(self, names: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Embeddings of words, as `decode` and `forward` take them.

        Args:
            names: C words or phrases.
            templates: T prompts with one {} for the word; None takes the head's own.

        Returns:
            Unit vectors, (C, D) with a head of one template and (C, T, D) with one of several.

        Raises:
            ValueError: as `DenseCLIP.encode_text`.
        """
        # A cost map each for several templates, as the head is built for; one map of their mean otherwise.
        ensemble: Literal["mean", "none"] = "mean" if self.config.templates == 1 else "none"
        return self.clip.encode_text(names, templates or self.templates, ensemble=ensemble)

    def encode(self, images: Tensor) -> Encoded:
        """Dense embeddings of pictures, and what guides the upsampling, from one pass through the tower.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            (B, D, h, w) as `dense`, not yet of unit length; as `more` what leaves the guiding blocks,
            as maps 2, 4, ... times as large.
        """
        tower = self.clip.tower(images)
        grid = tower.grid
        states = tower.states[1:]  # states[i] is now what leaves block i
        features = self.clip.read(tower, self.read_outs[0])
        maps = [states[i][:, 1:].mT.unflatten(2, grid) for i in self.config.guidance_blocks]
        guides = [up(m) for up, m in zip(self.upsample, maps, strict=True)]
        return Encoded(features.mT.unflatten(2, grid), tuple(guides))

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Logits from what `encode` gave, before the last enlargement.

        Args:
            encoded: of `encode`.
            text: (C, D), or (C, T, D) for a head of several templates.
            pooling: side in patches of the squares that class aggregation looks at; None as in training.

        Returns:
            (B, C, h', w') logits; h' and w' are h and w doubled as often as the head doubles.

        Raises:
            ValueError: text of another width than CLIP's, or another number of templates than
                the head was built for.
        """
        words = text[:, None] if text.ndim == 2 else text
        expected = (self.config.templates, self.clip.embed_dim)
        if words.ndim != 3 or tuple(words.shape[1:]) != expected:
            either = f" or (C, {expected[1]})" if expected[0] == 1 else ""
            raise ValueError(
                f"got text embeddings {tuple(text.shape)}; expected (C, {expected[0]}, "
                f"{expected[1]}){either}: the same CLIP, and as many templates as the head was built for"
            )
        # Words may come from an average over synonyms or a user's own hands: unit length is made sure of.
        return self.aggregator(encoded.dense, F.normalize(words, dim=-1), encoded.more, pooling)


def _check(config: AggregationConfig, blocks: int) -> None:
    doublings = (
        config.guidance_blocks,
        config.guidance_channels,
        config.guidance_width,
        config.decoder_channels,
    )
    if len({len(each) for each in doublings}) > 1:
        raise ValueError(
            f"{config} has lists of different lengths; expected one entry for each doubling of the resolution"
        )
    # Not the last block: what leaves it is never computed where a read-out takes its place.
    if any(not 0 <= i < blocks - 1 for i in config.guidance_blocks):
        raise ValueError(
            f"guidance_blocks are {tuple(config.guidance_blocks)}; "
            f"expected 0 .. {blocks - 2}: the image tower has {blocks}"
        )
    # Sixteen channels a group is what the official decoder normalises together [S].
    if config.hidden % config.heads or any(c % 16 for c in config.decoder_channels):
        raise ValueError(
            f"hidden = {config.hidden}, heads = {config.heads}, "
            f"decoder_channels = {config.decoder_channels}; "
            "expected hidden a multiple of heads and decoder_channels multiples of 16"
        )


class Aggregator(nn.Module):
    """The head: cost volume in, logits out."""

    def __init__(self, config: AggregationConfig, dim: int) -> None:
        super().__init__()
        self.class_tokens = config.class_tokens
        self.embed = nn.Conv2d(config.templates, config.hidden, 7, padding=3)
        self.appearance = nn.Sequential(nn.Conv2d(dim, config.appearance_width, 3, padding=1), nn.ReLU())
        self.words = nn.Sequential(nn.Linear(dim, config.text_width), nn.ReLU())
        self.spatial = nn.ModuleList(SpatialAggregation(config) for _ in range(config.layers))
        self.classes = nn.ModuleList(ClassAggregation(config) for _ in range(config.layers))
        self.guides = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU())
            for a, b in zip(config.guidance_channels, config.guidance_width, strict=True)
        )
        widths = [config.hidden, *config.decoder_channels]
        self.decoder = nn.ModuleList(
            Up(a, b, g) for a, b, g in zip(widths, widths[1:], config.guidance_width, strict=False)
        )
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(
        self, features: Tensor, text: Tensor, guides: Sequence[Tensor], pooling: int | None = None
    ) -> Tensor:
        """From cosines to logits (B, C, ., .).

        Args:
            features: (B, D, h, w), not yet of unit length.
            text: (C, T, D) unit vectors.
            guides: maps at 2, 4, ... times h and w.
            pooling: of class aggregation; None as it was built.

        Returns:
            (B, C, h', w'), h and w doubled once for each guide; -100 for words that no patch resembles,
            where there are more words than `class_tokens`.
        """
        # The cost volume: cosines of every patch with every word in every template.
        cost = torch.einsum("bdhw,ctd->bcthw", F.normalize(features, dim=1), text)
        classes, kept = len(text), None
        text = F.normalize(text.mean(1), dim=-1)[None]  # (1, C, D), the guidance of all pictures
        if 0 < self.class_tokens < classes:
            # Each picture keeps the words that some patch of it resembles most, (B, class_tokens)
            # of them. Not sorted: their order means nothing, for class aggregation has no positions.
            kept = cost.flatten(2).amax(-1).topk(self.class_tokens, sorted=False).indices
            cost = cost.gather(1, kept[:, :, None, None, None].expand(-1, -1, *cost.shape[2:]))
            text = text[0][kept]  # (B, class_tokens, D)
        # Every word's map is embedded as a picture of its own, (B C, T, h, w); then channels go last.
        maps = self.embed(cost.flatten(0, 1)).unflatten(0, cost.shape[:2])
        # Put in that order once: else every norm and every sum below would read across it.
        x = maps.permute(0, 1, 3, 4, 2).contiguous()  # (B, C, h, w, hidden)
        appearance = self.appearance(features).permute(0, 2, 3, 1)  # (B, h, w, e)
        words = self.words(text)
        for spatial, across in zip(self.spatial, self.classes, strict=True):
            x = across(spatial(x, appearance), words, pooling)
        # Convolutions and their norms have the old order again: one copy, at the smallest of their sizes.
        y = x.permute(0, 1, 4, 2, 3).flatten(0, 1).contiguous()  # (B C, hidden, h, w)
        for up, project, guide in zip(self.decoder, self.guides, guides, strict=True):
            y = up(y, project(guide))
        height, width = (side << len(guides) for side in features.shape[-2:])
        logits = self.head(y).view(*x.shape[:2], height, width)
        if kept is None:
            return logits
        # Words that were left out are surely absent, as the official code has it [S].
        out = logits.new_full((len(logits), classes, *logits.shape[2:]), -100.0)
        return out.scatter(1, kept[:, :, None, None].expand_as(logits), logits)


class GuidedLinear(nn.Linear):
    """A linear layer on [x, guidance] that never builds the pair."""

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:  # type: ignore[override]
        """x (..., d) and guidance (..., e), which broadcasts against it: (..., out)."""
        # All classes (or positions) share the guidance: its part of the product is made once, and broadcast.
        width = x.shape[-1]
        return F.linear(x, self.weight[:, :width], self.bias) + F.linear(guidance, self.weight[:, width:])


def project_guided(
    q: GuidedLinear, k: GuidedLinear, v: nn.Linear, x: Tensor, guidance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens, of which the first two see a guidance.

    Args:
        q, k: of width d + e.
        v: of width d.
        x: (..., d).
        guidance: (..., e), broadcasts against `x`.

    Returns:
        q(x, guidance), k(x, guidance) and v(x), each (..., out).
    """
    width = x.shape[-1]
    # One product in place of three: tokens are read once, and so is the gradient on its way back.
    weight = torch.cat([q.weight[:, :width], k.weight[:, :width], v.weight])
    own = F.linear(x, weight, torch.cat([q.bias, k.bias, v.bias]))
    shared = F.linear(guidance, torch.cat([q.weight[:, width:], k.weight[:, width:]]))
    queries, keys, values = own.chunk(3, -1)
    for_queries, for_keys = shared.chunk(2, -1)
    return queries + for_queries, keys + for_keys, values


class SpatialAggregation(nn.Module):
    """Two window-attention blocks, the second one shifted by half a window."""

    def __init__(self, config: AggregationConfig) -> None:
        super().__init__()
        self.norm_guidance = nn.LayerNorm(config.appearance_width)
        self.blocks = nn.ModuleList(WindowBlock(config, shifted) for shifted in (False, True))

    def forward(self, x: Tensor, appearance: Tensor) -> Tensor:
        """x (B, C, h, w, hidden), appearance (B, h, w, e): like x."""
        appearance = self.norm_guidance(appearance)[:, None]
        for block in self.blocks:
            x = block(x, appearance)
        return x


class WindowBlock(nn.Module):
    """Attention inside windows and a feed-forward layer.

    Queries and keys see the picture's appearance, values do not.
    """

    def __init__(self, config: AggregationConfig, shifted: bool) -> None:
        super().__init__()
        width = config.hidden
        self.window, self.shifted, self.heads = config.window, shifted, config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q = GuidedLinear(width + config.appearance_width, width)
        self.k = GuidedLinear(width + config.appearance_width, width)
        self.v, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, appearance: Tensor) -> Tensor:
        """x (B, C, h, w, hidden), appearance (B, 1, h, w, e): like x."""
        height, width = x.shape[2:4]
        side = min(self.window, height, width)
        # With a single window there is nothing to shift against.
        shift = side // 2 if self.shifted and min(height, width) > self.window else 0
        y = _windows(self.norm_1(x), side, shift)
        g = _windows(appearance, side, shift)  # already normalised, once for both blocks
        # (B, C, windows, side^2, hidden) to (B, C, windows, heads, side^2, hidden / heads).
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for each in project_guided(self.q, self.k, self.v, y, g)
        )
        mixed = attend_in_windows(q, k, v, _separate(height, width, side, shift, x.device))
        x = x + _unwindow(self.out(mixed), height, width, side, shift)
        return x + self.mlp(self.norm_2(x))


# Tokens of a window from which on the fused kernel is worth its overhead, passes for the gradient included:
# on a CPU it takes a third to a half of the time at 144, and a quarter more at 16 and 36 [O].
_FUSED = 64


def attend_in_windows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention inside windows, heads side by side afterwards.

    Args:
        q, k, v: (B, C, windows, heads, n, d).
        mask: (windows, 1, n, n), added to the logits; None adds nothing.

    Returns:
        (B, C, windows, n, heads d).
    """
    batch, tokens = q.shape[:3], q.shape[-2]
    if tokens < _FUSED:
        return attend(q, k, v, mask).transpose(-2, -3).flatten(-2)
    # torch fuses tensors of four dimensions alone; of more it writes down all pairs.
    if mask is None:
        q, k, v = (each.flatten(0, 2) for each in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return mixed.transpose(1, 2).flatten(-2).unflatten(0, batch)
    # A window at a time: a mask of its own for each, in one call, would be as large as all pairs again.
    windows = zip(*(each.flatten(0, 1).unbind(1) for each in (q, k, v)), mask[:, 0], strict=True)
    each_window = [F.scaled_dot_product_attention(*window).transpose(1, 2) for window in windows]
    return torch.stack(each_window, 1).flatten(-2).unflatten(0, batch[:2])


def _windows(x: Tensor, side: int, shift: int) -> Tensor:
    """(B, C, h, w, e) to (B, C, windows, side^2, e)."""
    # Filled up below and to the right to multiples of the side, as the official code does [S]; after the
    # norm, so that what is filled in stays zero.
    x = F.pad(x, (0, 0, 0, -x.shape[3] % side, 0, -x.shape[2] % side))
    if shift:
        x = x.roll((-shift, -shift), (2, 3))
    x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, rows, side, columns, side, e)
    return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _unwindow(x: Tensor, height: int, width: int, side: int, shift: int) -> Tensor:
    """The inverse: (B, C, windows, side^2, e) to (B, C, h, w, e)."""
    rows, columns = -(-height // side), -(-width // side)  # rounded up
    x = x.unflatten(3, (side, side)).unflatten(2, (rows, columns))  # (B, C, rows, columns, side, side, e)
    x = x.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    if shift:
        x = x.roll((shift, shift), (2, 3))
    return x[:, :, :height, :width]


def _separate(height: int, width: int, side: int, shift: int, device: torch.device) -> Tensor | None:
    """Mask (windows, 1, side^2, side^2) of places that the shift or the filling brought together, or None."""
    # Without a mask torch is free to take its fastest kernel.
    if not shift and height % side == 0 and width % side == 0:
        return None
    regions = []
    for length in (height, width):
        full = -(-length // side) * side
        places = torch.arange(full, device=device)
        region = torch.zeros_like(places)
        if shift:
            # Rolled by the shift, the last window holds the end of the axis (1) and, behind it, its
            # beginning (2); all before is 0.
            region = (places >= full - side).long() + (places >= full - shift)
        # What was filled in is a region of its own, 3 to 5.
        regions.append(region + 3 * (places.roll(-shift) >= length))
    # One number for each pair of regions, and these in windows as the tokens are: (windows, side^2).
    ids = (6 * regions[0][:, None] + regions[1])[None, None, ..., None]
    ids = _windows(ids, side, 0)[0, 0, ..., 0]
    # -100 and not minus infinity, as in the official code [S].
    return torch.where(ids[:, None, :, None] == ids[:, None, None, :], 0.0, -100.0)


class ClassAggregation(nn.Module):
    """Linear attention (2006.16236) among classes, at each square of `pooling` patches.

    Queries and keys see the words, values do not.
    """

    def __init__(self, config: AggregationConfig) -> None:
        super().__init__()
        width = config.hidden
        self.heads = config.heads
        self.pooling = config.pooling
        self.tokens = config.class_tokens
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q = GuidedLinear(width + config.text_width, width)
        self.k = GuidedLinear(width + config.text_width, width)
        self.v = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        if self.tokens:
            self.filler = nn.Parameter(torch.zeros(width))
            self.filler_word = nn.Parameter(torch.zeros(config.text_width))

    def forward(self, x: Tensor, words: Tensor, pooling: int | None = None) -> Tensor:
        """Let the classes look at each other.

        Args:
            x: (B, C, h, w, hidden).
            words: (B or 1, C, e).
            pooling: side of the squares, if it is not the trained one.

        Returns:
            Like x.
        """
        batch, classes, height, width, _ = x.shape
        maps = x.permute(0, 1, 4, 2, 3).flatten(0, 1)  # (B C, hidden, h, w)
        side = min(self.pooling if pooling is None else pooling, height, width)
        pooled = F.avg_pool2d(maps, side, ceil_mode=True).unflatten(0, (batch, classes))
        y = pooled.permute(0, 3, 4, 1, 2)  # (B, h', w', C, hidden)
        y = self.among(y, words[:, None, None])  # the same words at every square
        y = y.permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B C, hidden, h', w')
        # Corners are aligned here, and only here, as in the official code [S].
        y = F.interpolate(y, (height, width), mode="bilinear", align_corners=True)
        return x + y.unflatten(0, (batch, classes)).permute(0, 1, 3, 4, 2)

    def among(self, y: Tensor, words: Tensor) -> Tensor:
        """The layer itself: y (..., C, hidden), words (..., C, e): like y."""
        q, k, v = (
            each.unflatten(-1, (self.heads, -1))
            for each in project_guided(self.q, self.k, self.v, self.norm_1(y), words)
        )
        y = y + linear_attention(q, k, v, self._fillers(y.shape[-2])).flatten(-2)
        return y + self.mlp(self.norm_2(y))

    def _fillers(self, classes: int) -> Fillers | None:
        """What fills few classes up, if anything does."""
        count = self.tokens - classes
        if count <= 0:
            return None
        # All are one token, alike at every square, and what they would become is thrown away: one key and one
        # value stand for them all. The official code has them take part like any class [S].
        token = self.norm_1(self.filler)
        key, value = self.k(token, self.filler_word), self.v(token)
        return Fillers(key.unflatten(-1, (self.heads, -1)), value.unflatten(-1, (self.heads, -1)), count)


class Fillers(NamedTuple):
    """Tokens that are all alike and that nobody asks for an answer.

    Attributes:
        key, value: of each of them, (heads, d).
        copies: how many of them.
    """

    key: Tensor
    value: Tensor
    copies: int


def linear_attention(q: Tensor, k: Tensor, v: Tensor, fillers: Fillers | None = None) -> Tensor:
    """Attention whose cost grows with the number of tokens, not with its square.

    f(q) (f(k)^T v) / f(q) sum f(k), with f = elu + 1. Source: Katharopoulos et al. (2006.16236), equation 5.

    Args:
        q, k, v: (..., n, heads, d).
        fillers: that are added to the n tokens. Linear attention adds up over its tokens: filled up, there
            are as many as it was trained with.

    Returns:
        (..., n, heads, d).
    """
    q, k = F.elu(q) + 1, F.elu(k) + 1
    tokens = v.shape[-3] + (fillers.copies if fillers else 0)
    # f(k)^T v, (d, d) a head: the sum over tokens comes first, which is what makes it cheap.
    # Divided by their number lest half precision overflow, and multiplied again at the end.
    summary = torch.einsum("...nhd,...nhe->...hde", k, v / tokens)
    total = k.sum(-3)
    if fillers:
        key = F.elu(fillers.key) + 1
        summary = summary + key[..., None] * (fillers.value * (fillers.copies / tokens))[:, None]
        total = total + fillers.copies * key
    # 1 / f(q) sum f(k), a number a token and head; f may be zero to rounding.
    weight = 1 / (torch.einsum("...nhd,...hd->...nh", q, total) + 1e-6)
    return torch.einsum("...nhd,...hde,...nh->...nhe", q, summary, weight) * tokens


class Up(nn.Module):
    """Double the resolution, look at a guide, convolve twice."""

    def __init__(self, inside: int, outside: int, guidance: int) -> None:
        super().__init__()
        # With the guide's channels beside them they are as many as before.
        self.up = nn.ConvTranspose2d(inside, inside - guidance, 2, 2)
        self.conv_1 = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.norm_1 = nn.GroupNorm(outside // 16, outside)
        self.conv_2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.norm_2 = nn.GroupNorm(outside // 16, outside)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """x (B C, inside, h, w), guide (B, guidance, 2h, 2w): (B C, outside, 2h, 2w)."""
        x = self.up(x)
        # conv_1 on [x, guide] without building the pair: the guide's part is the same for every class
        # of a picture, and is made once.
        width = x.shape[1]
        weight = self.conv_1.weight
        shared = F.conv2d(guide, weight[:, width:], padding=1)
        own = F.conv2d(x, weight[:, :width], padding=1).unflatten(0, (len(guide), -1))
        x = (own + shared[:, None]).flatten(0, 1)
        # In place: a norm needs what it was given for its gradient, not what it gave.
        x = F.relu(self.norm_1(x), inplace=True)
        return F.relu(self.norm_2(self.conv_2(x)), inplace=True)
