"""ClsCLIP, "[CLS] Token is All You Need" (2304.06212): the word takes the place of CLS, early in the tower.

    patches -> blocks 0, 1 -> before 2, 3 and 4: CLS = linear(word) -> ... 11 -> light decoder -> one mask

The tower then looks for that word, and one pass gives one binary mask: C words cost C passes. Which blocks,
the linear layers and a decoder of two layers are the paper's [N: abstract and an unofficial
re-implementation]; the decoder's sizes, that every block has a linear layer of its own (the paper's L_i; the
re-implementation shares one), and which words a picture is asked for in training are our reading [I].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import DenseCLIP
from ..clip.blocks import ResidualBlock
from ..core.labels import NO_LABEL
from .base import Encoded, Segmentor, Target, check_text, enlarged
from .queries import classes_present

_TOGETHER = 32  # passes that are made at a time where no gradient is wanted


class ClsCLIP(Segmentor):
    """One mask a word from a frozen CLIP whose CLS is that word.

    Args:
        clip: the model; it stays frozen.
        templates: the prompt that class names are put in, for training and test alike.
        blocks: before which the word takes the place of CLS; None: `early_blocks`.
        width, layers, heads: of the decoder.
        asked: words that each picture is asked for in training, the last of which is not there.

    Raises:
        ValueError: blocks that the tower does not have, numbers below 1, fewer than two words, or heads that
            do not divide the width.
    """

    independent = True  # one sigmoid a word: the passes know nothing of each other
    tunable = False  # CLIP stays frozen [P]

    def __init__(
        self,
        clip: DenseCLIP,
        templates: Sequence[str] = ("a photo of a {}",),
        *,
        blocks: Sequence[int] | None = None,
        width: int = 256,
        layers: int = 2,
        heads: int = 8,
        asked: int = 3,
    ) -> None:
        super().__init__()
        depth = len(clip.blocks)
        places = early_blocks(depth) if blocks is None else list(blocks)
        if not places or sorted(set(places)) != places or not 0 <= places[0] <= places[-1] < depth:
            raise ValueError(f"blocks is {places}; expected some of 0 .. {depth - 1}, each once and in order")
        if layers < 1 or asked < 2:
            raise ValueError(f"got layers={layers}, asked={asked}; expected at least 1 and 2")
        if width < 4 or width % 4 or heads < 1 or width % heads:
            raise ValueError(f"width is {width}; expected a multiple of heads={heads} and of 4")
        self.clip, self.templates = clip, tuple(templates)
        self.read_outs = ("vanilla",)
        self.places, self.asked = places, asked
        self.words = nn.ModuleList(nn.Linear(clip.embed_dim, clip.width) for _ in places)
        self.entry = nn.Linear(clip.width, width)
        # Nothing at random (dropout 0): a training that was stopped and goes on gives the same numbers.
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)
            for _ in range(layers)
        )
        self.mask = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 2, width // 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width // 4, 1, 1),
        )

    def stages(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return list(self.layers)

    def encode(self, images: Tensor) -> Encoded:
        """Pictures as far as no word is needed.

        Args:
            images: (B, 3, H, W) floats in [0, 1].

        Returns:
            The tokens (B, 1 + N, W) that enter the first block before which a word takes CLS's place, as
            `more`, and of these the patches (B, W, h, w) as `dense`: before a word is named there is nothing
            in the joint space.
        """
        with torch.no_grad():
            tokens, grid = self.clip.embed(images)
            for block in self._blocks()[: self.places[0]]:
                tokens = self.clip.block(block, tokens)
        return Encoded(tokens[:, 1:].mT.unflatten(2, grid), (tokens,))

    def _blocks(self) -> Sequence[ResidualBlock]:
        return cast(Sequence[ResidualBlock], self.clip.blocks)

    def ask(self, encoded: Encoded, words: Tensor) -> Tensor:
        """One pass a word.

        Args:
            encoded: of `encode`.
            words: (B, A, D) unit vectors, those that each picture is asked for.

        Returns:
            (B, A, h, w) logits; a sigmoid of each says whether the patch is of the word.
        """
        (tokens,) = encoded.more
        asked = words.shape[1]
        tokens, flat = tokens.repeat_interleave(asked, 0), words.flatten(0, 1)
        instead = dict(zip(self.places, self.words, strict=True))
        for index in range(self.places[0], len(self.clip.blocks)):
            if index in instead:
                cls = instead[index](flat).to(tokens.dtype)[:, None]
                tokens = torch.cat([cls, tokens[:, 1:]], 1)
            tokens = self.clip.block(self._blocks()[index], tokens)
        patches = self.entry(tokens[:, 1:])
        for layer in self.layers:
            patches = layer(patches)
        logits = self.mask(patches.mT.unflatten(2, encoded.dense.shape[2:]))
        return logits[:, 0].unflatten(0, (len(words), asked)).float()

    def decode(self, encoded: Encoded, text: Tensor, *, pooling: int | None = None) -> Tensor:
        """Every word's own pass, some at a time.

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
        pictures = len(encoded.dense)
        parts = text.split(max(1, _TOGETHER // pictures))
        return torch.cat([self.ask(encoded, part.expand(pictures, -1, -1)) for part in parts], 1)

    def loss(self, encoded: Encoded, text: Tensor, target: Target) -> dict[str, Tensor]:
        """Binary cross-entropy of the words that each picture is asked for; ignored pixels do not count.

        Cross-entropy of two classes in the re-implementation [N], which is the same.

        Args:
            encoded: of `encode`.
            text: (C, D) unit vectors of the trained words.
            target: what is known of the pixels.

        Returns:
            {"total"} in nats a word and labelled pixel; zero if there is none.
        """
        ids = words_to_ask(target.labels, len(text), self.asked)
        logits = enlarged(self.ask(encoded, text[ids]), target.labels.shape[-2:])
        labels = target.labels[:, None]
        wanted = (labels == ids[:, :, None, None]).to(logits.dtype)
        nats = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * (labels != NO_LABEL)
        return {"total": nats.sum() / (target.counted * ids.shape[1]).clamp(min=1)}


def early_blocks(depth: int) -> list[int]:
    """The blocks before which ClsCLIP puts the word: 2, 3 and 4 of twelve [P], as early in another depth [O].

    Args:
        depth: blocks of the tower.

    >>> early_blocks(12), early_blocks(6), early_blocks(24), early_blocks(2)
    ([2, 3, 4], [1, 2], [4, 5, 6, 7, 8, 9], [1])
    """
    # Not before the first block, where the paper found words and patches out of step.
    first = min(max(1, depth // 6), depth - 1)
    return list(range(first, min(depth, first + -(-depth // 4))))


def words_to_ask(labels: Tensor, classes: int, asked: int) -> Tensor:
    """Which words a picture is asked for in training: some that it shows, and last one that it does not [O].

    Without the last a word would never be asked in vain, and all words would be found everywhere. Its largest
    words would hardly be things: stuff fills a scene. Which they are follows from the labels alone: a
    training that was stopped and goes on asks the same.

    Args:
        labels: (B, H, W) int64, 0 .. classes - 1, or NO_LABEL.
        classes: C.
        asked: how many, at most C are.

    Returns:
        (B, A) int64 ids, each once; absent ones fill up where a picture shows fewer, and word 0 stands last
        where it shows them all.
    """
    counts = classes_present(labels, classes)
    places = torch.arange(classes, device=labels.device)
    # All words in a circle that every picture enters at a place of its own.
    turn = (places + (counts * (places + 1)).sum(1, keepdim=True)) % classes
    absent = torch.where(counts > 0, -1, turn).argmax(1, keepdim=True)
    # Present ones before absent ones; the chosen absent one stands first of all, and is put last.
    ranks = turn + torch.where(counts > 0, classes, 0)
    ranks = ranks.scatter(1, absent, torch.full_like(absent, 2 * classes))
    return ranks.topk(min(asked, classes), dim=1).indices.roll(-1, 1)
