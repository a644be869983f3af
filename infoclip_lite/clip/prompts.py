"""Prompts that are learnt: vectors before a word, where a template has words (CoOp, 2109.01134)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .model import DenseCLIP

_DEVIATION = 0.02  # of the first vectors, as in CoOp's and ZSSeg's code [C]


class LearnedPrompt(nn.Module):
    """Vectors before every word, the same for all words; the text tower that reads them stays as it is.

    Args:
        clip: whose text tower reads them.
        length: how many (16 in ZSSeg [C]).
        ending: what stands behind the word ("." in ZSSeg [C]); "" is nothing.

    Raises:
        ValueError: a length below 1 or one that leaves no room for a word, or a text tower that does not
            end a sentence at its highest token, as CLIP's do.
    """

    def __init__(self, clip: DenseCLIP, length: int = 16, ending: str = ".") -> None:
        from open_clip import SimpleTokenizer  # here: who names the room need not wait for it

        super().__init__()
        embedding = getattr(clip.model, "token_embedding", None)
        pooled = getattr(clip.model, "text_pool_type", None)
        if embedding is None or pooled != "argmax" or not isinstance(clip.tokenizer, SimpleTokenizer):
            raise ValueError(
                f"{clip.name} has another text tower than CLIP's; "
                "expected one that ends a sentence at its highest token"
            )
        # Begin, end and a word are tokens too.
        room = clip.model.context_length - 3
        if not 1 <= length <= room:
            raise ValueError(f"got a prompt of {length} vectors; expected 1 .. {room} for {clip.name}")
        self.ending, self.tokenizer = ending, clip.tokenizer
        self.vectors = nn.Parameter(_DEVIATION * torch.randn(length, embedding.weight.shape[1]))

    def forward(self, clip: DenseCLIP, names: Sequence[str]) -> Tensor:
        """Embeddings of words behind the learnt vectors.

        Args:
            clip: the model that this was made for.
            names: C words or phrases, without synonyms.

        Returns:
            (C, D) float32 unit vectors, with a gradient to the vectors.

        Raises:
            ValueError: no names, or one that the context has no room for.
        """
        length, tokenizer = len(self.vectors), self.tokenizer
        clip.tokenize([f"{name}{self.ending}" for name in names])  # refuses, and warns, as for any prompt
        words = [tokenizer.encode(f"{name}{self.ending}") for name in names]
        longest = max(map(len, words)) + length + 2
        if longest > clip.model.context_length:
            raise ValueError(
                f"a word and {length} learnt vectors are {longest} tokens; {clip.name} reads "
                f"{clip.model.context_length}: expected a shorter prompt or shorter names"
            )
        # The tokens that occur, in their order, behind the learnt vectors: a small table in place of the
        # whole vocabulary, in which the end of a sentence is still the highest.
        begin, end = tokenizer.sot_token_id, tokenizer.eot_token_id
        known = sorted({begin, end}.union(*words))
        place = {token: length + row for row, token in enumerate(known)}
        filled = [
            [place[begin], *range(length), *(place[token] for token in word), place[end]] for word in words
        ]
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in filled], device=clip.device)
        own = clip.model.token_embedding.weight[torch.tensor(known, device=clip.device)]
        return clip.encode_tokens(ids, torch.cat([self.vectors, own]))
