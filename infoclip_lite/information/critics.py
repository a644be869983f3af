"""Critics: functions f(x, y) that score how well x and y go together, what bounds their scores give, and
how they are trained.

Scores are a (b, b) matrix: entry (i, j) is f(x_i, y_j), so the diagonal holds pairs that belong
together and the rest pairs that do not. Whatever the bound, the best score is the log density ratio,
up to a constant or a function of y for some: ln p(x, y) / (p(x) p(y)). Every bound averages the products
of margins over the pairs i != j only, which are independent draws; pairs i = j are not [O].

In the formulas E is the mean over the diagonal, E' the mean over the pairs i != j.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from tqdm.auto import tqdm

Critic = Callable[[Tensor, Tensor], Tensor]
Bound = Callable[[Tensor], Tensor]


def infonce_bound(scores: Tensor) -> Tensor:
    """ln b + mean_i ln softmax_j(f_ij) at j = i: never above ln b.

    Source: van den Oord et al., arXiv 1807.03748, equations 4 and 5.

    Args:
        scores: (b, b), see the module.

    Returns:
        A scalar in nats.
    """
    return math.log(scores.shape[0]) + scores.log_softmax(1).diagonal().mean()


def nwj_bound(scores: Tensor) -> Tensor:
    """1 + E f - E' e^f: unbiased, and wild where f is large.

    Source: Nguyen, Wainwright and Jordan, arXiv 0809.0853.

    Args:
        scores: (b, b), see the module.

    Returns:
        A scalar in nats.
    """
    return 1 + scores.diagonal().mean() - log_mean_exp_apart(scores).exp()


def donsker_varadhan_bound(scores: Tensor) -> Tensor:
    """E f - ln E' e^f: the log of a mean makes small samples read high.

    Source: Belghazi et al., MINE, arXiv 1801.04062.

    Args:
        scores: (b, b), see the module.

    Returns:
        A scalar in nats.
    """
    return scores.diagonal().mean() - log_mean_exp_apart(scores)


def smile_bound(scores: Tensor, clip: float = 5.0) -> Tensor:
    """E f - ln E' clip(e^f, e^-clip, e^clip): less variance for some bias.

    Source: Song and Ermon, arXiv 1910.06222.

    Args:
        scores: (b, b), see the module.
        clip: in nats, where the log of the density ratio is cut off.

    Returns:
        A scalar in nats.
    """
    # The scores are clipped, which is the ratio clipped: e^f of a large score would overflow first.
    return scores.diagonal().mean() - log_mean_exp_apart(scores.clamp(-clip, clip))


def jensen_shannon_bound(scores: Tensor) -> Tensor:
    """E -softplus(-f) - E' softplus(f): no estimate, but a well-behaved objective.

    It is what SMILE's critic is trained with (Song and Ermon, arXiv 1910.06222).

    Args:
        scores: (b, b), see the module.

    Returns:
        A scalar, largest where f is the log density ratio.
    """
    b = scores.shape[0]
    positive = softplus(scores)
    apart = (positive.sum() - positive.diagonal().sum()) / (b * (b - 1))
    return -softplus(-scores.diagonal()).mean() - apart


def leave_one_out_bound(scores: Tensor) -> Tensor:
    """mean_i f_ii - ln mean_{j != i} e^f_ji: an upper bound when f is ln p(y|x).

    Source: Poole et al., arXiv 1905.06922, section 2.

    Args:
        scores: (b, b), entry (i, j) is ln p(y_j | x_i), up to a function of y_j.

    Returns:
        A scalar in nats.
    """
    b = scores.shape[0]
    # The mean for y_i is over the other x_j: down a column, without the diagonal.
    others = scores.masked_fill(torch.eye(b, dtype=torch.bool, device=scores.device), -math.inf)
    return (scores.diagonal() - others.logsumexp(0) + math.log(b - 1)).mean()


def club_bound(scores: Tensor) -> Tensor:
    """E f - E' f: an upper bound when f is ln p(y|x), to be minimised, never an estimate.

    Source: Cheng et al., arXiv 2006.12013.

    Args:
        scores: (b, b), entry (i, j) is ln p(y_j | x_i), up to a function of y_j.

    Returns:
        A scalar in nats.
    """
    b = scores.shape[0]
    return scores.diagonal().mean() - (scores.sum() - scores.diagonal().sum()) / (b * (b - 1))


def log_mean_exp_apart(scores: Tensor) -> Tensor:
    """ln E' e^f, by logsumexp: the exponential of a large score overflows, its logarithm does not.

    Args:
        scores: (b, b), see the module.

    Returns:
        A scalar.
    """
    b = scores.shape[0]
    others = scores.masked_fill(torch.eye(b, dtype=torch.bool, device=scores.device), -math.inf)
    return others.flatten().logsumexp(0) - math.log(b * (b - 1))


@dataclass(frozen=True)
class Training:
    """How a critic is trained.

    Attributes:
        steps: at most that many, each on one batch.
        hidden, embedding: widths of the networks.
        learning_rate: of Adam.
        every: steps between two looks at the validation samples.
        patience: looks without a new best before it stops; the best state is kept.
        seed: of initial weights, of the split and of the batches.
        progress: show a bar.
    """

    steps: int = 1000
    hidden: int = 64
    embedding: int = 16
    learning_rate: float = 2e-3
    every: int = 50
    patience: int = 5
    seed: int = 0
    progress: bool = False


class SeparableCritic(nn.Module):
    """f(x, y) = g(x) . h(y) + a(x) + c(y), all small networks; normal log ratios have this very form.

    Args:
        dim_x, dim_y: how many numbers a sample of x and of y has.
        hidden: width of the networks' two hidden layers.
        embedding: width of g and h.
    """

    def __init__(self, dim_x: int, dim_y: int, hidden: int = 64, embedding: int = 16) -> None:
        super().__init__()
        self.embedding = embedding
        # a and c are one more output of each network.
        self.x = _mlp(dim_x, hidden, embedding + 1)
        self.y = _mlp(dim_y, hidden, embedding + 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, dim_x), (m, dim_y) -> (n, m): n + m samples go through a network to score n m pairs."""
        g, h = self.x(x), self.y(y)
        # Scaled as attention is: of random vectors the product then begins at variance one in any width.
        return g[:, :-1] @ h[:, :-1].mT / math.sqrt(self.embedding) + g[:, -1:] + h[:, -1]


class GaussianConditional(nn.Module):
    """ln q(y|x), q a normal density whose mean and variances are a small network of x.

    It is trained by maximum likelihood.

    Args:
        dim_x, dim_y: how many numbers a sample of x and of y has.
        hidden: width of the network's two hidden layers.
    """

    def __init__(self, dim_x: int, dim_y: int, hidden: int = 64) -> None:
        super().__init__()
        self.network = _mlp(dim_x, hidden, 2 * dim_y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, dim_x), (m, dim_y) -> (n, m): entry (i, j) is ln q(y_j | x_i) in nats."""
        mean, log_scale = self.network(x).chunk(2, -1)
        # Bounded softly, to e^-5 .. e^5: a density that narrows on one sample has no largest likelihood.
        log_scale = 5 * torch.tanh(log_scale / 5)
        residual = (y[None] - mean[:, None]) * (-log_scale)[:, None].exp()  # (n, m, dim_y)
        return -(residual.square() / 2 + log_scale[:, None] + math.log(2 * math.pi) / 2).sum(-1)


def train_critic(
    critic: nn.Module, objective: Bound, x: Tensor, y: Tensor, batch_size: int, training: Training
) -> tuple[nn.Module, int]:
    """Maximise `objective` of the critic's scores; stop when held-out samples stop getting better.

    Args:
        critic: (b, dim_x), (b, dim_y) -> (b, b).
        objective: (b, b) scores -> scalar to maximise.
        x, y: (n, dim_x) and (n, dim_y) float32; the last quarter, in the order given, is held out.
        batch_size: pairs in a step.
        training: see there.

    Returns:
        The critic in its best state, and the steps taken.
    """
    cut = max(batch_size, x.shape[0] * 3 // 4)
    # A generator of its own: the critic is the same whatever else was drawn before.
    generator = torch.Generator().manual_seed(training.seed)
    optimizer = torch.optim.Adam(critic.parameters(), lr=training.learning_rate)
    best = -math.inf
    best_state = copy.deepcopy(critic.state_dict())
    stale = step = 0
    for step in tqdm(range(1, training.steps + 1), disable=not training.progress, desc="critic"):
        if cut > batch_size:
            index = torch.randint(cut, (batch_size,), generator=generator)
        else:
            index = torch.arange(cut)
        optimizer.zero_grad()
        (-objective(critic(x[index], y[index]))).backward()
        # NWJ's exponential gives a rare pair a gradient that would throw the critic off.
        nn.utils.clip_grad_norm_(critic.parameters(), 5.0)
        optimizer.step()
        if step % training.every == 0:
            # The best state is chosen by samples that the critic is not trained on: one that has learnt
            # its own samples by heart reads far too high.
            value = mean_over_batches(critic, objective, x[cut:], y[cut:], batch_size)
            if value > best:
                best, stale = value, 0
                best_state = copy.deepcopy(critic.state_dict())
                continue
            stale += 1
            if stale >= training.patience:
                break
    critic.load_state_dict(best_state)
    return critic.eval(), step


@torch.no_grad()
def mean_over_batches(critic: Critic, bound: Bound, x: Tensor, y: Tensor, batch_size: int) -> float:
    """The mean of `bound` over batches of pairs, in the order given.

    Args:
        critic: (b, dim_x), (b, dim_y) -> (b, b).
        bound: (b, b) scores -> scalar.
        x, y: (n, dim_x) and (n, dim_y).
        batch_size: pairs in a batch; with fewer samples, all of them are one.

    Returns:
        The mean, in the unit of `bound`; pairs that fill no batch are left out.
    """
    size = min(batch_size, x.shape[0])
    # Batches of one size only: a bound such as ln b depends on it, and a small last batch would pull.
    starts = range(0, x.shape[0] - size + 1, size)
    values = []
    for start in starts:
        scores = critic(x[start : start + size], y[start : start + size])
        values.append(bound(scores.double()))  # exponentials of float32 scores overflow at 88
    return float(torch.stack(values).mean())


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
