"""The evidence on information: how far estimators are from the truth, and what alpha = 2 saves.

Every function returns a dictionary ready for JSON; whoever writes it to disk adds what the machine is.
"""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..core.statistics import interval
from ..core.timing import take_turns
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
    progress: bool = False,
) -> dict[str, object]:
    """Every estimator on every task at every n: estimate minus truth in nats, with 95% intervals over seeds.

    Args:
        seeds: independent samples of each task, at least 2; seed s also seeds the critic.
        sizes: numbers of samples n of the classical estimators; `ksg`, with ranks and raw, is left out
            above n = 2000 and ten dimensions, being slow there.
        estimators: names in `ESTIMATORS`, or "ksg_raw" for `ksg` without ranks; None takes all eleven.
        tasks: (name, parameters) pairs.
        neural_sizes: numbers of samples n of those that train a critic.
        matrix_sizes: numbers of samples n at which the matrix-based I_2 is held against its closed form.
        steps: most training steps of a critic.
        progress: show a bar.

    Returns:
        {"unit", "seeds", "training_steps", "tasks", "errors", "matrix_renyi"}: `tasks` lists names, truths
        and dimensions, `errors` one row {"task", "estimator", "n", "mean", "low", "high", "limit"} per
        cell, `matrix_renyi` is `run_matrix_checks()` and, as "closed_form", `run_convergence()`.
    """
    names = list(CANDIDATES) if estimators is None else list(estimators)
    built = [get_task(name, **parameters) for name, parameters in tasks]
    cells = [
        (task, n, name)
        for task in built
        for name in names
        for n in (neural_sizes if name in NEURAL else sizes)
        if _bearable(name, task, n)
    ]
    errors = []
    for task, n, name in tqdm(cells, disable=not progress, desc="benchmark"):
        runs = [_estimate(name, task, n, seed, steps) for seed in range(seeds)]
        row = _ends([run.value - task.mutual_information for run in runs])
        errors.append({"task": label(task), "estimator": name, "n": n, **row, "limit": runs[0].upper_limit})
    return {
        "unit": "nats, estimate minus truth",
        "seeds": seeds,
        "training_steps": steps,
        "tasks": [_known(task) for task in built],
        "errors": errors,
        "matrix_renyi": {**run_matrix_checks(), "closed_form": run_convergence(matrix_sizes)},
    }


def _known(task: Task) -> dict[str, object]:
    """What is known of a task before anybody estimates."""
    dims = {"dim_x": task.dim_x, "dim_y": task.dim_y}
    return {"task": label(task), "truth": task.mutual_information, **dims, "parameters": task.parameters}


def run_matrix_checks(batches: int = 4000) -> dict[str, object]:
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
            # Large Grams vary little: twenty say as much as thousands of small ones.
            drawn = batches if n <= 16 else 20
            a, b = (make(torch.randn(drawn, n, d, generator=generator)) for _ in range(2))
            for correction in CORRECTIONS:
                found = _ends(renyi_mutual_information(a, b, correction=correction).tolist())
                what = {"kernel": kernel, "n": n, "d": d, "correction": correction or "none"}
                independent.append({**what, "cap": math.log2(n), **found})
    return {"unit": "bits", "independent": independent, "bfloat16_error": _bfloat16_errors()}


def run_convergence(
    sizes: Sequence[int] = (250, 1000, 4000),
    seeds: int = 20,
    *,
    rho: float = 0.75,
    width: float = 1.0,
) -> dict[str, object]:
    """I_2 of normal samples under RBF kernels against its closed form, as errors (I_2 - exact) / exact.

    `against` tells which closed form: at the covariance of the "population", or at that of the "sample"
    itself, which shows how much of the error is the kernel estimate's own and how much is the luck of the
    draw.

    Args:
        sizes: numbers of samples n.
        seeds: independent samples per size.
        rho: correlation of the pair.
        width: of both kernels, in standard deviations.

    Returns:
        {"unit", "rho", "width", "exact", "seeds", "rows": [{"n", "correction", "against", "mean", "low",
        "high", "one_sample"}]}: `exact` in bits; the interval is of the mean, `one_sample` the standard
        deviation of a single sample's error.
    """
    population = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    exact = gaussian_rbf_information(population, 1, width, width)
    rows = []
    for n in sizes:
        errors: dict[tuple[str, str], list[float]] = {}
        for seed in range(seeds):
            pair = get_task("normal", rho=rho).sample(n, torch.Generator().manual_seed(seed))
            own = gaussian_rbf_information(torch.cat(pair, 1).T.cov(), 1, width, width)
            a, b = (gram(z.float(), "rbf", width=width) for z in pair)
            for correction in CORRECTIONS:
                value = float(renyi_mutual_information(a, b, correction=correction))
                for against, truth in (("population", exact), ("sample", own)):
                    errors.setdefault((correction or "none", against), []).append(value / truth - 1)
        for (name, against), values in errors.items():
            spread = round(statistics.stdev(values), 5)
            what = {"n": n, "correction": name, "against": against}
            rows.append({**what, **_ends(values), "one_sample": spread})
    settings = {"rho": rho, "width": width, "exact": exact, "seeds": seeds}
    return {"unit": "fraction of the closed form", **settings, "rows": rows}


def run_speed(repeats: int = 30) -> dict[str, object]:
    """Cost of alpha = 2 against its peers, forward and backward, in turns in one run, on one thread.

    Args:
        repeats: timed calls of each; the best counts, as `timeit` advises.

    Returns:
        {"threads", "rows": [{"what", "ours_ms", "peer_ms", "ratio"}]}: ratio = peer / ours, larger is
        better for us.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [_compare(what, ours, peer, repeats) for what, ours, peer in _contests()]
    finally:
        torch.set_num_threads(threads)
    return {"threads": 1, "rows": rows}


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
    # The worst of five: an error bound, not an average.
    for seed in range(5):
        z = torch.randn(2, 256, 64, generator=torch.Generator().manual_seed(seed))
        z = torch.nn.functional.normalize(torch.stack([z[0], 0.7 * z[0] + 0.7 * z[1]]), dim=-1)
        low = [gram(v).bfloat16() for v in z]
        for name, alpha in (("I_2", 2.0), ("I_1.01", 1.01)):
            exact = renyi_mutual_information(gram(z[0].double()), gram(z[1].double()), alpha)
            found = renyi_mutual_information(low[0], low[1], alpha)
            errors[name] = max(errors[name], abs(float(found - exact)))
    return errors


def _contests() -> list[tuple[str, Callable[[], None], Callable[[], None]]]:
    generator = torch.Generator().manual_seed(0)
    # 576 patches are one picture of 384 pixels, 4096 the patches of a small batch, 32 times 64 a batch of
    # small pictures.
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


def _compare(
    what: str, ours: Callable[[], None], peer: Callable[[], None], repeats: int
) -> dict[str, object]:
    """The best time of each in ms, in five rounds of both, so that both meet the same machine."""
    rounds = 5
    seconds = take_turns({"ours": ours, "peer": peer}, rounds, warmup=0, in_a_row=max(1, repeats // rounds))
    ours_ms, peer_ms = (1000 * min(seconds[label]) for label in ("ours", "peer"))
    return {
        "what": what,
        "ours_ms": round(ours_ms, 4),
        "peer_ms": round(peer_ms, 4),
        "ratio": round(peer_ms / ours_ms, 2),
    }
