"""One pass of pictures through the image tower, shared by everything that is read off it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn

from .blocks import ResidualBlock, project_qkv, similarity, standard_block

RunBlock = Callable[[ResidualBlock, Tensor], Tensor]


class TowerPass:
    """Tokens on their way through residual blocks; each is run once, when its output is first asked for.

    Args:
        tokens: (B, 1 + N, W), CLS first, that enter the first block.
        grid: (h, w) of the patches, h w = N.
        blocks: the residual blocks, first to last; a part of a tower will do.
        run: how a block is run as it was trained.
        project: tokens (..., W) to unit vectors (..., D) in the joint space, for read-outs that
            compare patches with words.
        words: (C, D) unit vectors of words, for read-outs that look at them; None if nobody gave any.
        images: (B, 3, H, W) floats in [0, 1], for read-outs that look at colours; None where the tokens are
            not those of pictures.
        keep: keep the tokens between all blocks from the start. A single read-out of the last block
            is better off without: nothing but its own input is then held in memory.

    Attributes:
        blocks, grid, words, images, project: as given.
    """

    def __init__(
        self,
        tokens: Tensor,
        grid: tuple[int, int],
        blocks: Sequence[ResidualBlock] | nn.ModuleList,
        *,
        run: RunBlock = standard_block,
        project: Callable[[Tensor], Tensor] | None = None,
        words: Tensor | None = None,
        images: Tensor | None = None,
        keep: bool = False,
    ) -> None:
        self.grid, self.words, self.images, self.project = grid, words, images, project
        self.blocks = list(cast(Sequence[ResidualBlock], blocks))
        self._run = run
        self._keep = keep
        self._states = [tokens]  # what is known so far, without a gap
        self._entering: Tensor | None = None
        self._leaving: Tensor | None = None

    @property
    def states(self) -> list[Tensor]:
        """Tokens (B, 1 + N, W) before each block: `states[0]` enters the first, `states[-1]` the last."""
        while len(self._states) < len(self.blocks):
            block = self.blocks[len(self._states) - 1]
            self._states.append(self._run(block, self._states[-1]))
        return self._states

    @property
    def entering(self) -> Tensor:
        """Tokens (B, 1 + N, W) that enter the last block."""
        # Most read-outs look at the last block alone: the states before it are then let go as they come.
        if self._keep or len(self._states) == len(self.blocks):
            return self.states[-1]
        if self._entering is None:
            tokens = self._states[-1]
            for block in self.blocks[len(self._states) - 1 : -1]:
                tokens = self._run(block, tokens)
            self._entering = tokens
        return self._entering

    @property
    def leaving(self) -> Tensor:
        """Tokens (B, 1 + N, W) after the last block as it was trained."""
        # Not a state: a read-out replaces the last block, and a pass that only reads dense never runs it.
        if self._leaving is None:
            self._leaving = self._run(self.blocks[-1], self.entering)
        return self._leaving

    @property
    def last(self) -> ResidualBlock:
        """The last block."""
        return self.blocks[-1]

    def attention(self, index: int) -> Tensor:
        """How much each token of a block looks at each other, as trained.

        Args:
            index: of the block; negative counts from the last.

        Returns:
            (B, heads, 1 + N, 1 + N), rows sum to one.
        """
        # Computed anew: the fused kernel of the ordinary pass never has the attention map in memory.
        q, k, _ = project_qkv(self.blocks[index], self.states[index])
        return similarity(q, k).softmax(-1)

    def told(self, words: Tensor) -> TowerPass:
        """The same pass, whose read-outs know the words.

        Args:
            words: (C, D) unit vectors.

        Returns:
            A pass that shares the tokens of this one: no block that was run is run again.
        """
        other = copy.copy(self)
        other.words = words
        return other

    def cosines(self, tokens: Tensor) -> Tensor:
        """How near tokens are to each word.

        Args:
            tokens: (B, N, W), as they enter ln_post.

        Returns:
            (B, N, C) float32.

        Raises:
            ValueError: a pass without words, or without a way into their space.
        """
        words = self.known_words()
        if self.project is None:
            raise ValueError("got a pass that does not project; expected one of `DenseCLIP.tower`")
        return self.project(tokens) @ words.T

    def known_words(self) -> Tensor:
        """The words, (C, D) float32, where the tokens are.

        Raises:
            ValueError: a pass without words.
        """
        if self.words is None:
            raise ValueError(
                "got a pass without words; expected one of `DenseCLIP.tower(images, words)`: "
                "what is asked compares patches with words"
            )
        return self.words.to(self._states[0].device).float()

    def standard(self, index: int, tokens: Tensor) -> Tensor:
        """Block `index` as it was trained, on other tokens: (B, 1 + N, W) -> (B, 1 + N, W)."""
        return self._run(self.blocks[index], tokens)
