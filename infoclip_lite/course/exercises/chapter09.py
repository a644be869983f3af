"""Chapter 9: a body of one's own, CLIP's head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.statistics import interval, paired_interval
from ...objectives import SelectiveGlobalDistillation
from . import exercise
from .compare import Case, Wrong, answered, close_each, number, same_tensor, tensor, varies


class _Parts(NamedTuple):
    """What a semantic head is made of, and features for it.

    Attributes:
        features: (B, C, h, w) of a body.
        adapter: C to W, position by position.
        norm: of W.
        cls: (1, 1, W).
        block: tokens (B, 1 + h w, W) to tokens.
        ln_post: of W.
        proj: (W, D).
    """

    features: Tensor
    adapter: nn.Module
    norm: nn.Module
    cls: Tensor
    block: nn.Module
    ln_post: nn.Module
    proj: Tensor


def _parts(seed: int, grid: tuple[int, int], width: int, dim: int) -> _Parts:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norms = [nn.LayerNorm(width) for _ in range(2)]
        for norm in norms:
            # A gain and a bias of its own: a norm that is left out, or the other one, is seen.
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
        return _Parts(
            torch.randn(2, 5, *grid),
            nn.Conv2d(5, width, 1),
            norms[0],
            torch.randn(1, 1, width),
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True).eval(),
            norms[1],
            torch.randn(width, dim),
        )


@exercise(
    "9.1",
    "Adapt, put a CLS in front, one block of CLIP, CLIP's way out: five lines, and only the first two of "
    "them are trained.",
)
def semantic_head(answer: Callable[..., object]) -> None:
    """The answer is a function.

    features, adapter, norm, cls, block, ln_post, proj -> (B, D, h, w), not of unit length.
    """
    drawn = [_parts(0, (3, 4), 8, 6), _parts(1, (5, 2), 12, 4)]
    with torch.no_grad():
        given = [answered(answer(*parts)) for parts in drawn]
        varies(given, what="an embedding at each position of the features that it gets")
        for got, parts in zip(given, drawn, strict=True):
            _check_head(got, parts)


def _check_head(got: object, parts: _Parts) -> None:
    features, adapter, norm, cls, block, ln_post, proj = parts
    grid = features.shape[2:]

    def out(patches: Tensor, front: Tensor | None, after: nn.Module = ln_post, first: int = 1) -> Tensor:
        """The way through the block, with choices that a slip would change."""
        tokens = patches if front is None else torch.cat([front, patches], 1)
        through = block(tokens)
        kept = through if front is None else through[:, first : first + patches.shape[1]]
        return (after(kept) @ proj).mT.unflatten(2, grid)

    adapted = adapter(features).flatten(2).mT
    front = cls.expand(len(features), -1, -1)
    wanted = out(norm(adapted), front)
    traps = [
        (out(norm(adapted), None), "no CLS was put in front of the patches: the block expects one"),
        (
            out(norm(adapted), front, first=0),
            "CLS stands in front: it is the first token that goes, not the last",
        ),
        (
            out(adapted, front),
            "the adapter's norm is missing: it gives tokens the scale that the block knows",
        ),
        (out(norm(adapted), front, nn.Identity()), "ln_post is missing: the projection was learnt behind it"),
        (
            wanted.flatten(2).mT.reshape(wanted.shape),
            "right numbers in wrong places: reshape does not transpose; first .mT, then unflatten",
        ),
        (F.normalize(wanted, dim=1), "those are of unit length already: the model scales them later"),
    ]
    same_tensor(
        got,
        wanted,
        what="the output",
        shape="(B, D, h, w): drop CLS, multiply by proj, and put positions back into their grid",
        traps=traps,
    )


@exercise(
    "9.2",
    "A frozen weight is a constant: it learns nothing, and the gradient passes it on its way to the body.",
)
def through_frozen(answer: Callable[..., object]) -> None:
    """The answer is a function: block, tokens -> output; tokens get a gradient, the block's weights none."""
    for seed, width in ((0, 16), (1, 8)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            block = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
            tokens = torch.randn(2, 5, width, requires_grad=True)
        _check_passed(answer, block, tokens)


def _check_passed(answer: Callable[..., object], block: nn.Module, tokens: Tensor) -> None:
    truth = block(tokens).detach()
    out = answered(answer(block, tokens))
    value = tensor(
        out.detach() if isinstance(out, Tensor) else out,
        truth.shape,
        what="the output",
        perhaps="return what the block returns",
    )
    if not torch.allclose(value, truth.double(), atol=1e-5):
        unchanged = torch.allclose(value, tokens.detach().double())
        advice = "call the block once, on the tokens as they are"
        raise Wrong(
            "the tokens themselves" if unchanged else "another output",
            "what the block makes of the tokens",
            "the block was not used at all: " + advice if unchanged else advice,
        )
    if not (isinstance(out, Tensor) and out.requires_grad):
        wall = "that is a wall: no_grad and detach forget the tokens as well; freeze the weights alone"
        raise Wrong(
            "an output that no gradient can leave", "one through which the tokens get a gradient", wall
        )
    out.square().sum().backward()
    if tokens.grad is None or not tokens.grad.any():
        raise Wrong(
            "tokens without a gradient", "tokens with one", "that is a wall: did you detach the tokens?"
        )
    if any(p.grad is not None for p in block.parameters()):
        raise Wrong(
            "weights with gradients",
            "none at the block's weights",
            "the block is not frozen yet: say so to its weights",
        )


@exercise(
    "9.3",
    "A frozen way to the words holds for all of them; a trained one is determined by the seen words only.",
)
def another_way(answer: Callable[..., object]) -> None:
    """The answer is a function.

    weight (D, W), seen (C, D), unseen (D,) -> another weight: the same logits of the seen words for any
    feature, others of the unseen one.
    """
    drawn = []
    for width, joint, words in ((6, 10, 4), (5, 16, 9)):
        generator = torch.Generator().manual_seed(joint)
        drawn.append(
            (
                torch.randn(joint, width, generator=generator, dtype=torch.float64),
                nn.functional.normalize(torch.randn(words, joint, generator=generator, dtype=torch.float64)),
                nn.functional.normalize(torch.randn(joint, generator=generator, dtype=torch.float64), dim=0),
            )
        )
    given = [answer(weight.clone(), seen.clone(), unseen.clone()) for weight, seen, unseen in drawn]
    varies(given, what="another weight beside the one that it gets")
    for got, (weight, seen, unseen) in zip(given, drawn, strict=True):
        rule = "a matrix of the shape of `weight`"
        other = tensor(got, weight.shape, what="the other weight", perhaps=rule)
        # Logits of any feature f are words @ weight @ f: they are alike for all f if these rows are.
        of_seen = float((seen @ (other - weight)).abs().max())
        of_unseen = float((unseen @ (other - weight)).abs().max())
        moved = f"seen logits moved by up to {of_seen:.3f}, the unseen one's by {of_unseen:.3f} a feature"
        expected = "not at all for seen words (to 0.0001), at least 0.1 for the unseen one"
        if bool((other == weight).all()):
            raise Wrong(moved, expected, "nothing was changed: which directions does no seen word touch?")
        if of_seen > 1e-4:
            advice = (
                "what you add has to be orthogonal to every seen word: take off its part in their span first"
            )
            raise Wrong(moved, expected, advice)
        if of_unseen < 0.1:
            raise Wrong(moved, expected, "the change does not reach the unseen word, or is too small")


@exercise(
    "9.4",
    "A frozen block knows tokens of one scale, channel by channel; bring them to it, and it says "
    "what it was taught to say.",
)
def matched(answer: Callable[..., object]) -> None:
    """The answer is a function.

    tokens, theirs (B, N, W) -> tokens with theirs' mean and deviation a channel.
    """
    for seed, pictures in ((0, 4), (1, 3)):
        generator = torch.Generator().manual_seed(seed)
        # Each channel has a scale of its own: one deviation for all of them does not pass.
        scale, shift = torch.linspace(1, 6, 8), torch.linspace(-2, 3, 8)
        tokens, theirs = (torch.randn(pictures, 9, 8, generator=generator) for _ in range(2))
        theirs = theirs * scale + shift
        _check_matched(answer(tokens.clone(), theirs.clone()), tokens, theirs)


def _check_matched(answer: object, tokens: Tensor, theirs: Tensor) -> None:
    perhaps = "return the moved tokens, in the shape they came in"
    got = tensor(answer, tokens.shape, what="the result", perhaps=perhaps)
    spread, middle = theirs.double().flatten(0, 1).std(0), theirs.double().flatten(0, 1).mean(0)
    worst = float((got.flatten(0, 1).std(0) / spread - 1).abs().max())
    if worst > 0.03:
        one = abs(float(got.std() / theirs.double().std()) - 1) < 0.03
        perhaps = (
            "one deviation for all channels: take std over B and N only"
            if one
            else "divide by your own deviation, then times theirs"
        )
        raise Wrong(f"deviations that are up to {worst:.0%} off", "those of theirs in each channel", perhaps)
    off = float((got.flatten(0, 1).mean(0) - middle).abs().max())
    if off > 0.02:
        raise Wrong(
            f"means that are up to {off:.2f} off",
            "those of theirs in each channel",
            "subtract your own mean first, and add theirs last",
        )
    own = tokens.double().flatten(0, 1)
    if not torch.allclose(got.flatten(0, 1), (own - own.mean(0)) / own.std(0) * spread + middle, atol=0.2):
        raise Wrong(
            "tokens that say something else", "your tokens, moved and stretched", "return tokens, not theirs"
        )


@exercise(
    "9.5",
    "One embedding of the whole teaches every position a little: the summary of all of them has to be found "
    "among other pictures.",
)
def global_loss(answer: Callable[..., object]) -> None:
    """The answer is a function.

    S (B, D), R (B, N, D), queue (Q, D), temperature -> InfoNCE of the summaries of R, in nats.
    """
    cases = []
    for seed, (batch, waiting, temperature) in enumerate(((4, 6, 0.2), (6, 3, 0.1), (3, 0, 0.3))):
        generator = torch.Generator().manual_seed(seed)
        dim = 4  # small, so that weights over its root still differ

        def drawn(*shape: int, generator: torch.Generator = generator) -> Tensor:
            return F.normalize(torch.randn(*shape, generator=generator), dim=-1)

        image, dense, queue = drawn(batch, dim), drawn(batch, 5, dim), drawn(waiting, dim)
        got = answer(image.clone(), dense.clone(), queue.clone(), temperature)
        got = got.detach() if isinstance(got, Tensor) else got
        cases.append(_global_case(image, dense, queue, temperature, got))
    close_each(cases, tolerance=1e-3, unit=" nats")


def _global_case(image: Tensor, dense: Tensor, queue: Tensor, temperature: float, got: object) -> Case:
    batch, dim = image.shape
    module = SelectiveGlobalDistillation(dim, schedule="constant", queue=len(queue), temperature=temperature)
    module.load_state_dict({"queue": queue, "filled": torch.tensor(len(queue))})
    truth = float(module.eval()(image, dense)["global"])
    similar = torch.einsum("bd,bnd->bn", image, dense)
    right = torch.arange(batch)

    def loss(weights: Tensor, candidates: Tensor, tau: float = temperature, unit: bool = True) -> float:
        summary = torch.einsum("bn,bnd->bd", weights, dense)
        summary = F.normalize(summary, dim=-1) if unit else summary
        return float(F.cross_entropy(summary @ candidates.T / tau, right))

    weights, every = (similar / dim**0.5).softmax(-1), torch.cat([image, queue])
    traps = [
        (loss(weights, image), "the queue holds candidates, too"),
        (loss(weights, every, unit=False), "a summary is scaled to unit length before it is compared"),
        (
            loss(weights, every, tau=1.0),
            "where is the temperature? Divide the cosines with the candidates by it",
        ),
        (loss(similar.softmax(-1), every), "the weights are softmax(S R / root of D): the root is missing"),
        (
            loss(torch.ones_like(similar) / 5, every),
            "that is the plain mean: weigh positions by their likeness to S",
        ),
        (batch * truth, "that is a sum: take the mean over the pictures"),
        (-truth, "a loss is minus the logarithm of a probability: the sign"),
    ]
    return Case(f"{batch} pictures and a queue of {len(queue)}", got, truth, traps)


_Curve = Mapping[int, Sequence[float]]  # step -> hIoU of each seed
_LOOKS = (200, 400, 800, 1600, 4000)


@exercise(
    "9.6",
    "A curve that crosses once is not ahead: the head is the better buy from where it is surely better, and "
    "stays so.",
)
def better_buy(answer: Callable[..., object]) -> None:
    """The answer is a function.

    linear, head {step: hIoU of each seed} -> the first step from which on the paired 95% interval of head
    minus linear is above zero at every look; infinity if there is none.
    """
    # Gaps in points at each look: early, late after a false start, never though always ahead on average.
    gaps = ((-2.0, 1.5, 1.8, 2.0, 2.2), (1.5, -1.0, 0.2, 1.6, 12.0), (0.2, 0.3, 0.2, 0.4, 0.3))
    cases = []
    for number_, of in enumerate(gaps):
        linear, head = _curves(of, seed=number_)
        sure = [paired_interval(head[step], linear[step]).low > 0 for step in _LOOKS]
        alone = [interval(head[step]).low > interval(linear[step]).high for step in _LOOKS]
        ahead = [fmean(head[step]) > fmean(linear[step]) for step in _LOOKS]
        traps = [
            (_from_then_on(ahead), "that looks at means alone: is the difference more than seeds differ?"),
            (_first(sure), "that is the first look at which it is ahead: it falls behind again later"),
            (_first(ahead), "that is the first look with the larger mean: how sure is it, and does it stay?"),
            (
                _from_then_on(alone),
                "those intervals are not paired: the same seed has the same scenes in both",
            ),
        ]
        got = answer(dict(linear), dict(head))
        cases.append(Case(f"curve {number_ + 1}", got, _from_then_on(sure), traps))
    varies([case.got for case in cases], what="a step that depends on the curves")
    for case in cases:
        _same_step(case)


def _curves(gaps: Sequence[float], seed: int) -> tuple[_Curve, _Curve]:
    """Five seeds that differ by far more than the heads do, and alike in both: only pairs can tell."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.linspace(-0.04, 0.04, 5)[torch.randperm(5, generator=generator)]
    linear: dict[int, list[float]] = {}
    head: dict[int, list[float]] = {}
    for place, (step, gap) in enumerate(zip(_LOOKS, gaps, strict=True)):
        noise = torch.tensor([-0.5, 0.6, -0.1, 0.3, -0.3])[torch.randperm(5, generator=generator)] / 100
        base = 0.10 + 0.03 * place + own
        linear[step], head[step] = base.tolist(), (base + gap / 100 + noise).tolist()
    return linear, head


def _first(holds: Sequence[bool]) -> float:
    return next((step for step, each in zip(_LOOKS, holds, strict=True) if each), math.inf)


def _from_then_on(holds: Sequence[bool]) -> float:
    """The first look from which on it always holds."""
    return _first([all(holds[place:]) for place in range(len(holds))])


def _same_step(case: Case) -> None:
    """Infinity has no distance to be near by."""
    got = number(case.got, case.what)
    if got == case.truth:
        return
    perhaps = next((mistake for trap, mistake in case.traps if got == trap), "look at the hint")
    raise Wrong(f"{got:g} for {case.what}", f"{case.truth:g}", perhaps)
