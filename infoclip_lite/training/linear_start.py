"""Where contrast begins: a linear map from the stem's features to the words of captions.

A small transformer spends most of a short training on finding a map that takes a minute by itself: ridge
regression of a scene's words on its mean features, then `local_loss`, since which words a scene shows says
something of its patches too. Put into the weights it is a ViT like any other: patches keep to themselves
until the last block, whose attention looks at all of them alike, so that CLS is their mean. Our choice [O].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip.model import DenseCLIP
from ..clip.stem import Stem, StemFeatures
from .contrast import local_loss
from .pool import Pool

_RIDGE = 0.1  # of the features' variance; chosen on validation scenes among 0.01, 0.1, 0.3, 1 and 3
_SMALLEST = 0.05  # singular values of the words below this part of the largest are noise
_POSITIONS = 0.02
_LOOKING = 0.3  # of the usual size: nearly even attention, with a gradient
_ROWS = 500
# Of the second part; chosen on validation scenes.
_BATCH, _LR, _DROPPED, _SCALE = 64, 2e-3, 0.25, 20.0


@torch.no_grad()
def start_linearly(
    clip: DenseCLIP, pool: Pool, words: Tensor, *, rank: int | None = None, steps: int = 300, seed: int = 0
) -> None:
    """Fill the image tower of a CLIP with a stem, in place.

    Args:
        clip: its tower is at its random beginning.
        pool: scenes as the stem sees them, and which words each shows.
        words: (words, D) unit vectors of the text tower, in the order of `pool.present`'s columns.
        rank: of the map; None is the largest that tokens can hold.
        steps: of the local loss, after the regression.
        seed: of the directions, and of what is drawn in those steps.

    Raises:
        ValueError: a tower without a stem, or a rank that is too large.
    """
    visual = clip.visual
    stem = visual.conv1
    if not isinstance(stem, Stem):
        raise ValueError(f"{clip.name} has no stem; expected one: the map is solved for on its features")
    width = clip.width
    # CLS must have a direction of its own, and layer norms take one.
    largest = min(width - 2, clip.embed_dim, stem.proj.in_channels)
    rank = largest if rank is None else rank
    if not 1 <= rank <= largest:
        raise ValueError(f"got rank {rank}; expected 1 .. {largest} for tokens {width} wide")
    solved, features = _map(stem, pool, words)
    solved = _refined(solved, stem, pool, words, steps, seed)
    left, values, right = torch.linalg.svd(features.std(0)[:, None] * solved, full_matrices=False)
    halves = values[:rank].sqrt()
    into = left[:, :rank] / features.std(0)[:, None] * halves  # (features, rank)
    out = halves[:, None] * right[:rank]  # (rank, D)
    # Layer norms take the mean off a token: directions without one lose nothing.
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(width, width, generator=generator)
    basis[:, 0] = 1
    basis = torch.linalg.qr(basis).Q[:, 1:].T
    tokens = into @ basis[:rank]
    size = next(_batches(stem, pool)).flatten(2).mT @ tokens
    stem.proj.weight.copy_((tokens / size.square().mean().sqrt()).T[:, :, None, None])
    visual.proj.copy_(basis[:rank].T @ out)
    # CLS begins where the map does not look, and says nothing of its own.
    visual.class_embedding.copy_(basis[-1] * width**0.5)
    visual.positional_embedding.normal_(std=_POSITIONS, generator=generator)
    weights = dict(clip.blocks.named_parameters())
    for name, weight in weights.items():
        if "out_proj" in name or "c_proj" in name:
            nn.init.zeros_(weight)
    last = f"{len(clip.blocks) - 1}.attn"
    weights[f"{last}.in_proj_weight"][: 2 * width].mul_(_LOOKING)
    weights[f"{last}.in_proj_weight"][2 * width :].copy_(torch.eye(width))
    weights[f"{last}.out_proj.weight"].copy_(torch.eye(width))


def _map(stem: Stem, pool: Pool, words: Tensor) -> tuple[Tensor, Tensor]:
    """(features, D): ridge regression of standardised words on mean features, seen from the words' space; and
    the mean features (N, features).
    """
    features = torch.cat([batch.mean((2, 3)) for batch in _batches(stem, pool)])
    shown = pool.present.float()
    shown = (shown - shown.mean(0)) / shown.std(0).clamp(min=1e-6)
    # Vectors whose products with the words' are what is shown, as nearly as D dimensions allow.
    wanted = shown @ torch.linalg.pinv(words.T, rtol=_SMALLEST)
    covariance = features.T @ features
    ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
    return torch.linalg.solve(covariance + ridge, features.T @ wanted), features


def _refined(solved: Tensor, stem: Stem, pool: Pool, words: Tensor, steps: int, seed: int) -> Tensor:
    """The map (features, D) after some steps of the local loss."""
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        weight = (solved / solved.norm(dim=1).mean()).requires_grad_()
        log_scale = torch.tensor(_SCALE).log().requires_grad_()
        optimizer = torch.optim.AdamW([weight, log_scale], lr=_LR, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps + 1, pct_start=0.1)
        for _ in range(steps):
            rows = torch.randint(len(pool.present), (_BATCH,), generator=generator)
            part = Pool({key: values[rows] for key, values in pool.inputs.items()}, pool.present[rows])
            features = next(_batches(stem, part))
            # Channels of whole scenes, for the reason that `Pretraining` has.
            kept = torch.rand((*features.shape[:2], 1, 1), generator=generator) >= _DROPPED
            patches = F.normalize((features * kept).flatten(2).mT @ weight, dim=-1)
            among = part.present.any(0)
            loss = local_loss(patches, words[among], part.present[:, among], log_scale.exp())["total"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return weight.detach()


def _batches(stem: Stem, pool: Pool) -> Iterator[Tensor]:
    """Features of the pool's scenes, (n, features, h, w) a time."""
    parts = zip(*(pool.inputs[key].split(_ROWS) for key in ("middle", "deep")), strict=True)
    for middle, deep in parts:
        yield stem.join(StemFeatures(middle.float(), deep.float()))
