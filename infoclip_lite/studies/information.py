"""The evidence for this floor: how far estimators are from the truth, and what alpha = 2 saves.

Both functions return plain dictionaries ready for JSON; whoever writes them to disk adds what the machine is as `environment`.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.statistics import interval
from ..information.critics import Training
from ..information.estimators import ESTIMATORS, Estimate, LimitWarning, ksg
from ..information.renyi import (
    Correction,
    gaussian_rbf_information,
    gram,
    linear_renyi_entropy,
    renyi_entropy,
    renyi_mutual_information,
)
from ..information.tasks import Task, get_task

TASKS: tuple[tuple[str, dict[str, float]], ...] = (
    ("normal", {"rho": 0.75}),
    ("normal", {"rho": 0.75, "dim": 5}),
    ("dense_normal", {"rho": 0.5, "dim": 5}),
    ("dense_normal", {"rho": 0.5, "dim": 25}),
    ("staircase", {"information": 4.0}),
    ("staircase", {"information": 10.0}),
    ("additive_uniform", {"noise": 0.75}),
    ("student_t", {"nu": 1.0}),
    ("asinh_student_t", {"nu": 1.0}),
    ("normal_cdf", {"rho": 0.75}),
    ("cube", {"rho": 0.75}),
    ("swiss_roll", {"rho": 0.75}),
    ("spiral", {"rho": 0.75, "dim": 3}),
)
NEURAL = ("infonce", "nwj", "donsker_varadhan", "smile", "leave_one_out", "club")
CANDIDATES: dict[str, Callable[..., Estimate]] = {
    **ESTIMATORS,
    "ksg_raw": functools.partial(ksg, ranks=False),
}
CORRECTIONS: tuple[Correction | None, ...] = (None, "permutation", "ustatistic")


def run_benchmark(
    seeds: int = 5,
    sizes: Sequence[int] = (1000, 10000),
    estimators: Sequence[str] | None = None,
    tasks: Sequence[tuple[str, dict[str, float]]] = TASKS,
    *,
    neural_sizes: Sequence[int] = (1000,),
    matrix_sizes: Sequence[int] = (250, 1000, 4000),
    steps: int = 300,
    environment: dict[str, Any] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Every estimator on every task at every n: estimate minus truth in nats, mean and 95% interval over seeds.

    Args:
        seeds: independent samples of each task, at least 2; seed s also seeds the critic.
        sizes: numbers of samples n of the classical estimators; `ksg`, with ranks and raw, is left out above n = 2000 and ten dimensions,
            being slow there.
        neural_sizes: numbers of samples n of those that train a critic.
        matrix_sizes: numbers of samples n at which the matrix-based I_2 is held against its closed form.
        estimators: names in `ESTIMATORS`, or "ksg_raw" for `ksg` without ranks; None takes all eleven.
        tasks: (name, parameters) pairs.
        steps: most training steps of a critic.
        environment: what the numbers were made on, copied into the result.
        progress: show a bar.

    Returns:
        {"unit", "seeds", "training_steps", "environment", "tasks", "errors", "matrix_renyi"}: `tasks` lists names, truths and dimensions,
        `errors` one row {"task", "estimator", "n", "mean", "low", "high", "limit"} per cell, `matrix_renyi` is `run_matrix_checks()`
        and, as "closed_form", `run_convergence()`.
    """
    names = list(CANDIDATES) if estimators is None else list(estimators)
    built = [get_task(name, **parameters) for name, parameters in tasks]
    cells = [
        (task, n, name) for task in built for name in names for n in (neural_sizes if name in NEURAL else sizes) if _bearable(name, task, n)
    ]
    errors = []
    for task, n, name in tqdm(cells, disable=not progress, desc="benchmark"):
        runs = [_estimate(name, task, n, seed, steps) for seed in range(seeds)]
        row = _ends([run.value - task.mutual_information for run in runs])
        errors.append({"task": label(task), "estimator": name, "n": n, **row, "limit": runs[0].upper_limit})
    described = [
        {
            "task": label(t),
            "truth": t.mutual_information,
            "dim_x": t.dim_x,
            "dim_y": t.dim_y,
            "parameters": t.parameters,
        }
        for t in built
    ]
    return {
        "unit": "nats, estimate minus truth",
        "seeds": seeds,
        "training_steps": steps,
        "environment": environment or {},
        "tasks": described,
        "errors": errors,
        "matrix_renyi": {**run_matrix_checks(), "closed_form": run_convergence(matrix_sizes)},
    }


def run_matrix_checks(batches: int = 4000) -> dict[str, Any]:
    """I_2 in bits of independent normal data, plug-in and corrected, and what bfloat16 Grams cost.

    RBF kernels of width sqrt(d / 2), and linear ones with samples as they are and scaled to length one.
    """
    kernels: dict[str, Callable[[Tensor], Tensor]] = {
        "rbf": lambda z: gram(z, "rbf", width=math.sqrt(z.shape[-1] / 2)),
        "linear": gram,
        "linear, normalize=True": functools.partial(gram, normalize=True),
    }
    independent = []
    for kernel, make in kernels.items():
        for n, d in ((4, 5), (4, 100), (16, 5), (16, 100), (256, 20)):
            generator = torch.Generator().manual_seed(0)
            a, b = (make(torch.randn(batches if n <= 16 else 20, n, d, generator=generator)) for _ in range(2))
            for correction in CORRECTIONS:
                row = _ends(renyi_mutual_information(a, b, correction=correction).tolist())
                independent.append(
                    {
                        "kernel": kernel,
                        "n": n,
                        "d": d,
                        "correction": correction or "none",
                        "cap": math.log2(n),
                        **row,
                    }
                )
    return {"unit": "bits", "independent": independent, "bfloat16_error": _bfloat16_errors()}


def run_convergence(sizes: Sequence[int] = (250, 1000, 4000), seeds: int = 20, *, rho: float = 0.75, width: float = 1.0) -> dict[str, Any]:
    """I_2 of normal samples under RBF kernels against its closed form: relative errors, (I_2 - exact) / exact.

    `against` tells which closed form: at the covariance of the "population", or at that of the "sample" itself, which shows how much of
    the error is the kernel estimate's own and how much is the luck of the draw.

    Args:
        sizes: numbers of samples n.
        seeds: independent samples per size.
        rho: correlation of the pair.
        width: of both kernels, in standard deviations.

    Returns:
        {"unit", "rho", "width", "exact", "seeds", "rows": [{"n", "correction", "against", "mean", "low", "high", "one_sample"}]}: `exact`
        in bits; the interval is of the mean, `one_sample` the standard deviation of a single sample's error.
    """
    population = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    exact = gaussian_rbf_information(population, 1, width, width)
    rows = []
    for n in sizes:
        errors: dict[tuple[str, str], list[float]] = {}
        for seed in range(seeds):
            pair = get_task("normal", rho=rho).sample(n, torch.Generator().manual_seed(seed))
            truths = {
                "population": exact,
                "sample": gaussian_rbf_information(torch.cat(pair, 1).T.cov(), 1, width, width),
            }
            a, b = (gram(z.float(), "rbf", width=width) for z in pair)
            for correction in CORRECTIONS:
                value = float(renyi_mutual_information(a, b, correction=correction))
                for against, truth in truths.items():
                    errors.setdefault((correction or "none", against), []).append(value / truth - 1)
        for (name, against), values in errors.items():
            spread = round(statistics.stdev(values), 5)
            rows.append({"n": n, "correction": name, "against": against, **_ends(values), "one_sample": spread})
    return {
        "unit": "fraction of the closed form",
        "rho": rho,
        "width": width,
        "exact": exact,
        "seeds": seeds,
        "rows": rows,
    }


def run_speed(repeats: int = 60, *, environment: dict[str, Any] | None = None) -> dict[str, Any]:
    """Cost of alpha = 2 against its peers, ours and theirs in turns in one run, forward and backward, on one thread.

    Args:
        repeats: timed calls of ours; the peers get a quarter as many. The best counts.
        environment: what the numbers were made on, copied into the result.

    Returns:
        {"environment", "rows": [{"what", "ours_ms", "peer_ms", "ratio"}]}: ratio = peer / ours, larger is better for us.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [_compare(what, ours, peer, repeats) for what, ours, peer in _contests()]
    finally:
        torch.set_num_threads(threads)
    return {"environment": environment or {}, "threads": 1, "rows": rows}


def label(task: Task) -> str:
    """Name and parameters in a few characters, such as "normal rho=0.75 dim=5"."""
    return " ".join([task.name, *(f"{key}={value:g}" for key, value in task.parameters.items())])


def _ends(values: Sequence[float]) -> dict[str, float]:
    """The 95% interval of the mean by its ends, as this report has it."""
    found = interval(values)
    return {"mean": round(found.mean, 5), "low": round(found.low, 5), "high": round(found.high, 5)}


def _bearable(name: str, task: Task, n: int) -> bool:
    return not name.startswith("ksg") or n <= 2000 or task.dim_x + task.dim_y <= 10


def _estimate(name: str, task: Task, n: int, seed: int, steps: int) -> Estimate:
    x, y = task.sample(n, torch.Generator().manual_seed(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LimitWarning)
        if name in NEURAL:
            return ESTIMATORS[name](x, y, training=Training(steps=steps, seed=seed))
        return CANDIDATES[name](x, y)


def _bfloat16_errors() -> dict[str, float]:
    errors = {"I_2": 0.0, "I_1.01": 0.0}
    for seed in range(5):
        z = torch.randn(2, 256, 64, generator=torch.Generator().manual_seed(seed))
        z = torch.nn.functional.normalize(torch.stack([z[0], 0.7 * z[0] + 0.7 * z[1]]), dim=-1)
        low = [gram(v).bfloat16() for v in z]
        for name, alpha in (("I_2", 2.0), ("I_1.01", 1.01)):
            exact = renyi_mutual_information(gram(z[0].double()), gram(z[1].double()), alpha)
            errors[name] = max(errors[name], abs(float(renyi_mutual_information(low[0], low[1], alpha) - exact)))
    return errors


def _contests() -> list[tuple[str, Callable[[], None], Callable[[], None]]]:
    generator = torch.Generator().manual_seed(0)
    a, b = (gram(torch.randn(576, 32, generator=generator), "rbf").requires_grad_() for _ in range(2))
    z = torch.randn(4096, 64, generator=generator).requires_grad_()
    many = [gram(torch.randn(32, 64, 32, generator=generator), "rbf").requires_grad_() for _ in range(2)]

    def back(value: Callable[[], Tensor], *leaves: Tensor) -> None:
        for leaf in leaves:
            leaf.grad = None
        value().sum().backward()

    def bare_entropy() -> Tensor:
        return -a.square().sum().log()

    def bare_information() -> Tensor:
        return (a * b).square().sum().log() - a.square().sum().log() - b.square().sum().log()

    def loop() -> Tensor:
        return torch.stack([renyi_mutual_information(k, m) for k, m in zip(*many, strict=True)])

    def run(value: Callable[[], Tensor], *leaves: Tensor) -> Callable[[], None]:
        return functools.partial(back, value, *leaves)

    bind = functools.partial
    entropy, information = bind(renyi_entropy, a), bind(renyi_mutual_information, a, b)
    by_eigenvalues = run(bind(entropy, alpha=1.01), a), run(bind(information, alpha=1.01), a, b)
    return [
        ("entropy n=576, against eigenvalues (alpha=1.01)", run(entropy, a), by_eigenvalues[0]),
        ("information n=576, against eigenvalues (alpha=1.01)", run(information, a, b), by_eigenvalues[1]),
        ("entropy n=576, against the bare Frobenius norm", run(entropy, a), run(bare_entropy, a)),
        (
            "information n=576, against the bare Frobenius norms",
            run(information, a, b),
            run(bare_information, a, b),
        ),
        (
            "bare Frobenius norm n=576, against eigenvalues (alpha=1.01)",
            run(bare_entropy, a),
            by_eigenvalues[0],
        ),
        (
            "bare Frobenius norms n=576, against eigenvalues (alpha=1.01)",
            run(bare_information, a, b),
            by_eigenvalues[1],
        ),
        (
            "entropy n=4096 d=64, low rank against dense",
            run(bind(linear_renyi_entropy, z), z),
            run(lambda: renyi_entropy(gram(z)), z),
        ),
        (
            "32 Grams of n=64, one call against a loop",
            run(bind(renyi_mutual_information, many[0], many[1]), *many),
            run(loop, *many),
        ),
    ]


def _compare(what: str, ours: Callable[[], None], peer: Callable[[], None], repeats: int) -> dict[str, Any]:
    """The best time of each in ms, as `timeit` advises, in five rounds of ours and peer, so that both meet the same machine."""
    best = [math.inf, math.inf]
    for _ in range(5):
        for i, function in enumerate((ours, peer)):
            function()  # the first call of a round finds the caches full of the other's data
            for _ in range(max(1, repeats // (5 if i == 0 else 20))):
                start = time.perf_counter()
                function()
                best[i] = min(best[i], time.perf_counter() - start)
    ours_ms, peer_ms = (1000 * value for value in best)
    return {
        "what": what,
        "ours_ms": round(ours_ms, 4),
        "peer_ms": round(peer_ms, 4),
        "ratio": round(peer_ms / ours_ms, 2),
    }
