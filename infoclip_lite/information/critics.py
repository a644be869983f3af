"""Critics: functions f(x, y) that score how well x and y go together, the bounds on information made of their
scores, and their training.

Scores are a (b, b) matrix: entry (i, j) is f(x_i, y_j), so the diagonal holds pairs that belong together and
the rest pairs that do not. Whatever the bound, the best score is the log density ratio ln p(x, y) / (p(x)
p(y)), up to a constant or a function of y for some. Every bound averages the products of margins over the
pairs i != j only, which are independent draws; pairs i = j are not [O].
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
    """ln b + mean_i ln softmax_j(f_ij) at j = i, nats: never above ln b (van den Oord et al., arXiv
    1807.03748, eq. 4 and 5).
    """
    return math.log(scores.shape[0]) + scores.log_softmax(1).diagonal().mean()


def nwj_bound(scores: Tensor) -> Tensor:
    """1 + E f - E' e^f, nats: unbiased, and wild where f is large (Nguyen, Wainwright and Jordan, arXiv
    0809.0853).
    """
    return 1 + scores.diagonal().mean() - log_mean_exp_apart(scores).exp()


def donsker_varadhan_bound(scores: Tensor) -> Tensor:
    """E f - ln E' e^f, nats (Belghazi et al., MINE, arXiv 1801.04062); the log of a mean makes small samples
    read high.
    """
    return scores.diagonal().mean() - log_mean_exp_apart(scores)


def smile_bound(scores: Tensor, clip: float = 5.0) -> Tensor:
    """E f - ln E' clip(e^f, e^-clip, e^clip), nats: less variance for some bias (Song and Ermon, arXiv
    1910.06222).
    """
    return scores.diagonal().mean() - log_mean_exp_apart(scores.clamp(-clip, clip))


def jensen_shannon_bound(scores: Tensor) -> Tensor:
    """E -softplus(-f) - E' softplus(f): no estimate, the well-behaved objective that SMILE's critic is
    trained with (same paper).
    """
    b = scores.shape[0]
    positive = softplus(scores)
    apart = (positive.sum() - positive.diagonal().sum()) / (b * (b - 1))
    return -softplus(-scores.diagonal()).mean() - apart


def leave_one_out_bound(scores: Tensor) -> Tensor:
    """mean_i f_ii - ln mean_{j != i} e^f_ji, nats: an upper bound when f is ln p(y|x) (Poole et al., arXiv
    1905.06922, section 2).
    """
    b = scores.shape[0]
    others = scores.masked_fill(torch.eye(b, dtype=torch.bool, device=scores.device), -math.inf)
    return (scores.diagonal() - others.logsumexp(0) + math.log(b - 1)).mean()


def club_bound(scores: Tensor) -> Tensor:
    """E f - E' f, nats: an upper bound when f is ln p(y|x), to be minimised, never an estimate (Cheng et al.,
    arXiv 2006.12013).
    """
    b = scores.shape[0]
    return scores.diagonal().mean() - (scores.sum() - scores.diagonal().sum()) / (b * (b - 1))


def log_mean_exp_apart(scores: Tensor) -> Tensor:
    """ln of the mean of e^f over the pairs i != j."""
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
    """f(x, y) = g(x) . h(y) + a(x) + c(y), all small networks: b calls score b^2 pairs; normal log ratios
    have this very form.
    """

    def __init__(self, dim_x: int, dim_y: int, hidden: int = 64, embedding: int = 16) -> None:
        super().__init__()
        self.embedding = embedding
        self.x, self.y = _mlp(dim_x, hidden, embedding + 1), _mlp(dim_y, hidden, embedding + 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, dim_x), (m, dim_y) -> (n, m)."""
        g, h = self.x(x), self.y(y)
        return g[:, :-1] @ h[:, :-1].mT / math.sqrt(self.embedding) + g[:, -1:] + h[:, -1]


class GaussianConditional(nn.Module):
    """ln q(y|x), q a normal density whose mean and variances are small networks of x; trained by maximum
    likelihood.
    """

    def __init__(self, dim_x: int, dim_y: int, hidden: int = 64) -> None:
        super().__init__()
        self.network = _mlp(dim_x, hidden, 2 * dim_y)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(n, dim_x), (m, dim_y) -> (n, m): entry (i, j) is ln q(y_j | x_i) in nats."""
        mean, log_scale = self.network(x).chunk(2, -1)
        log_scale = 5 * torch.tanh(log_scale / 5)
        residual = (y[None] - mean[:, None]) * (-log_scale)[:, None].exp()
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
        the critic in its best state, and the steps taken.
    """
    cut = max(batch_size, x.shape[0] * 3 // 4)
    generator = torch.Generator().manual_seed(training.seed)
    optimizer = torch.optim.Adam(critic.parameters(), lr=training.learning_rate)
    best, best_state, stale, step = -math.inf, copy.deepcopy(critic.state_dict()), 0, 0
    for step in tqdm(range(1, training.steps + 1), disable=not training.progress, desc="critic"):
        index = (
            torch.randint(cut, (batch_size,), generator=generator) if cut > batch_size else torch.arange(cut)
        )
        optimizer.zero_grad()
        (-objective(critic(x[index], y[index]))).backward()
        nn.utils.clip_grad_norm_(critic.parameters(), 5.0)
        optimizer.step()
        if step % training.every == 0:
            value = mean_over_batches(critic, objective, x[cut:], y[cut:], batch_size)
            if value > best:
                best, best_state, stale = value, copy.deepcopy(critic.state_dict()), 0
            elif (stale := stale + 1) >= training.patience:
                break
    critic.load_state_dict(best_state)
    return critic.eval(), step


def mean_over_batches(critic: Critic, bound: Bound, x: Tensor, y: Tensor, batch_size: int) -> float:
    """The mean of `bound` over batches of `batch_size` pairs in the order given; pairs that fill no batch are
    left out.
    """
    with torch.no_grad():
        size = min(batch_size, x.shape[0])
        chunks = range(0, x.shape[0] - size + 1, size)
        return float(
            torch.stack([bound(critic(x[i : i + size], y[i : i + size]).double()) for i in chunks]).mean()
        )


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
