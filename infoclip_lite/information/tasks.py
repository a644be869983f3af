"""Pairs of random variables whose mutual information is known exactly: what estimators are held against.

    task = get_task("normal", rho=0.9)
    x, y = task.sample(1000, torch.Generator().manual_seed(0))
    task.mutual_information            # nats, exact

Three families, selected after Czyz et al., "Beyond normal" (arXiv 2306.11078):
normal ones, others with closed forms, and maps of normal ones that leave the information unchanged,
because I(f(X); g(Y)) = I(X; Y) for every invertible f and g.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

Sampler = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
LogRatio = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """Two random variables with known mutual information.

    Attributes:
        name: with which `get_task` finds it.
        parameters: those it was made with.
        mutual_information: exact, in nats.
        dim_x, dim_y: how many numbers a sample of x and of y has.
        log_ratio: (n, dim_x), (m, dim_y) -> (n, m) of ln p(x, y) / (p(x) p(y)) in nats, the best critic
            there is; None if not written out.
    """

    name: str
    mutual_information: float
    dim_x: int
    dim_y: int
    sampler: Sampler = field(repr=False)
    log_ratio: LogRatio | None = field(default=None, repr=False)
    parameters: dict[str, float] = field(default_factory=dict)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw independent pairs.

        Args:
            n: how many.
            generator: the only source of chance.

        Returns:
            (n, dim_x) and (n, dim_y) in float64.

        Raises:
            ValueError: n < 1, or no generator.
        """
        if n < 1 or not isinstance(generator, torch.Generator):
            raise ValueError(
                f"got n = {n}, generator = {generator!r}; "
                "expected n >= 1 and a generator; hint: torch.Generator().manual_seed(0)"
            )
        return self.sampler(n, generator)


def list_tasks() -> list[str]:
    """Names that `get_task` knows.

    >>> len(list_tasks()) == len(set(list_tasks()))
    True
    """
    return list(_BUILDERS)


def get_task(name: str, **parameters: float) -> Task:
    """A task by name, with its parameters; those left out take the builder's defaults.

    Args:
        name: one of `list_tasks()`.
        parameters: rho (correlation), dim (dimension), nu (degrees of freedom), noise (half width),
            information (nats): see the builders.

    Returns:
        The Task, which carries its truth.

    Raises:
        ValueError: an unknown name or parameter, or a value outside its range.

    >>> round(get_task("normal", rho=0.5).mutual_information, 4)
    0.1438
    """
    if name not in _BUILDERS:
        raise ValueError(f"got task {name!r}, expected one of {list_tasks()}")
    builder = _BUILDERS[name]
    # The builder's own arguments, without its local variables, which stand behind them.
    names = builder.__code__.co_varnames[: builder.__code__.co_argcount]
    if unknown := sorted(set(parameters) - set(names)):
        raise ValueError(f"task {name!r}: got {unknown}, expected some of {sorted(names)}")
    return builder(**parameters)


def gaussian_log_ratio(covariance: Tensor, dim_x: int) -> LogRatio:
    """The exact log density ratio of a normal pair with mean zero.

    Args:
        covariance: (d, d) of x and y together, x first.
        dim_x: how many of the d are x.

    Returns:
        A function (n, dim_x), (m, dim_y) -> (n, m) in nats.
    """
    # The ratio is a quadratic form: the joint density's precision less that of each margin. Taken apart
    # into what x, what y and what both together give, n m pairs cost one product of matrices.
    joint = torch.linalg.inv(covariance)
    less_x = (joint[:dim_x, :dim_x] - torch.linalg.inv(covariance[:dim_x, :dim_x])) / 2
    less_y = (joint[dim_x:, dim_x:] - torch.linalg.inv(covariance[dim_x:, dim_x:])) / 2
    cross = joint[:dim_x, dim_x:]
    # Of the three normalisations ln det is left, and that is the information itself.
    constant = gaussian_information(covariance, dim_x)

    def log_ratio(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.to(covariance), y.to(covariance)
        return (
            constant
            - ((x @ less_x) * x).sum(-1)[:, None]
            - ((y @ less_y) * y).sum(-1)[None, :]
            - x @ cross @ y.mT
        )

    return log_ratio


def gaussian_information(covariance: Tensor, dim_x: int) -> float:
    """1/2 ln det Sx det Sy / det S, the exact mutual information of a normal pair.

    Args:
        covariance: (d, d) of x and y together, x first.
        dim_x: how many of the d are x.

    Returns:
        Nats.
    """
    blocks = (covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:], covariance)
    of_x, of_y, of_both = (torch.linalg.slogdet(block)[1] for block in blocks)
    return float(of_x + of_y - of_both) / 2


def _normal(rho: float = 0.75, dim: int = 1) -> Task:
    """`dim` independent pairs of correlation rho: I = -dim/2 ln(1 - rho^2)."""
    _require(-1 < rho < 1 and dim >= 1, f"rho = {rho}, dim = {dim}", "-1 < rho < 1 and dim >= 1")
    dim = int(dim)
    # [[1, rho], [rho, 1]] in blocks: coordinate i of x meets coordinate i of y and no other.
    eye = torch.eye(dim, dtype=torch.float64)
    covariance = torch.cat([torch.cat([eye, rho * eye], 1), torch.cat([rho * eye, eye], 1)])

    def sampler(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, noise = torch.randn(2, n, dim, dtype=torch.float64, generator=generator)
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    information = -dim / 2 * math.log1p(-(rho**2))
    return Task(
        "normal",
        information,
        dim,
        dim,
        sampler,
        gaussian_log_ratio(covariance, dim),
        {"rho": rho, "dim": dim},
    )


def _dense_normal(rho: float = 0.5, dim: int = 5) -> Task:
    """All 2 dim variables correlate by rho.

    I = ln(1 + (dim - 1) rho) - 1/2 ln((1 - rho) (1 + (2 dim - 1) rho)).
    """
    _require(0 <= rho < 1 and dim >= 1, f"rho = {rho}, dim = {dim}", "0 <= rho < 1 and dim >= 1")
    dim = int(dim)
    covariance = torch.full((2 * dim, 2 * dim), float(rho), dtype=torch.float64).fill_diagonal_(1)

    def sampler(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # One number that all share gives each pair of them correlation rho.
        common = torch.randn(n, 1, dtype=torch.float64, generator=generator)
        own = torch.randn(n, 2 * dim, dtype=torch.float64, generator=generator)
        z = math.sqrt(rho) * common + math.sqrt(1 - rho) * own
        return z[:, :dim], z[:, dim:]

    information = math.log1p((dim - 1) * rho) - math.log((1 - rho) * (1 + (2 * dim - 1) * rho)) / 2
    return Task(
        "dense_normal",
        information,
        dim,
        dim,
        sampler,
        gaussian_log_ratio(covariance, dim),
        {"rho": rho, "dim": dim},
    )


def _staircase(information: float = 2.0, dim: int = 20) -> Task:
    """A step of the staircase 2, 4, 6, 8, 10 nats: `dim` pairs of correlation sqrt(1 - exp(-2 I / dim))."""
    _require(
        information >= 0 and dim >= 1,
        f"information = {information}, dim = {dim}",
        "information >= 0 nats and dim >= 1",
    )
    # expm1: a small step of many dimensions needs a rho whose square is near zero.
    normal = _normal(math.sqrt(-math.expm1(-2 * information / dim)), dim)
    return replace(
        normal,
        name="staircase",
        mutual_information=float(information),
        parameters={"information": information, "dim": dim},
    )


def _additive_uniform(noise: float = 0.75) -> Task:
    """X uniform on [0, 1], Y = X + uniform on [-noise, noise].

    I = 1/(4 noise) if noise > 1/2, else noise - ln(2 noise).
    """
    _require(noise > 0, f"noise = {noise}", "noise > 0")

    def sampler(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, u = torch.rand(2, n, 1, dtype=torch.float64, generator=generator)
        return x, x + noise * (2 * u - 1)

    information = 1 / (4 * noise) if noise > 0.5 else noise - math.log(2 * noise)
    return Task("additive_uniform", information, 1, 1, sampler, None, {"noise": noise})


def _student(nu: float = 1.0, rho: float = 0.0, dim: int = 1) -> Task:
    """Normal pairs divided by one common root of chi^2/nu: dependent even at rho = 0.

    I = I_normal + f(nu) + f(nu + 2 dim) - 2 f(nu + dim), with f(v) = ln Gamma(v/2) - v/2 psi(v/2).
    At nu = 1, rho = 0 and dim = 1 it is ln(8 pi) - 3.
    """
    _require(nu > 0 and nu == int(nu), f"nu = {nu}", "a whole nu >= 1")
    normal = _normal(rho, dim)

    def f(v: float) -> float:
        half = torch.tensor(v / 2, dtype=torch.float64)
        return float(torch.lgamma(half) - half * torch.digamma(half))

    def sampler(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = normal.sampler(n, generator)
        # chi^2 of nu degrees of freedom as a sum of nu squares, which is why nu must be whole:
        # the sampler of torch.distributions takes no generator.
        squares = torch.randn(n, int(nu), dtype=torch.float64, generator=generator).square()
        scale = squares.mean(1, keepdim=True).sqrt()
        return x / scale, y / scale

    information = normal.mutual_information + f(nu) + f(nu + 2 * dim) - 2 * f(nu + dim)
    return Task(
        "student_t",
        information,
        normal.dim_x,
        normal.dim_y,
        sampler,
        None,
        {"nu": nu, "rho": rho, "dim": dim},
    )


def _asinh_student(nu: float = 1.0, rho: float = 0.0, dim: int = 1) -> Task:
    """student_t with its tails pulled in by asinh, which is invertible."""
    return _mapped("asinh_student_t", _student(nu, rho, dim), torch.asinh, torch.asinh)


def _normal_cdf(rho: float = 0.75, dim: int = 1) -> Task:
    """normal, each coordinate through the normal distribution function: uniform margins."""
    return _mapped(
        "normal_cdf", _normal(rho, dim), torch.special.ndtr, torch.special.ndtr, torch.special.ndtri
    )


def _cube(rho: float = 0.75, dim: int = 1) -> Task:
    """normal, each coordinate cubed: heavy tails and a peak at zero."""
    return _mapped(
        "cube", _normal(rho, dim), lambda x: x**3, lambda y: y**3, lambda x: x.sign() * x.abs() ** (1 / 3)
    )


def _swiss_roll(rho: float = 0.75) -> Task:
    """normal with x rolled up.

    The distribution function u of x becomes (t cos t, t sin t) / 21, t = 3 pi/2 (1 + 2 u).
    """

    # 21 brings the roll to a radius of about two thirds: t is at most 4.5 pi. No inverse:
    # the log ratio of a roll is not written out.
    def roll(x: Tensor) -> Tensor:
        t = 1.5 * math.pi * (1 + 2 * torch.special.ndtr(x))
        return torch.cat([t * t.cos(), t * t.sin()], -1) / 21

    return _mapped("swiss_roll", _normal(rho), roll, torch.special.ndtr, dim_x=2)


def _spiral(rho: float = 0.75, dim: int = 3, turn: float = 1.0) -> Task:
    """normal, the first two coordinates of x turned by `turn` times |x|^2, and those of y likewise."""
    _require(dim >= 2, f"dim = {dim}", "dim >= 2")

    # Turning leaves the length as it is, so the angle can be had from what was turned, and turned back.
    def spiral(z: Tensor, sign: float = 1.0) -> Tensor:
        angle = sign * turn * z.square().sum(-1)
        cos, sin = angle.cos(), angle.sin()
        first, second = z[..., 0], z[..., 1]
        turned = torch.stack([cos * first - sin * second, sin * first + cos * second], -1)
        return torch.cat([turned, z[..., 2:]], -1)

    return _mapped("spiral", _normal(rho, dim), spiral, spiral, lambda z: spiral(z, -1.0), turn=turn)


def _mapped(
    name: str,
    task: Task,
    forward_x: Callable[[Tensor], Tensor],
    forward_y: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor], Tensor] | None = None,
    *,
    dim_x: int | None = None,
    **parameters: float,
) -> Task:
    """`task` seen through maps that can be undone; `inverse`, if given, undoes both."""

    def sampler(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = task.sampler(n, generator)
        return forward_x(x), forward_y(y)

    # The Jacobians of the maps cancel in the ratio of densities: undoing the maps is all there is to it.
    base = task.log_ratio
    log_ratio = None if inverse is None or base is None else lambda x, y: base(inverse(x), inverse(y))
    return Task(
        name,
        task.mutual_information,
        dim_x or task.dim_x,
        task.dim_y,
        sampler,
        log_ratio,
        {**task.parameters, **parameters},
    )


def _require(good: bool, got: str, expected: str) -> None:
    if not good:
        raise ValueError(f"got {got}, expected {expected}")


_BUILDERS: dict[str, Callable[..., Task]] = {
    "normal": _normal,
    "dense_normal": _dense_normal,
    "staircase": _staircase,
    "additive_uniform": _additive_uniform,
    "student_t": _student,
    "asinh_student_t": _asinh_student,
    "normal_cdf": _normal_cdf,
    "cube": _cube,
    "swiss_roll": _swiss_roll,
    "spiral": _spiral,
}
