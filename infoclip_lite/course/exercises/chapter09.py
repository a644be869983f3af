"""Chapter 9: the chimera."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...clip import load_clip
from ...segmentors import ChimeraSeg
from . import exercise
from .compare import Case, Wrong, answered, close_each, tensor, varies


@functools.cache
def _chimera() -> ChimeraSeg:
    torch.manual_seed(0)
    return ChimeraSeg(load_clip("collage-mini"), weights=None).eval()


@exercise(
    "9.1", "One block and the way out are a tenth of ViT-B/16's image encoder; nine tenths stay at home."
)
def borrowed(answer: Callable[..., object]) -> None:
    """The answer is a function.

    width, joint -> weights of a block and the projection (7.5 million), within 1%.
    """
    cases = []
    # Three widths: a formula is asked for, not a number.
    for width, joint in ((768, 512), (256, 256), (1024, 640)):
        block = sum(p.numel() for p in nn.TransformerEncoderLayer(width, 4, 4 * width).parameters())
        truth = block + 2 * width + width * joint
        traps = [
            (block, "the projection is borrowed, too"),
            (4 * width**2 + width * joint, "that is attention alone: the feed-forward layers are 8 w^2"),
            (8 * width**2 + width * joint, "that is the feed-forward layers alone: attention is 4 w^2"),
            (12 * (12 * width**2) + width * joint, "one block, not all twelve"),
            (truth / 1e6, "that is in millions: return the number itself"),
        ]
        cases.append(Case(f"width {width}, joint space {joint}", answer(width, joint), truth, traps))
    close_each(cases, tolerance=0.01, relative=True)


@exercise(
    "9.2",
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
    "9.3",
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


@exercise("9.4", "Attention and maps of single positions do not know where; the place comes from the body.")
def cares_for_place(answer: Callable[..., object]) -> None:
    """The answer is a function.

    head, features (B, C, h, w), order -> largest difference; 0 for CLIP's head.
    """
    generator = torch.Generator().manual_seed(0)
    features, order = torch.randn(2, 256, 4, 6, generator=generator), torch.randperm(24, generator=generator)
    torch.manual_seed(0)
    # Convolutions too: who returns 0 for everything has not looked.
    parts = {
        "CLIP's head": _chimera().head,
        "a convolution": nn.Conv2d(256, 8, 3, padding=1),
        "a convolution of single positions": nn.Conv2d(256, 8, 1),
    }

    def shuffle(maps: Tensor) -> Tensor:
        return maps.flatten(2)[:, :, order].unflatten(2, (4, 6))

    cases = []
    for name, part in parts.items():
        with torch.no_grad():
            moved, plain = part(shuffle(features)), part(features)
        gap = moved - shuffle(plain)
        traps = [
            (
                float((moved - plain).abs().max()),
                "the output moves along with the positions: shuffle the second output, too",
            ),
            (float(gap.abs().mean()), "that is the mean: take the largest"),
            (float(gap.max()), "take the absolute value before the largest"),
        ]
        got = answer(part, features.clone(), order.clone())
        got = got.detach() if isinstance(got, Tensor) else got
        cases.append(Case(name, got, float(gap.abs().max()), traps))
    close_each(cases, tolerance=1e-4, otherwise="compare head(shuffled) with shuffled head(features)")


@exercise(
    "9.5",
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
