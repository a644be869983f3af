"""Chapter 1: from a global vector to dense features."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import DenseCLIP, load_clip
from ...clip.blocks import project_out, project_qkv
from ...clip.readouts import READ_OUTS
from ...clip.tower import TowerPass
from ...datasets import Collage
from . import exercise
from .compare import Case, Wrong, close_each, listed, number, same_tensor, tensor, varies

# What a blend is chosen and judged on, each set in turn: validation scenes that the notebook does not show.
_SEEDS, _SCENES = (11, 13), 32
_BLENDED = ("vanilla", "value", "cls_value", "sclip", "clearclip", "naclip")
_CLEARLY = 0.002  # share of patches: less is luck on so few scenes


@functools.cache
def _clip() -> DenseCLIP:
    return load_clip("collage-mini")


@exercise(
    "1.1",
    "Cut up, a picture is a table with a row for each patch, and a ViT's first layer one matrix for all "
    "rows: a convolution whose stride is its size.",
)
def patches(answer: Callable[..., object]) -> None:
    """The answer is a function: picture (3, H, W), side -> (N, 3 * side * side), row by row."""
    generator = torch.Generator().manual_seed(0)
    # Neither square nor of one size: who takes rows for columns, or 96 for granted, is told so.
    asked = [(torch.rand(3, h, w, generator=generator), side) for h, w, side in ((8, 12, 4), (6, 4, 2))]
    given = [answer(picture.clone(), side) for picture, side in asked]
    varies(given, what="the pixels of this picture")
    for got, (picture, side) in zip(given, asked, strict=True):
        cut = picture.unfold(1, side, side).unfold(2, side, side)  # (3, rows, columns, side, side)
        traps = [
            (cut.permute(2, 1, 0, 3, 4), "patches go row by row: after the first comes its right neighbour"),
            (cut.permute(1, 2, 3, 4, 0), "colours first: each row holds a small picture (3, side, side)"),
            (cut.permute(1, 2, 0, 4, 3), "the pixels of a patch go row by row, too"),
            (picture, "reshape keeps the order of the numbers: it cuts lines of pixels, not squares"),
        ]
        same_tensor(
            got,
            cut.permute(1, 2, 0, 3, 4).reshape(-1, 3 * side * side),
            what=f"the patches of {picture.shape[1]} x {picture.shape[2]} pixels, side {side}",
            shape="one row for each patch, with its 3 * side * side numbers",
            traps=[(trap.reshape(-1, 3 * side * side), mistake) for trap, mistake in traps],
        )


@exercise("1.2", "What the last block adds to a patch is news from a few places that everybody listens to.")
def favourite(answer: Callable[..., object]) -> None:
    """The answer is a function: weights (1 + N, 1 + N) -> (row, column) of the patch most listened to."""
    # One patch is heard by all, another listens to everybody, and CLS has a favourite of its own: each
    # mistake finds another patch.
    grids = (
        _Attention(5, heard=(3, 1), listener=(0, 4), of_cls=(2, 2)),
        _Attention(4, heard=(1, 2), listener=(3, 0), of_cls=(0, 3)),
    )
    given = [
        tuple(
            int(number(i)) for i in listed(answer(grid.weights()), what="the answer", perhaps="(row, column)")
        )
        for grid in grids
    ]
    varies(given, what="the favourite of these weights")
    for found, grid in zip(given, grids, strict=True):
        if found != grid.heard:
            perhaps = grid.mistakes().get(found, "look at the hint")
            raise Wrong(f"{found} on a grid of {grid.side} x {grid.side}", f"{grid.heard}", perhaps)


class _Attention(NamedTuple):
    """A made-up attention on a square grid.

    Attributes:
        side: of the grid, in patches.
        heard: row and column of the patch that all patches listen to.
        listener: of one that listens more than others.
        of_cls: of the one that CLS listens to.
    """

    side: int
    heard: tuple[int, int]
    listener: tuple[int, int]
    of_cls: tuple[int, int]

    def token(self, place: tuple[int, int]) -> int:
        """Number of a patch's token; CLS is token 0."""
        return 1 + self.side * place[0] + place[1]

    def weights(self) -> Tensor:
        """(1 + N, 1 + N)."""
        weights = torch.full((1 + self.side**2, 1 + self.side**2), 0.01)
        weights[1:, self.token(self.heard)] += 0.3
        weights[:, 0] += 0.5
        weights[self.token(self.listener)] += 0.05
        weights[0, self.token(self.of_cls)] += 20.0
        return weights

    def mistakes(self) -> dict[tuple[int, ...], str]:
        """What each typical mistake finds."""
        return {
            self.listener: "you took the mean over columns: a row says to whom a token listens, a column who "
            "listens to it",
            self.of_cls: "CLS listens there; ask the patches only, weights[1:, ...]",
            (0, 0): "the first token is CLS, to which everybody listens here: leave out its column too",
            self.heard[::-1]: "row first, then column",
            divmod(
                self.token(self.heard), self.side
            ): "off by one: token 0 is CLS, so patch n is token n + 1",
        }


@exercise("1.3", "In mIoU every word counts alike, however few pixels it has.")
def miou(answer: Callable[..., object]) -> None:
    """The answer is a function: labels, truth, number of words -> mean IoU of the words that occur."""
    # Twelve pixels in which each way of averaging gives another number, and two words that occur nowhere.
    truth = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    labels = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 0, 1]])
    maps = {"12 pixels and 5 words, 3 of which occur": (labels, truth, 5)}
    for seed in (1, 2):
        # Word 3 is called and is nowhere, word 5 neither: drawn maps have what the twelve pixels have.
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(0, 3, (8, 9), generator=generator)
        called = torch.where(torch.rand(8, 9, generator=generator) < 0.6, drawn, drawn.roll(seed, 1))
        called[0, 0] = 3
        maps[f"72 pixels and 6 words, draw {seed}"] = (called, drawn, 6)
    given = {what: answer(called.clone(), is_.clone(), words) for what, (called, is_, words) in maps.items()}
    for what, value in given.items():
        if isinstance(value, Tensor) and value.isnan().any():
            rule = "a word that occurs nowhere gives 0 / 0: leave it out of the mean"
            raise Wrong("nan", f"{_miou_case(what, value, *maps[what]).truth:.3f}", rule)
    close_each([_miou_case(what, value, *maps[what]) for what, value in given.items()], tolerance=1e-3)


def _miou_case(what: str, got: object, labels: Tensor, truth: Tensor, words: int) -> Case:
    ious: list[float] = []
    recalls: list[float] = []
    for c in range(words):
        hit = ((labels == c) & (truth == c)).sum().item()
        is_, either = (truth == c).sum().item(), ((labels == c) | (truth == c)).sum().item()
        if either:
            ious.append(hit / either)
        if is_:
            recalls.append(hit / is_)
    traps = [
        (
            (labels == truth).double().mean().item(),
            "that is the share of right pixels: divide for each word, then take the mean",
        ),
        (
            sum(recalls) / len(recalls),
            "you divided by the pixels that are the word; those that were wrongly called it count as well",
        ),
        (sum(ious) / len(recalls), "a word that was called though it is not there counts too, with 0"),
        (sum(ious) / words, "you counted words that occur in neither as 0: leave them out"),
    ]
    return Case(what, got, sum(ious) / len(ious), traps)


@exercise("1.4", "Let patches mix with those that are like themselves, and they keep their place.")
@torch.no_grad()
def value_value(answer: Callable[..., object]) -> None:
    """The answer is a function: a pass through the tower before its last block -> patch tokens (B, N, W)."""
    width, generator = _clip().width, torch.Generator().manual_seed(0)
    towers = [
        TowerPass(torch.randn(2, 1 + rows * columns, width, generator=generator), (rows, columns), blocks)
        for rows, columns, blocks in ((3, 3, _clip().blocks[-1:]), (2, 4, _clip().blocks[:1]))
    ]
    given = [answer(tower) for tower in towers]
    varies(given, what="what this tower makes of its tokens")
    for got, tower in zip(given, towers, strict=True):
        _check_mixed(got, tower)


def _check_mixed(answer: object, tower: TowerPass) -> None:
    block, entering = tower.last, tower.entering
    q, k, v = project_qkv(block, entering)

    def mixed(a: Tensor, b: Tensor, scale: float = v.shape[-1] ** -0.5) -> Tensor:
        return project_out(block, (a @ b.transpose(-1, -2) * scale).softmax(-1) @ v)[:, 1:]

    truth = mixed(v, v)
    same_tensor(
        answer,
        truth,
        what=f"the result for 1 + {truth.shape[1]} tokens",
        shape="patch tokens only: drop CLS with [:, 1:]",
        traps=[
            (mixed(v, v, 1.0), "divide by the square root of d before the softmax"),
            (mixed(q, q), "those are queries with queries (ClearCLIP)"),
            (mixed(k, k), "those are keys with keys"),
            (mixed(q, k), "those are queries with keys, as the block was trained"),
            (truth + entering[:, 1:], "leave out the residual"),
            (READ_OUTS["value"](tower), "nothing was mixed: that is the read-out value"),
        ],
    )


class _Labelled(NamedTuple):
    """Scenes of one seed.

    Attributes:
        cosines: (R, S, N, C) of each read-out, in the order of `_BLENDED`.
        truth: (S, N) the word that most of a patch shows.
    """

    cosines: Tensor
    truth: Tensor

    def right(self, weights: Tensor) -> float:
        """Share of patches with their right word, under a weighted mean (R,) of the read-outs."""
        blended = torch.einsum("rsnc,r->snc", self.cosines, weights.to(self.cosines))
        return float((blended.argmax(-1) == self.truth).double().mean())


@functools.cache
def _labelled(seed: int) -> _Labelled:
    scenes = Collage("val", seed=seed, length=_SCENES)
    rendered = [scenes[i] for i in range(len(scenes))]
    images, masks = torch.stack([s.image for s in rendered]), torch.stack([s.mask for s in rendered])
    words = _clip().encode_text(scenes.names)
    dense = [F.normalize(each, dim=1) for each in _clip().encode_each(images, _BLENDED)]
    cosines = torch.stack([torch.einsum("bdhw,cd->bhwc", each, words).flatten(1, 2) for each in dense])
    side = images.shape[-1] // dense[0].shape[-1]
    area = F.avg_pool2d(F.one_hot(masks, len(words)).float().permute(0, 3, 1, 2), side)
    return _Labelled(cosines, area.flatten(2).argmax(1))


@exercise(
    "1.5",
    "Read-outs that err differently help each other; what was chosen on one set is reported on another.",
)
@torch.no_grad()
def blend(answer: Callable[..., object]) -> None:
    """The answer is a function.

    cosines (R, S, N, C), truth (S, N) -> R weights; on other scenes they must beat each read-out and the
    plain mean.
    """
    generator = torch.Generator().manual_seed(0)
    # Chosen on the one, judged on the other, and the other way round; the read-outs in another order.
    for chosen, kept in (_SEEDS, _SEEDS[::-1]):
        order = torch.randperm(len(_BLENDED), generator=generator)
        shown = _Labelled(_labelled(chosen).cosines[order], _labelled(chosen).truth)
        judged = _Labelled(_labelled(kept).cosines[order], _labelled(kept).truth)
        weights = tensor(
            answer(shown.cosines.clone(), shown.truth.clone()),
            (len(order),),
            what="the weights",
            perhaps="one weight for each read-out",
        )
        _check_blend(weights, judged)


def _check_blend(weights: Tensor, judged: _Labelled) -> None:
    if bool((weights < 0).any()) or not weights.sum() > 0:
        raise Wrong(
            f"{weights.tolist()}", "weights from 0 on, not all 0", "a read-out may be left out with 0"
        )
    # Each alone, and the mean of all, which asks for no choice.
    easy = max(judged.right(one) for one in (*torch.eye(len(weights)), torch.ones(len(weights))))
    score = judged.right(weights)
    if score > easy + _CLEARLY:
        return
    perhaps = "they may err alike: try pairs, and keep the one that is best on the scenes that you are given"
    if int((weights > 0).sum()) == 1:
        perhaps = "one read-out alone has nobody to correct it"
    elif bool((weights == weights[0]).all()):
        perhaps = "all alike, whatever the scenes say: the weak read-outs hold the others back"
    raise Wrong(
        f"{score:.3f} of the patches of other scenes right",
        f"more than {easy + _CLEARLY:.3f}: the best of each alone and the mean of all has {easy:.3f}",
        perhaps,
    )
