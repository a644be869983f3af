"""Estimators of Shannon's mutual information from samples.

Each takes (n, dx) and (n, dy) and returns an Estimate in nats.

Classical ones (gaussian, cca, gaussian_copula, ksg) have no knobs worth turning.
The neural ones score pairs with a critic: give one, such as a task's exact `log_ratio`, or leave it out
and a small one is trained on part of the samples and read on the rest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma, ndtri
from scipy.stats import rankdata
from torch import Tensor, nn

from ._checks import check_samples
from .critics import (
    Bound,
    Critic,
    GaussianConditional,
    SeparableCritic,
    Training,
    club_bound,
    donsker_varadhan_bound,
    infonce_bound,
    jensen_shannon_bound,
    leave_one_out_bound,
    mean_over_batches,
    nwj_bound,
    smile_bound,
    train_critic,
)

NEAR_LIMIT = 0.9  # an estimate above this fraction of its limit says more about the limit than about the data


class LimitWarning(UserWarning):
    """An estimate at the largest value its estimator can give: the truth may be far larger."""


@dataclass(frozen=True)
class Estimate:
    """What an estimator says, and how far to trust it.

    Attributes:
        value: the estimate; may be slightly negative by chance.
        unit: "nats" (divide by ln 2 for bits).
        upper_limit: the largest value this estimator can give for this many samples, whatever the truth;
            None if there is none.
        notes: what a reader should know, in sentences.
    """

    value: float
    unit: str = "nats"
    upper_limit: float | None = None
    notes: tuple[str, ...] = ()


def gaussian(x: Tensor, y: Tensor, *, unbiased: bool = True) -> Estimate:
    """1/2 ln det Sx det Sy / det S of the sample covariances.

    Exact for normal data, blind to all but correlation otherwise.

    Args:
        x, y: (n, dx), (n, dy) floats, n > dx + dy + 1.
        unbiased: subtract what the plug-in value is too high by on normal data, a sum of digammas that
            does not depend on the truth [O].

    Returns:
        An Estimate in nats, without a limit.

    Raises:
        ValueError: bad samples, too few of them, constant or linearly dependent columns
            (the value would be infinite or undefined).
    """
    a, b = _pair(x, y)
    joint = np.concatenate([a, b], 1)
    n, dx, dy = len(joint), a.shape[1], b.shape[1]
    _require_samples(n, dx + dy + 1)
    # Correlations in place of covariances: the scales of the columns cancel in the quotient
    # of determinants, and the bound on the smallest eigenvalue then means the same for data in any unit.
    correlation = np.corrcoef(joint, rowvar=False)
    own_x, own_y = correlation[:dx, :dx], correlation[dx:, dx:]
    logdets = [np.linalg.slogdet(part)[1] for part in (own_x, own_y, correlation)]
    if min(np.linalg.eigvalsh(correlation)) < 1e-12 * (dx + dy):
        raise ValueError(
            "got linearly dependent columns: the value would be infinite; "
            "hint: drop copies, or use cca with components"
        )
    bias = _wishart_bias(n, dx, dy) if unbiased else 0.0
    return Estimate(
        float(logdets[0] + logdets[1] - logdets[2]) / 2 - bias,
        notes=("Assumes normal data: sees correlation only.",),
    )


def cca(x: Tensor, y: Tensor, *, components: int | None = None, unbiased: bool = True) -> Estimate:
    """-1/2 sum ln(1 - r_i^2) over canonical correlations r_i.

    It is `gaussian` in other coordinates, which can keep the strongest only.

    Args:
        x, y: (n, dx), (n, dy) floats, n > dx + dy + 1; columns may repeat.
        components: how many correlations to count; None counts all.
        unbiased: as for `gaussian`; applies when all are counted.

    Returns:
        An Estimate in nats, without a limit; the strongest correlations are among its notes.

    Raises:
        ValueError: bad samples, too few of them, constant columns, or a correlation of one, at which the
            information is infinite.
    """
    a, b = _pair(x, y)
    _require_samples(len(a), a.shape[1] + b.shape[1] + 1)
    # Canonical correlations are the cosines of the angles between the two column spaces: by orthonormal
    # bases, no covariance is inverted, and columns that repeat do no harm.
    qx, qy = _orthonormal(a), _orthonormal(b)
    r = np.linalg.svd(qx.T @ qy, compute_uv=False)
    if r[0] > 1 - 1e-12:
        raise ValueError(
            "got a canonical correlation of 1: the information is infinite; "
            "hint: is a column of y a linear function of x?"
        )
    kept = len(r) if components is None else components
    if not 1 <= kept <= len(r):
        raise ValueError(f"got components = {components}, expected 1 to {len(r)} or None")
    # The closed form of the bias is that of all correlations together; how it is shared out among them,
    # and so what a few of them have of it, depends on the truth.
    bias = _wishart_bias(len(a), qx.shape[1], qy.shape[1]) if unbiased and kept == len(r) else 0.0
    strongest = ", ".join(f"{value:.3f}" for value in r[: min(kept, 5)])
    notes = ("Assumes normal data: sees correlation only.", f"Strongest canonical correlations: {strongest}.")
    return Estimate(float(-np.log1p(-np.square(r[:kept])).sum() / 2 - bias), notes=notes)


def gaussian_copula(x: Tensor, y: Tensor, *, unbiased: bool = True) -> Estimate:
    """`gaussian` after each column is replaced by normal scores of its ranks.

    Right for normal data seen through any increasing maps.

    Args:
        x, y: (n, dx), (n, dy) floats, n > dx + dy + 1.
        unbiased: as for `gaussian`.

    Returns:
        An Estimate in nats, without a limit.

    Raises:
        ValueError: as for `gaussian`.
    """
    scores = []
    ties = False
    for z in _pair(x, y):
        scores.append(torch.from_numpy(_normal_scores(z)))
        # In sorted order equal values are neighbours.
        ties |= bool((np.diff(np.sort(z, axis=0), axis=0) == 0).any())
    notes: tuple[str, ...] = (
        "Sees what normal scores of ranks correlate by; "
        "for one column each a lower bound, up to sampling error.",
    )
    if ties:
        notes += ("There are ties: the data look discrete, and ranks then say too little.",)
    return Estimate(gaussian(*scores, unbiased=unbiased).value, notes=notes)


def ksg(x: Tensor, y: Tensor, *, k: int = 3, ranks: bool = True) -> Estimate:
    """Kraskov, Stoegbauer and Grassberger's first estimator: distances to neighbours, no density.

    More than a handful of dimensions defeat it. Source: Phys. Rev. E 69, 066138, equation 8.

    Args:
        x, y: (n, dx), (n, dy) floats.
        k: which neighbour; more neighbours, less variance and more bias.
        ranks: replace each column by normal scores of its ranks first. Information does not change
            under increasing maps of a column, but distances do: on heavy tails (Student's t, cubes)
            the raw columns read too low, elsewhere the two agree within their noise [O];
            `ksg_raw` in data/reports/information.json has the numbers. False only scales
            columns to standard deviation one, and is then scikit-learn's mutual_info_regression
            (which cuts negative values off at zero).

    Returns:
        An Estimate in nats, at most psi(n) - psi(k).

    Raises:
        ValueError: bad samples, constant columns, not 1 <= k < n.
    """
    a, b = _pair(x, y)
    n = len(a)
    if not 1 <= k < n:
        raise ValueError(f"got k = {k}, expected 1 <= k < n = {n}")
    a, b = (_normal_scores(z) if ranks else z / z.std(0) for z in (a, b))
    joint = np.concatenate([a, b], 1)
    # k + 1, for a sample is its own nearest neighbour; and the largest coordinate as distance,
    # in which a ball of the joint space is the product of one in x and one in y.
    distance, _ = cKDTree(joint).query(joint, k=[k + 1], p=np.inf)
    radius = np.nextafter(distance[:, 0], 0)  # strictly nearer than the k-th neighbour
    counts = [_neighbours(z, radius) for z in (a, b)]  # the sample itself included: n_x + 1 of eq. 8
    value = digamma(k) + digamma(n) - np.mean(digamma(counts[0]) + digamma(counts[1]))
    notes: tuple[str, ...] = ()
    if (radius <= 0).any():
        notes = ("Distances repeat: the data look discrete, where this estimator fails.",)
    # Largest where nobody has a neighbour nearer in x or in y alone: both counts are then k.
    return _judged(float(value), float(digamma(n) - digamma(k)), notes)


def infonce(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """InfoNCE: how well the critic finds each y_i among b candidates. Low variance, but at most ln b.

    Source: van den Oord et al., arXiv 1807.03748, equation 5.

    Args:
        x, y: (n, dx), (n, dy) floats.
        critic: (b, dx), (b, dy) -> (b, b) scores; None trains one.
        batch_size: b, pairs that are contrasted with each other.
        training: of the critic, if none is given; None takes `Training()`.

    Returns:
        An Estimate in nats; what was trained, and on how much it was read, is among its notes.

    Raises:
        ValueError: bad samples, too few of them, a critic whose scores are of the wrong shape or not finite.
    """
    # A critic that is given may be read on fewer samples than a batch; one that is trained here is not.
    limit = math.log(min(batch_size, len(x)) if critic else batch_size)
    return _neural(x, y, critic, infonce_bound, batch_size, training, limit=limit)


def nwj(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """Nguyen, Wainwright and Jordan's lower bound: unbiased with the exact log ratio, of variance like e^I.

    Arguments, result and errors as for `infonce`; there is no limit. Source: arXiv 0809.0853.
    """
    return _neural(x, y, critic, nwj_bound, batch_size, training)


def donsker_varadhan(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """Donsker and Varadhan's bound, which MINE trains; the log of a sample mean makes it read high.

    Every step averages over b (b - 1) pairs, so MINE's moving average of the denominator is left out
    [O]. Arguments, result and errors as for `infonce`; there is no limit. Source: arXiv 1801.04062.
    """
    # That average corrects the gradient of a quotient whose denominator comes from one small batch.
    return _neural(x, y, critic, donsker_varadhan_bound, batch_size, training)


def smile(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    clip: float = 5.0,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """SMILE: Donsker-Varadhan with the density ratio clipped to e^-clip .. e^clip: no bound, but steadier.

    The critic is trained on the Jensen-Shannon objective, as in the paper (arXiv 1910.06222).

    Args:
        x, y, critic, batch_size, training: as for `infonce`.
        clip: in nats, above 0.

    Returns:
        An Estimate in nats, without a limit.

    Raises:
        ValueError: a clip that is not above 0, or as for `infonce`.
    """
    if not clip > 0:
        raise ValueError(f"got clip = {clip}, expected clip > 0; hint: 1 to 5")
    notes = ("Neither an upper nor a lower bound.",)
    return _neural(
        x,
        y,
        critic,
        lambda s: smile_bound(s, clip),
        batch_size,
        training,
        objective=jensen_shannon_bound,
        notes=notes,
    )


def leave_one_out(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """Leave-one-out upper bound; with the exact conditional density InfoNCE and it bracket the truth.

    `critic` gives ln p(y_j | x_i), or that less any function of y_j; None fits a normal density
    with networks for mean and variances. Other arguments, result and errors as for `infonce`;
    there is no limit. Source: arXiv 1905.06922, section 2.
    """
    return _neural(x, y, critic, leave_one_out_bound, batch_size, training, conditional=True)


def club(
    x: Tensor,
    y: Tensor,
    critic: Critic | None = None,
    *,
    batch_size: int = 128,
    training: Training | None = None,
) -> Estimate:
    """CLUB (arXiv 2006.12013): an upper bound to minimise, never to report.

    On normal pairs the exact critic gives d r^2 / (1 - r^2), not I [O]. `critic` as for `leave_one_out`;
    other arguments, result and errors as for `infonce`; there is no limit.
    """
    return _neural(
        x,
        y,
        critic,
        club_bound,
        batch_size,
        training,
        conditional=True,
        notes=("An upper bound, often far above the truth.",),
    )


def _neural(
    x: Tensor,
    y: Tensor,
    critic: Critic | None,
    bound: Bound,
    batch_size: int,
    training: Training | None,
    *,
    objective: Bound | None = None,
    conditional: bool = False,
    limit: float | None = None,
    notes: tuple[str, ...] = (),
) -> Estimate:
    """Train a critic if none is given, then average the bound over batches of samples it has not seen."""
    # In float64: a critic that is given is exact, and the largest of its scores decide.
    tx, ty = (torch.from_numpy(z) for z in _pair(x, y))
    if batch_size < 2:
        raise ValueError(
            f"got batch_size = {batch_size}, expected at least 2: a pair needs another to be told from"
        )
    if critic is None:
        critic, tx, ty, steps = _trained(
            tx, ty, objective or bound, conditional, batch_size, training or Training()
        )
        notes += (f"Critic trained for {steps} steps, read on {len(tx)} samples it has not seen.",)
    _require_samples(len(tx), 1)
    size = min(batch_size, len(tx))
    # One call for its shape alone: scores of b pairs, not of all with all, would give a number that
    # looks like an estimate.
    shape = tuple(critic(tx[:size], ty[:size]).shape)
    if shape != (size, size):
        raise ValueError(
            f"got a critic that gives {shape} for {size} pairs, expected ({size}, {size}): "
            "a score for every x with every y"
        )
    value = mean_over_batches(critic, bound, tx, ty, batch_size)
    if not math.isfinite(value):
        raise ValueError(
            "got scores whose exponentials overflow or are NaN, expected finite ones; "
            "hint: a smaller learning rate, or smile"
        )
    return _judged(value, limit, notes)


def _trained(
    x: Tensor, y: Tensor, objective: Bound, conditional: bool, batch_size: int, training: Training
) -> tuple[Critic, Tensor, Tensor, int]:
    """A critic fitted on four fifths of the samples, a quarter of these for stopping; and the last fifth."""
    # The last fifth is then a whole batch at least.
    _require_samples(len(x), 5 * batch_size - 1)
    # Scaled for the sake of the networks: information does not change under invertible maps of x or of y.
    x, y = (((z - z.mean(0)) / z.std(0)).float() for z in (x, y))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(training.seed))
    cut = len(x) * 4 // 5
    x, y = x[order], y[order]
    # First weights come from torch's global generator, which whoever called keeps as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        dims = x.shape[1], y.shape[1], training.hidden
        critic: nn.Module = (
            GaussianConditional(*dims) if conditional else SeparableCritic(*dims, training.embedding)
        )
    # An upper bound holds for the true density only: q is fitted by its likelihood, never by the bound.
    if conditional:
        objective = _likelihood
    critic, steps = train_critic(critic, objective, x[:cut], y[:cut], batch_size, training)
    return critic, x[cut:], y[cut:], steps


def _likelihood(scores: Tensor) -> Tensor:
    # The pairs that belong together: the mean of ln q(y_i | x_i).
    return scores.diagonal().mean()


def _judged(value: float, limit: float | None, notes: tuple[str, ...]) -> Estimate:
    """Warn when the estimate is at the most its estimator can say."""
    if limit is not None and value > NEAR_LIMIT * limit:
        text = (
            f"At {value:.2f} nats this is close to the {limit:.2f} the estimator can give at most; "
            "the truth may be far larger."
        )
        warnings.warn(text + " Hint: more samples or larger batches.", LimitWarning, stacklevel=3)
        notes = (*notes, text)
    return Estimate(value, upper_limit=limit, notes=notes)


def _pair(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both as (n, d) float64 arrays of equal n, every column varying."""
    arrays = []
    for z, name in ((x, "x"), (y, "y")):
        z = check_samples(z, name, minimum=2)
        if z.ndim != 2:
            raise ValueError(f"{name}: got shape {tuple(z.shape)}, expected (n, d) or (n,)")
        array = z.detach().cpu().double().numpy()
        # Before any scaling, which would divide by its deviation of zero.
        if (np.ptp(array, axis=0) == 0).any():
            raise ValueError(
                f"{name}: got a constant column, expected columns that vary; "
                "hint: a constant shares no information, drop it"
            )
        arrays.append(array)
    if len(arrays[0]) != len(arrays[1]):
        raise ValueError(
            f"got {len(arrays[0])} samples of x and {len(arrays[1])} of y, expected as many; "
            "hint: rows must pair up"
        )
    return arrays[0], arrays[1]


def _require_samples(n: int, above: int) -> None:
    if n <= above:
        raise ValueError(
            f"got {n} samples, expected more than {above}; "
            "hint: more samples, fewer columns or smaller batches"
        )


def _wishart_bias(n: int, dx: int, dy: int) -> float:
    """By how much the plug-in exceeds the truth on normal data, in nats."""

    # E ln det of a d x d sample covariance is ln det of the true one, plus d ln(2 / (n - 1)), plus this
    # sum. The middle terms cancel in dx + dy - (dx + dy), and nothing is left that depends on the truth.
    def g(d: int) -> float:
        return float(digamma((n - 1 - np.arange(d)) / 2).sum())

    return (g(dx) + g(dy) - g(dx + dy)) / 2


def _orthonormal(z: np.ndarray) -> np.ndarray:
    """(n, rank) orthonormal basis of the centred columns."""
    # Scaled first: which directions are no more than rounding must not hang on the units of the columns.
    z = (z - z.mean(0)) / z.std(0)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    return u[:, s > 1e-10 * s[0]]


def _normal_scores(z: np.ndarray) -> np.ndarray:
    """Each column by its ranks, spread like a standard normal."""
    # n + 1 and not n: the largest rank would be at infinity.
    return ndtri(rankdata(z, axis=0) / (len(z) + 1))


def _neighbours(z: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How many samples lie within `radius` of each sample in the largest-coordinate norm, itself included."""
    return cKDTree(z).query_ball_point(z, radius, p=np.inf, return_length=True)


ESTIMATORS: dict[str, Callable[..., Estimate]] = {
    f.__name__: f
    for f in (gaussian, cca, gaussian_copula, ksg, infonce, nwj, donsker_varadhan, smile, leave_one_out, club)
}
