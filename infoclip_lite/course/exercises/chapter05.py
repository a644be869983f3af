"""Chapter 5: compression."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...objectives import LPAM, compression_loss
from ...objectives.infoclip import Axis
from . import exercise
from .compare import Case, Wrong, answered, close_each, number, same_tensor, varies

# A loss of pictures (B, N, D), words (C, D) and their relation (B, N, C).
_Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@exercise(
    "5.1",
    "A common part makes all samples look alike; subtract the mean over the samples, then scale each "
    "to length one.",
)
def centred_gram(answer: Callable[..., object]) -> None:
    """The answer is a function: (n, d) -> (n, n), the centred Gram matrix of trace one."""
    # Far from zero, so that whether and when the mean is subtracted shows in every entry.
    drawn = [
        3 + torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
        for n, d in ((6, 4), (5, 9))
    ]
    given = [answer(x.clone()) for x in drawn]
    varies(given, what="the table of these samples")

    def table(z: Tensor) -> Tensor:
        return z @ z.T / z.square().sum()

    for got, x in zip(given, drawn, strict=True):
        truth, unit = table(F.normalize(x - x.mean(0), dim=1)), F.normalize(x, dim=1)
        same_tensor(
            got,
            truth,
            what=f"the table of {len(x)} samples",
            shape="samples by samples: x @ x.T, not x.T @ x",
            tolerance=1e-5,
            traps=[
                (truth * len(x), "the trace is not one: divide by it"),
                (table(unit), "nothing was subtracted"),
                (
                    table(F.normalize(x - x.mean(1, keepdim=True), dim=1)),
                    "you subtracted each sample's own mean: take the mean over the samples, dim 0",
                ),
                (table(unit - unit.mean(0)), "you scaled first and centred afterwards: centre first"),
                (table(x - x.mean(0)), "the samples are not of length one"),
            ],
            otherwise="centre, scale, multiply, divide by the trace",
        )


@exercise(
    "5.2",
    "At order 2 the loss is a ratio of sums of squares: what the relation and the patches have in common "
    "makes it large.",
)
def compression(answer: Callable[..., object]) -> None:
    """The answer is a function.

    dense (B, N, D), relation (B, N, C) -> L_c in bits, patches as samples, mean over the pictures.
    """
    cases = []
    for pictures, patches in ((3, 7), (2, 12)):
        generator = torch.Generator().manual_seed(patches)
        dense = 0.5 + torch.randn(pictures, patches, 6, generator=generator, dtype=torch.float64)
        words = torch.randn(5, 6, generator=generator, dtype=torch.float64)
        relation = dense @ words.T
        cases.append(_compression_case(dense, words, relation, answer(dense.clone(), relation.clone())))
    close_each(cases, tolerance=1e-4, unit=" bits")


def _compression_case(dense: Tensor, words: Tensor, relation: Tensor, got: object) -> Case:
    def gram(x: Tensor) -> Tensor:
        x = F.normalize(x, dim=-1)
        return x @ x.mT / x.shape[-2]

    def bits(g: Tensor) -> Tensor:
        return -torch.log2(g.square().sum((-2, -1)))

    of_dense, of_relation = gram(dense), gram(relation)
    joint = of_dense * of_relation
    whole = joint / joint.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    truth = compression_loss(dense, words, relation, axis="pixel").item()
    pictures = compression_loss(dense, words, relation, axis="batch").item()
    traps = [
        (-truth, "the sign: S(R) minus the entropy of all of them together"),
        (truth * math.log(2), "that is nats: use log2"),
        (pictures, "those are pictures as samples: a Gram matrix of patches for each picture, then the mean"),
        ((bits(of_relation) - bits(joint)).mean().item(), "the joint table has to have trace one again"),
        (
            (bits(of_dense) + bits(of_relation) - bits(whole)).mean().item(),
            "that is the information I(D_V; R): L_c leaves out S(D_V), which LPAM cannot change",
        ),
    ]
    return Case(f"{len(dense)} pictures of {dense.shape[1]} patches", got, truth, traps)


def _losses() -> dict[str, tuple[_Loss, bool]]:
    """Losses, and whether each sees the text while the relation stays; the package's three among them."""

    def axis(name: Axis) -> _Loss:
        return lambda dense, text, relation: compression_loss(dense, text, relation, axis=name)

    return {
        "compression, words as samples": (axis("class"), True),
        "compression, patches as samples": (axis("pixel"), False),
        "a mean of the relation": (lambda dense, text, relation: relation.square().mean(), False),
        "how the words lie to each other": (lambda dense, text, relation: (text @ text.T).std(), True),
        "compression, pictures as samples": (axis("batch"), False),
        "how well the relation is a product": (
            lambda dense, text, relation: (dense @ text.T - relation).abs().mean(),
            True,
        ),
    }


@exercise(
    "5.3",
    "With pictures or patches as samples the text acts only through the relation; words as samples "
    "give it a table of its own.",
)
def sees_text(answer: Callable[..., object]) -> None:
    """The answer is a function: loss -> whether other words change it while the relation stays."""
    given = {name: answered(answer(loss)) for name, (loss, _) in _losses().items()}
    varies([bool(got) for got in given.values()], what="True for some losses, False for others")
    for name, (_, truth) in _losses().items():
        got = given[name]
        if isinstance(got, str) or bool(got) != truth:
            perhaps = (
                "use words that differ from one another, and look at the size of the change, not its sign"
                if truth
                else "did the relation change too? Keep the same one for both calls"
            )
            raise Wrong(f"{got!r} for {name}", repr(truth), perhaps)


@exercise("5.4", "Near order 1 the many small eigenvalues still count; a square looks at the one large one.")
def bits_left(answer: Callable[..., object]) -> None:
    """The answer is a function.

    (alpha, share, n) -> bits; of 0.95 and 144 some 0.15 at order 2, 0.62 at 1.01.
    """
    asked = ((2.0, 0.95, 144), (1.01, 0.95, 144), (2.0, 0.6, 20), (3.0, 0.8, 50))
    close_each(
        [_left_case(alpha, share, n, answer(alpha, share, n)) for alpha, share, n in asked],
        tolerance=0.005,
        unit=" bits",
    )


def _left_case(alpha: float, share: float, n: int, got: object) -> Case:
    power = share**alpha + (n - 1) * ((1 - share) / (n - 1)) ** alpha
    truth = math.log2(power) / (1 - alpha)
    traps = [
        (math.log(power) / (1 - alpha), "that is nats: use log2"),
        (-truth, "the sign: divide by 1 - alpha"),
        (math.log2(power), "divide by 1 - alpha"),
        (
            math.log2(share**alpha) / (1 - alpha),
            "the other eigenvalues are missing: they are small, but there are n - 1 of them",
        ),
        (
            math.log2(share**alpha + (1 - share) ** alpha) / (1 - alpha),
            "the rest is shared by n - 1 eigenvalues, not one",
        ),
    ]
    # A mistake that gives the right number is none.
    traps = [trap for trap in traps if abs(trap[0] - truth) > 0.01]
    return Case(f"order {alpha:g}, share {share:g} of {n}", got, truth, traps)


@exercise(
    "5.5",
    "A caption says what, not where: enough to tell useful bits from idle ones without a single pixel label.",
)
def brake(answer: Callable[..., object]) -> None:
    """The answer is a function: relation (B, N, C), named (B, C) -> loss, low where named words stand out."""
    for seed, pictures, words in ((0, 3, 5), (1, 4, 7)):
        generator = torch.Generator().manual_seed(seed)
        named = torch.rand(pictures, words, generator=generator) < 0.4
        # Every picture has named words and others, or there would be nothing to tell apart.
        named[:, 0], named[:, 1] = True, False
        _check_brake(answer, named, generator)


def _check_brake(answer: Callable[..., object], named: Tensor, generator: torch.Generator) -> None:
    pictures, words = named.shape
    # Open: any loss will do that tells named words from others. Judged are its order and its gradient.
    noise = 0.1 * torch.randn(pictures, 9, words, generator=generator)
    peak = torch.zeros(pictures, 9, words)
    peak[:, 4] = 4.0
    right, wrong = noise - 2 + peak * named[:, None], noise - 2 + peak * ~named[:, None]
    low, high = number(answer(right, named), "the loss"), number(answer(wrong, named), "the loss")
    if low == high:
        raise Wrong(
            f"{low:.3f} whichever words light up",
            "less where the named ones do",
            "the loss does not look at which words are named, or not at the relation",
        )
    if not low < high:
        raise Wrong(
            f"{low:.3f} where named words light up, {high:.3f} where the others do",
            "less for the named ones",
            "a loss goes down when things get better: change the sign",
        )
    # A relation that has collapsed to zeros must not be the best any more.
    collapsed = torch.zeros(pictures, 9, words).requires_grad_()
    start = answer(collapsed, named)
    if not (isinstance(start, Tensor) and start.requires_grad):
        raise Wrong(
            "a loss that has lost its gradient",
            "a tensor that can be followed back to the relation",
            "no .item(), argmax or > on the way",
        )
    if not low < start.item():
        raise Wrong(
            f"{start.item():.3f} for a relation of zeros, {low:.3f} for the right one",
            "more for the zeros",
            "collapse is still rewarded",
        )
    (pull,) = torch.autograd.grad(start, collapsed)
    if not (pull.sum(1)[named].max() < 0 and pull.sum(1)[~named].min() > 0):
        advice = "compare named words with the others: raising all words is no answer"
        raise Wrong(
            "a gradient that does not part the words", "named words pulled up, all others down", advice
        )


@exercise(
    "5.6",
    "Two norms and two linear layers, whatever the pictures and the words are: one module for teacher and "
    "student.",
)
def alignment(answer: Callable[..., object]) -> None:
    """The answer is a class of `nn.Module`: dim -> (dense (B, N, D), text (C, D)) -> relation (B, N, C)."""
    asked = ((0, 8), (1, 12), (2, 5))
    if isinstance(answer, nn.Module):
        raise Wrong("a module", "its class", "hand over `Aligner` itself: `check` makes modules of it")
    given = [answered(answer(dim)) for _, dim in asked]
    varies(given, what="a module of this width")
    for module, (seed, dim) in zip(given, asked, strict=True):
        if isinstance(module, LPAM) or not isinstance(module, nn.Module):
            advice = "write a class of `torch.nn.Module` and hand over the class"
            raise Wrong(f"a {type(module).__name__} for {dim} numbers", "a module of your own", advice)
        generator = torch.Generator().manual_seed(seed)
        # Of other lengths and means than a norm leaves: whoever forgets one shows it.
        dense, text = (1 + 2 * torch.randn(*shape, dim, generator=generator) for shape in ((2, 6), (4,)))
        answered(module(dense, text))
        truth = _drawn_lpam(dim, seed)
        _check_layers(module, truth)
        module.load_state_dict(truth.state_dict())
        got = module(dense, text)
        same_tensor(
            got,
            truth(dense, text),
            what=f"the relation of {dim} numbers",
            shape="(B, N, C): every patch with every word",
            traps=_relation_traps(truth, dense, text),
            tolerance=1e-3,
        )
        _check_learns(module, got)


def _drawn_lpam(dim: int, seed: int) -> LPAM:
    """LPAM with weights that no training begins with, so that each of them shows."""
    lpam, generator = LPAM(dim), torch.Generator().manual_seed(100 + seed)
    with torch.no_grad():
        for weights in lpam.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator))
    return lpam


def _check_layers(module: nn.Module, truth: LPAM) -> None:
    got, wanted = (
        {name: tuple(weights.shape) for name, weights in each.state_dict().items()}
        for each in (module, truth)
    )
    if got == wanted:
        return
    other = sorted({name for name, _ in got.items() ^ wanted.items()})
    perhaps = (
        "two `nn.LayerNorm(dim)`, norm_dense and norm_text, and two `nn.Linear(dim, dim)`, query and key"
    )
    raise Wrong(f"other weights in {', '.join(other)}", f"those of {', '.join(wanted)}", perhaps)


def _relation_traps(lpam: LPAM, dense: Tensor, text: Tensor) -> list[tuple[Tensor, str]]:
    """What typical slips give."""
    v, t = lpam.norm_dense(dense), lpam.norm_text(text)
    root = dense.shape[-1] ** 0.5
    learned, plain = lpam.query(v) @ lpam.key(t).T, v @ t.T
    return [
        (plain, "that is the plain product alone: the learnt one is missing"),
        (learned / root, "that is the learnt product alone: the plain one stands beside it"),
        (plain + learned, "divide the learnt product by the root of D"),
        (plain + learned / root**2, "the root of D, and not D"),
        ((plain + learned) / root, "only the learnt product is divided by the root of D"),
        (dense @ text.T + learned / root, "the plain product is of the normed vectors, too"),
        (
            plain + lpam.query(dense) @ lpam.key(text).T / root,
            "the linear layers are given the normed vectors",
        ),
        (
            plain + lpam.key(v) @ lpam.query(t).T / root,
            "the query is made of the patches, the key of the words",
        ),
        ((plain + learned / root).softmax(-1), "no softmax: a relation is a table of plain numbers"),
    ]


def _check_learns(module: nn.Module, relation: object) -> None:
    if isinstance(relation, Tensor) and relation.requires_grad:
        relation.square().sum().backward()
    still = [name for name, weights in module.named_parameters() if weights.grad is None]
    if still:
        advice = "no detach and no no_grad inside: compression and transfer train these layers"
        raise Wrong(f"the right numbers, and no gradient at {', '.join(still)}", "one at every layer", advice)
